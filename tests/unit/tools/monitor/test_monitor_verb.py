from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from tools.monitor.picture import self_contained


async def test_a_picture_is_drawn_without_a_terminal(cluster, told, command_line, tmp_path) -> None:
    picture = tmp_path / "cluster.svg"
    options = ("--screenshot", str(picture), "--size", "100x30", "--history", "1", "--tab", "nodes")
    ran = await command_line("monitor", "--uri", cluster.uri(), *options, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"file": str(picture), "columns": 100, "rows": 30, "tab": "nodes"}
    svg = picture.read_text()
    ElementTree.fromstring(svg)
    text = svg.replace("&#160;", " ")
    assert "shop" in text and "ap-1" in text and "REGION" in text


async def test_who_is_not_let_in_gets_an_error_and_no_picture(cluster, command_line, tmp_path) -> None:
    picture = tmp_path / "cluster.svg"
    uri = cluster.uri(token="nobody")
    ran = await command_line("monitor", "--uri", uri, "--screenshot", str(picture))
    assert ran.code == 1 and "refused" in ran.err and "nobody" not in ran.err
    assert not picture.exists()


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ((), 2, "the monitor needs a terminal; pass --screenshot FILE.svg"),
        (("--screenshot", "x.png"), 2, "x.png would hold SVG; name it x.svg"),
        (("--screenshot", "no/such/folder/x.svg"), 2, "no/such/folder is no folder"),
        (("--screenshot", "x.svg", "--size", "79x24"), 2, "at least 80x24"),
        (("--screenshot", "x.svg", "--size", "wide"), 2, "COLUMNSxROWS"),
    ],
)
async def test_what_cannot_be_shown_is_told(command_line, options, code: int, text: str) -> None:
    ran = await command_line("monitor", "--uri", "reds://127.0.0.1:1", *options)
    assert ran.code == code and text in ran.err


def test_a_picture_fetches_nothing_from_elsewhere() -> None:
    face = '@font-face { src: url("https://x"); }'
    svg = f"<svg><!-- Generated with x --><style>{face} .a {{ font-family: X, y; }}"
    assert "https" not in self_contained(svg) and "Generated" not in self_contained(svg)
    assert "font-family: Fira Code, Menlo" in self_contained(svg)

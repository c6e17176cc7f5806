from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from functools import partialmethod
from itertools import repeat
from pathlib import Path

import anyio
import pytest

from redwire.errors import DeadlineExceeded, RedwireError
from tools.cli.monitor import Looking, command
from tools.errors import NodeNotReady
from tools.monitor.app import Monitor
from tools.monitor.feed import ClusterFeed
from tools.monitor.history import History
from tools.monitor.picture import self_contained, take
from tools.monitor.rehearsal import document
from tools.monitor.watch import View

ROOT = Path(__file__).resolve().parents[4]


async def test_a_picture_is_drawn_without_a_terminal(cluster, told, command_line, tmp_path) -> None:
    picture = tmp_path / "cluster.svg"
    options = ("--screenshot", str(picture), "--size", "100x30", "--history", "1", "--tab", "nodes")
    ran = await command_line("monitor", "--uri", cluster.uri(), *options, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"file": str(picture), "columns": 100, "rows": 30, "tab": "nodes"}
    told_again = await command_line("monitor", "--uri", cluster.uri(), *options)
    assert told_again.err == "looking at the cluster for 1 s; --history takes less or more\n"
    svg = picture.read_text()
    ElementTree.fromstring(svg)
    text = svg.replace("&#160;", " ")
    assert "shop" in text and "ap-1" in text and "REGION" in text


async def test_who_is_not_let_in_gets_an_error_and_no_picture(cluster, command_line, tmp_path) -> None:
    picture = tmp_path / "cluster.svg"
    uri = cluster.uri(token="nobody")
    ran = await command_line("monitor", "--uri", uri, "--screenshot", str(picture))
    assert ran.code == 5 and "refused" in ran.err and "nobody" not in ran.err
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


async def test_whoever_waits_for_a_picture_hears_how_far_it_is(cluster, told) -> None:
    heard: list[int] = []
    feed = ClusterFeed(cluster.uri(), "test")
    await take(feed, size=(100, 30), seconds=2, on_look=lambda view: heard.append(view.history.seconds))
    # seconds of the clock: a drawing that comes late passes one over
    assert heard == sorted(heard) and heard[0] < 2 <= heard[-1]


@pytest.mark.parametrize(
    ("documents", "kind", "said"),
    [
        (0, DeadlineExceeded, "no document came within 2"),
        (1, NodeNotReady, "1 s of history came within 2"),
    ],
)
async def test_who_waits_for_a_picture_in_vain_is_told_whether_anything_came(
    feed, monkeypatch, documents: int, kind: type[RedwireError], said: str
) -> None:
    monkeypatch.setattr("tools.monitor.picture.PATIENCE_S", 0.5)

    async def play() -> None:
        await feed.followed.wait()
        for _ in range(documents):
            feed.play(document(0))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(play)
        with pytest.raises(kind, match=said):
            await take(feed, size=(100, 30), seconds=2)


def test_on_a_terminal_progress_is_drawn_where_the_command_was_typed(monkeypatch) -> None:
    """The monitor puts other streams in the place of the process's own while it runs."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with Looking(5, quiet=False) as looking:
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        for notice in ("refused", "refused", ""):
            looking.at(View(0, History(), notice=notice))
        history = History()
        for second in range(3):
            history.add(document(second), 1_000 * second)
        looking.at(View(0, history))
    assert "3 s of 5 s" in terminal.getvalue()
    assert terminal.getvalue().count("waiting: refused") == 1


def ended(*keys: bytes | None) -> tuple[int, bytes]:
    """Exit code of a monitor on a terminal, and all that it showed. Each time that it shows anything, from
    when it shows what it listens to, the next of `keys` is pressed; None is no key, but tells it to end.
    """
    ours, terminal = os.openpty()
    command = (sys.executable, "-m", "tools.cli.start", "monitor", "--uri", "red://127.0.0.1:1")
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT, env=env) as it:
        os.close(terminal)
        shown, left = b"", iter(keys)
        with suppress(OSError):  # so ends a terminal that nobody has open any more
            while data := os.read(ours, 1 << 16):
                shown += data
                key = next(left, b"") if b"Quit" in shown else b""
                if key is None:
                    it.terminate()
                else:
                    os.write(ours, key)
    os.close(ours)
    assert shown.index(b"\x1b[?1049h") < shown.index(b"\x1b[?1049l"), "the terminal is given back"
    return it.returncode, shown


def test_a_monitor_that_is_told_to_end_gives_the_terminal_back() -> None:
    code, shown = ended(None)
    assert code == 128 + signal.SIGTERM and shown.endswith(b"ended by SIGTERM\r\n")


@pytest.mark.parametrize(("broken", "code"), [(False, 0), (True, 1)])
def test_a_monitor_that_ends_of_an_error_of_its_own_says_so_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, broken: bool, code: int
) -> None:
    def on_mount(monitor: Monitor) -> None:
        if broken:
            raise ValueError("nothing can be drawn")
        monitor.call_later(monitor.action_quit)

    monkeypatch.setattr(Monitor, "on_mount", on_mount)
    monkeypatch.setattr(Monitor, "run", partialmethod(Monitor.run, headless=True))
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    with pytest.raises(SystemExit) as ended:
        command.main(["--uri", "red://127.0.0.1:1"], standalone_mode=False)
    assert (ended.value.code or 0) == code


def test_keys_that_are_no_utf_8_are_passed_over() -> None:
    code, shown = ended("é".encode("latin-1"), *repeat(b"q", 20))  # the first may come together with them
    assert code == 0 and b"Traceback" not in shown

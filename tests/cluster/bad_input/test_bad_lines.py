"""A file of JSON lines with a bad one far inside, loaded into a real node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from redwire.frame import Kind

pytestmark = pytest.mark.slow

LINES = 75_000
BAD = 70_000
"""The number of the bad line, counted from 1."""
PATIENCE_S = 50.0


def load(site: Any, file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `redwire load`."""
    where = ("--collection", "lines", "--id-field", "sku", "--uri", site.cluster.uri("eu-1"))
    command = [sys.executable, "-m", "tools.cli.main", "load", str(file), *where, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def held(site: Any, what: str) -> int:
    """A number that the node's SQL says of what it holds."""
    with site.login("ops") as wire:
        answer = wire.ask(Kind.QUERY, f"SELECT {what} AS n FROM lines".encode(), PATIENCE_S)
        assert answer.kind == Kind.RESULT, answer.payload
        number: int = json.loads(answer.payload)["rows"][0]["n"]
        return number


def test_a_bad_line_stops_the_load_where_it_stands_and_the_mended_file_goes_on_from_there(
    site: Any, tmp_path: Path
) -> None:
    file = tmp_path / "products.ndjson"
    lines = [f'{{"sku":"p-{number:06d}","n":{number}}}\n' for number in range(1, LINES + 1)]
    bad = f'{{"sku":"p-{BAD:06d}","n":}}\n'
    file.write_text("".join([*lines[: BAD - 1], bad, *lines[BAD:]]))

    for _ in range(2):  # not mended: it is told so again, and changes nothing
        ran = load(site, file)
        assert ran.returncode == 1 and ran.stdout == ""
        said, _, hint = ran.stderr.partition("; ")
        assert said.startswith(f"redwire: {file}: line {BAD}: JSON is malformed")
        committed = f"lines 1 to {BAD - 1} are committed, and the same command goes on from line {BAD}"
        assert hint == f"each line is one whole JSON object; {committed}\n"
        assert held(site, "count(*)") == BAD - 1
    last, first = held(site, "max(version)"), held(site, "min(version)")

    file.write_text("".join(lines))
    ran = load(site, file, "--json")
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)
    assert (shown["first_line"], shown["documents"]) == (BAD, LINES - BAD + 1)
    assert held(site, "count(*)") == held(site, "count(DISTINCT id)") == LINES
    assert held(site, "min(version)") == first, "nothing was written twice"
    assert held(site, f"sum(version <= {last})") == BAD - 1
    assert held(site, "sum(doc ->> 'n')") == LINES * (LINES + 1) // 2
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "the bookmark is gone"

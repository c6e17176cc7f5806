"""The node's log: what a line looks like, and that whoever does not read it stops nothing."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.log_config import Level, LogConfig, LogFormat
from cluster.notes import LINE_CHARS_MAX, LINES_MAX, Notes
from redwire.position import NodeId

ME = NodeId("eu-1")
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@contextmanager
def log(path: Path, config: LogConfig) -> Iterator[Notes]:
    """A log that is written to `path`, to its end after the `with`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    root = logging.getLogger()
    before = root.level
    notes = Notes(ME, config, fd=fd)
    try:
        yield notes
    finally:
        notes.close()
        root.setLevel(before)
        os.close(fd)


def lines(path: Path, *said: tuple[str, Level], form: str = "text", level: Level = Level.INFO) -> list[str]:
    with log(path, LogConfig(format=LogFormat(form), level=level)) as notes:
        for text, loudness in said:
            notes(text, loudness)
    return path.read_text().splitlines()


def test_a_line_of_text_says_when_how_loud_who_and_what(tmp_path: Path) -> None:
    first, second = lines(tmp_path / "log", ("listens on 1:2", Level.INFO), ("gone", Level.WARNING))
    assert re.fullmatch(rf"{STAMP} info    eu-1 listens on 1:2", first)
    assert re.fullmatch(rf"{STAMP} warning eu-1 gone", second)


def test_a_line_of_json_is_one_object_with_the_same_four_keys(tmp_path: Path) -> None:
    said = 'a "quoted"\n{word}: Zürich, 100%s \x1b[31m'
    (line,) = lines(tmp_path / "log", (said, Level.ERROR), form="json")
    document = json.loads(line)
    assert list(document) == ["time", "level", "node", "message"]
    assert re.fullmatch(STAMP, document.pop("time"))
    assert document == {
        "level": "error",
        "node": "eu-1",
        "message": 'a "quoted" {word}: Zürich, 100%s  [31m',
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_whatever_a_member_says_is_one_line_of_bounded_length(tmp_path: Path, form: str) -> None:
    said = "a\nb\r\x1b[2J\u2028\0" + "x" * 100_000 + "end"
    (line,) = lines(tmp_path / "log", (said, Level.INFO), form=form)
    assert len(line) < LINE_CHARS_MAX + 100 and "end" in line and line.isprintable()


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        (Level.DEBUG, ["debug", "info", "warning", "error"]),
        (Level.INFO, ["info", "warning", "error"]),
        (Level.WARNING, ["warning", "error"]),
        (Level.ERROR, ["error"]),
    ],
)
def test_what_matters_less_than_the_level_is_not_written(
    tmp_path: Path, level: Level, heard: list[str]
) -> None:
    said = [(str(each), each) for each in Level]
    assert [line.split()[-1] for line in lines(tmp_path / "log", *said, level=level)] == heard


def test_what_libraries_log_goes_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with log(path, LogConfig(format=LogFormat.JSON)):
        try:
            raise ValueError("odd")
        except ValueError:
            logging.getLogger("asyncio").exception("Exception in %s", "callback")
    (line,) = path.read_text().splitlines()
    document = json.loads(line)
    assert document["level"] == "error" and document["message"].startswith("Exception in callback Traceback")
    assert document["message"].endswith("ValueError: odd")


def test_a_log_that_nobody_reads_stops_nothing_and_says_later_what_is_missing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    root = logging.getLogger()
    before = root.level
    notes = Notes(ME, LogConfig(), fd=writer)
    try:
        count = LINES_MAX + 5_000
        began = time.monotonic()
        for number in range(count):
            notes(f"line {number} {'x' * 100}")
        assert time.monotonic() - began < 20
        assert notes.lost > 0
        began = time.monotonic()
        notes.close()
        assert time.monotonic() - began < 5, "the end of a process does not wait for a reader"
        found, missing = 0, 0
        rest = b""
        while found + missing < count:
            *whole, rest = (rest + os.read(reader, 1 << 16)).split(b"\n")
            for line in whole:
                told = re.search(rb"warning eu-1 (\d+) lines of this log were dropped", line)
                missing += int(told[1]) if told else 0
                found += b" line " in line
        assert found + missing == count and missing == notes.lost > 0
    finally:
        root.setLevel(before)
        os.close(writer)
        os.close(reader)


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    root = logging.getLogger()
    before = root.level
    notes = Notes(ME, LogConfig(), fd=full)
    try:
        for _ in range(3):
            notes("words")
        notes.close()
        assert notes.lost == 3
    finally:
        root.setLevel(before)
        os.close(full)

"""Where text leaves: what a terminal gets, and what a pipe does."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console

from tools.cli.printer import say, say_document
from tools.grid import Grid, Legend, Part, Words, plain

RAW = '{"a":"\x9b2J\u202e"}'.encode()


def test_text_keeps_its_lines_and_nothing_else_that_moves_a_cursor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("one\x1b[2J\ntwo\r")
    say("three\x07", err=True)
    said = capsys.readouterr()
    assert said.out == "one\\u001b[2J\ntwo\\r\n" and said.err == "three\\u0007\n"


@pytest.mark.parametrize(
    ("terminal", "expected"), [(False, RAW), (True, rb'{"a":"\u009b2J\u202e"}')], ids=["pipe", "terminal"]
)
def test_a_document_is_as_it_is_stored_in_a_pipe_and_harmless_on_a_terminal(
    terminal: bool,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    say_document("a\x1b\nb\t7\t", RAW)
    assert capfdbinary.readouterr().out == b"a\\u001b\\nb\t7\t" + expected + b"\n"


@pytest.mark.parametrize(
    "part",
    [
        Grid("t\x1b[2J", ["c\x1b[2J"], [["one\x1b[2J\ntwo"]]),
        Legend("one\x1b[2J two"),
        Words("one\x1b[2J\ntwo"),
    ],
)
def test_nothing_in_a_table_or_beside_it_commands_a_terminal(part: Part) -> None:
    console = Console(force_terminal=True, width=80, color_system=None)
    with console.capture() as captured:
        part.draw(console)
    for text in (captured.get(), plain([part])):
        assert "\x1b[2J" not in text and "u001b[2J" in text


def test_a_cell_is_one_line_of_its_table() -> None:
    assert plain([Grid("", ["node"], [["eu-1\nus-1"]])]) == "node\neu-1\\nus-1"

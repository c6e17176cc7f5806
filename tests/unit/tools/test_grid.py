"""Tables: aligned plain lines for programs, drawn by rich on a terminal, and the same words in both."""

from __future__ import annotations

import io

from rich.console import Console

from tools.grid import Grid, Legend, Words, draw, plain

NUMBERS = Grid("", ("node", "writes"), [("eu-1", "7"), ("us-1", "1,024")], 1)
NAMES = Grid("Who [is] there", ("node", "region"), [("eu-1", "eu"), ("us-1", "us")])


def drawn(*parts: Grid | Legend | Words, terminal: bool) -> str:
    out = io.StringIO()
    draw(parts, Console(file=out, force_terminal=terminal, width=40, color_system=None, highlight=False))
    return out.getvalue()


def test_a_table_without_a_title_begins_with_its_columns_and_numbers_stand_on_the_right() -> None:
    assert NUMBERS.text() == "node  writes\neu-1       7\nus-1   1,024"


def test_all_columns_stand_on_the_left_where_nothing_is_said() -> None:
    assert NAMES.text() == "Who [is] there\nnode  region\neu-1  eu\nus-1  us"


def test_a_pipe_gets_the_parts_as_text_with_an_empty_line_between_two() -> None:
    parts = (Words("one\ntwo"), NUMBERS, Legend("writes: how many\n  there were"))
    assert drawn(*parts, terminal=False) == plain(parts) + "\n"
    assert plain(parts) == f"one\ntwo\n\n{NUMBERS.text()}\n\nwrites: how many there were"


def test_a_terminal_gets_a_line_below_the_columns_and_every_cell_as_it_is() -> None:
    lines = [line.rstrip() for line in drawn(NAMES, terminal=True).splitlines()]
    assert lines[0] == "Who [is] there"
    assert set(lines[2]) == {"─"}
    assert [line.split() for line in lines[3:]] == [["eu-1", "eu"], ["us-1", "us"]]


def test_a_cell_that_is_too_long_goes_on_below_itself_and_loses_nothing() -> None:
    long = "x" * 50
    shown = drawn(Grid("", ("node", "why"), [("eu-1", long)]), terminal=True)
    assert shown.count("x") == len(long)
    assert max(map(len, shown.splitlines())) <= 40


def test_lines_that_are_to_be_copied_are_not_broken() -> None:
    line = "export REDWIRE_URI='reds://127.0.0.1:10001,127.0.0.1:10002/?ca=ca.pem'"
    assert drawn(Words(line), terminal=True) == f"{line}\n"


def test_columns_that_a_terminal_is_too_narrow_for_go_below_and_no_cell_is_broken() -> None:
    columns = ("node", "role", *(f"number {n}" for n in range(6)))
    lines = [(name, "replica", *(f"{n},000,{n}00" for n in range(6))) for name in ("eu-1", "us-1")]
    shown = [line.rstrip() for line in drawn(Grid("All", columns, lines, 2), terminal=True).splitlines()]
    assert max(map(len, shown)) <= 40
    for cell in (*columns[1:], *(cell for line in lines for cell in line[2:])):
        assert any(cell in line for line in shown), "each in one piece"
    assert [line.split()[0] for line in shown if line.startswith(("node", "eu-1", "us-1"))] == [
        *("node", "eu-1", "us-1") * 3
    ]

from __future__ import annotations

import pytest

from tools import figures
from tools.condition.tone import Tone
from tools.monitor.chart import bars, sparkline
from tools.monitor.ink import Column, Span, cells, cut, fitting, marked, plain, spread, stacked, table


def test_control_characters_of_others_never_reach_the_terminal() -> None:
    assert Span("a\x1b[31mb\nc").text == "a·[31mb·c"


@pytest.mark.parametrize(
    ("text", "width", "found"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("", 0, ""),
        ("a", 0, ""),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
    ],
)
def test_a_text_is_cut_to_its_columns_and_says_so(text: str, width: int, found: str) -> None:
    assert cut(text, width) == found
    assert cells(found) <= width


def test_every_tone_that_means_something_has_a_symbol_of_its_own() -> None:
    symbols = [marked("x", tone).text[0] for tone in (Tone.GOOD, Tone.WARN, Tone.BAD, Tone.DIM, Tone.PLAIN)]
    assert len(set(symbols)) == 5


def test_the_right_end_stays_and_the_left_gives_way() -> None:
    assert plain(spread((Span("left"),), (Span("right"),), 12)) == "left   right"
    assert plain(spread((Span("much too long"),), (Span("right"),), 12)) == "much … right"


@pytest.mark.parametrize(("width", "found"), [(9, "one two 3"), (8, "one 3"), (4, "one"), (2, "o…"), (0, "")])
def test_of_spans_that_have_no_room_the_highest_rank_is_left_out_first(width: int, found: str) -> None:
    ranked = [(0, Span("one")), (2, Span(" two")), (1, Span(" 3"))]
    assert plain(fitting(ranked, width)) == found


def test_a_table_leaves_out_the_columns_of_the_highest_rank_first() -> None:
    columns = (Column("A"), Column("BB", 2, right=True), Column("CC", 1))
    rows = [[(Span("1"),), (Span("2"),), (Span("3"),)]]
    assert [plain(line) for line in table(columns, rows, 9)] == ["A  BB  CC", "1   2  3"]
    assert [plain(line) for line in table(columns, rows, 8)] == ["A  CC", "1  3"]
    assert [plain(line) for line in table(columns, rows, 3)] == ["A", "1"]


def test_a_sentence_at_the_end_is_cut_before_a_column_is_left_out() -> None:
    rows = [[(Span("1"),), (Span("x" * 90),)], [(Span("2"),), (Span("y"),)]]
    lines = [plain(line) for line in table((Column("A", 1), Column("B")), rows, 40)]
    assert lines == ["A  B", "1  " + "x" * 36 + "…", "2  y"]


def test_blocks_are_parted_by_one_empty_line_and_empty_ones_vanish() -> None:
    line = (Span("x"),)
    assert stacked(([line], [], [line, line])) == [line, (), line, line]


def test_a_sparkline_has_a_dot_for_what_is_unknown_and_a_block_for_zero() -> None:
    assert sparkline([None, 0, 4, 8], 4) == "·▁▄█"
    assert sparkline([8], 3) == "··█"
    assert sparkline([], 2) == "··"


def test_bars_fill_their_rows_from_below_behind_a_scale() -> None:
    lines = [plain(line) for line in bars([None, 1, 8, 16], 9, 2, figures.count)]
    assert lines == ["16 ┤    █", " 0 ┤··▁██"]

from __future__ import annotations

import pytest

from tools.monitor import figures
from tools.monitor.chart import bars, sparkline
from tools.monitor.ink import Column, Span, Tone, cells, cut, marked, plain, spread, stacked, table


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


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (figures.count(None), "?"),
        (figures.count(0), "0"),
        (figures.count(1234567), "1,234,567"),
        (figures.share(None), "?"),
        (figures.share(0), "0 %"),
        (figures.share(0.001), "<1 %"),
        (figures.share(0.98), "98 %"),
        (figures.size(None), "?"),
        (figures.size(0), "0 B"),
        (figures.size(1_500), "1.5 kB"),
        (figures.size(312e9), "312 GB"),
        (figures.size(5e18), "5,000 PB"),
        (figures.duration(None), "?"),
        (figures.duration(0), "0.0 ms"),
        (figures.duration(80), "80 ms"),
        (figures.duration(2_500), "2.5 s"),
        (figures.duration(59_000), "59 s"),
        (figures.duration(842_000), "14 min 02 s"),
        (figures.duration(3 * 3_600_000), "3 h 00 min"),
        (figures.duration(86_400_000 * 3 + 3_600_000), "3 d 1 h"),
        (figures.duration(86_400_000 * 204), "204 d"),
        (figures.micros(None), "?"),
        (figures.micros(820), "820 µs"),
        (figures.micros(2_100), "2.1 ms"),
        (figures.clock(None), "?"),
        (figures.clock(1_795_489_201_000), "03:00:01"),
        (figures.clock(10**18), "00:00:00"),
        (figures.moment(1_795_489_201_000, 1_795_489_201_000 + 86_400_000), "Nov 24 03:00"),
    ],
)
def test_a_figure_is_written_in_its_unit_and_the_unknown_is_no_zero(written: str, text: str) -> None:
    assert written == text


def test_a_sparkline_has_a_dot_for_what_is_unknown_and_a_block_for_zero() -> None:
    assert sparkline([None, 0, 4, 8], 4) == "·▁▄█"
    assert sparkline([8], 3) == "··█"
    assert sparkline([], 2) == "··"


def test_bars_fill_their_rows_from_below_behind_a_scale() -> None:
    lines = [plain(line) for line in bars([None, 1, 8, 16], 9, 2, figures.count)]
    assert lines == ["16 ┤    █", " 0 ┤··▁██"]

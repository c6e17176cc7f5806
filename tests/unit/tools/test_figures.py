"""Numbers as people read them, on the command line and in the monitor."""

from __future__ import annotations

import pytest

from tools import figures


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (figures.count(None), "?"),
        (figures.count(0), "0"),
        (figures.count(1234567), "1,234,567"),
        (figures.rate(None), "?"),
        (figures.rate(0), "0"),
        (figures.rate(0.04), "<0.1"),
        (figures.rate(0.25), "0.2"),
        (figures.rate(1234.5), "1,234"),
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
        (figures.moment(0, 1_795_489_201_000), "?"),
    ],
)
def test_a_figure_is_written_in_its_unit_and_the_unknown_is_no_zero(written: str, text: str) -> None:
    assert written == text

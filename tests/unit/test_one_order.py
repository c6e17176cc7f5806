"""The checker of one order finds what is planted, and nothing in what is sound."""

from __future__ import annotations

import pytest

from tests.one_order import Event, Found, Wrote, violations

SOUND: list[Event] = [
    Wrote(0, 1, "a", 5, value=1, needed=0),
    Wrote(0.5, 3, "a", 7, value=2),
    Found(1.5, 2, "a", 5, 6, value=1),
    Found(2.5, 3, "a", 7, 7, value=2),
    Wrote(4, 5, "a", 9, value=None, needed=7),
    Found(6, 7, "a", 0, None),
    Found(6, 7, "b", 0, None),
    Found(6, 7, "a", 0, 10),
    Found(8, 9, "a", 5, 6, value=1, asked=5),
    Wrote(8, 9, "a", 12, value=3, needed=0),
]


def test_nothing_is_found_in_what_is_sound() -> None:
    assert list(violations(SOUND, never=[99])) == []


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Wrote(10, 11, "b", 9, value=4), "have one LSN"),
        (Wrote(10, 11, "a", 11, value=4), "stands below LSN 12"),
        (Wrote(10, 11, "a", 13, value=4, needed=9), "the version there is 12"),
        (Wrote(10, 11, "a", 13, value=4, needed=0), "the version there is 12"),
        (Found(10, 11, "a", 7, 8, value=2), "stands below LSN 12"),
        (Found(10, 11, "a", 7, 12, value=2), "the version there is 12"),
        (Found(10, 11, "a", 12, 12, value=4), "is not what was written"),
        (Found(10, 11, "a", 0, None), "it was there from LSN 12 on"),
        (Found(10, 11, "a", 0, 12), "the version there is 12"),
        (Found(10, 11, "a", 7, 8, value=2, asked=9), "stands below LSN 9"),
        (Found(3, 3.5, "a", 9, 9, value=None), "the version there is 0"),
        (Found(6, 6.5, "a", 12, 12, value=3), "ended before"),
        (Found(10, 11, "c", 12, 12, value=1), "the version there is 0"),
        (Wrote(10, 11, "b", 13, value=99), "never to be written"),
    ],
)
def test_what_no_order_explains_is_found(event: Event, words: str) -> None:
    assert any(words in text for text in violations([*SOUND, event], never=[99]))

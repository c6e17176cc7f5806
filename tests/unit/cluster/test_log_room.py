"""How large the next segment of a log is to be, by what is free."""

from __future__ import annotations

import pytest

from cluster.log_room import KEPT_FREE_BYTES, NO_SPACE, LogRoom, segment_size

MIB = 1 << 20


@pytest.mark.parametrize(
    ("free", "size"),
    [
        *((None, 64), (10_000, 64), (128, 64), (127, 32), (80, 32), (79, 16), (64, 16), (63, 8), (56, 8)),
        *((55, 4), (52, 4), (51, 0), (0, 0)),
    ],
)
def test_a_segment_leaves_as_much_again_and_some_in_any_case(free: int | None, size: int) -> None:
    assert segment_size(64 * MIB, None if free is None else free * MIB) == size * MIB
    assert free is None or size == 0 or free * MIB - size * MIB >= KEPT_FREE_BYTES


@pytest.mark.parametrize(("free", "size"), [(None, 64), (128, 64), (79, 16), (63, 15), (62, 0)])
def test_a_segment_is_never_smaller_than_what_it_is_for(free: int | None, size: int) -> None:
    assert segment_size(64 * MIB, None if free is None else free * MIB, 15 * MIB) == size * MIB
    assert segment_size(MIB, 200 * MIB, 70 * MIB) == 70 * MIB


def test_nothing_of_both_is_full() -> None:
    assert NO_SPACE.full and LogRoom(5, 0).behind(3, 6).full
    assert not LogRoom(0, 1).full and not LogRoom(1, 0).full
    assert LogRoom(10, 20).behind(15) == (0, 20)

"""Who may wait at the listener, and who has to make room."""

from __future__ import annotations

import pytest

from cluster.door import PATIENCE_S, Door


class Stay:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def come(door: Door, count: int, now_s: float = 0.0) -> list[Stay]:
    """So many strangers that are let in."""
    stays = [Stay() for _ in range(count)]
    assert all(door.enter(stay, now_s) for stay in stays)
    return stays


def test_strangers_are_few_and_one_more_is_turned_away() -> None:
    door = Door(connections_max=100, strangers_max=3)
    first = come(door, 3)
    assert not door.enter(Stay(), PATIENCE_S / 2)
    assert not any(stay.cancelled for stay in first)


def test_the_eldest_stranger_that_has_had_its_time_makes_room_for_the_next() -> None:
    door = Door(connections_max=100, strangers_max=3)
    first = come(door, 1) + come(door, 2, now_s=1.0)
    assert door.enter(Stay(), PATIENCE_S)
    assert [stay.cancelled for stay in first] == [True, False, False]
    assert not door.enter(Stay(), PATIENCE_S), "the next eldest came a second later"


@pytest.mark.parametrize("how", ["recognise", "leave"])
def test_whoever_is_known_or_gone_leaves_its_place_among_the_strangers(how: str) -> None:
    door = Door(connections_max=100, strangers_max=1)
    (stay,) = come(door, 1)
    getattr(door, how)(stay)
    come(door, 1)
    assert not stay.cancelled


def test_whoever_made_room_is_counted_until_it_has_left() -> None:
    door = Door(connections_max=2, strangers_max=1)
    (eldest,) = come(door, 1)
    come(door, 1, now_s=PATIENCE_S)
    assert eldest.cancelled and not door.enter(Stay(), 2 * PATIENCE_S)
    door.leave(eldest)
    come(door, 1, now_s=3 * PATIENCE_S)


def test_clients_leave_as_many_places_free_as_strangers_can_take() -> None:
    door = Door(connections_max=10, strangers_max=4)
    for _ in range(6):
        for stay in come(door, 1):
            door.recognise(stay)
    assert not door.crowded
    (seventh,) = come(door, 1)
    door.recognise(seventh)
    assert door.crowded
    door.leave(seventh)
    assert not door.crowded

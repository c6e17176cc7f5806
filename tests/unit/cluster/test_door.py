"""Who may wait at the listener, and who has to make room."""

from __future__ import annotations

import pytest

from cluster.door import Door
from cluster.strangers import BY_CHANCE_AT_ONCE, PATIENCE_S


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


def test_strangers_are_few_and_chance_takes_so_many_at_once_and_no_more() -> None:
    door = Door(connections_max=1_000, strangers_max=3, chance=lambda count: count - 1)
    first = come(door, 3)
    last = come(door, BY_CHANCE_AT_ONCE)
    assert not door.enter(Stay(), 0.0)
    assert door.strangers == 3
    assert [stay.cancelled for stay in first] == [False, False, True]
    assert not last[-1].cancelled


def test_whoever_comes_from_where_most_are_keeps_nobody_else_out() -> None:
    door = Door(connections_max=10_000, strangers_max=16)
    while door.enter(Stay(), 0.0, "10.0.0.1"):
        pass
    for number in range(200):
        honest = Stay()
        assert door.enter(honest, number / 100, "10.0.0.2")
        for _ in range(20):
            door.enter(Stay(), number / 100, "10.0.0.1")
        assert not honest.cancelled
        door.leave(honest)


def test_a_member_has_a_place_kept_where_it_has_been_let_in_from() -> None:
    door = Door(connections_max=10_000, strangers_max=16)
    (before,) = [Stay()]
    assert door.enter(before, 0.0, "10.9.9.9")
    door.recognise(before, member=True)
    everywhere = iter(range(1_000))
    while door.enter(Stay(), 0.0, f"10.0.1.{next(everywhere)}"):
        pass
    assert door.strangers == 14
    again = Stay()
    assert door.enter(again, 0.0, "10.9.9.9")
    for number in range(1_000):
        door.enter(Stay(), number / 1_000, f"10.1.1.{number}")
    assert not again.cancelled


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

"""Turns: one for all that waits, none after the last, and an error of one is for whoever has them."""

from __future__ import annotations

from collections.abc import Callable, Sized

import anyio
import pytest

from cluster.effects import Tick
from cluster.inbox import Inbox

pytestmark = pytest.mark.anyio


def all_of(inbox: Inbox) -> int:
    """How many events a turn takes that asks until there are none."""
    count = 0
    while events := inbox.events():
        count += len(events)
    return count


async def serve(inbox: Inbox, turn: Callable[[], None], turns: Sized, count: int) -> None:
    """Have `count` turns, however long they take, and time for one more."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.serve, turn)
        while len(turns) < count:
            await anyio.sleep(0.001)
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_what_is_posted_before_the_turn_is_taken_by_one() -> None:
    inbox, turns = Inbox(), list[int]()
    inbox.post(Tick())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.serve, lambda: turns.append(all_of(inbox)))
        await anyio.sleep(0.01)
        for _ in range(3):
            inbox.post(Tick())
        await anyio.sleep(0.01)
        inbox.wake()
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert turns == [1, 3, 0]


async def test_what_comes_of_events_is_taken_by_the_same_turn() -> None:
    inbox, turns = Inbox(), list[list[int]]()

    def turn() -> None:
        turns.append([])
        while events := inbox.events():
            turns[-1].append(len(events))
            if len(turns[-1]) < 3:
                inbox.post(Tick())
                inbox.post(Tick())

    inbox.post(Tick())
    await serve(inbox, turn, turns, 1)
    assert turns == [[1, 2, 2]]


async def test_who_is_woken_among_the_events_of_a_turn_has_none_of_its_own_and_behind_them_has() -> None:
    inbox, turns = Inbox(), list[int]()

    def turn() -> None:
        taken = 0
        while events := inbox.events():
            taken += len(events)
            inbox.wake()
        turns.append(taken)
        if len(turns) == 2:
            inbox.wake()
            inbox.wake()

    inbox.post(Tick())
    await serve(inbox, turn, turns, 1)
    assert turns == [1]
    inbox.post(Tick())
    await serve(inbox, turn, turns, 3)
    assert turns == [1, 1, 0]


async def test_what_is_posted_behind_the_last_event_of_a_turn_has_one_of_its_own() -> None:
    inbox, turns = Inbox(), list[int]()

    def turn() -> None:
        turns.append(all_of(inbox))
        if len(turns) < 3:
            inbox.post(Tick())

    await serve(inbox, turn, turns, 3)
    assert turns == [0, 1, 1]


async def test_what_cannot_wait_has_its_turn_at_once_unless_there_is_one_or_it_is_on_its_way() -> None:
    inbox, turns = Inbox(), list[int]()

    def turn() -> None:
        turns.append(all_of(inbox))
        if len(turns) == 2:
            inbox.post(Tick(), now=True)  # behind the events: in the next turn, not within this one
            assert len(turns) == 2

    inbox.post(Tick(), now=True)
    assert not turns  # nobody serves yet
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.serve, turn)
        await anyio.sleep(0.01)
        inbox.post(Tick(), now=True)
        assert turns == [1, 1]
        inbox.post(Tick(), now=True)  # as one is on its way by now
        assert turns == [1, 1]
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert turns == [1, 1, 2]


async def test_an_error_of_a_turn_that_is_had_at_once_is_not_for_who_posts() -> None:
    inbox, posted = Inbox(), list[str]()

    def turn() -> None:
        if all_of(inbox):
            raise ArithmeticError("a bug")

    async def post() -> None:
        inbox.post(Tick(), now=True)
        posted.append("first")
        inbox.post(Tick(), now=True)  # there are no turns any more
        posted.append("second")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(post)
        with pytest.raises(ArithmeticError, match="a bug"):
            await inbox.serve(turn)
    assert posted == ["first", "second"]


async def test_there_is_no_turn_when_nobody_has_them_any_more() -> None:
    inbox, turns = Inbox(), list[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.serve, lambda: turns.append(all_of(inbox) + 1))
        await anyio.sleep(0.01)
        inbox.post(Tick())
        tasks.cancel_scope.cancel()
    inbox.post(Tick())
    await anyio.sleep(0.01)
    assert turns == [1] and len(inbox.events()) == 2


async def test_an_error_of_a_turn_ends_them() -> None:
    inbox, turns = Inbox(), list[int]()

    def turn() -> None:
        turns.append(1)
        inbox.wake()
        raise ArithmeticError("a bug")

    with pytest.raises(ArithmeticError, match="a bug"):
        await inbox.serve(turn)
    await anyio.sleep(0.01)
    assert turns == [1]

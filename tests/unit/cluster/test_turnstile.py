"""Who sends without a pause: one turn in each pass of the loop, by user, and none for who has gone."""

from __future__ import annotations

import asyncio

from anyio.lowlevel import checkpoint

from cluster.turnstile import CROWD, Turn, Turnstile


async def through(turnstile: Turnstile, user: str, name: str, went: list[str]) -> None:
    await turnstile.go_through(user)
    went.append(name)


async def test_one_goes_through_in_each_pass_and_users_take_turns() -> None:
    turnstile, went = Turnstile(), list[str]()
    names = ("ann 1", "ann 2", "ann 3", "bob 1")
    tasks = [asyncio.create_task(through(turnstile, name[:3], name, went)) for name in names]
    passes = 0
    most = 0
    while len(went) < len(names) and passes < 50:
        before = len(went)
        await checkpoint()
        passes += 1
        most = max(most, len(went) - before)
    assert went == ["ann 1", "bob 1", "ann 2", "ann 3"] and most == 1
    await asyncio.gather(*tasks)


async def test_one_alone_waits_for_hardly_more_than_a_pass() -> None:
    turnstile, went = Turnstile(), list[str]()
    task = asyncio.create_task(through(turnstile, "ann", "ann", went))
    for _ in range(4):
        await checkpoint()
    assert went == ["ann"]
    await task


async def test_who_has_gone_takes_no_turn_from_the_others() -> None:
    turnstile, went = Turnstile(), list[str]()
    tasks = [asyncio.create_task(through(turnstile, "ann", str(n), went)) for n in range(3)]
    await checkpoint()
    tasks[0].cancel()
    tasks[1].cancel()
    async with asyncio.timeout(5):
        await tasks[2]
    assert went == ["2"]


async def test_only_in_a_crowd_is_a_turn_waited_for_before_much_is_read() -> None:
    turnstile, went = Turnstile(), list[str]()
    turn = Turn(turnstile, "bob")
    tasks = [asyncio.create_task(through(turnstile, "ann", str(n), went)) for n in range(CROWD - 1)]
    await checkpoint()
    await turn.if_crowded()
    assert went == []
    tasks.append(asyncio.create_task(through(turnstile, "ann", "last", went)))
    tasks += [asyncio.create_task(through(turnstile, "eve", "more", went)) for _ in range(CROWD)]
    await checkpoint()
    await turn.if_crowded()
    assert 0 < len(went) < len(tasks)
    await asyncio.gather(*tasks)

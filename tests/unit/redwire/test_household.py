"""The tasks of a client: opened and closed by anybody, and what becomes of the others when one fails."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from redwire.errors import RequestInvalid
from redwire.household import Household, require_asyncio


async def test_one_task_opens_it_inside_a_scope_another_one_closes_it_in_any_order() -> None:
    first, second, ended = Household(), Household(), list[str]()

    async def stay(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(name)

    with anyio.fail_after(5):
        await first.open()
    await asyncio.create_task(second.open())
    first.tasks.start_soon(stay, "first")
    second.tasks.start_soon(stay, "second")
    await anyio.wait_all_tasks_blocked()
    await asyncio.create_task(first.close())
    assert ended == ["first"]
    await second.close()
    await second.close()
    assert ended == ["first", "second"]
    await anyio.sleep(0)  # nobody was cancelled who only closed


async def test_a_task_that_fails_ends_the_others_and_close_raises_its_error() -> None:
    household, noted = Household(), list[str]()

    async def last() -> None:
        noted.append("last")

    def ending() -> None:
        noted.append("ending")
        household.tasks.start_soon(last)

    async def fail() -> None:
        async with anyio.create_task_group():
            raise ValueError("mine")

    await household.open()
    household.ending = ending
    household.tasks.start_soon(anyio.sleep_forever)
    household.tasks.start_soon(fail)
    with anyio.fail_after(5):
        while not noted:
            await anyio.sleep(0.01)
    with pytest.raises(ValueError, match="mine"):
        await household.close()
    assert noted == ["ending", "last"], "once, and more could be begun"


async def test_cancelling_while_it_opens_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    household = Household()
    opening = asyncio.create_task(household.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert asyncio.all_tasks() == before


async def test_what_closes_it_waits_for_the_end_though_it_is_cancelled() -> None:
    household, ended = Household(), list[bool]()

    async def slowly() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            ended.append(True)

    await household.open()
    household.tasks.start_soon(slowly)
    await anyio.wait_all_tasks_blocked()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await household.close()
    assert ended


def test_without_a_task_of_asyncio_it_is_named() -> None:
    with pytest.raises(RequestInvalid, match="runs on asyncio or uvloop"):
        require_asyncio()


async def test_with_one_nothing_is_wrong() -> None:
    require_asyncio()

"""Many clients of one program that connect at once: how many are at an address, and who comes next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.to_thread
import pytest
from anyio.abc import TaskGroup

import redwire
from redwire import crowd, errors
from redwire.crowd import HANDSHAKES_MAX, HANDSHAKES_MIN, turn_at

CLIENTS = HANDSHAKES_MIN + 8


class Silent:
    """A host that takes every connection and says nothing; `most` is how many it had at a time."""

    def __init__(self, server: asyncio.Server, uri: str) -> None:
        self.uri = uri
        self.most = 0
        self.here: list[asyncio.StreamWriter] = []
        self._server = server

    def take(self, writer: asyncio.StreamWriter) -> None:
        self.here.append(writer)
        self.most = max(self.most, len(self.here))

    async def holds(self, count: int) -> None:
        """Return once so many are connected."""
        with anyio.fail_after(10):
            while len(self.here) < count:
                await anyio.sleep(0.01)


@asynccontextmanager
async def silent_host() -> AsyncIterator[Silent]:
    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.take(writer)
        with suppress(OSError):
            while await reader.read(1024):
                pass
        host.here.remove(writer)
        writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    host = Silent(server, f"red://127.0.0.1:{port}/")
    async with server:
        yield host


async def enter(uri: str, told: list[errors.RedwireError] | None = None) -> None:
    try:
        async with redwire.connect(uri):
            raise AssertionError("nobody lets us in")
    except errors.RedwireError as error:
        if told is not None:
            told.append(error)


async def crowd_at(host: Silent, tasks: TaskGroup, clients: int) -> None:
    """Have so many come, and return once as many are connected as may be."""
    for _ in range(clients):
        tasks.start_soon(enter, f"{host.uri}?timeout_ms=60000")
    await host.holds(HANDSHAKES_MIN)


async def test_of_a_crowd_a_few_are_at_an_address_at_a_time_and_no_other_address_waits_for_them() -> None:
    async with silent_host() as crowded, silent_host() as other, anyio.create_task_group() as tasks:
        await crowd_at(crowded, tasks, CLIENTS)
        tasks.start_soon(enter, f"{other.uri}?timeout_ms=60000")
        await other.holds(1)
        await anyio.sleep(0.2)
        assert crowded.most == len(crowded.here) == HANDSHAKES_MIN
        tasks.cancel_scope.cancel()


async def test_who_has_waited_is_next_when_another_one_goes_and_none_who_gave_up_meanwhile() -> None:
    async with silent_host() as host, anyio.create_task_group() as tasks:
        await crowd_at(host, tasks, HANDSHAKES_MIN)
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(enter, f"{host.uri}?timeout_ms=60000")
            await anyio.sleep(0.1)
            impatient.cancel_scope.cancel()
        tasks.start_soon(enter, f"{host.uri}?timeout_ms=60000")
        await anyio.sleep(0.1)
        before = [*host.here]
        before[0].close()
        with anyio.fail_after(10):
            while not any(each not in before for each in host.here):
                await anyio.sleep(0.01)
        assert host.most <= HANDSHAKES_MIN
        tasks.cancel_scope.cancel()


async def test_whoever_had_no_turn_does_not_say_that_the_address_gives_no_answer() -> None:
    async with silent_host() as host, anyio.create_task_group() as tasks:
        await crowd_at(host, tasks, HANDSHAKES_MIN)
        told: list[errors.RedwireError] = []
        await enter(f"{host.uri}?timeout_ms=300", told)
        assert isinstance(told[0], errors.DeadlineExceeded)
        assert told[0].message.endswith(f"other connections of this program to {host.uri[6:-1]} come first")
        tasks.cancel_scope.cancel()


async def test_the_clients_of_another_event_loop_do_not_wait_for_those_of_this_one() -> None:
    async with silent_host() as host, anyio.create_task_group() as tasks:
        await crowd_at(host, tasks, HANDSHAKES_MIN)
        await anyio.to_thread.run_sync(lambda: asyncio.run(enter(f"{host.uri}?timeout_ms=500")))
        assert host.most == HANDSHAKES_MIN + 1
        tasks.cancel_scope.cancel()


async def test_whoever_is_left_has_a_turn_where_all_before_him_give_up_at_once() -> None:
    """Those who have one, and those who are to have it next, as where a program closes its clients."""

    async def come(stays_s: float, patience: anyio.CancelScope) -> None:
        with patience:
            async with turn_at("us-1:5050"):
                await anyio.sleep(stays_s)

    patience = [anyio.CancelScope() for _ in range(2 * HANDSHAKES_MIN)]
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for each in patience:
                tasks.start_soon(come, 60, each)
            await anyio.sleep(0.05)
            tasks.start_soon(come, 0, anyio.CancelScope())
            await anyio.sleep(0.05)
            for each in patience:
                each.cancel()


async def most_at_once(comers: int, takes_s: float, told: type[Exception] | None = None) -> int:
    """Let so many come to one address, where each handshake takes so long, and ends as `told`."""
    here = most = 0

    async def come() -> None:
        nonlocal here, most
        with suppress(ConnectionError):
            async with turn_at("us-1:5050"):
                here += 1
                most = max(most, here)
                await anyio.sleep(takes_s)
                here -= 1
                if told is not None:
                    raise told

    async with anyio.create_task_group() as tasks:
        for _ in range(comers):
            tasks.start_soon(come)
    return most


async def test_where_handshakes_take_long_for_the_way_alone_more_have_them_at_once() -> None:
    assert await most_at_once(1000, 0.02) == HANDSHAKES_MAX


async def test_where_handshakes_are_slow_or_fail_no_more_have_them_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await most_at_once(300, 0.01, ConnectionRefusedError) <= HANDSHAKES_MIN
    monkeypatch.setattr(crowd, "QUICK_S", 0.005)
    assert await most_at_once(300, 0.02) <= HANDSHAKES_MIN


async def test_once_handshakes_become_slow_or_fail_fewer_have_them_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = turn_at("us-1:5050")  # what is known of an address lasts as long as somebody has to do with it
    assert await most_at_once(1000, 0.02) == HANDSHAKES_MAX
    monkeypatch.setattr(crowd, "QUICK_S", 0.005)
    await most_at_once(HANDSHAKES_MAX, 0.02)
    assert await most_at_once(300, 0.02) <= HANDSHAKES_MIN
    monkeypatch.undo()
    assert await most_at_once(1000, 0.02) == HANDSHAKES_MAX
    await most_at_once(HANDSHAKES_MAX, 0.0, ConnectionResetError)
    assert await most_at_once(HANDSHAKES_MAX, 0.02) < HANDSHAKES_MAX
    del kept

"""Many clients of one program that connect at once: how many are at an address, and who comes next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.to_thread

import redwire
from redwire import errors
from redwire.crowd import HANDSHAKES_MAX

CLIENTS = HANDSHAKES_MAX + 8


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


async def test_of_a_crowd_a_few_are_at_an_address_at_a_time_and_no_other_address_waits_for_them() -> None:
    async with silent_host() as crowded, silent_host() as other, anyio.create_task_group() as tasks:
        for _ in range(CLIENTS):
            tasks.start_soon(enter, f"{crowded.uri}?timeout_ms=60000")
        await crowded.holds(HANDSHAKES_MAX)
        tasks.start_soon(enter, f"{other.uri}?timeout_ms=60000")
        await other.holds(1)
        await anyio.sleep(0.2)
        assert crowded.most == len(crowded.here) == HANDSHAKES_MAX
        tasks.cancel_scope.cancel()


async def test_who_has_waited_is_next_when_another_one_goes_and_none_who_gave_up_meanwhile() -> None:
    async with silent_host() as host, anyio.create_task_group() as tasks:
        for _ in range(HANDSHAKES_MAX):
            tasks.start_soon(enter, f"{host.uri}?timeout_ms=60000")
        await host.holds(HANDSHAKES_MAX)
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
        assert host.most <= HANDSHAKES_MAX
        tasks.cancel_scope.cancel()


async def test_whoever_had_no_turn_does_not_say_that_the_address_gives_no_answer() -> None:
    async with silent_host() as host, anyio.create_task_group() as tasks:
        for _ in range(HANDSHAKES_MAX):
            tasks.start_soon(enter, f"{host.uri}?timeout_ms=60000")
        await host.holds(HANDSHAKES_MAX)
        told: list[errors.RedwireError] = []
        await enter(f"{host.uri}?timeout_ms=300", told)
        assert isinstance(told[0], errors.DeadlineExceeded)
        assert told[0].message.endswith(f"other connections of this program to {host.uri[6:-1]} come first")
        tasks.cancel_scope.cancel()


async def test_the_clients_of_another_event_loop_do_not_wait_for_those_of_this_one() -> None:
    async with silent_host() as host, anyio.create_task_group() as tasks:
        for _ in range(HANDSHAKES_MAX):
            tasks.start_soon(enter, f"{host.uri}?timeout_ms=60000")
        await host.holds(HANDSHAKES_MAX)
        await anyio.to_thread.run_sync(lambda: asyncio.run(enter(f"{host.uri}?timeout_ms=500")))
        assert host.most == HANDSHAKES_MAX + 1
        tasks.cancel_scope.cancel()

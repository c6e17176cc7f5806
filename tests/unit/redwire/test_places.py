"""Who gets the next place, and what becomes of those who wait while no node can be asked for another id."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from redwire.errors import ConnectFailed
from redwire.places import Places
from redwire.record import CLIENT_BYTES, NO_CLIENT, OPEN_MAX


class FakePool:
    """Nodes that have an id for whoever asks, once they were `refusals` times out of reach."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.issued = 0

    async def new_client_id(self) -> bytes:
        if self.refusals:
            self.refusals -= 1
            raise ConnectFailed("nobody there", retry=True)
        self.issued += 1
        return bytes([self.issued]) * CLIENT_BYTES


async def settled() -> None:
    """Let every task run as far as it comes by itself."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_whoever_waits_for_a_place_gets_it_in_its_turn() -> None:
    under_way, came = OPEN_MAX, []

    async def call(name: int) -> None:
        nonlocal under_way
        await places.wait()
        under_way += 1
        came.append(name)

    async with anyio.create_task_group() as tasks:
        places = Places(FakePool(), tasks, bytes(CLIENT_BYTES - 1) + b"a", lambda: under_way)
        for name in range(6):
            tasks.start_soon(call, name)
        await settled()
        for _ in range(6):
            under_way -= 1
            places.admit()
            await settled()
    assert came == [0, 1, 2, 3, 4, 5]


async def test_who_has_no_id_at_first_asks_for_one_when_it_wants_a_place() -> None:
    async with anyio.create_task_group() as tasks:
        pool = FakePool(refusals=2)
        places = Places(pool, tasks, NO_CLIENT, lambda: 0)
        await settled()
        assert pool.refusals == 2 and places.full and places.trouble
        with anyio.fail_after(5):
            await places.wait()
        keys, sequence = places.take()
    assert (keys.client, sequence, places.trouble, pool.issued) == (bytes([1]) * CLIENT_BYTES, 1, "", 1)


async def test_calls_that_wait_go_on_once_another_id_can_be_had() -> None:
    async with anyio.create_task_group() as tasks:
        pool = FakePool(refusals=OPEN_MAX)
        places = Places(pool, tasks, bytes(CLIENT_BYTES - 1) + b"a", lambda: 1)
        slow, _ = places.take()
        for _ in range(OPEN_MAX - 1):
            keys, sequence = places.take()
            keys.close(sequence)
        assert places.full and slow.stuck
        tasks.start_soon(places.wait)
        await settled()
        pool.refusals = 1
        with anyio.fail_after(5):
            while places.full:
                await anyio.sleep(0.01)
    assert pool.issued == 1

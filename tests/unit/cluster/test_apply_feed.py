"""When committed batches are handed to apply: for whom somebody waits at once, else a few together."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from cluster.apply_feed import ApplyFeed
from cluster.log import Log
from redwire.batch import Batch
from redwire.position import EMPTY, Lsn, TermList
from redwire.record import Op, Record

pytestmark = pytest.mark.anyio


class Taken:
    """A consumer that is never full; `handed` are the last LSNs of what came together."""

    def __init__(self) -> None:
        self.handed: list[list[int]] = []

    def take(self, batches: list[Batch]) -> None:
        self.handed.append([batch.last for batch in batches])

    def full(self) -> bool:
        return False

    async def ready(self) -> None:
        raise AssertionError("it was never full")


async def _read(after: Lsn, bytes_max: int, through: Lsn) -> list[Batch]:
    raise AssertionError("everything is in memory")


@pytest.fixture
def log(written_log: Any) -> Log:
    """Four batches of one record each, the last one at LSN 4."""
    log = Log(EMPTY, EMPTY, Lsn(0), TermList())
    for _ in range(4):
        log.append(written_log.write(Record(Op.DELETE, "orders", "a", b"")))
    return log


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def feed(log: Log, taken: Taken) -> ApplyFeed:
    return ApplyFeed(log, _read, taken, Lsn(0))


async def test_what_is_answered_is_handed_over_at_once(feed: ApplyFeed, taken: Taken) -> None:
    feed.committed(Lsn(1), answered=True)
    feed.committed(Lsn(2), answered=True)
    assert taken.handed == [[1], [2]]


async def test_what_nobody_waits_for_is_handed_over_together(feed: ApplyFeed, taken: Taken) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.run)
        feed.committed(Lsn(1), answered=False)
        assert taken.handed == []
        with anyio.fail_after(5):
            while not taken.handed:
                await anyio.sleep(0)
            for lsn in (2, 3, 4):
                feed.committed(Lsn(lsn), answered=False)
                await anyio.sleep(0)
            while len(taken.handed) < 2:
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert taken.handed == [[1], [2, 3, 4]]


async def test_a_read_that_waits_ends_the_pause(feed: ApplyFeed, taken: Taken) -> None:
    feed.committed(Lsn(1), answered=False)
    feed.push()
    feed.awaited = lambda: True
    feed.committed(Lsn(2), answered=False)
    assert taken.handed == [[1], [2]]


async def test_a_snapshot_moves_on_what_is_committed_and_what_is_handed_over(
    feed: ApplyFeed, taken: Taken
) -> None:
    feed.restart(Lsn(3))
    assert feed.commit == 3
    feed.committed(Lsn(4), answered=True)
    assert taken.handed == [[4]]

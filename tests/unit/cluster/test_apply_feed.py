"""When committed batches are handed to apply: for whom somebody waits at once, else a few together."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from cluster.apply_feed import ApplyFeed
from cluster.log import Log
from cluster.tail import TAIL_BYTES_MAX
from redwire.batch import Batch
from redwire.position import EMPTY, Lsn, TermList
from redwire.record import Op, Record

pytestmark = pytest.mark.anyio


class Taken:
    """A consumer; `handed` are the last LSNs of what came together. While it is `stuck` it takes no more, and
    whoever waits for that to end waits for ever.
    """

    def __init__(self) -> None:
        self.handed: list[list[int]] = []
        self.stuck = False
        self.waited_for = anyio.Event()

    def take(self, batches: list[Batch]) -> None:
        self.handed.append([batch.last for batch in batches])

    def full(self) -> bool:
        return self.stuck

    async def ready(self) -> None:
        if self.stuck:
            self.waited_for.set()
            await anyio.sleep_forever()


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
    assert feed.through == 3
    feed.committed(Lsn(4), answered=True)
    assert taken.handed == [[4]]


async def test_after_a_snapshot_nobody_waits_for_the_state_of_before(feed: ApplyFeed, taken: Taken) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.run)
        taken.stuck = True
        feed.committed(Lsn(2), answered=True)
        with anyio.fail_after(5):
            await taken.waited_for.wait()
            await feed.stop()
        taken.stuck = False
        feed.restart(Lsn(2))
        feed.committed(Lsn(3), answered=True)
        feed.committed(Lsn(4), answered=False)
        with anyio.fail_after(5):
            while len(taken.handed) < 2:
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert taken.handed == [[3], [4]]


async def test_what_was_being_read_reaches_the_state_of_before_or_none(
    written_log: Any, taken: Taken
) -> None:
    reads, finish = anyio.Event(), anyio.Event()
    log = Log(EMPTY, EMPTY, Lsn(0), TermList())
    batches = [
        written_log.write(Record(Op.PUT, "orders", "a", b'{"a":"%s"}' % (b"x" * (TAIL_BYTES_MAX // 3))))
        for _ in range(5)
    ]
    for batch in batches:
        log.append(batch)
        log.synced(batch.last)

    async def read(after: Lsn, bytes_max: int, through: Lsn) -> list[Batch]:
        await checkpoint()  # a read in a thread can be cancelled before it begins, and not after
        reads.set()
        with anyio.CancelScope(shield=True):
            await finish.wait()
        return [batch for batch in batches if batch.last > after][:1]

    feed = ApplyFeed(log, read, taken, Lsn(0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.run)
        feed.committed(Lsn(5), answered=True)
        with anyio.fail_after(5):
            await reads.wait()
            tasks.start_soon(feed.stop)
            await anyio.wait_all_tasks_blocked()
            finish.set()
            await anyio.wait_all_tasks_blocked()
            before = list(taken.handed)
            feed.restart(Lsn(4))
            feed.committed(Lsn(5), answered=True)
            await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert before in ([], [[1]])
    assert taken.handed == [*before, [5]]

"""One consumer's way along the log: young batches from memory at once, older ones from the files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from cluster.bell import Bell
from cluster.feed import Feed
from cluster.log import Log
from redwire.batch import Batch
from redwire.errors import ChannelClosed
from redwire.position import EMPTY, Lsn, TermList
from redwire.record import Op, Record

HEAD = 6


class Site:
    """A log of batches of one record each, its files, and a consumer that is full when told."""

    def __init__(self, written_log: Any) -> None:
        self.log = Log(EMPTY, EMPTY, Lsn(0), TermList())
        self.files: list[Batch] = []
        self.through = Lsn(HEAD)
        self.taken: list[int] = []
        self.asked: list[tuple[int, int]] = []
        self.is_full = False
        self.on_take: Callable[[], None] = lambda: None
        self._room = Bell()
        for _ in range(HEAD):
            batch = written_log.write(Record(Op.DELETE, "orders", "a", b""))
            self.log.append(batch)
            self.files.append(batch)
        self.log.synced(Lsn(HEAD))
        self.feed = Feed(self.log, self.read, self, Lsn(0), lambda: self.through)

    async def read(self, after: Lsn, bytes_max: int, through: Lsn) -> list[Batch]:
        """Two at a time: a file holds more than is asked for at once."""
        self.asked.append((after, through))
        await checkpoint()
        return [batch for batch in self.files if after < batch.last <= through][:2]

    def take(self, batches: list[Batch]) -> None:
        self.taken += [batch.last for batch in batches]
        self.on_take()

    def full(self) -> bool:
        return self.is_full

    async def ready(self) -> None:
        while self.is_full:
            await self._room.wait()

    def has_room(self) -> None:
        self.is_full = False
        self._room.ring()


@asynccontextmanager
async def running(feed: Feed) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.run)
        await settled()
        yield
        tasks.cancel_scope.cancel()


async def settled() -> None:
    """Everybody has come as far as they can."""
    for _ in range(20):
        await checkpoint()


async def eventually(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not fact():
            await checkpoint()


@pytest.fixture
def site(written_log: Any) -> Site:
    return Site(written_log)


def test_what_is_in_memory_is_handed_over_in_the_turn_that_asks(site: Site) -> None:
    site.feed.push()
    assert site.taken == [1, 2, 3, 4, 5, 6] and site.feed.idle and site.feed.after == HEAD
    site.feed.push()
    assert site.taken == [1, 2, 3, 4, 5, 6] and site.asked == []


def test_whoever_pushes_again_while_it_takes_gets_nothing_twice(site: Site) -> None:
    site.through = Lsn(2)

    def more() -> None:
        site.through = Lsn(HEAD)
        site.feed.push()

    site.on_take = more
    site.feed.push()
    assert site.taken == [1, 2, 3, 4, 5, 6] and site.feed.idle


def test_nothing_above_through_is_handed_over(site: Site) -> None:
    site.through = Lsn(4)
    site.feed.push()
    assert site.taken == [1, 2, 3, 4] and site.feed.idle
    site.through = Lsn(5)
    assert not site.feed.idle
    site.feed.push()
    assert site.taken[-1] == 5


async def test_what_memory_has_let_go_of_comes_from_the_files_and_then_the_rest_from_memory(
    site: Site,
) -> None:
    site.log.tail.clear()
    async with running(site.feed):
        site.feed.push()
        assert site.taken == []
        await eventually(lambda: site.feed.idle)
        assert site.taken == [1, 2, 3, 4, 5, 6] and site.asked == [(0, 6), (2, 6), (4, 6)]


async def test_the_files_are_read_only_as_far_as_they_are_durable(site: Site) -> None:
    site.log.tail.clear()
    site.log.durable = Lsn(3)
    async with running(site.feed):
        site.feed.push()
        await settled()
        assert site.taken == [1, 2, 3] and {through for _, through in site.asked} == {3}
        site.log.synced(Lsn(HEAD))
        site.feed.push()
        await eventually(lambda: site.feed.idle)
    assert site.taken == [1, 2, 3, 4, 5, 6]


async def test_whoever_is_full_gets_the_rest_when_there_is_room_and_nothing_in_between(site: Site) -> None:
    site.is_full = True
    async with running(site.feed):
        site.feed.push()
        site.feed.push()
        await settled()
        assert site.taken == []
        site.has_room()
        await eventually(lambda: site.feed.idle)
        assert site.taken == [1, 2, 3, 4, 5, 6] and site.asked == []


async def test_once_it_has_caught_up_young_batches_are_handed_over_at_once_again(
    site: Site, written_log: Any
) -> None:
    site.is_full = True
    async with running(site.feed):
        site.feed.push()
        site.has_room()
        await eventually(lambda: site.feed.idle)
        await settled()
        site.log.append(written_log.write(Record(Op.DELETE, "orders", "a", b"")))
        site.through = Lsn(HEAD + 1)
        site.feed.push()
        assert site.taken[-1] == HEAD + 1


async def test_an_error_of_the_files_ends_it_where_it_was(site: Site) -> None:
    async def gone(after: Lsn, bytes_max: int, through: Lsn) -> list[Batch]:
        raise ChannelClosed("the files are gone")

    feed = Feed(site.log, gone, site, Lsn(2), lambda: site.through)
    site.log.tail.clear()
    feed.push()
    with pytest.raises(ChannelClosed):
        await feed.run()
    assert feed.after == 2 and site.taken == []


def test_what_the_log_has_grown_by_is_handed_over_as_it_is(site: Site) -> None:
    site.feed.after = Lsn(5)
    site.feed.extend(site.files[5])
    assert site.taken == [6] and site.feed.after == HEAD


def test_what_came_before_what_the_log_has_grown_by_comes_first(site: Site) -> None:
    site.feed.after = Lsn(2)
    site.feed.extend(site.files[5])
    assert site.taken == [3, 4, 5, 6] and site.feed.after == HEAD


def test_a_full_consumer_takes_nothing_that_the_log_has_grown_by(site: Site) -> None:
    site.feed.after, site.is_full = Lsn(4), True
    site.feed.extend(site.files[4])
    site.is_full = False
    site.feed.extend(site.files[5])
    assert site.taken == [], "it is for `run` now, which reads on from where the consumer is"

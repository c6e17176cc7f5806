"""How what is committed gets to apply: at once where somebody waits for it, else so often and no oftener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import anyio

from cluster.bell import Bell
from cluster.feed import Consumer, Feed, ReadLog
from cluster.log import Log
from redwire.position import Lsn

APPLY_EVERY_S = 0.01
"""A transaction costs a follower as much for one write as for ten, and nobody waits for it there but a read
that asks for what is new. Ten milliseconds are little beside any distance between regions.
"""


class ApplyConsumer(Consumer, Protocol):
    """Apply, as it is fed. `awaited`: writers wait for what is made of the next batches."""

    awaited: bool


class ApplyFeed:
    """Apply's way along the log. `through` is how far it may go, which never falls.

    `awaited` says whether a read waits for more; it is set by whoever serves reads. A state has a feed of its
    own: between `stop` and `restart` another takes its place.
    """

    def __init__(self, log: Log, read: ReadLog, consumer: ApplyConsumer, applied: Lsn) -> None:
        self.through = applied
        self.awaited: Callable[[], bool] = lambda: False
        self._new_feed: Callable[[Lsn], Feed] = lambda after: Feed(
            log, read, consumer, after, lambda: self.through
        )
        self._consumer = consumer
        self._feed = self._new_feed(applied)
        self._due = Bell()
        self._scope: anyio.CancelScope | None = None
        self._stopped = Bell()
        self._restarted = Bell()

    def committed(self, watermark: Lsn, *, answered: bool) -> None:
        """Apply may go up to `watermark`. `answered`: writers wait to be told what came of it."""
        self.through = watermark
        self._consumer.awaited = answered
        if answered or self.awaited():
            self._feed.push()
        else:
            self._due.ring()

    def push(self) -> None:
        """Hand over now what may be applied: a read has begun to wait."""
        self._feed.push()

    async def stop(self) -> None:
        """Read the log no more, before the state and its log are replaced. For a feed that runs."""
        assert self._scope is not None
        self._scope.cancel()
        await self._stopped.wait()

    def restart(self, applied: Lsn) -> None:
        """Go on with a state that stands at `applied`, whatever was handed to the one before."""
        self.through = Lsn(max(self.through, applied))
        self._feed = self._new_feed(applied)
        self._restarted.ring()

    async def run(self) -> None:
        """Hand over for ever what was not handed over at once."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hand_over_together)
            while True:
                with anyio.CancelScope() as self._scope:
                    await self._feed.run()
                self._stopped.ring()
                await self._restarted.wait()

    async def _hand_over_together(self) -> None:
        while True:
            await self._due.wait()
            self._feed.push()
            await anyio.sleep(APPLY_EVERY_S)

"""How what is committed gets to apply: at once where somebody waits for it, else so often and no oftener."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from cluster.bell import Bell
from cluster.feed import Consumer, Feed, ReadLog
from cluster.log import Log
from redwire.position import Lsn

APPLY_EVERY_S = 0.01
"""A transaction costs a follower as much for one write as for ten, and nobody waits for it there but a read
that asks for what is new. Ten milliseconds are little beside any distance between regions.
"""


class ApplyFeed:
    """Apply's way along the log. `commit` is how far it may go, which never falls.

    `awaited` says whether a read waits for more; it is set by whoever serves reads.
    """

    def __init__(self, log: Log, read: ReadLog, consumer: Consumer, applied: Lsn) -> None:
        self.commit = applied
        self.awaited: Callable[[], bool] = lambda: False
        self._feed = Feed(log, read, consumer, applied, lambda: self.commit)
        self._due = Bell()

    def committed(self, watermark: Lsn, *, answered: bool) -> None:
        """Apply may go up to `watermark`. `answered`: writers wait to be told what came of it."""
        self.commit = watermark
        if answered or self.awaited():
            self._feed.push()
        else:
            self._due.ring()

    def push(self) -> None:
        """Hand over now what may be applied: a read has begun to wait."""
        self._feed.push()

    def restart(self, applied: Lsn) -> None:
        """The state stands at `applied` now, whatever was handed over before: a snapshot replaced it."""
        self.commit = Lsn(max(self.commit, applied))
        self._feed.after = applied

    async def run(self) -> None:
        """Hand over for ever what was not handed over at once."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._feed.run)
            while True:
                await self._due.wait()
                self._feed.push()
                await anyio.sleep(APPLY_EVERY_S)

"""The log at work: its files, its outline in memory, and the disk thread that writes it.

Callers live on the event loop and never wait for the disk; what they must wait for is a coroutine here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio.to_thread

from cluster.bell import Broadcast
from cluster.disk import Disk
from cluster.log import Log
from cluster.log_room import LogRoom
from cluster.meta import Meta
from cluster.segment import MARK_BYTES
from cluster.threads import Post
from cluster.wal import Wal
from redwire.batch import Batch
from redwire.position import Lsn, Position, Reign

DISK_BYTES_MAX = 32 << 20
"""What a follower may hand to its disk before it stops reading its source: two of the largest batches, one
that is written and one that comes in meanwhile.
"""
CLOSE_S = 10.0
"""A sync that takes longer may take for ever; the service manager's patience is 60 s."""


class Journal:
    """The log of one node. `disk` does everything else that must happen in order with it, too."""

    def __init__(
        self,
        wal: Wal,
        log: Log,
        data_dir: Path,
        meta: Meta,
        post: Post,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.wal = wal
        self.log = log
        self.close_s = CLOSE_S
        self.on_durable: Callable[[Lsn], None] = lambda lsn: None
        self.disk = Disk(wal, data_dir, meta, post, fail, self._durable)
        self._moved = Broadcast()

    def room(self) -> LogRoom:
        """What a turn may log and will surely fit, and what will fit later."""
        return self.disk.room(framing_bytes=MARK_BYTES)

    def append(self, batch: Batch, watermark: Lsn, hand_out: Callable[[Batch], None]) -> None:
        """Log `batch`; `on_durable` follows. Before it goes to the disk it may be handed out to followers:
        what they need takes longer, and the disk's thread would take Python's lock from the sends.
        """
        self.log.append(batch)
        hand_out(batch)
        self.disk.append(batch, watermark)

    def cut(self, to: Position, reason: str, done: Callable[[], None]) -> None:
        """End the log at `to`, its tail kept in `diverged/`."""
        self.log.cut(to)
        self.disk.cut(to, lambda path: done(), reason)

    def prune(self, through: Lsn) -> None:
        """Let go of whole segments up to `through`."""
        self.disk.relieve(lambda: self.wal.prune(through), self._pruned)

    async def synced(self) -> None:
        """Wait until everything that was appended is durable."""
        while self.log.durable < self.log.end.lsn:
            await self._moved.wait()

    @property
    def behind(self) -> bool:
        """Whether more waits for the disk than a follower should hold."""
        return self.disk.waiting_bytes > DISK_BYTES_MAX

    async def keeping_up(self) -> None:
        """Wait while it is `behind`."""
        while self.behind:
            await self._moved.wait()

    async def read(self, after: Lsn, bytes_max: int, through: Lsn) -> list[Batch]:
        """Durable batches from the log's files. Raises `LogPruned`."""
        return await anyio.to_thread.run_sync(self.wal.read, after, bytes_max, through)

    async def position_at(self, lsn: Lsn) -> Position | None:
        """The position that ends at `lsn`, None if that is no batch's end or is not kept."""
        for known in (self.log.end, self.log.base):
            if lsn == known.lsn:
                return known
        return await anyio.to_thread.run_sync(self.wal.position_at, lsn)

    async def last_reign(self) -> Reign | None:
        """The reign that wrote the last durable batch; None where a snapshot was the last thing that came."""
        return await anyio.to_thread.run_sync(self.wal.last_reign)

    def stop(self) -> bool:
        """Finish what was asked for; whether it is finished. Blocks for the last sync, `close_s` at most: a
        disk that hangs then may yet write.
        """
        self.disk.stop()
        return self.disk.join(self.close_s)

    def _durable(self, lsn: Lsn) -> None:
        self.log.synced(lsn)
        self._moved.wake()
        self.on_durable(lsn)

    def _pruned(self, base: Position) -> None:
        self.log.base = base

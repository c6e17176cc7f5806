"""Feeding batches by position, to a follower or to apply: "you have 41, the log has 57, here are 42 to 57".

While the consumer keeps up, `push` hands it the young batches from memory, in the turn that made them. When
it does not, or when what it needs is only in the log's files any more, the `run` task takes over until it has
caught up. After any error the consumer asks again from where it is: there is no queue to lose.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from cluster.bell import Bell
from cluster.log import Log
from redwire.batch import Batch
from redwire.position import Lsn

CHUNK_BYTES = 1 << 20
"""What is read or handed over at once: a full batch."""

ReadLog = Callable[[Lsn, int, Lsn], Awaitable[list[Batch]]]
"""`read(after, bytes_max, through)`: durable batches from the log's files, read off the event loop."""


class Consumer(Protocol):
    """Whoever takes the batches."""

    def take(self, batches: list[Batch]) -> None:
        """Take batches that continue what was taken before. Never waits."""

    def full(self) -> bool:
        """Whether to hold back for now."""

    async def ready(self) -> None:
        """Wait until it is not full."""


class Feed:
    """One consumer's way along the log. `through` says up to which LSN it may be fed right now."""

    def __init__(
        self, log: Log, read: ReadLog, consumer: Consumer, after: Lsn, through: Callable[[], Lsn]
    ) -> None:
        self.after = after
        self._log = log
        self._read = read
        self._consumer = consumer
        self._through = through
        self._bell = Bell()
        self._behind = False

    @property
    def idle(self) -> bool:
        """Whether everything that it may be fed was handed over."""
        return self.after >= self._through()

    def push(self) -> None:
        """Hand over what is in memory and fits; leave the rest to `run`. Called after anything changed."""
        if self._behind:
            return
        while not self.idle:
            batches = None
            if not self._consumer.full():
                batches = self._log.tail.after(self.after, CHUNK_BYTES, self._through())
            if batches is None:
                self._behind = True
                self._bell.ring()
                return
            if not batches:
                return  # the next batch ends above `through`
            self._hand(batches)

    def extend(self, young: Batch) -> None:
        """As `push`, where the log has just grown by the batch `young`, which may be fed."""
        if self._behind or self.after + 1 != young.first or self._consumer.full():
            self.push()
        else:
            self._hand([young])

    async def run(self) -> None:
        """Catch the consumer up whenever `push` could not. Ends by cancellation or an error of `read`."""
        while True:
            await self._bell.wait()
            while not self.idle:
                await self._consumer.ready()
                batches = self._log.tail.after(self.after, CHUNK_BYTES, self._through())
                if batches is None:
                    through = Lsn(min(self._through(), self._log.durable))
                    batches = await self._read(self.after, CHUNK_BYTES, through)
                if not batches:
                    break
                self._hand(batches)
            self._behind = False

    def _hand(self, batches: list[Batch]) -> None:
        self.after = batches[-1].last  # first: what comes of it at once may push again
        self._consumer.take(batches)

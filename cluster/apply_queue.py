"""Apply as the end of a feed: batches go in, results come back as one event."""

from __future__ import annotations

from collections.abc import Callable

from cluster.applier import Applier
from cluster.bell import Broadcast
from cluster.effects import Applied
from cluster.state import AppliedBatch, State
from cluster.threads import Post
from redwire.batch import Batch
from redwire.position import Lsn, Position

APPLY_BYTES_MAX = 8 << 20
"""What may wait for the apply thread: two of its transactions, so that it never waits. The rest stays in the
log.
"""


class ApplyQueue:
    """What waits to be applied. `use` gives it a state, at the start and after a snapshot. Where it is
    `awaited`, which nobody does on a follower, a little is applied at once.
    """

    def __init__(self, post: Post, fail: Callable[[BaseException], None], durable: Callable[[], Lsn]) -> None:
        """`durable` says how much of the log is on this node's disk. Where that stands still nothing is
        applied in the event loop: the state is on the same disk.
        """
        self.awaited = False
        self.on_applied: Callable[[Applied], None] = lambda event: None
        self.on_failure = fail
        self._post = post
        self._durable = durable
        self._applier: Applier | None = None
        self._moved = Broadcast()

    def use(self, state: State) -> None:
        """Apply to `state` from now on."""
        assert self._applier is None
        self._applier = Applier(state, self._post, self._applied, lambda error: self.on_failure(error))
        self._moved.wake()

    def stop(self) -> None:
        """Finish what was given, and let go of the state. Takes no more, and blocks: for another thread."""
        applier, self._applier = self._applier, None
        if applier is not None:
            applier.stop()

    def take(self, batches: list[Batch]) -> None:
        """Apply these."""
        applier = self._applier
        if applier is not None:
            applier.apply(batches, at_once=self.awaited and batches[-1].last <= self._durable())

    def ease(self) -> None:
        """Space is short on the volume: give back what SQLite's log takes of it."""
        if self._applier is not None:
            self._applier.ease()

    def full(self) -> bool:
        """Whether enough waits."""
        applier = self._applier
        return applier is None or applier.waiting_bytes >= APPLY_BYTES_MAX

    @property
    def blocked(self) -> bool:
        """Whether the state finds no space on its disk: apply stands still, and tries again by itself."""
        applier = self._applier
        return applier is not None and applier.blocked

    async def ready(self) -> None:
        """Wait until more can be taken."""
        while self.full():
            await self._moved.wait()

    def _applied(self, batches: list[AppliedBatch], position: Position) -> None:
        self._moved.wake()
        self.on_applied(Applied(position.lsn, batches))

"""Awaitable twins of the waits for the quorum, and for copies, over one ack table.

For a service of one's own on these packages: feed acks to the `QuorumCoordinator`, call `changed` after each
event, the beginning of a reign among them, and from time to time, for only that ends a wait whose time is up;
and await here.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.ack_waits import AckWaits, AwaitOutcome
from cluster.bell import Broadcast
from redwire.position import Lsn
from regions.coordinator import QuorumCoordinator
from regions.waits import QuorumNotRequired, QuorumReached


class Waiting:
    """Waits over one coordinator, on one event loop. `clock_ms` is the clock that its events carry."""

    def __init__(self, coordinator: QuorumCoordinator, clock_ms: Callable[[], int]) -> None:
        self.acks = AckWaits(self._copies)
        self._coordinator = coordinator
        self._clock_ms = clock_ms
        self._reigns = coordinator.reigns
        self._changed = Broadcast()

    def changed(self) -> None:
        """The coordinator has seen an event, or time has passed: finish what is finished by it."""
        now_ms = self._clock_ms()
        self._coordinator.tick(now_ms)
        self._turn_over()
        self.acks.settle(now_ms)
        self._changed.wake()

    async def wait_for_quorum(
        self, lsn: Lsn, timeout_ms: int | None = None
    ) -> QuorumReached | QuorumNotRequired:
        """Return when the cluster's quorum holds `lsn`.

        Raises `Timeout`, and at once `InsufficientReplicas` or `MissingRegions` when the members in reach
        cannot make the quorum. Cancelling ends the wait only; the record goes its way.
        """
        wait = self._coordinator.wait_for_quorum(lsn, self._clock_ms(), timeout_ms)
        try:
            while not wait.done:
                await self._changed.wait()
        finally:
            wait.cancel()
        outcome = wait.result()
        assert isinstance(outcome, QuorumReached | QuorumNotRequired)
        return outcome

    async def await_acks(self, target: Lsn, required: int, timeout_ms: int) -> AwaitOutcome:
        """Return when `required` copies of `target` beside our own are proven, or the time or the reign is
        over. Cancelling ends the wait only.
        """
        self._turn_over()
        wait = self.acks.add(target, required, self._clock_ms(), timeout_ms)
        try:
            while wait.outcome is None:
                await self._changed.wait()
        finally:
            self.acks.forget(wait)
        return wait.outcome

    def _turn_over(self) -> None:
        """Where another reign has begun, end the waits for copies: their LSNs may be of other records now."""
        if self._reigns != self._coordinator.reigns:
            self.acks.end()
            self._reigns = self._coordinator.reigns

    def _copies(self, lsn: Lsn) -> int:
        return self._coordinator.copies(lsn) if self._reigns == self._coordinator.reigns else 0

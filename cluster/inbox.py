"""The node's one queue: whatever happens is put here, and one turn takes all of it."""

from __future__ import annotations

from cluster.bell import Bell, Broadcast
from cluster.effects import PrimaryEvent, Proposal, ReplicaEvent

WAITING_BYTES_MAX = 64 << 20
"""Requests that wait to be logged, over all sessions: four of the largest. Beyond it sessions are not read
(R1).
"""

Event = PrimaryEvent | ReplicaEvent


class Inbox:
    """Events and proposals, in the order of their arrival. For the event loop's thread only."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._proposals: list[Proposal] = []
        self._bytes = 0
        self._bell = Bell()
        self._eased = Broadcast()

    def post(self, event: Event) -> None:
        """Something happened."""
        self._events.append(event)
        self._bell.ring()

    def propose(self, proposal: Proposal) -> None:
        """Somebody wants something written. Check `crowded` first."""
        self._proposals.append(proposal)
        self._bytes += len(proposal.request)
        self._bell.ring()

    def wake(self) -> None:
        """Have a turn, even an empty one."""
        self._bell.ring()

    async def wait(self) -> None:
        """Return when there is something to take."""
        await self._bell.wait()

    def take(self) -> tuple[list[Event], list[Proposal]]:
        """Everything that waits."""
        events, proposals = self._events, self._proposals
        self._events, self._proposals = [], []
        return events, proposals

    def settle(self, waiting_bytes: int) -> None:
        """After a turn: `waiting_bytes` of requests are still not logged."""
        self._bytes = waiting_bytes
        if not self.crowded:
            self._eased.wake()

    @property
    def crowded(self) -> bool:
        """Whether sessions should stop reading."""
        return self._bytes >= WAITING_BYTES_MAX

    async def uncrowded(self) -> None:
        """Wait until there is room again."""
        while self.crowded:
            await self._eased.wait()

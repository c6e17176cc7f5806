"""The node's one queue: whatever happens is put here, and one turn takes all of it."""

from __future__ import annotations

import asyncio

from cluster.bell import Bell, Broadcast
from cluster.effects import Now, PrimaryEvent, Proposal, ReplicaEvent
from cluster.gathering import Gathering

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
        self._proposed_bytes = self._taken_bytes = 0
        self._gathering = Gathering()
        self._waiting = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._bell = Bell()
        self._eased = Broadcast()

    def post(self, event: Event) -> None:
        """Something happened."""
        self._events.append(event)
        self._bell.ring()

    def propose(self, proposal: Proposal) -> None:
        """Somebody wants something written. Check `crowded` first."""
        self._proposals.append(proposal)
        self._proposed_bytes += len(proposal.request)
        self._bell.ring()

    def wake(self) -> None:
        """Have a turn, even an empty one."""
        self._bell.ring()

    async def wait(self) -> None:
        """Return when there is something to take."""
        await self._bell.wait()

    def events(self) -> list[Event]:
        """All events that wait."""
        events, self._events = self._events, []
        return events

    def due(self, held: int, took_us: float, now: Now) -> bool:
        """Whether to look now at the proposals here and at the `held` that were taken before, where a commit
        takes `took_us` lately. If not there will be a turn in time.
        """
        self._waiting = held + len(self._proposals)
        if not self._waiting:
            return False
        left_us = self._gathering.patience_us(self._waiting, took_us, now.us)
        if left_us and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(left_us / 1e6, self._woken)
        return not left_us

    def looked_at(self, held: int, under_way: int) -> None:
        """Of those that were `due` so many are `held` yet; `under_way` are those of batches not answered."""
        if held < self._waiting:
            self._gathering.made(held + under_way)

    def proposals(self) -> list[Proposal]:
        """All proposals that wait."""
        proposals, self._proposals, self._proposed_bytes = self._proposals, [], 0
        return proposals

    def settle(self, waiting_bytes: int) -> None:
        """After a turn: `waiting_bytes` of requests that were taken are still not logged."""
        self._taken_bytes = waiting_bytes
        if not self.crowded:
            self._eased.wake()

    @property
    def crowded(self) -> bool:
        """Whether sessions should stop reading."""
        return self._proposed_bytes + self._taken_bytes >= WAITING_BYTES_MAX

    async def uncrowded(self) -> None:
        """Wait until there is room again."""
        while self.crowded:
            await self._eased.wait()

    def _woken(self) -> None:
        self._alarm = None
        self._bell.ring()

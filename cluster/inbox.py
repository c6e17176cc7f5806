"""The node's one queue: whatever happens is put here, and one turn takes all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from enum import Enum
from types import TracebackType

from cluster.bell import Broadcast
from cluster.effects import Event, Now, Proposal
from cluster.gathering import Gathering
from cluster.queued import Queued

WAITING_BYTES_MAX = 64 << 20
"""Requests that wait to be logged, over all sessions: four of the largest. Beyond it sessions are not read
(R1).
"""
EACH_BYTES_MAX = 16 << 20
"""The same of one caller: room for one of the largest requests. What one session asks for may have to wait
for a region that is away, and must not keep what others ask for from being logged.
"""
_NOTHING = Queued()


class Phase(Enum):
    """Where whoever serves stands with its turns, and what takes what comes then."""

    REST = "a turn that is called for now, or had at once"
    DUE = "the turn that is on its way"
    EVENTS = "the turn that is under way: it has events and asks for more"
    BEHIND = "another turn, which is called for: the one under way has no events yet, or any more"


REST, DUE, EVENTS, BEHIND = Phase


class Inbox:
    """Events and proposals, in the order of their arrival. For the event loop's thread only.

    A turn is a callback of the event loop, not a task that wakes: there are some four of them in a commit. It
    takes what comes of its own events, too, and looks at the proposals behind them.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._proposals: list[Proposal] = []
        self._proposed, self._taken = Queued(), _NOTHING
        self._unsettled = False  # some of those that were taken are not known yet to be logged
        self._gathering = Gathering()
        self._asked = 0  # how many waited when it was asked last whether they are ripe
        self._alarm: asyncio.TimerHandle | None = None
        self._eased = Broadcast()
        self._turns: _Turns | None = None

    async def serve(self, turn: Callable[[], None]) -> None:
        """Have a `turn` whenever something waits, for ever. Raises what one of them raises."""
        self._turns = turns = _Turns(turn)
        try:
            self.wake()
            await turns.failed
        finally:
            self._turns = None

    def post(self, event: Event, *, now: bool = False) -> None:
        """Something happened. `now`: have the turn in this call, unless there is one or it is on its way: it
        is what others wait for, and whoever calls has nothing to do afterwards that the turn could change.
        """
        self._events.append(event)
        turns = self._turns
        if now and turns is not None and turns.phase is REST:
            turns.context.run(turns.take)
        else:
            self.wake()

    def propose(self, proposal: Proposal) -> None:
        """Somebody wants something written. Ask first whether the queue is `crowded`."""
        self._proposals.append(proposal)
        self._proposed.add(proposal)
        self.wake()

    def wake(self) -> None:
        """Have a turn, even an empty one; nothing while nobody serves."""
        turns = self._turns
        if turns is not None and (turns.phase is REST or turns.phase is BEHIND):
            turns.phase = DUE
            asyncio.get_running_loop().call_soon(turns.take, context=turns.context)

    def events(self) -> list[Event]:
        """All events that wait; a turn asks until there are none, since each may bring others."""
        events, self._events = self._events, []
        turns = self._turns
        if turns is not None and events:
            turns.phase = EVENTS
        elif turns is not None and turns.phase is EVENTS:
            turns.phase = BEHIND
        return events

    def holds(self, kind: type[Event]) -> bool:
        """Whether an event of this kind waits for its turn."""
        return any(isinstance(event, kind) for event in self._events)

    @property
    def waiting(self) -> bool:
        """Whether there are proposals, or were some that are not known yet to be logged."""
        return bool(self._proposals) or self._unsettled

    def ripe(self, held: int, took_us: float, now: Now) -> bool:
        """Whether to look now at the proposals here and at the `held` that were taken before, where a commit
        takes `took_us` lately. If not there will be a turn in time; if so, say what was `gathered`.
        """
        self._asked = held + len(self._proposals)
        if not self._asked:
            return False
        left_us = self._gathering.patience_us(self._asked, took_us, now.us)
        if left_us and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(left_us / 1e6, self._woken)
        return not left_us

    def gathered(self, held: int, under_way: int) -> None:
        """Of those that were `ripe` so many are `held` yet; `under_way` are those of batches not answered."""
        if held < self._asked:
            self._gathering.made(held + under_way)

    def proposals(self) -> list[Proposal]:
        """All proposals that wait."""
        proposals, self._proposals = self._proposals, []
        self._proposed.clear()
        return proposals

    def settle(self, queued: Queued = _NOTHING) -> None:
        """After a turn: those in `queued` were taken, and are still not logged."""
        self._taken, self._unsettled = queued, queued.size > 0
        if not self.crowded():
            self._eased.wake()

    def crowded(self, caller: object = None) -> bool:
        """Whether sessions should stop reading; of one that proposes as `caller`: or that one should."""
        proposed, taken = self._proposed, self._taken
        size = proposed.size + taken.size
        if size < EACH_BYTES_MAX:
            return False
        return size >= WAITING_BYTES_MAX or proposed.of(caller) + taken.of(caller) >= EACH_BYTES_MAX

    async def uncrowded(self, caller: object = None) -> None:
        """Wait until there is room again."""
        while self.crowded(caller):
            await self._eased.wait()

    def _woken(self) -> None:
        self._alarm = None
        self.wake()


class _Turns:
    """The turns of one `serve`, in its context; `failed` is what one raised, and then there are no more."""

    __slots__ = ("_turn", "context", "failed", "phase")

    def __init__(self, turn: Callable[[], None]) -> None:
        self._turn = turn
        self.context: Context = copy_context()
        self.phase = REST
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self) -> None:
        """One turn, if there are any more."""
        if not self.failed.done():
            with self:
                self._turn()

    def __enter__(self) -> None:
        self.phase = BEHIND

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """An error is for whoever has the turns."""
        if self.phase is not DUE:
            self.phase = REST
        if error is not None:
            self.failed.set_exception(error)
        return True

"""Who waits for the quorum: handles that a later event or tick finishes, in pure code without a clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

import msgspec

from redwire.position import Lsn, Region
from regions.errors import Timeout


class QuorumReached(msgspec.Struct, frozen=True):
    """The copies were proven; `watermark` is how far the quorum reached when it was seen."""

    watermark: Lsn
    elapsed_ms: int


class QuorumNotRequired(msgspec.Struct, frozen=True):
    """The cluster's quorum is async: there was nothing to wait for, and nothing is promised."""


class Cancelled(msgspec.Struct, frozen=True):
    """The caller stopped waiting. The record itself goes its way."""


class QuorumWait:
    """One wait for `lsn`. `outcome` is None until it is done, and never changes after that.

    `deadline_ms` is None for a wait without end.
    """

    __slots__ = ("deadline_ms", "lsn", "outcome", "started_ms")

    def __init__(self, lsn: Lsn, started_ms: int, deadline_ms: int | None) -> None:
        self.lsn = lsn
        self.started_ms = started_ms
        self.deadline_ms = deadline_ms
        self.outcome: QuorumReached | QuorumNotRequired | Cancelled | Timeout | None = None

    @property
    def done(self) -> bool:
        """Whether there is an outcome."""
        return self.outcome is not None

    def cancel(self) -> None:
        """Stop waiting; a wait that is done stays as it is."""
        if self.outcome is None:
            self.outcome = Cancelled()

    def result(self) -> QuorumReached | QuorumNotRequired | Cancelled:
        """The outcome of a wait that is done. Raises `Timeout` if that is what it came to."""
        assert self.outcome is not None, "ask `done` first"
        if isinstance(self.outcome, Timeout):
            raise self.outcome
        return self.outcome

    def __repr__(self) -> str:
        return f"<QuorumWait lsn={self.lsn} {self.outcome or 'waiting'}>"


class QuorumWaits:
    """All open waits, by LSN and by deadline. A wait that is done leaves both orders when it comes up in
    them.
    """

    def __init__(
        self, watermark: Callable[[], Lsn], regions_holding: Callable[[Lsn], frozenset[Region]]
    ) -> None:
        self._watermark = watermark
        self._regions_holding = regions_holding
        self._by_lsn: list[tuple[Lsn, int, QuorumWait]] = []
        self._by_deadline: list[tuple[int, int, QuorumWait]] = []
        self._numbers = count()

    def add(self, wait: QuorumWait) -> None:
        """Take up a wait whose LSN is not reached yet."""
        number = next(self._numbers)
        heapq.heappush(self._by_lsn, (wait.lsn, number, wait))
        if wait.deadline_ms is not None:
            heapq.heappush(self._by_deadline, (wait.deadline_ms, number, wait))

    def settle(self, now_ms: int) -> None:
        """Finish every wait that the quorum has reached."""
        if not self._by_lsn:
            return
        watermark = self._watermark()
        while self._by_lsn and (self._by_lsn[0][0] <= watermark or self._by_lsn[0][2].done):
            wait = heapq.heappop(self._by_lsn)[2]
            if not wait.done:
                wait.outcome = QuorumReached(watermark, now_ms - wait.started_ms)

    def expire(self, now_ms: int) -> None:
        """Finish every wait whose deadline has come; the event that reached it would have settled it."""
        while self._by_deadline and (self._by_deadline[0][0] <= now_ms or self._by_deadline[0][2].done):
            self._time_out(heapq.heappop(self._by_deadline)[2], now_ms)

    def give_up(self, now_ms: int) -> None:
        """Finish every wait: the reign is over, and its LSNs may be given to other records."""
        while self._by_lsn:
            self._time_out(heapq.heappop(self._by_lsn)[2], now_ms)
        self._by_deadline.clear()

    def _time_out(self, wait: QuorumWait, now_ms: int) -> None:
        if not wait.done:
            wait.outcome = Timeout(wait.lsn, now_ms - wait.started_ms, self._regions_holding(wait.lsn))

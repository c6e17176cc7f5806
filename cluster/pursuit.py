"""Following a longer log to its end before a reign begins: when its owner is asked, and when it is over."""

from __future__ import annotations

import math

from redwire.message.peer import Report
from redwire.position import Lsn, Position

ASK_AGAIN_S = 2.0
"""A member that was asked for its log answers within a round trip; its line may have been cut meanwhile."""
STALLED_S = 10.0
"""Five times asked, and nothing came, nor did a snapshot begin: others may have more by now."""


class Pursuit:
    """Of one member's log, since `now_s` of a monotonic clock, which all times here are of."""

    def __init__(self, now_s: float) -> None:
        self._asked_s = -math.inf
        self._grew_s = now_s
        self._end = Lsn(0)

    def asks(self, now_s: float) -> bool:
        """Whether it is time to ask the member for its log, which does not come now; it is asked then."""
        due = now_s - self._asked_s > ASK_AGAIN_S
        if due:
            self._asked_s = now_s
        return due

    def over(
        self, end: Position, durable: Lsn, report: Report | None, now_s: float, *, rebuilding: bool
    ) -> bool:
        """Whether to follow it no longer: our log, up to `end` and on disk up to `durable`, is as long as the
        member last said its own is, or it is gone (`report` None), or gives us nothing. While `rebuilding` a
        snapshot comes, and the log stands still.
        """
        if end.lsn != self._end or rebuilding:
            self._grew_s, self._end = now_s, end.lsn
        if report is None or now_s - self._grew_s > STALLED_S:
            return True
        return durable == end.lsn and (end.term, durable) >= (report.last_term, report.last_lsn)

"""What this node has been told of the cluster, what it tells of itself beside its log, and what it counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from cluster.counts import Counts
from cluster.effects import Now
from cluster.events import Events, told_by
from cluster.trend import Trend
from redwire import status
from redwire.message.peer import Report
from redwire.message.vitals import Vitals
from redwire.position import NodeId

RTTS_KEPT = 5
"""One slow answer in five seconds is the machine, not the way."""
PACE_MS = 10_000
"""Ten looks at how far a member is behind: enough for a slope, and soon past what was before."""


class PrimaryState(StrEnum):
    """Whether somebody leads. `LOST`: the one that was followed last is not heard any more."""

    LEADING = "leading"
    LOST = "lost"
    NONE = "none"


class Said(NamedTuple):
    """What a member said of itself last, and when: `came` is our clock."""

    report: Report
    came: Now


class Told(NamedTuple):
    """What a primary said of the whole cluster last, and when."""

    document: status.Status
    came: Now


@dataclass(slots=True, eq=False)
class Bulletin:
    """Everything that a status document needs and the roles do not know.

    `vitals` are this node's own, looked at once a second, None before. `slots` are the promises that this
    node keeps. `primary` is who leads, as far as can be seen from here.
    """

    events: Events
    counts: Counts = field(default_factory=Counts)
    vitals: Vitals | None = None
    slots: Mapping[str, status.Slot] = field(default_factory=dict)
    primary: status.Primary = field(default_factory=lambda: status.Primary(state=PrimaryState.NONE.value))
    said: dict[NodeId, Said] = field(default_factory=dict)
    told: Told | None = None
    _rtts: dict[NodeId, deque[int]] = field(default_factory=dict)
    _paces: dict[NodeId, Trend] = field(default_factory=dict)

    def heard(self, report: Report, now: Now) -> None:
        """A member said how it is, over a session of either direction."""
        self.said[NodeId(report.node)] = Said(report, now)
        if report.vitals is not None and report.vitals.events:
            self.events.heard(told_by(report.node, report.vitals.events))

    def lately(self, member: NodeId, timeout_ms: int, now: Now) -> Said | None:
        """What `member` said of itself last, if that is young enough to be believed."""
        said = self.said.get(member)
        return said if said is not None and now.ms - said.came.ms <= timeout_ms else None

    def relayed(self, document: status.Status, now: Now) -> None:
        """The primary that this node follows said how the cluster is."""
        self.told = Told(document, now)
        self.events.heard(document.events)

    def answered(self, member: NodeId, took_us: int) -> None:
        """A hello went to `member` and back."""
        self._rtts.setdefault(member, deque(maxlen=RTTS_KEPT)).append(took_us)

    def silent(self, member: NodeId) -> None:
        """The line to `member` is down: what it measured is over."""
        self._rtts.pop(member, None)

    @property
    def rtts_us(self) -> dict[NodeId, int]:
        """The round trip to each member that answers: the median of the last few."""
        return {member: sorted(took)[len(took) // 2] for member, took in self._rtts.items()}

    def falls_behind(self, member: NodeId, records: int | None, now: Now) -> None:
        """`member` lacks so many records; None when that is not known."""
        if records is None:
            self._paces.pop(member, None)
        else:
            self._paces.setdefault(member, Trend(PACE_MS)).note(records, now.ms)

    def catch_up_ms(self, member: NodeId) -> int | None:
        """When `member` will lack nothing at its present pace; None for never or unknown."""
        pace = self._paces.get(member)
        return None if pace is None else pace.reaches_ms(0)

    def sees(self, state: PrimaryState, node: str, now: Now) -> status.Primary | None:
        """Who leads as it looks now. The `primary` that was, if that is another; None if nothing changed.

        Whoever is lost has been silent since its last word.
        """
        before = self.primary
        if (state, node) == (before.state, before.node):
            return None
        since: int | None = now.wall_ms
        if state is PrimaryState.LOST:
            last = self.said.get(NodeId(node))
            since = None if last is None else last.came.wall_ms
        since = None if state is PrimaryState.NONE else since
        self.primary = status.Primary(node=node, state=state.value, since_at_ms=since)
        return before

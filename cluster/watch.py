"""What changed between two looks, as events: members, quorum, slots, settings, our own disk.

A change that came and went between two looks is not told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.events import EventKind
from redwire.message.vitals import Vitals
from redwire.status import NodeStatus, Slot, Status

Found = tuple[EventKind, str]


@dataclass(slots=True, eq=False)
class Watch:
    """One node's looks. `reign` is for a primary, `own` for every node."""

    _before: Status | None = None
    _began_ms: int = 0
    _met: bool | None = None
    _disk: str = "working"

    def reign(self, after: Status) -> list[Found]:
        """This node leads, and the cluster is like that now. A new term is a new beginning."""
        before = self._before
        if before is None or before.term != after.term:
            before, self._began_ms, self._met = None, after.vantage.at_ms, None
        self._before = after
        found = [event for node in after.nodes for event in _node(_in(before, node.id), node)]
        found += self._quorum(after)
        return found

    def own(self, vitals: Vitals) -> list[Found]:
        """This node is like that now."""
        found: list[Found] = []
        before, self._disk = self._disk, vitals.disk
        if before != vitals.disk == "full":
            found.append((EventKind.DISK_FULL, f"no room to log: {vitals.free_bytes} bytes are free"))
        elif before == "full" and vitals.disk == "working":
            found.append((EventKind.DISK_WORKING, "there is room to log again"))
        return found

    def _quorum(self, after: Status) -> Iterator[Found]:
        """Whether it is met is not known when a reign begins: nobody is refused before the members had time
        to come.
        """
        was, met = self._met, after.quorum.met
        waits = after.vantage.at_ms - self._began_ms < after.settings.replica_timeout_ms
        if met is None or (was is None and not met and waits):
            return
        self._met = met
        if was is not False and not met:
            yield EventKind.QUORUM_LOST, after.quorum.why
        elif was is False and met:
            yield EventKind.QUORUM_REGAINED, f"writes under {after.settings.policy} are accepted again"


def _in(status: Status | None, name: str) -> NodeStatus | None:
    return None if status is None else status.node(name)


def _node(before: NodeStatus | None, after: NodeStatus) -> Iterator[Found]:
    """What became of one member."""
    was = before or NodeStatus(id=after.id, connected=False)
    if after.role != "primary" and after.connected != was.connected:
        pass  # who joins and leaves is told by `milestones`, which sees sessions
    elif was.health == "healthy" and after.health == "unhealthy":
        yield EventKind.MEMBER_UNHEALTHY, f"{after.id}: {after.why}"
    elif was.health == "unhealthy" and after.health == "healthy":
        yield EventKind.MEMBER_HEALTHY, f"{after.id} is healthy again"
    yield from _slot(after.id, was.slot, after.slot)


def _slot(name: str, before: Slot, after: Slot) -> Iterator[Found]:
    if before.state == after.state:
        return
    if after.state == "at_risk":
        eta = "" if after.eviction_ms is None else f", evicted in {after.eviction_ms // 1000} s at this pace"
        yield EventKind.SLOT_AT_RISK, f"the log kept for {name} nears {after.bound}{eta}"
    elif after.state == "evicted":
        text = f"log is no longer kept for {name} ({after.bound}): it will take a snapshot"
        yield EventKind.SLOT_EVICTED, text
    elif after.state == "ok" and before.state in ("at_risk", "evicted"):
        yield EventKind.SLOT_SAFE, f"the log kept for {name} is within its bounds again"

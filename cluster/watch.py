"""What changed between two looks, as events: members, quorum, slots, settings, our own disk.

A change that came and went between two looks is not told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cluster.events import EventKind
from redwire.message.vitals import Vitals
from redwire.status import NodeStatus, Slot, Status

Found = tuple[EventKind, str]


@dataclass(slots=True, eq=False)
class Watch:
    """One node's looks. `reign` is for a primary, `own` for every node.

    In one reign, `_came` are the members that were connected at some time, `_sick` those that were told to be
    unhealthy and not to be healthy again.
    """

    _before: Status | None = None
    _began_ms: int = 0
    _met: bool | None = None
    _disk: str = "working"
    _came: set[str] = field(default_factory=set)
    _sick: set[str] = field(default_factory=set)

    def reign(self, after: Status, now_ms: int) -> list[Found]:
        """This node leads, and the cluster is like that now (monotonic). A new term is a new beginning."""
        before = self._before
        if before is None or before.term != after.term:
            before, self._began_ms, self._met = None, now_ms, None
            self._came.clear()
            self._sick.clear()
        self._before = after
        # while a reign is so young members may still be on their way
        young = now_ms - self._began_ms < after.settings.replica_timeout_ms
        found: list[Found] = []
        for node in after.nodes:
            was = None if before is None else before.node(node.id)
            found += self._health(was, node, young=young)
            found += _slot(node.id, Slot() if was is None else was.slot, node.slot)
        found += self._quorum(after, young=young)
        return found

    def own(self, vitals: Vitals) -> list[Found]:
        """This node is like that now."""
        found: list[Found] = []
        before, self._disk = self._disk, vitals.disk
        if before != vitals.disk == "full":
            free = vitals.free_bytes  # when last looked at; some of it is kept for the state (`space`)
            less = "" if free is None else f"; {free} bytes were free of late, which did not do"
            if vitals.free_inodes == 0:
                less = f": no file can be made on its volume, which has no inode left{less}"
            found.append((EventKind.DISK_FULL, f"the disk is full{less}"))
        elif before == "full" and vitals.disk == "working":
            found.append((EventKind.DISK_WORKING, "the disk has room again"))
        return found

    def _health(self, was: NodeStatus | None, node: NodeStatus, *, young: bool) -> Iterator[Found]:
        """Who joins and leaves is told by `milestones`, which sees sessions, but for a member that never came
        in this reign.
        """
        if node.health == "healthy" and node.id in self._sick:
            self._sick.remove(node.id)
            yield EventKind.MEMBER_HEALTHY, f"{node.id} is healthy again"
        elif node.health == "unhealthy" and node.id not in self._sick:
            moved = was is not None and was.connected != node.connected
            missing = node.id not in self._came and not young
            if missing if not node.connected else not moved:
                self._sick.add(node.id)
                yield EventKind.MEMBER_UNHEALTHY, f"{node.id}: {node.why}"
        if node.connected:
            self._came.add(node.id)

    def _quorum(self, after: Status, *, young: bool) -> Iterator[Found]:
        """Whether it is met is not known when a reign begins: nobody is refused before the members had time
        to come.
        """
        was, met = self._met, after.quorum.met
        if met is None or (was is None and not met and young):
            return
        self._met = met
        if was is not False and not met:
            yield EventKind.QUORUM_LOST, after.quorum.why
        elif was is False and met:
            yield EventKind.QUORUM_REGAINED, f"writes under {after.settings.policy} are accepted again"


def _slot(name: str, before: Slot, after: Slot) -> Iterator[Found]:
    if before.state == after.state:
        return
    if after.state == "at_risk":
        eta = "" if after.eviction_ms is None else f", evicted in some {after.eviction_ms // 1000} s"
        yield EventKind.SLOT_AT_RISK, f"the log kept for {name} nears {after.bound}{eta}"
    elif after.state == "evicted":
        text = "it takes a snapshot unless what it lacks is still there"
        yield EventKind.SLOT_EVICTED, f"log is no longer kept for {name} ({after.bound}): {text}"
    elif after.state == "ok" and before.state in ("at_risk", "evicted"):
        yield EventKind.SLOT_SAFE, f"the log kept for {name} is within its bounds again"

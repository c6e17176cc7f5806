"""Time to trouble: what will break if nothing changes, and when; the soonest first."""

from __future__ import annotations

from collections.abc import Iterator, Set
from enum import Enum

import msgspec

from redwire.node_role import NodeRole
from redwire.status import CERTIFICATE_SOON_DAYS, NodeStatus, Status
from tools import figures
from tools.condition.tone import Tone

_HOUR, _DAY = 3_600_000, 86_400_000


class Kind(Enum):
    """What is coming."""

    EVICTION = "eviction"
    LAG = "lag"
    DISK = "disk"
    CERTIFICATE = "certificate"


URGENT_MS = {Kind.EVICTION: _HOUR, Kind.DISK: _HOUR, Kind.CERTIFICATE: 7 * _DAY}
"""What comes sooner is BAD: nobody should go back to bed."""
SOON_MS = {Kind.EVICTION: _DAY, Kind.DISK: 7 * _DAY, Kind.CERTIFICATE: CERTIFICATE_SOON_DAYS * _DAY}
"""What comes sooner is WARN: somebody should plan for it."""


class Trouble(msgspec.Struct, frozen=True):
    """What `node` runs into in `in_ms`; 0 is now."""

    in_ms: int
    kind: Kind
    node: str
    text: str
    tone: Tone


def ahead(status: Status, now_ms: int | None, growing: Set[str] = frozenset()) -> list[Trouble]:
    """Everything that is coming, the soonest first. `growing` are nodes whose lag has not shrunk for long."""
    found = [trouble for node in status.nodes for trouble in _of(node, now_ms, node.id in growing)]
    found += _filling(status)
    return sorted(found, key=lambda trouble: (trouble.in_ms, trouble.node, trouble.kind.value))


def _filling(status: Status) -> Iterator[Trouble]:
    """Once for each volume, by whose floor is reached first: what fills it fills it for all."""
    told: set[str] = set()
    disks = [(node.disk.floor_ms, node) for node in status.nodes if node.disk.floor_ms is not None]
    for in_ms, node in sorted(disks, key=lambda each: (each[0], each[1].id)):
        disk = node.disk
        if disk.volume not in told:
            told |= {disk.volume} - {""}
            also = [each.id for each in sharing(status, node) if each.id != node.id]
            floor = "" if disk.floor_bytes is None else f" of {figures.size(disk.floor_bytes)}"
            basis = (
                "" if disk.floor_over_ms is None else f", by its last {figures.duration(disk.floor_over_ms)}"
            )
            whose = f" ({', '.join(also)} too)" if also else ""
            yield _timed(in_ms, Kind.DISK, node.id, f"disk{whose} reaches its floor{floor}{basis}")


def sharing(status: Status, node: NodeStatus) -> list[NodeStatus]:
    """The nodes whose data lies on the same volume as that of `node`, itself included, as far as they say."""
    volume = node.disk.volume
    return [each for each in status.nodes if each.id == node.id or (volume and each.disk.volume == volume)]


def _of(node: NodeStatus, now_ms: int | None, growing: bool) -> Iterator[Trouble]:
    slot, lag = node.slot, node.lag
    if slot.state == "evicted":
        yield Trouble(0, Kind.EVICTION, node.id, "is evicted: needs a new snapshot", Tone.BAD)
    elif slot.eviction_ms is not None:
        bound = f" by {slot.bound}" if slot.bound else ""
        yield _timed(slot.eviction_ms, Kind.EVICTION, node.id, f"loses its slot{bound}")
    if lag.state == "behind" and lag.catch_up_ms is None and growing:
        records = "" if lag.records is None else f", {figures.count(lag.records)} records"
        yield Trouble(0, Kind.LAG, node.id, f"will not catch up{records}", Tone.WARN)
    if node.certificate_ends_at_ms is not None and now_ms is not None:
        left = node.certificate_ends_at_ms - now_ms
        text = "certificate expires" if left > 0 else "certificate has expired"
        yield _timed(max(0, left), Kind.CERTIFICATE, node.id, text)


def _timed(in_ms: int, kind: Kind, node: str, text: str) -> Trouble:
    tone = Tone.BAD if in_ms < URGENT_MS[kind] else Tone.WARN if in_ms < SOON_MS[kind] else Tone.PLAIN
    return Trouble(in_ms, kind, node, text, tone)


def unknown(status: Status) -> list[str]:
    """What cannot be foreseen because a document does not say it, one text a subject."""
    subjects = {
        "slot": [node.id for node in status.nodes if node.slot.state == "unknown" and not _leads(node)],
        "disk": [node.id for node in status.nodes if node.disk.free_bytes is None],
        "certificate": [node.id for node in status.nodes if node.certificate_ends_at_ms is None],
    }
    return [f"{subject} of {', '.join(nodes)}" for subject, nodes in subjects.items() if nodes]


def _leads(node: NodeStatus) -> bool:
    """A primary keeps no slot for itself at anybody."""
    return node.role in (NodeRole.PRIMARY, NodeRole.OPENING)

"""How much log a node keeps for whom, and who is given up first when there is too much of it.

Every follower has a *slot*: the promise to keep the log that it still needs. A promise has three bounds:
bytes of log, time since the follower was last heard, and free disk space. The node's own state is a slot
without bounds: log that its state does not yet hold durably is never removed. A snapshot in transfer *pins*
the log that its receiver needs next; only the free-disk floor releases a pin.

A log is removed from its oldest end, so a slot can be given up usefully only together with all that stand
below it. The order of sacrifice is therefore in the bounds themselves: readers have half the bytes, and twice
the free-disk floor, of voters; pins come after voters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec

from redwire.position import Lsn

RISK_SHARE = 0.75
"""A slot that has used this share of a bound is at risk: the last quarter is left to do something in."""


class Bounds(msgspec.Struct, frozen=True):
    """The bounds of a voter's slot; a reader has half of `bytes_max` and twice `disk_free_min_bytes`."""

    bytes_max: int
    age_max_ms: int
    disk_free_min_bytes: int

    def short(self, free_bytes: int | None) -> bool:
        """Whether no more than the floor is free, as far as is known."""
        return free_bytes is not None and free_bytes <= self.disk_free_min_bytes


class Extent(msgspec.Struct, frozen=True):
    """One segment: records `first` to `last` in `size_bytes` of disk; empty when `last` is below `first`."""

    first: Lsn
    last: Lsn
    size_bytes: int


class Holdings(msgspec.Struct, frozen=True):
    """The log as it stands: what it begins after, its segments, its growth, and what the disk has left, None
    if that is not known: then nothing is given up for it.
    """

    base: Lsn
    extents: tuple[Extent, ...]
    growth_bytes_s: int
    disk_free_bytes: int | None

    def held_bytes(self, restart: Lsn) -> int:
        """Bytes of segments that hold a record above `restart`."""
        return sum(extent.size_bytes for extent in self.extents if extent.last > restart)

    def frees(self, restart: Lsn, limit: Lsn) -> bool:
        """Whether a segment at or below `limit` holds records above `restart`. The last one always stays."""
        return any(restart < extent.last <= limit for extent in self.extents[:-1])


class SlotKind(Enum):
    """Whose promise it is; readers are given up before voters."""

    READER = "reader"
    VOTER = "voter"


class Slot(msgspec.Struct, frozen=True):
    """One follower. `restart` is the LSN it has durably: it needs what follows.

    None means that nobody knows, as after a restart of this node: all that is kept is then kept for it,
    within the bounds. `seen_ms` is when it was last heard, or when this node started.
    """

    id: str
    kind: SlotKind
    restart: Lsn | None
    seen_ms: int


class Reason(Enum):
    """Why a slot is given up: the bound, as the section `retention` of node.yaml calls it, or that there was
    nothing left to give up.
    """

    BYTES = "bytes_max"
    AGE = "age_max_s"
    DISK = "disk_free_min_bytes"
    GONE = "the log it needs was removed before"


class Ok(msgspec.Struct, frozen=True):
    """The slot is well inside its bounds."""


class AtRisk(msgspec.Struct, frozen=True):
    """The slot comes near `bound`; `eta_ms` to its eviction if nothing changes, None if not foreseen."""

    bound: Reason
    eta_ms: int | None


class Evicted(msgspec.Struct, frozen=True):
    """The log is no longer kept for this follower: it takes a snapshot when it comes back."""

    reason: Reason


SlotState = Ok | AtRisk | Evicted


class Decision(msgspec.Struct, frozen=True):
    """Segments at or below `prune_through` may go. `slots` names every slot."""

    prune_through: Lsn
    slots: dict[str, SlotState]


def decide(
    bounds: Bounds,
    holdings: Holdings,
    own: Lsn,
    slots: Sequence[Slot],
    pins: Iterable[Lsn],
    now_ms: int,
) -> Decision:
    """What may be removed now, and what that means for each slot.

    `own` is the applied LSN that a checkpoint made durable, `pins` are where the snapshots in transfer end.
    The decision has no memory: a slot evicted earlier is `GONE` once its log was removed, and the caller
    drops it or lets the follower take a snapshot.
    """
    floor = _must_go(holdings, bounds.disk_free_min_bytes)
    limit = min([own, *(pin for pin in pins if pin >= floor or not holdings.frees(pin, own))])
    states = {slot.id: _judge(bounds, holdings, limit, slot, now_ms) for slot in slots}
    kept = [_restart(slot, holdings) for slot in slots if not isinstance(states[slot.id], Evicted)]
    return Decision(min([limit, *kept]), states)


def _judge(bounds: Bounds, holdings: Holdings, limit: Lsn, slot: Slot, now_ms: int) -> SlotState:
    """The state of one slot: gone, beyond a bound, near one, or neither.

    `limit` is how far the log could go without any slot. Who holds nothing beyond what stays anyway is not
    blamed.
    """
    restart = _restart(slot, holdings)
    if restart < holdings.base:
        return Evicted(Reason.GONE)
    left_ms = bounds.age_max_ms - (now_ms - slot.seen_ms)
    if left_ms < 0:
        return Evicted(Reason.AGE)
    risks = []
    if left_ms <= (1 - RISK_SHARE) * bounds.age_max_ms:
        risks.append(AtRisk(Reason.AGE, left_ms))
    if holdings.frees(restart, limit):
        reader = slot.kind is SlotKind.READER
        bytes_max = bounds.bytes_max // 2 if reader else bounds.bytes_max
        free_min = bounds.disk_free_min_bytes * 2 if reader else bounds.disk_free_min_bytes
        held, free = holdings.held_bytes(restart), holdings.disk_free_bytes
        if held > bytes_max:
            return Evicted(Reason.BYTES)
        if restart < _must_go(holdings, free_min):
            return Evicted(Reason.DISK)
        if held >= RISK_SHARE * bytes_max:
            risks.append(AtRisk(Reason.BYTES, _time_ms(bytes_max - held, holdings)))
        if free is not None and free * RISK_SHARE <= free_min:
            risks.append(AtRisk(Reason.DISK, _time_ms(free - free_min, holdings)))
    return min(risks, key=lambda risk: (risk.eta_ms is None, risk.eta_ms or 0), default=Ok())


def _restart(slot: Slot, holdings: Holdings) -> Lsn:
    return holdings.base if slot.restart is None else slot.restart


def _must_go(holdings: Holdings, free_min_bytes: int) -> Lsn:
    """The LSN through which segments have to go until `free_min_bytes` are free again; 0 when they are.

    So it is while nobody knows how much is free.
    """
    through, free_bytes = Lsn(0), holdings.disk_free_bytes
    if free_bytes is None:
        return through
    for extent in holdings.extents[:-1]:
        if free_bytes >= free_min_bytes:
            break
        free_bytes += extent.size_bytes
        through = extent.last
    return through


def _time_ms(left_bytes: int, holdings: Holdings) -> int | None:
    rate = holdings.growth_bytes_s
    return max(0, left_bytes) * 1_000 // rate if rate > 0 else None

"""The promises of retention: the slot of each other member, and how it shows in the status document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cluster.retention import AtRisk, Evicted, Ok, Slot, SlotKind, SlotState
from redwire import status
from redwire.position import Lsn, NodeId
from regions.binding import Member, MemberKind
from regions.status import MemberStatus


class Promises:
    """What `me` promises to whom. Remembers across reigns when it heard whom last, and within one whom it
    gave up unheard; who was not heard yet counts as heard at the start, at `started_ms`.
    """

    def __init__(self, me: NodeId, started_ms: int) -> None:
        self._me = me
        self._started_ms = started_ms
        self._seen_ms: dict[NodeId, int] = {}
        self._evicted: dict[str, Evicted] = {}

    def slots(self, members: Iterable[Member], rows: Sequence[MemberStatus]) -> list[Slot]:
        """One for each of `members` but this node. `rows` are those of the ack table, and none while this
        node does not lead: what a member without an ack has is not known, and who was given up is forgotten.
        """
        restarts: dict[NodeId, Lsn] = {}
        if not rows:
            self._evicted.clear()
        for row in rows:
            if row.acked_ms is not None:
                restarts[row.id] = row.durable
                self._seen_ms[row.id] = row.acked_ms
        return [
            Slot(
                member.id,
                SlotKind.VOTER if member.kind is MemberKind.VOTER else SlotKind.READER,
                restarts.get(member.id),
                self._seen_ms.get(member.id, self._started_ms),
            )
            for member in members
            if member.id != self._me
        ]

    def kept(self, slots: Iterable[Slot], states: Mapping[str, SlotState]) -> dict[str, SlotState]:
        """How each of `slots` stands, which are `states` by the log that there is now.

        Where nobody knows what a member has, what was removed in this reign may be what it needs: its slot
        stays evicted until it is heard.
        """
        told = dict(states)
        for slot in slots:
            state = states[slot.id]
            if slot.restart is not None:
                self._evicted.pop(slot.id, None)
            elif isinstance(state, Evicted):
                self._evicted[slot.id] = state
            else:
                told[slot.id] = self._evicted.get(slot.id, state)
        return told


def slot_status(state: SlotState, held_bytes: int) -> status.Slot:
    """A slot as the status document shows it."""
    match state:
        case Ok():
            return status.Slot(state="ok", held_bytes=held_bytes)
        case AtRisk(bound, eta_ms):
            return status.Slot(state="at_risk", bound=bound.value, eviction_ms=eta_ms, held_bytes=held_bytes)
        case Evicted(reason):
            return status.Slot(state="evicted", bound=reason.value, held_bytes=0)

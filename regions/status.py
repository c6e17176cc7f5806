"""What the ack table says, as a frozen snapshot: command line, topology and tests read nothing else."""

from __future__ import annotations

import msgspec

from redwire.position import Incarnation, Lsn, NodeId, Region
from regions.ack_table import AckTable, Row
from regions.binding import Member, MemberKind
from regions.lag import Behind, Contact, Health, Lag, LagConfig, Progress, health, measure
from regions.trail import Trail


class MemberStatus(msgspec.Struct, frozen=True):
    """One row. `uncounted` says why its copies count for nothing, and is empty when they count.

    Times are milliseconds of the primary's monotonic clock, None for never. The primary's own row is as far
    behind as its state is behind what is committed; whether its disk answers is for `/livez` to say.
    """

    id: NodeId
    region: Region
    kind: MemberKind
    connected: bool
    streaming: bool
    uncounted: str
    incarnation: Incarnation | None
    received: Lsn
    durable: Lsn
    applied: Lsn
    matched: Lsn
    acked_ms: int | None
    lag: Lag
    health: Health

    def __str__(self) -> str:
        place = f"{self.id} {self.region or 'unbound'} {self.kind}"
        if self.uncounted:
            place += f" not counted ({self.uncounted})"
        numbers = f"received {self.received} durable {self.durable} applied {self.applied}"
        return f"{place}: {numbers}, {self.lag}, {self.health}"


class CoordinatorStatus(msgspec.Struct, frozen=True):
    """The whole table: where the log ends, how far it is committed, by which rule, and one row per member."""

    primary: NodeId
    head: Lsn
    watermark: Lsn
    rule: str
    members: tuple[MemberStatus, ...]

    def member(self, node: NodeId) -> MemberStatus:
        """The row of `node`. Raises `KeyError` for a stranger."""
        for row in self.members:
            if row.id == node:
                return row
        raise KeyError(node)

    def __str__(self) -> str:
        first = f"{self.primary}: head {self.head}, watermark {self.watermark} by {self.rule}"
        return "\n".join((first, *(f"  {row}" for row in self.members)))


def member_statuses(
    table: AckTable, head: Trail, watermark: Trail, config: LagConfig, now_ms: int
) -> tuple[MemberStatus, ...]:
    """A status for each configured member, in configured order.

    Durable is held against the head and applied against the watermark: a follower that waits for the commit
    of others is not stuck itself. The primary's own lag is held against the watermark too: its log is the
    head, and its clients read what is committed and applied.
    """
    found = []
    for member in table.membership.members:
        row, own = table.rows[member.id], member.id == table.me
        contact = Contact(True, True, now_ms) if own else row.contact
        applied = Progress("applied", row.applied, row.applied_ms, watermark)
        steps = (applied,) if own else (Progress("durable", row.durable, row.durable_ms, head), applied)
        lag = measure(watermark if own else head, row.applied, contact, config, now_ms)
        found.append(
            MemberStatus(
                id=member.id,
                region=member.region,
                kind=member.kind,
                connected=contact.connected,
                streaming=row.streaming,
                uncounted="" if own else _uncounted(member, row),
                incarnation=row.incarnation,
                received=head.value if own else row.received,
                durable=row.durable,
                applied=row.applied,
                matched=row.durable if own else row.matched,
                acked_ms=row.acked_ms,
                lag=_sized(lag, row, head, watermark) if own else lag,
                health=health(contact, steps, config, now_ms),
            )
        )
    return tuple(found)


def _sized(lag: Lag, row: Row, head: Trail, watermark: Trail) -> Lag:
    """`lag` behind the watermark with its bytes: only the head's trail knows sizes."""
    behind, pending = head.size_above(row.applied), head.size_above(watermark.value)
    if not isinstance(lag, Behind) or behind is None or pending is None:
        return lag
    return msgspec.structs.replace(lag, bytes=behind - pending)


def _uncounted(member: Member, row: Row) -> str:
    if member.kind is MemberKind.READER:
        return "reader"
    if row.acked_ms is None:
        return "not heard in this reign"
    return row.uncounted(member.incarnation)

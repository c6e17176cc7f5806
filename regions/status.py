"""What the ack table says, as a frozen snapshot: command line, topology and tests read nothing else."""

from __future__ import annotations

import msgspec

from redwire.position import Incarnation, Lsn, NodeId, Region
from regions.ack_table import AckTable, Row
from regions.binding import Member, MemberKind
from regions.lag import CaughtUp, Health, Lag, LagConfig, Progress, health, measure
from regions.trail import Trail


class MemberStatus(msgspec.Struct, frozen=True):
    """One row. `uncounted` says why its copies count for nothing, and is empty when they count.

    Times are milliseconds of the primary's monotonic clock, None for never. The primary's own row is always
    caught up with itself and healthy: whether its disk answers is for `/livez` to say.
    """

    id: NodeId
    region: Region
    kind: MemberKind
    connected: bool
    streaming: bool
    uncounted: str
    incarnation: Incarnation | None
    counts_from: Lsn
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
    term_start: Lsn
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
    of others is not stuck itself.
    """
    found = []
    for member in table.membership.members:
        row, own, contact = table.rows[member.id], member.id == table.me, table.rows[member.id].contact
        steps = (
            Progress("durable", row.durable, row.durable_ms, head),
            Progress("applied", row.applied, row.applied_ms, watermark),
        )
        found.append(
            MemberStatus(
                id=member.id,
                region=member.region,
                kind=member.kind,
                connected=own or contact.connected,
                streaming=row.streaming,
                uncounted="" if own else _uncounted(member, row),
                incarnation=row.incarnation,
                counts_from=row.counts_from,
                received=head.value if own else row.received,
                durable=row.durable,
                applied=row.applied,
                matched=row.durable if own else row.matched,
                acked_ms=row.acked_ms,
                lag=CaughtUp() if own else measure(head, row.applied, contact, config, now_ms),
                health=Health(True) if own else health(contact, steps, config, now_ms),
            )
        )
    return tuple(found)


def _uncounted(member: Member, row: Row) -> str:
    if member.kind is MemberKind.READER:
        return "reader"
    if row.acked_ms is None:
        return "not heard in this reign"
    return row.uncounted(member.incarnation)

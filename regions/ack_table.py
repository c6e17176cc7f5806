"""The rows of the one ack table: what each configured member has proven to hold.

A row is *set* when a session joins and only rises within it (R4). What a row is worth in commit arithmetic is
one number, kept beside the rows in the order of the configured voters: its durable LSN, or 0 while it does
not count. It stays when the session ends, since the copy is still on that disk.
"""

from __future__ import annotations

from redwire.position import Incarnation, Lsn, NodeId, Region
from regions.binding import Membership
from regions.errors import AckInvalid, MemberUnknown
from regions.lag import Contact

ZERO = Lsn(0)


class Row:
    """What one member has proven. All LSNs are of the present reign; all times are monotonic milliseconds.

    `acked_most` is the highest durable LSN the member ever acked: while it proves less, it does not count
    (R4). `matched` is where its log was proven equal to ours when it joined; what followed was proven by
    chain.
    """

    __slots__ = (
        "acked_most",
        "acked_ms",
        "applied",
        "applied_ms",
        "counts_from",
        "durable",
        "durable_ms",
        "incarnation",
        "matched",
        "received",
        "session",
        "streaming",
    )

    def __init__(self) -> None:
        self.session: int | None = None
        self.incarnation: Incarnation | None = None
        self.streaming = False
        self.counts_from = ZERO
        self.matched = self.received = self.durable = self.applied = self.acked_most = ZERO
        self.acked_ms: int | None = None
        self.durable_ms: int | None = None
        self.applied_ms: int | None = None

    @property
    def contact(self) -> Contact:
        """The line to the member, as lag and health see it."""
        return Contact(self.session is not None, self.streaming, self.acked_ms)

    def admitted(self, configured: Incarnation | None) -> bool:
        """Whether it is the data directory that may count: the `configured` one, or any for None."""
        return configured is None or configured == self.incarnation

    def uncounted(self, configured: Incarnation | None) -> str:
        """Why this row is worth nothing in commit arithmetic; "" when it counts.

        Reach is not asked for (R8), and yet `streaming` is: it is False too for a member that takes a
        snapshot, which may end below what the member acked and then takes its place; such a copy counts for
        nothing (R7). One that catches up from far behind is held back with it and hardly later for that: what
        is not committed stands near the log's end, where it streams again. So this may delay a commit, and
        never overstates one.
        """
        if not self.admitted(configured):
            return "another incarnation than the one admitted"
        if not self.streaming:
            return "not streaming"
        due = max(self.counts_from, self.acked_most)
        return f"durable short of {due}" if self.durable < due else ""

    def counted(self, configured: Incarnation | None) -> Lsn:
        """What this row is worth in commit arithmetic; `configured` is the incarnation that may count."""
        return ZERO if self.uncounted(configured) else self.durable


class AckTable:
    """One row for every configured member, the node's own among them.

    `counted` is what each voter's copy is worth, in the order of `membership.voters`; `version` grows
    whenever one of these numbers changes, or what the row of one of `candidates` is worth. Readers have rows
    and no number.
    """

    def __init__(self, membership: Membership, me: NodeId) -> None:
        self.membership = membership
        self.me = me
        self.version = 0
        self.candidates: frozenset[NodeId] = frozenset()
        self.rows = {member.id: Row() for member in membership.members}
        self.counted: list[Lsn] = [ZERO] * len(membership.voters)
        self._places = {member.id: place for place, member in enumerate(membership.voters)}
        self._own = self.rows[me]
        self._own.streaming = True

    def begin_reign(self, term_start: Lsn, watermark: Lsn) -> None:
        """Forget what was said in an earlier reign: positions of another term prove nothing in this one (R3).

        What a member acked up to the watermark is the same in both, so it is held to that.
        """
        for node, row in self.rows.items():
            fresh = Row()
            fresh.counts_from = row.counts_from
            fresh.acked_most = min(row.acked_most, watermark)
            if node == self.me:
                before = Lsn(term_start - 1)
                fresh.streaming = True
                fresh.durable, fresh.applied = min(row.durable, before), min(row.applied, before)
                self._own = fresh
            self.rows[node] = fresh
            self.recount(node)

    def own(self, now_ms: int, *, durable: Lsn = ZERO, applied: Lsn = ZERO) -> bool:
        """This node's own disk or state reached an LSN: one more ack, without a session. True if one rose."""
        row = self._own
        rose = self._raise(self.me, row, durable, applied, now_ms)
        row.acked_ms = now_ms
        return rose

    def join(
        self,
        node: NodeId,
        session: int,
        position: Lsn,
        applied: Lsn,
        now_ms: int,
        *,
        streaming: bool,
        incarnation: Incarnation | None,
    ) -> Lsn:
        """Set the row of `node` to what a new session proved; the highest LSN that it had ever acked before.

        Raises `MemberUnknown`.
        """
        row = self.rows.get(node)
        if row is None or node == self.me:
            raise MemberUnknown(node, "a configured peer of this node")
        before = row.acked_most
        row.session, row.incarnation, row.streaming = session, incarnation, streaming
        row.matched = row.received = row.durable = position
        row.applied = applied
        row.acked_most = max(before, position)
        row.acked_ms = row.durable_ms = row.applied_ms = now_ms
        self.recount(node)
        return before

    def ack(
        self,
        node: NodeId,
        session: int,
        durable: Lsn,
        applied: Lsn,
        received: Lsn,
        now_ms: int,
        streaming: bool | None,
    ) -> bool:
        """Raise the row of `node`; lower numbers, another session's and a stranger's ack change nothing."""
        row = self.rows.get(node)
        if row is None or row.session != session:
            return False
        row.acked_ms = now_ms
        if streaming is not None and streaming != row.streaming:
            row.streaming = streaming
            self.recount(node)
        rose = self._raise(node, row, durable, applied, now_ms)
        if received > row.received:
            row.received = received
            return True
        return rose

    def is_open(self, node: NodeId, session: int) -> bool:
        """Whether this is the session that `node` has now."""
        row = self.rows.get(node)
        return row is not None and row.session == session

    def leave(self, node: NodeId, session: int) -> bool:
        """Close the session of `node`; False if it was over. What it proved stays proven."""
        if not self.is_open(node, session):
            return False
        self.rows[node].session = None
        return True

    def admit(self, node: NodeId, incarnation: Incarnation, counts_from: Lsn) -> None:
        """From now on `node` counts as `incarnation` only, and only when durable at `counts_from` (R11)."""
        self.membership = self.membership.admitted(node, incarnation)
        self.rows[node].counts_from = counts_from
        self.recount(node)

    def bind(self, node: NodeId, region: Region) -> None:
        """From now on `node` counts for `region`. Raises `MemberUnknown`."""
        self.membership = self.membership.bound(node, region)

    def adopt(self, membership: Membership) -> None:
        """Other members from now on, this node among the voters. Who stays keeps its row and its life."""
        for member in membership.members:
            self.rows.setdefault(member.id, Row())
            life = self.membership.member(member.id).incarnation if member.id in self.membership else None
            if life is not None:
                membership = membership.admitted(member.id, life)
        self.membership = membership
        self.rows = {member.id: self.rows[member.id] for member in membership.members}
        self._places = {member.id: place for place, member in enumerate(membership.voters)}
        self.counted = [self.worth(member.id) for member in membership.voters]
        self.version += 1

    def worth(self, node: NodeId) -> Lsn:
        """What the copy of `node` counts for, if a voter; of our own disk nothing is asked but its end."""
        row = self.rows.get(node)
        if row is None:
            return ZERO
        return row.durable if row is self._own else row.counted(self.membership.member(node).incarnation)

    def votes(self, node: NodeId) -> bool:
        """Whether `node` is a voter."""
        return node in self._places

    def recount(self, node: NodeId) -> None:
        """Work out again what the row of `node` is worth."""
        place = self._places.get(node)
        if place is None:
            self.version += node in self.candidates
            return
        worth = self.worth(node)
        if worth != self.counted[place]:
            self.counted[place] = worth
            self.version += 1

    def holders(self, lsn: Lsn) -> list[NodeId]:
        """The voters whose copy of `lsn` counts, in configured order."""
        return [
            member.id
            for member, worth in zip(self.membership.voters, self.counted, strict=True)
            if worth >= lsn
        ]

    def in_reach(self, timeout_ms: int, now_ms: int) -> set[NodeId]:
        """The members that can be expected to ack soon: open session, heard, streaming, and of a known
        incarnation.

        This node is always among them. Never used in commit arithmetic (R8).
        """
        reached = {self.me}
        for member in self.membership.members:
            row = self.rows[member.id]
            if row.session is None or not row.streaming or not row.admitted(member.incarnation):
                continue
            if row.contact.heard_within(timeout_ms, now_ms):
                reached.add(member.id)
        return reached

    def connected_regions(self) -> set[Region]:
        """Regions of the voters with an open session, and this node's own."""
        return {
            member.region
            for member in self.membership.voters
            if member.id == self.me or self.rows[member.id].session is not None
        }

    def _raise(self, node: NodeId, row: Row, durable: Lsn, applied: Lsn, now_ms: int) -> bool:
        rose = False
        if durable > row.durable:
            row.durable, row.durable_ms, rose = durable, now_ms, True
            if durable > row.acked_most:
                row.acked_most = durable
            if durable > row.received:
                row.received = durable
            self.recount(node)
        if applied > row.applied:
            row.applied, row.applied_ms, rose = applied, now_ms, True
        return rose


def check_claims(node: NodeId, head: Lsn, *claims: Lsn) -> None:
    """Refuse a peer's LSN beyond the primary's log. Raises `AckInvalid`."""
    highest = max(claims)
    if highest > head:
        raise AckInvalid(node, highest, head)

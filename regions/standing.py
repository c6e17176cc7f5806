"""Where everybody stands: the questions to the ack table that change nothing."""

from __future__ import annotations

from redwire.position import Lsn, NodeId, Region
from regions.ack_table import AckTable
from regions.binding import UNBOUND, Membership
from regions.commit_policy import CommitPolicy
from regions.errors import MemberUnknown
from regions.transition import Step
from regions.watermarks import Watermarks


class Standing:
    """A `QuorumCoordinator`, to whoever only asks how things stand."""

    def __init__(self, table: AckTable, marks: Watermarks) -> None:
        self._table = table
        self._marks = marks

    @property
    def rule(self) -> CommitPolicy:
        """The commit rule in force."""
        return self._marks.rule

    @property
    def pending(self) -> tuple[Step, ...]:
        """The changes that are logged and, as far as the watermark was asked for, not committed."""
        return self._marks.pending

    @property
    def membership(self) -> Membership:
        """The members as configured, with the bindings and admissions made since."""
        return self._table.membership

    def region_of(self, member: NodeId) -> Region:
        """The region that `member` is bound to; `UNBOUND` for none, and for who is no member any more."""
        membership = self._table.membership
        return membership.region_of(member) if member in membership else UNBOUND

    def durable(self, member: NodeId) -> Lsn:
        """What `member` has proven durable, whether or not it counts. Raises `MemberUnknown`."""
        row = self._table.rows.get(member)
        if row is None:
            raise MemberUnknown(member)
        return row.durable

    def votes(self, member: NodeId) -> bool:
        """Whether `member` is a voter, whose copies may count."""
        return self._table.votes(member)

    def copies(self, lsn: Lsn) -> int:
        """How many voters beside this node hold a copy of `lsn` that counts."""
        return sum(node != self._table.me for node in self._table.holders(lsn))

    def regions_holding(self, lsn: Lsn) -> frozenset[Region]:
        """The regions in which a copy of `lsn` counts."""
        regions = (self.membership.region_of(node) for node in self._table.holders(lsn))
        return frozenset(region for region in regions if region != UNBOUND)

    def connected_regions(self) -> frozenset[Region]:
        """The regions of the voters with an open session, and this node's own."""
        return frozenset(self._table.connected_regions() - {UNBOUND})

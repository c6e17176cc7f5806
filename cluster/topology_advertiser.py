"""What clients are told of the cluster's shape: who leads, who follows how closely, numbered by epochs.

Only the primary numbers epochs: `term << 24 | counter`, so they rise over every change, restart and hand-over
(R12). Everybody else relays the last topology that the primary sent, unchanged. Changes are coalesced to ten
a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import msgspec
from msgspec.structs import replace

from cluster.bulletin import Said
from cluster.overview import judge
from redwire.handshake import Principal
from redwire.message.peer import Report
from redwire.node_role import NodeRole
from redwire.position import Lsn, NodeId, Term
from redwire.topology import Endpoint, ReplicaEntry, Topology, epoch_of
from regions.binding import Member
from regions.lag import lag_ms
from regions.status import MemberStatus

TOPOLOGY_READ_CAPABILITY = "cluster:topology:read"
CHANGE_INTERVAL_MS = 100
"""Ten epochs a second at most (R12): the bits below the term then last for nineteen days of one reign."""


class TopologyAuthGate:
    """Who may see the whole: a principal that holds `cluster:topology:read`. The others see the primary,
    never an error.
    """

    @staticmethod
    def view(topology: Topology, principal: Principal | None) -> Topology:
        """`topology` as `principal` may see it; None is a caller whom we do not know (yet)."""
        if principal is not None and principal.topology_read:
            return topology
        return topology.primary_only()


class ReplicaView(msgspec.Struct, frozen=True):
    """What the advertiser is told of one member that does not lead.

    `advertise` is where the member says that clients reach it, "" for its member address; None where it says
    nothing just now, and what it said last goes on.
    """

    healthy: bool
    lag_ms: int | None
    applied: Lsn
    rebootstrapping: bool
    advertise: str | None = None

    @classmethod
    def of(cls, row: MemberStatus, said: Said | None, report: Report | None) -> Self:
        """The member of `row`. `said` is what it says of itself, if that is young enough to be believed;
        `report` the last one over the line that stands, None for none.
        """
        return cls(
            healthy=judge(row, said).healthy,
            lag_ms=lag_ms(row.lag),
            applied=row.applied,
            rebootstrapping=report is not None and report.role == NodeRole.REBUILDING,
            advertise=None if report is None else report.advertise,
        )


@dataclass(slots=True, eq=False)
class TopologyAdvertiser:
    """Numbers the topologies of one reign. `members` are all configured members, `me` the one that leads.

    `advertised` holds the addresses that members gave for clients, where these are not the members' own.
    """

    term: Term
    me: NodeId
    members: tuple[Member, ...]
    advertised: dict[NodeId, str] = field(default_factory=dict)
    current: Topology = field(init=False)
    _counter: int = 0
    _changed_ms: int = -CHANGE_INTERVAL_MS

    def __post_init__(self) -> None:
        self.current = self._build({})

    def observe(self, replicas: Mapping[NodeId, ReplicaView], now_ms: int) -> bool:
        """Take the replicas' present state. True when a new epoch began, which every subscriber is to be
        told.

        Health, membership and rebuilding begin a new epoch; lag and applied positions only ride along with
        one.
        """
        fresh = self._build(replicas)
        if _shape(fresh) == _shape(self.current):
            self.current = replace(fresh, epoch=self.current.epoch)
            return False
        if now_ms - self._changed_ms < CHANGE_INTERVAL_MS:
            return False
        self._changed_ms = now_ms
        self._counter += 1
        self.current = replace(fresh, epoch=epoch_of(self.term, self._counter))
        return True

    def _build(self, replicas: Mapping[NodeId, ReplicaView]) -> Topology:
        mine = next(member for member in self.members if member.id == self.me)
        entries = []
        for member in self.members:
            if member.id == self.me:
                continue
            view = replicas.get(member.id) or ReplicaView(False, None, Lsn(0), False)
            if view.advertise is not None:
                self.advertised[member.id] = view.advertise
            entries.append(
                ReplicaEntry(
                    self._addr(member),
                    member.region,
                    view.healthy,
                    view.lag_ms,
                    view.applied,
                    view.rebootstrapping,
                )
            )
        primary = Endpoint(self._addr(mine), mine.region)
        return Topology(epoch_of(self.term), primary, tuple(entries))

    def _addr(self, member: Member) -> str:
        return self.advertised.get(member.id) or member.addr


def _shape(topology: Topology) -> object:
    """What of a topology makes an epoch."""
    return topology.primary, tuple(
        (r.addr, r.region, r.healthy, r.rebootstrapping) for r in topology.replicas
    )

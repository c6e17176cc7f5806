"""How topologies leave a node by themselves: numbered while it leads, and told to every follower (R12)."""

from __future__ import annotations

from cluster.announcer import Epochs
from cluster.node import Node
from cluster.primary import Primary
from cluster.topology_advertiser import ReplicaView
from redwire.frame import Kind
from redwire.message.client import TopologyNotice


class Herald:
    """Looks at one node, and at how its members do."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._told = Epochs()

    def look(self) -> None:
        """While leading, have the announcer number what has changed, and tell the followers; while following,
        have it say whether the primary is in reach.
        """
        node, role = self._node, self._node.role
        if not isinstance(role, Primary):
            node.announcer.lost_primary(role.leader is None)
            return
        now, timeout_ms = node.clock(), role.changes.settings.cluster.replica_timeout_ms
        views = {
            row.id: ReplicaView.of(
                row, node.bulletin.lately(row.id, timeout_ms, now), node.roster.reports.get(row.id)
            )
            for row in role.coordinator.status(now.ms).members
        }
        node.announcer.observe(views, now.ms)
        self._tell()

    def _tell(self) -> None:
        """Every follower hears a new topology; a new follower hears the current one."""
        roster, topology = self._node.roster, self._node.announcer.current
        body = TopologyNotice(False, topology.encode()).encode()
        for session in self._told.behind(roster.feeds.keys(), topology.epoch):
            roster.ends[session].send(Kind.TOPOLOGY, body)

"""What the demo runs: five nodes in three regions, how far these lie apart, and the policies it asks for.

The commit rule is `regions(2 of eu,us,ap)`: a copy in a second region, whichever answers first, so that
losing a whole region loses nothing. A write waits for `regions(eu,us)` unless it asks for something else.
"""

from __future__ import annotations

from redwire.message.client import CopyAck
from redwire.position import NodeId, Region
from redwire.receipt import Receipt
from regions.binding import Member, Membership
from regions.commit_policy import CommitPolicy
from regions.quorum import minimal_sets, satisfied_by
from tools.dev.plan import ClusterPlan, NodePlan

REGIONS = ("eu", "us", "ap")
NODES = (
    NodePlan("eu-1", "eu"),
    NodePlan("eu-2", "eu"),
    NodePlan("us-1", "us"),
    NodePlan("us-2", "us"),
    NodePlan("ap-1", "ap"),
)
LEADER = NODES[0]
STOPPED_REGION = "us"
RTT_MS = {("eu", "us"): 80.0, ("eu", "ap"): 120.0, ("us", "ap"): 160.0}
POLICY = "regions(eu,us)"
FLOOR = "regions(2 of eu,us,ap)"
EVERYWHERE = "regions(eu,us,ap)"
REPLICA_TIMEOUT_MS = 2_000
"""Shorter than the default, so that the lost region is noticed while somebody watches."""

PLAN = ClusterPlan(
    NODES,
    name="demo",
    rtt_ms=RTT_MS,
    settings={"policy": POLICY, "floor": FLOOR, "replica_timeout_ms": REPLICA_TIMEOUT_MS},
)
MEMBERSHIP = Membership(tuple(Member(NodeId(node.id), Region(node.region)) for node in NODES))


def floor_ms(policy: str) -> float:
    """The least that a commit by `policy` takes: the round trip to the nearest copies that meet it."""
    sets = minimal_sets(CommitPolicy.parse(policy), MEMBERSHIP, NodeId(LEADER.id))
    return min(max(_distance_ms(node) for node in copies) for copies in sets)


def completing_ack(receipt: Receipt) -> CopyAck | None:
    """The ack that met the requested policy; None if the receipt's acks do not meet it."""
    policy = CommitPolicy.parse(receipt.requested)
    copies: set[NodeId] = set()
    for ack in receipt.acks:
        copies.add(NodeId(ack.node))
        if satisfied_by(policy, NodeId(LEADER.id), copies, MEMBERSHIP):
            return ack
    return None


def _distance_ms(node: NodeId) -> float:
    return 2 * (PLAN.one_way_ms(LEADER.region, MEMBERSHIP.region_of(node)) or 0)

"""Coordinators in the middle of a reign, and what followers tell them."""

from __future__ import annotations

from redwire.position import Incarnation, Lsn, NodeId, Region
from regions.binding import Member, MemberKind, Membership
from regions.commit_policy import CommitPolicy
from regions.coordinator import QuorumCoordinator
from regions.quorum import QuorumConfig

A, B = Incarnation("a" * 32), Incarnation("b" * 32)
MAJORITY = "majority"


def node(name: str) -> NodeId:
    return NodeId(name)


def cluster(*names: str, readers: tuple[str, ...] = ()) -> Membership:
    def member(name: str, kind: MemberKind) -> Member:
        return Member(node(name), Region(name.split("-")[0]), kind)

    return Membership(
        (*(member(n, MemberKind.VOTER) for n in names), *(member(n, MemberKind.READER) for n in readers))
    )


THREE = cluster("eu-1", "us-1", "ap-1", readers=("sa-1",))


def coordinator(
    members: Membership = THREE, rule: str = MAJORITY, quorum: QuorumConfig | None = None, head: int = 100
) -> QuorumCoordinator:
    """eu-1 leads a reign that began at LSN 1; its log ends at `head` and nothing of it is on any disk."""
    made = QuorumCoordinator(members, node("eu-1"), CommitPolicy.parse(rule), quorum)
    made.begin_reign(Lsn(1), 0)
    made.extended(Lsn(head), 0, head * 10)
    return made


def joins(made: QuorumCoordinator, name: str, position: int = 0, session: int = 1, **more: object) -> object:
    now_ms = more.pop("now_ms", 0)
    return made.joined(node(name), session, Lsn(position), Lsn(0), now_ms, **more)  # type: ignore[arg-type]


def acks(
    made: QuorumCoordinator, name: str, durable: int, session: int = 1, now_ms: int = 0, **more: bool
) -> bool:
    return made.acked(node(name), session, Lsn(durable), Lsn(0), Lsn(durable), now_ms, **more)

"""What if a region goes: whether writes by the default policy go on, worked out from a status document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from redwire.errors import PolicyInvalid, RedwireError
from redwire.position import NodeId, Region
from redwire.status import NodeStatus, Status
from regions.binding import Member, MemberKind, Membership
from regions.commit_policy import CommitPolicy
from regions.errors import MembershipInvalid
from regions.quorum import shortfall


@dataclass(frozen=True, slots=True)
class Forecast:
    """`writes`: whether they go on, None where that cannot be told. `why` says so in words."""

    writes: bool | None
    why: str


def if_region_goes(status: Status, region: str) -> Forecast:
    """What becomes of writes when every node bound to `region` is lost, the others staying as they are."""
    gone = {node.id for node in status.nodes if node.region == region}
    primary = status.primary.node
    if status.primary.state != "leading":
        return Forecast(None, "nobody leads in sight")
    if primary in gone:
        return Forecast(False, "the primary is there")
    sure = {node.id for node in status.nodes if _counts(node) is True}
    perhaps = {node.id for node in status.nodes if _counts(node) is not False}
    try:
        membership = members(status.nodes)
        policy = CommitPolicy.parse(status.settings.policy)
        missing = _missing(policy, membership, primary, sure - gone)
        if missing is None:
            return Forecast(True, f"{policy} is still met")
        if _missing(policy, membership, primary, perhaps - gone) is None:
            names = ", ".join(sorted(perhaps - sure - gone))
            return Forecast(None, f"depends on {names}")
    except (PolicyInvalid, MembershipInvalid) as error:
        return Forecast(None, error.message)
    return Forecast(False, missing)


def stops_writes(policy: str, membership: Membership, primary: str, gone: Set[str]) -> bool | None:
    """Whether the loss of the nodes in `gone`, all others being up, stops writes by `policy`.

    The primary's own loss is left out: it stops them whatever the policy says. None for a policy that is not
    understood here.
    """
    up = {str(member.id) for member in membership.voters} - gone
    try:
        return _missing(CommitPolicy.parse(policy), membership, primary, up) is not None
    except RedwireError:
        return None


def members(nodes: Sequence[NodeStatus]) -> Membership:
    """The members that a document names; what is no voter counts for nothing. Raises `MembershipInvalid`."""
    return membership((node.id, node.region, node.kind) for node in nodes)


def membership(named: Iterable[tuple[str, str, str]]) -> Membership:
    """Members of (id, region, kind). Raises `MembershipInvalid` when none is a voter."""
    return Membership(
        tuple(
            Member(NodeId(id), Region(region), MemberKind.VOTER if kind == "voter" else MemberKind.READER)
            for id, region, kind in named
        )
    )


def _missing(
    policy: CommitPolicy, membership: Membership, primary: str, reached: Iterable[str]
) -> str | None:
    error = shortfall(policy, membership, NodeId(primary), {NodeId(node) for node in reached})
    return None if error is None else error.message


def _counts(node: NodeStatus) -> bool | None:
    """Whether a copy on `node` would count now; None where that is not known."""
    if node.uncounted or node.health == "unhealthy":
        return False
    return True if node.health == "healthy" else None

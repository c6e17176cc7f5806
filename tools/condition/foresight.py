"""What if a region goes: what the prover says of its loss, the other nodes being as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Set

import msgspec

from redwire.errors import PolicyInvalid
from redwire.position import NodeId
from redwire.status import NodeStatus, Status
from regions.binding import Membership
from regions.commit_policy import CommitPolicy
from regions.errors import MembershipInvalid, MemberUnknown
from regions.prover import Loss, LossVerdict, Writable, what_if
from regions.quorum import shortfall
from tools.outlook import membership


class Forecast(msgspec.Struct, frozen=True):
    """`writes`: whether they go on, None where that cannot be told; `kept`: whether every confirmed write is.
    `why` says why not, "" where nothing is lost.
    """

    writes: bool | None
    kept: bool | None
    why: str = ""


class Rules(msgspec.Struct, frozen=True):
    """What writes wait for and where: the default policy, the commit rule, the members, and who leads."""

    policy: CommitPolicy
    rule: CommitPolicy
    membership: Membership
    primary: NodeId

    @classmethod
    def of(cls, status: Status) -> Rules:
        """Those that a document names. Raises `PolicyInvalid`, `MembershipInvalid`."""
        policy = CommitPolicy.parse(status.settings.policy)
        floor = status.settings.floor
        rule = CommitPolicy.parse(floor) if floor else policy
        return cls(policy, rule, membership(status.nodes), NodeId(status.primary.node))

    def without(self, gone: Iterable[str]) -> LossVerdict:
        """What the loss of these members leaves. Raises `PolicyInvalid`, `MemberUnknown`."""
        lost = Loss(tuple(map(NodeId, gone)))
        return what_if(self.rule, self.membership, self.primary, lost, self.policy)


def if_region_goes(status: Status, region: str) -> Forecast:
    """What becomes of writes when every node bound to `region` is lost, the others staying as they are."""
    if status.primary.state != "leading":
        return Forecast(None, None, "nobody leads in sight")
    if status.vantage.hides_others:
        return Forecast(None, None, "the other nodes are hidden from this user")
    gone = {node.id for node in status.nodes if node.region == region}
    out = {node.id for node in status.nodes if _counts(node) is False} - gone
    perhaps = {node.id for node in status.nodes if _counts(node) is None} - gone
    try:
        rules = Rules.of(status)
        kept = rules.without(gone).kept
        best, worst = rules.without(gone | out), rules.without(gone | out | perhaps)
        if best.writable is not worst.writable:
            return Forecast(None, kept, f"depends on {', '.join(sorted(perhaps))}")
        return _forecast(rules, worst, kept, gone | out | perhaps)
    except (PolicyInvalid, MembershipInvalid, MemberUnknown) as error:
        return Forecast(None, None, error.message)


def _forecast(rules: Rules, verdict: LossVerdict, kept: bool, gone: Set[str]) -> Forecast:
    if verdict.writable is Writable.YES:
        return Forecast(True, kept)
    if verdict.writable is Writable.WITH_SUCCESSOR:
        return Forecast(False, kept, "until another node leads")
    primary = rules.primary
    if primary in gone:
        return Forecast(False, kept, "policy not met" if verdict.successor else "no safe successor")
    left = {NodeId(member.id) for member in rules.membership.voters if member.id not in gone}
    missing = shortfall(rules.policy & rules.rule, rules.membership, primary, left)
    return Forecast(False, kept, "policy not met" if missing is None else missing.message)


def _counts(node: NodeStatus) -> bool | None:
    """Whether a copy on `node` would count now; None where that is not known."""
    if node.uncounted or node.health == "unhealthy":
        return False
    return True if node.health == "healthy" else None

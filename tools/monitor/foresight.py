"""What if: what the prover says of the loss of a region now, and of a change for every single loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from redwire.errors import PolicyInvalid
from redwire.message.settings import SettingsView
from redwire.position import NodeId, Region
from redwire.status import NodeStatus, Status
from regions.binding import UNBOUND, Member, MemberKind, Membership
from regions.commit_policy import CommitPolicy
from regions.errors import MembershipInvalid, MemberUnknown
from regions.prover import Loss, LossVerdict, Writable, what_if
from regions.quorum import shortfall


@dataclass(frozen=True, slots=True)
class Forecast:
    """`writes`: whether they go on, None where that cannot be told; `kept`: whether every confirmed write is.
    `why` says why not, "" where nothing is lost.
    """

    writes: bool | None
    kept: bool | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What writes wait for and where: the default policy, the commit rule, the members, and who leads."""

    policy: CommitPolicy
    rule: CommitPolicy
    membership: Membership
    primary: NodeId | None

    @classmethod
    def of(cls, policy: str, floor: str, nodes: Iterable[tuple[str, str, str]], primary: str) -> Rules:
        """From texts and (id, region, kind). Raises `PolicyInvalid`, `MembershipInvalid`."""
        parsed = CommitPolicy.parse(policy)
        members = tuple(
            Member(NodeId(id), Region(region), MemberKind.VOTER if kind == "voter" else MemberKind.READER)
            for id, region, kind in nodes
        )
        rule = CommitPolicy.parse(floor) if floor else parsed
        return cls(parsed, rule, Membership(members), NodeId(primary) if primary else None)

    @classmethod
    def of_settings(cls, settings: SettingsView, primary: str) -> Rules:
        """Those of settings. Raises as `of`."""
        nodes = ((member.id, member.region, member.kind) for member in settings.members)
        return cls.of(settings.policy, settings.floor, nodes, primary)

    def without(self, gone: Iterable[str]) -> LossVerdict:
        """What the loss of these members leaves. Raises `PolicyInvalid`, `MemberUnknown`."""
        lost = Loss(tuple(map(NodeId, gone)))
        return what_if(self.rule, self.membership, self.primary, lost, self.policy)


def if_region_goes(status: Status, region: str) -> Forecast:
    """What becomes of writes when every node bound to `region` is lost, the others staying as they are."""
    if status.primary.state != "leading":
        return Forecast(None, None, "nobody leads in sight")
    gone = {node.id for node in status.nodes if node.region == region}
    out = {node.id for node in status.nodes if _counts(node) is False} - gone
    perhaps = {node.id for node in status.nodes if _counts(node) is None} - gone
    settings = status.settings
    try:
        nodes = ((node.id, node.region, node.kind) for node in status.nodes)
        rules = Rules.of(settings.policy, settings.floor, nodes, status.primary.node)
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
    if primary is None or primary in gone:
        return Forecast(False, kept, "no safe successor")
    left = {NodeId(member.id) for member in rules.membership.voters if member.id not in gone}
    missing = shortfall(rules.policy & rules.rule, rules.membership, primary, left)
    return Forecast(False, kept, "policy not met" if missing is None else missing.message)


def consequences(before: Rules, after: Rules) -> Iterator[tuple[bool, str]]:
    """(whether it is won, what) for the nodes and regions whose loss means something else after a change.

    Raises `PolicyInvalid`, `MemberUnknown`.
    """
    found: dict[tuple[bool, str], list[str]] = {}
    for name, was, will in _single_losses(before.membership, after.membership):
        old, new = before.without(was), after.without(will)
        for good_before, good_after, won, lost in (
            (_writes(old), _writes(new), "no longer stops writes", "will stop writes"),
            (old.kept, new.kept, "no longer takes confirmed writes", "may take confirmed writes"),
            (old.successor, new.successor, "leaves a safe successor", "will leave no safe successor"),
        ):
            if good_before != good_after:
                found.setdefault((good_after, won if good_after else lost), []).append(name)
    for (good, effect), names in found.items():
        yield good, f"the loss of {', '.join(names)} {effect}"


def _single_losses(
    before: Membership, after: Membership
) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Every voter and region that is there before and after: its name, and who goes with it."""
    for member in after.voters:
        if member.id in before:
            yield member.id, (member.id,), (member.id,)
    regions = {member.region: None for side in (before, after) for member in side.members}
    for region in regions:
        was, will = (tuple(m.id for m in side.voters if m.region == region) for side in (before, after))
        if region != UNBOUND and was and will:
            yield f"region {region}", was, will


def _writes(verdict: LossVerdict) -> bool:
    return verdict.writable in (Writable.YES, Writable.WITH_SUCCESSOR)


def _counts(node: NodeStatus) -> bool | None:
    """Whether a copy on `node` would count now; None where that is not known."""
    if node.uncounted or node.health == "unhealthy":
        return False
    return True if node.health == "healthy" else None

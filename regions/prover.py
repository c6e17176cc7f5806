"""What a commit rule promises: what survives which loss, and which single losses it does not survive.

A *loss* is some members whose disks are gone for good, all at once and nothing else: the other voters are up,
reach each other, and hold what they acknowledged. The configuration stays as it was, so the lost still stand
in every majority. What was acknowledged before the present primary led is on its disk too, as it is on that
of every safe successor. Three questions are asked of a loss, with L the lost voters and S the others:

* *kept*: does a survivor hold every acknowledged write? Which copies there are is not known, only that they
  met the policy: so it is kept when L contains no set that meets the policy.
* *writable*: can the survivors meet the policy again, under the same primary if it survived, else under a
  successor that could be chosen safely?
* *successor*: do the survivors contain a majority of the voters that also meets every set of copies that can
  commit, for every voter that could have been primary (R11)? The commit rule decides, also where the default
  policy is stronger: what it asks for beyond the rule only adds copies.

No set is listed, and yet the answers are exact, for any number of voters. Whatever meets a policy still does
so with more copies. So L contains a set that meets the policy, and then a minimal one, exactly when L itself
meets it, led by one of its own. S can meet it exactly when S itself does; no clause asks more of a primary
than its copy, so any survivor can lead where one can. And a set of votes misses a set of copies only if that
lies outside of it; more votes never miss more, so if any set of votes among the survivors will do, all of S
will, and it does when it is a majority and L does not meet the rule.

Readers count for nothing (R7): a loss may name them, and no answer changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from enum import StrEnum
from itertools import combinations

import msgspec

from redwire.position import NodeId, Region
from regions.binding import UNBOUND, Membership, require_satisfiable
from regions.commit_policy import CommitPolicy
from regions.errors import RegionUnknown
from regions.quorum import satisfied_by


class Loss(msgspec.Struct, frozen=True):
    """Members that are lost together, voters or readers; `region` is `UNBOUND` unless they are all of one."""

    nodes: tuple[NodeId, ...]
    region: Region = UNBOUND

    @classmethod
    def of_region(cls, membership: Membership, region: Region) -> Loss:
        """Everything that is bound to `region`. Raises `RegionUnknown` when nothing is."""
        nodes = tuple(member.id for member in membership.members if member.region == region)
        if region == UNBOUND or not nodes:
            raise RegionUnknown(region, (member.region for member in membership.members))
        return cls(nodes, region)

    @property
    def single(self) -> bool:
        """Whether it is one member, or one region."""
        return len(self.nodes) == 1 or self.region != UNBOUND

    def __str__(self) -> str:
        return f"region {self.region}" if self.region else " + ".join(self.nodes) or "nothing"


class Writable(StrEnum):
    """Whether writes go on after a loss.

    YES: under the same primary; where nobody was named and the loss may include the primary, at the latest
    under a successor, who can be chosen safely. WITH_SUCCESSOR: the primary that was named is lost, and a
    successor who can be chosen safely goes on. UNLESS_PRIMARY_LOST: nobody was named; a primary that survived
    goes on, one that did not has no safe successor.
    """

    YES = "yes"
    WITH_SUCCESSOR = "with_successor"
    UNLESS_PRIMARY_LOST = "unless_primary_lost"
    NO = "no"


QUESTIONS = ("writes kept", "still writable", "safe successor")
"""The three questions of this module as people read them."""


class LossVerdict(msgspec.Struct, frozen=True):
    """What one loss leaves: the answers to `QUESTIONS`, in their order."""

    lost: Loss
    kept: bool
    writable: Writable
    successor: bool

    @property
    def words(self) -> tuple[str, str, str]:
        """The answers as people read them, in the order of `QUESTIONS`."""
        return _yes(self.kept), self.writable.replace("_", " "), _yes(self.successor)

    def __str__(self) -> str:
        kept, writable, successor = self.words
        return f"{self.lost}: writes kept {kept}, writable {writable}, safe successor {successor}"


class SinglePoints(msgspec.Struct, frozen=True):
    """The single nodes and whole regions that must not be lost: `data` loses acknowledged writes, `writes`
    stops new ones for good (not only until a safe successor leads), `successor` leaves none that is safe.
    """

    data: tuple[Loss, ...]
    writes: tuple[Loss, ...]
    successor: tuple[Loss, ...]

    @property
    def words(self) -> tuple[tuple[str, str], ...]:
        """(effect, who has it) as people read them, in the order of the fields."""
        named = (("loses data", self.data), ("stops writes", self.writes))
        return tuple(
            (effect, ", ".join(map(str, losses)) or "none")
            for effect, losses in (*named, ("no safe successor", self.successor))
        )

    def __str__(self) -> str:
        return "; ".join(f"{effect}: {losses}" for effect, losses in self.words)


class Verdict(msgspec.Struct, frozen=True):
    """What writes by `policy` are promised where `rule` commits.

    `losses` has each voter, each pair of voters, then each region with a voter, in configured order.
    `primary` None means that any voter may lead: an answer is yes when it is, whoever does.
    """

    policy: CommitPolicy
    rule: CommitPolicy
    primary: NodeId | None
    losses: tuple[LossVerdict, ...]

    @property
    def single_points(self) -> SinglePoints:
        """The losses of one voter or of one region that change something."""
        single = [each for each in self.losses if each.lost.single]
        stopped = (Writable.NO, Writable.UNLESS_PRIMARY_LOST)
        return SinglePoints(
            tuple(each.lost for each in single if not each.kept),
            tuple(each.lost for each in single if each.writable in stopped),
            tuple(each.lost for each in single if not each.successor),
        )

    @property
    def empty(self) -> str:
        """Why the promise is empty, in a sentence; "" when it is not.

        It is empty when the loss of one voter may take a confirmed write with it: that write was on one disk.
        A policy that can never be met is no verdict at all, see `prove`.
        """
        alone = [each for each in self.losses if len(each.lost.nodes) == 1 and not each.lost.region]
        for each in alone:
            if not each.kept and len(alone) == 1:
                return f"{self.policy} promises one disk: {each.lost} is the only voter, whatever the policy"
            if not each.kept:
                return (
                    f"{self.policy} promises one disk: while {each.lost} leads, "
                    f"a confirmed write may be on {each.lost} alone and is lost with it"
                )
        return ""

    @property
    def promise(self) -> str:
        """What is promised at least, in a sentence: of the loss of more than two nodes nothing is said."""
        pairs = [each for each in self.losses if len(each.lost.nodes) == 2 and not each.lost.region]
        lost = "two nodes" if pairs and all(each.kept for each in pairs) else "one node"
        return self.empty or f"a confirmed write survives the loss of any {lost}"

    def __str__(self) -> str:
        who = self.primary or "any voter"
        first = f"{self.policy}, committed by {self.rule}, led by {who}: {self.promise}"
        return "\n".join((first, *(f"  {each}" for each in self.losses), f"  {self.single_points}"))


def prove(
    rule: CommitPolicy,
    membership: Membership,
    primary: NodeId | None = None,
    policy: CommitPolicy | None = None,
) -> Verdict:
    """What a write is promised that waits for `policy` (by default for the commit rule alone) while `primary`
    leads, or whoever leads.

    Raises `PolicyInvalid` for what the voters, all up, can never meet, and for an unresolved `quorum`;
    `MemberUnknown` when `primary` is no voter. The losses grow with the square of the voters.
    """
    asked = rule if policy is None else policy
    require_satisfiable(rule, membership)
    require_satisfiable(asked, membership)
    return Verdict(
        asked,
        rule,
        primary,
        tuple(what_if(rule, membership, primary, lost, asked) for lost in _losses(membership)),
    )


def what_if(
    rule: CommitPolicy,
    membership: Membership,
    primary: NodeId | None,
    lost: Loss,
    policy: CommitPolicy | None = None,
) -> LossVerdict:
    """What the loss `lost` leaves of writes that wait for `policy`, by default for the commit rule alone.

    Raises `MemberUnknown` for a stranger among the lost and for a `primary` that is no voter, `PolicyInvalid`
    for an unresolved `quorum`. Of a policy that nobody can ever meet every write is kept, there being none.
    """
    for node in lost.nodes:
        membership.member(node)
    if primary is not None:
        membership.voter_index(primary)
    asked = rule if policy is None else policy & rule  # what an answer waits for (R6)
    voters = frozenset(member.id for member in membership.voters)
    gone, leaders = voters.intersection(lost.nodes), voters if primary is None else {primary}
    left = voters - gone
    kept = not any(_led(asked, membership, leaders & gone, gone))
    successor = len(left) >= membership.majority and not any(_led(rule, membership, gone, gone))
    meets = any(_led(asked, membership, left, left))
    return LossVerdict(lost, kept, _writable(meets, successor, primary, gone), successor)


def _led(
    policy: CommitPolicy, membership: Membership, leaders: Set[NodeId], copies: Set[NodeId]
) -> Iterator[bool]:
    """For each of `leaders`, whether `copies` meet `policy` while it leads."""
    return (satisfied_by(policy, leader, copies, membership) for leader in leaders)


def _writable(meets: bool, successor: bool, primary: NodeId | None, gone: Set[NodeId]) -> Writable:
    if not meets:
        return Writable.NO
    if primary is not None and primary in gone:
        return Writable.WITH_SUCCESSOR if successor else Writable.NO
    if primary is None and not successor:
        return Writable.UNLESS_PRIMARY_LOST
    return Writable.YES


def _losses(membership: Membership) -> Iterator[Loss]:
    ids = [member.id for member in membership.voters]
    for count in (1, 2):
        for nodes in combinations(ids, count):
            yield Loss(nodes)
    for region in dict.fromkeys(member.region for member in membership.voters):
        if region != UNBOUND:
            yield Loss.of_region(membership, region)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"

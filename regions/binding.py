"""Who is in the cluster, as what and in which region: the configured members, never the connected (R7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from redwire.errors import PolicyInvalid
from redwire.position import Incarnation, NodeId, Region
from redwire.spelling import guess
from regions.commit_policy import (
    LOCAL,
    MAJORITY,
    AckN,
    CommitPolicy,
    Local,
    Majority,
    Quorum,
    Regions,
    RemoteWal,
    no_archive,
    unresolved,
)
from regions.errors import MembershipInvalid, MemberUnknown

UNBOUND = Region("")
"""The region of a member that is bound to none: it counts for every clause but `regions(...)`."""


class MemberKind(StrEnum):
    """What a member's copies are worth: a voter's count, a reader's never do."""

    VOTER = "voter"
    READER = "reader"


class Member(msgspec.Struct, frozen=True):
    """One configured node.

    `addr` is where it can be dialled. `incarnation` names the one data directory whose copies count (R11);
    None means that the configuration names none yet, and then the one that joins counts.
    """

    id: NodeId
    region: Region
    kind: MemberKind = MemberKind.VOTER
    addr: str = ""
    incarnation: Incarnation | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """The configured members, in configured order. Never changes: every change makes another one.

    Raises `MembershipInvalid` for an id given twice and for a cluster without a voter.
    """

    members: tuple[Member, ...]
    voters: tuple[Member, ...] = field(init=False, compare=False, repr=False)
    _by_id: dict[NodeId, Member] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        by_id = {member.id: member for member in self.members}
        voters = tuple(member for member in self.members if member.kind is MemberKind.VOTER)
        if len(by_id) < len(self.members):
            ids = [member.id for member in self.members]
            twice = next(node for node in by_id if ids.count(node) > 1)
            raise MembershipInvalid(f"member {twice} is named twice", hint="give every node an id of its own")
        if not voters:
            raise MembershipInvalid("no member is a voter", hint="without one nothing can be committed")
        object.__setattr__(self, "voters", voters)
        object.__setattr__(self, "_by_id", by_id)

    def __contains__(self, node: object) -> bool:
        return node in self._by_id

    def member(self, node: NodeId) -> Member:
        """The member called `node`. Raises `MemberUnknown`."""
        try:
            return self._by_id[node]
        except KeyError:
            raise MemberUnknown(node) from None

    def region_of(self, node: NodeId) -> Region:
        """The region that `node` is bound to, `UNBOUND` for none. Raises `MemberUnknown`."""
        return self.member(node).region

    def voters_in(self, region: Region) -> tuple[Member, ...]:
        """The voters bound to `region`; empty when there is none."""
        return tuple(member for member in self.voters if member.region == region)

    def voter_index(self, node: NodeId) -> int:
        """The place of `node` among `voters`. Raises `MemberUnknown` for a reader as for a stranger."""
        for index, member in enumerate(self.voters):
            if member.id == node:
                return index
        raise MemberUnknown(node, "a configured voter")

    @property
    def majority(self) -> int:
        """How many voters a majority is."""
        return len(self.voters) // 2 + 1

    def bound(self, node: NodeId, region: Region) -> Membership:
        """The same members with `node` bound to `region` (`UNBOUND` for none). Raises `MemberUnknown`."""
        return self._with(replace(self.member(node), region=region))

    def admitted(self, node: NodeId, incarnation: Incarnation) -> Membership:
        """The same members with `node` counting as `incarnation` only. Raises `MemberUnknown`."""
        return self._with(replace(self.member(node), incarnation=incarnation))

    def _with(self, changed: Member) -> Membership:
        return Membership(tuple(changed if member.id == changed.id else member for member in self.members))


def default_policy(membership: Membership) -> CommitPolicy:
    """What a cluster commits by unless told otherwise: `majority`, or `local` for a lone voter (R6)."""
    return MAJORITY if len(membership.voters) > 1 else LOCAL


def require_satisfiable(policy: CommitPolicy, membership: Membership) -> None:
    """Return when the configured voters, all up, can meet `policy`, whichever of them leads.

    Raises `PolicyInvalid` that says which clause they can never meet. `quorum` has to be resolved before.
    """
    others = len(membership.voters) - 1
    for clause in policy.clauses:
        match clause:
            case Local() | Majority():
                pass
            case RemoteWal():
                raise no_archive()
            case Quorum():
                raise unresolved()
            case AckN(n):
                if n > others:
                    raise PolicyInvalid(
                        f"{clause} can never be met: {others} voters stand beside the primary",
                        hint="ask for fewer copies or configure more voters",
                    )
            case Regions(names):
                _check_regions(clause, names, membership)


def _check_regions(clause: Regions, names: Iterable[Region], membership: Membership) -> None:
    empty = [name for name in names if not membership.voters_in(name)]
    if len(clause.names) - len(empty) < clause.needed:
        known = sorted({member.region for member in membership.voters} - {UNBOUND})
        hint = guess(empty[0], known, f"voters are in {', '.join(known) or 'no region'}")
        raise PolicyInvalid(f"{clause} can never be met: no voter in {', '.join(empty)}", hint=hint)

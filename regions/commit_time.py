"""How long a commit takes at best: the distances between regions, and the copies that a policy waits for.

The primary sends a record to everybody at once, and a copy at a distance of one round trip counts one round
trip later; the rule is met when the copies that are there by then meet it. That is, over all sets of copies
that meet it, the least of their greatest distances. Every disk takes `fsync_ms`, the primary's own too.
Queues, apply and the spread of round trips come on top: fed with medians this estimates a median.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from redwire.position import NodeId, Region
from regions.binding import UNBOUND, Membership
from regions.commit_policy import CommitPolicy
from regions.quorum import satisfied_by


class Distances(msgspec.Struct, frozen=True):
    """Round trips in ms between two regions, or within one (a set of one); `within_ms` where that is not
    given.
    """

    between: Mapping[frozenset[Region], float] = msgspec.field(default_factory=dict)
    within_ms: float = 0.0

    def rtt_ms(self, one: Region, other: Region) -> float | None:
        """From one region to another and back. None is unknown, as everything is from where nobody knows."""
        if UNBOUND in (one, other):
            return None
        return self.between.get(frozenset((one, other)), self.within_ms if one == other else None)

    def from_primary(self, membership: Membership, primary: NodeId) -> dict[NodeId, float]:
        """The round trips from `primary` to each other voter, as far as known. Raises `MemberUnknown`."""
        home, found = membership.region_of(primary), {}
        for member in membership.voters:
            rtt = self.rtt_ms(home, member.region)
            if member.id != primary and rtt is not None:
                found[member.id] = rtt
        return found


class Unmeasured(msgspec.Struct, frozen=True):
    """Nobody can say: the distance to these voters is not known, and for some of them it matters."""

    voters: tuple[NodeId, ...]

    def __str__(self) -> str:
        return f"unknown: no RTT to {', '.join(self.voters)}"


class Never(msgspec.Struct, frozen=True):
    """No set of copies meets the policy."""

    def __str__(self) -> str:
        return "never"


def expected_commit_ms(
    rule: CommitPolicy,
    membership: Membership,
    primary: NodeId,
    rtt_ms: Mapping[NodeId, float],
    fsync_ms: float = 0.0,
) -> float | Unmeasured | Never:
    """Milliseconds from the primary's send until `rule` is met; `rtt_ms` has its round trips to the voters.

    A voter that is not in `rtt_ms` may be anywhere: where that changes the answer, the answer is
    `Unmeasured`. Raises `MemberUnknown` when `primary` is no voter, `PolicyInvalid` for an unresolved
    `quorum`.
    """
    known = {member.id: rtt_ms[member.id] for member in membership.voters if member.id in rtt_ms}
    known[primary] = 0.0
    unknown = tuple(member.id for member in membership.voters if member.id not in known)
    latest = _met_after(rule, membership, primary, known)
    earliest = _met_after(rule, membership, primary, known | dict.fromkeys(unknown, 0.0))
    if earliest is None:
        return Never()
    return Unmeasured(unknown) if latest is None or latest != earliest else latest + fsync_ms


def _met_after(
    rule: CommitPolicy, membership: Membership, primary: NodeId, distance_ms: Mapping[NodeId, float]
) -> float | None:
    """The least distance within which the copies meet `rule`; None when all of them together do not."""
    for reach in sorted(set(distance_ms.values())):
        copies = {node for node, distance in distance_ms.items() if distance <= reach}
        if satisfied_by(rule, primary, copies, membership):
            return reach
    return None

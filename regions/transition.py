"""A change of members, regions or commit rule, between its record and its commit (R6, R11).

Under the rule in force everything below the record is committed. The record itself, and with it all that
precedes it, takes more: a majority of the voters before and of those after the change, and the commit rule
before and after it. Then the new rule is in force, and nothing above the record was ever counted by the old
one alone.

Why that is enough (R11): a successor that is chosen safely needs a majority of the voters of every
configuration in its log, and a majority of those before the change holds the record. So whoever the old
voters could choose has it, and answers to the new rule as well. A take-over asks for less, and for enough: a
vote from each set of voters that meets the rule before the change, which the record needed too. Only where an
operator gives voters up may it lack the record.

Nodes that an operator names as lost are taken to hold everything, in the rules that are left behind only:
what a burned-down region can no longer prove is waived, the majorities and the new rule are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import msgspec

from redwire.position import LSN_MAX, Lsn, NodeId
from regions.binding import Membership
from regions.commit_policy import MAJORITY, CommitPolicy
from regions.errors import QuorumError
from regions.quorum import compile_rule, shortfall


class Step(msgspec.Struct, frozen=True):
    """A logged change: once the record at `at` is committed, `membership` commits by `rule`.

    `lost` are the nodes that the operator has given up. `rule` names no `quorum`.
    """

    at: Lsn
    membership: Membership
    rule: CommitPolicy
    lost: frozenset[NodeId] = frozenset()


def joint_watermark(steps: Sequence[Step], primary: NodeId, worth: Callable[[NodeId], Lsn]) -> Lsn:
    """How far the records hold that lead from the first of `steps`, which is in force, through all others.

    `worth` is what a voter's copy counts for. 0 when it is met nowhere.
    """
    lost = _lost(steps)
    reached = LSN_MAX
    for step in steps:
        proven = [worth(voter.id) for voter in step.membership.voters]
        taken = proven
        if step is not steps[-1]:
            voters = step.membership.voters
            taken = [LSN_MAX if v.id in lost else w for v, w in zip(voters, proven, strict=True)]
        for rule, durable in ((MAJORITY, proven), (step.rule, taken)):
            met = compile_rule(rule, step.membership, primary).watermark(durable)
            reached = min(reached, Lsn(met))
    return reached


def obstacle(steps: Sequence[Step], primary: NodeId, reached: Set[NodeId]) -> QuorumError | None:
    """What keeps the nodes in `reached`, and the primary, from committing a change; None when they can."""
    lost = _lost(steps)
    for step in steps:
        waived = reached if step is steps[-1] else reached | lost
        for rule, holders in ((MAJORITY, reached), (step.rule, waived)):
            found = shortfall(rule, step.membership, primary, holders)
            if found is not None:
                return found
    return None


def _lost(steps: Sequence[Step]) -> frozenset[NodeId]:
    return frozenset[NodeId]().union(*(step.lost for step in steps))

"""From the policy text of a request to what its answer waits for (R6)."""

from __future__ import annotations

from cluster.effects import Effective
from redwire.errors import Code, Refused
from redwire.position import NodeId
from regions.binding import Membership, satisfiable
from regions.commit_policy import CommitPolicy, Quorum
from regions.quorum import ENUMERATED_VOTERS_MAX, at_least, minimal_sets

TEXTS_MAX = 256
"""Texts whose verdict is remembered; few exist, but clients choose them."""


class Policies:
    """The policies of one cluster configuration, as this node would commit by them.

    `quorum` in a request stands for the cluster's default policy.
    """

    def __init__(
        self, default: CommitPolicy, floor: CommitPolicy, membership: Membership, me: NodeId
    ) -> None:
        self.default = default
        self.floor = floor
        self._membership = membership
        self._me = me
        self._known: dict[str, Effective] = {}
        self._twins: dict[frozenset[frozenset[NodeId]], CommitPolicy] = {}
        self.rule = self._effective(floor)

    def effective(self, text: str) -> Effective:
        """What a request with this policy text waits for; "" is the default, which the configuration holds to
        be at or above the floor.

        Raises `PolicyInvalid` for a text that makes no policy or one that the members can never meet, and
        `Refused` (COMMIT_POLICY_BELOW_FLOOR) for one that some set of copies meets without meeting the floor.
        """
        known = self._known.get(text)
        if known is not None:
            return known
        asked = self._resolve(CommitPolicy.parse(text)) if text else self.default
        satisfiable(asked, self._membership)
        if text and not at_least(asked, self.floor, self._membership, self._me):
            message = f"{asked} can be met by copies that do not meet the floor {self.floor}"
            hint = f"ask for {asked & self.floor}, or leave the policy out"
            raise Refused(Code.COMMIT_POLICY_BELOW_FLOOR, message, hint=hint)
        if len(self._known) >= TEXTS_MAX:
            self._known.clear()
            self._twins.clear()
        # nothing below the floor comes this far, so the floor need not be named beside it
        effective = self._known[text] = self._effective(asked)
        return effective

    def _effective(self, policy: CommitPolicy) -> Effective:
        is_rule = at_least(self.floor, policy, self._membership, self._me)
        return Effective(self._twin(policy), str(policy), is_rule)

    def _twin(self, policy: CommitPolicy) -> CommitPolicy:
        """The first policy that the same copies meet: however many ways there are to write one, its watermark
        is worked out once.
        """
        if len(self._membership.voters) > ENUMERATED_VOTERS_MAX:
            return policy
        return self._twins.setdefault(minimal_sets(policy, self._membership, self._me), policy)

    def _resolve(self, policy: CommitPolicy) -> CommitPolicy:
        if not any(isinstance(clause, Quorum) for clause in policy.clauses):
            return policy
        others = tuple(clause for clause in policy.clauses if not isinstance(clause, Quorum))
        return CommitPolicy((*self.default.clauses, *others))

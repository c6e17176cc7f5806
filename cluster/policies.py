"""From the policy text of a request to what its answer waits for (R6)."""

from __future__ import annotations

import msgspec

from cluster.settings import Settings
from redwire.errors import Code, PolicyInvalid, Refused
from redwire.position import Lsn, NodeId
from regions.binding import Membership, require_satisfiable
from regions.commit_policy import CommitPolicy
from regions.quorum import ENUMERATED_VOTERS_MAX, at_least, concise, minimal_sets

TEXTS_MAX = 256
"""Texts whose verdict is remembered; few exist, but clients choose them."""
UNJUDGED = Lsn(-1)
"""Before any settings."""


class Effective(msgspec.Struct, frozen=True):
    """The policy that one request waits for: what it asked for AND the floor (R6).

    `parsed` is what a refusal speaks of, and `text` the same as receipts name it. `counted_by` is the policy
    whose watermark says when it is met: the same copies meet both, and one is counted for all of their like.
    `is_rule`: meeting the commit rule already meets it, so the answer leaves as soon as the record is
    applied. `asked` is the text that the request named, "" for the default and None for the commit rule;
    `settings` is the LSN of the settings by which it was judged, `UNJUDGED` for a text that none allow yet:
    such a policy is never met.
    """

    parsed: CommitPolicy
    text: str
    counted_by: CommitPolicy
    is_rule: bool
    asked: str | None = ""
    settings: Lsn = Lsn(0)


class Policies:
    """The policies of the settings at `lsn`, as `me` would commit by them.

    `quorum` in a request stands for the cluster's default policy.
    """

    def __init__(
        self,
        default: CommitPolicy,
        floor: CommitPolicy,
        membership: Membership,
        me: NodeId,
        lsn: Lsn = Lsn(0),
    ) -> None:
        self.default = default
        self.floor = floor
        self.lsn = lsn
        self._membership = membership
        self._me = me
        self._known: dict[str | None, Effective] = {}
        self._twins: dict[frozenset[frozenset[NodeId]], CommitPolicy] = {}

    @classmethod
    def of(cls, settings: Settings, me: NodeId) -> Policies:
        """Those of `settings`."""
        cluster = settings.cluster
        return cls(cluster.default_policy, cluster.commit_rule, cluster.membership, me, settings.lsn)

    @property
    def rule(self) -> Effective:
        """The commit rule, which every write waits for."""
        return self.effective(None)

    def effective(self, text: str | None) -> Effective:
        """What a request with this policy text waits for; "" is the default, which the configuration holds to
        be at or above the floor, and None the commit rule itself.

        Raises `PolicyInvalid` for a text that makes no policy or one that the members can never meet, and
        `Refused` (COMMIT_POLICY_BELOW_FLOOR) for one that some set of copies meets without meeting the floor.
        """
        known = self._known.get(text)
        if known is not None:
            return known
        if text is None:
            asked = self.floor
        else:
            asked = CommitPolicy.parse(text).resolved(self.default) if text else self.default
        try:
            require_satisfiable(asked, self._membership)
        except PolicyInvalid as error:
            error.facts["asked"] = text or str(asked)
            raise
        if text and not at_least(asked, self.floor, self._membership, self._me):
            message = f"{asked} can be met by copies that do not meet the floor {self.floor}"
            hint = self._way_up(asked)
            facts = {"asked": str(asked), "floor": str(self.floor)}
            raise Refused(Code.COMMIT_POLICY_BELOW_FLOOR, message, hint=hint, facts=facts)
        if len(self._known) >= TEXTS_MAX:
            self._known.clear()
            self._twins.clear()
        # nothing below the floor comes this far, so the floor need not be named beside it
        is_rule = at_least(self.floor, asked, self._membership, self._me)
        effective = Effective(asked, str(asked), self._twin(asked), is_rule, text, self.lsn)
        self._known[text] = effective
        return effective

    def unjudged(self, text: str) -> Effective:
        """For a text that is refused, where that is for somebody to say who knows of earlier attempts: its
        caller waits as for the commit rule.
        """
        return msgspec.structs.replace(self.rule, text=text, is_rule=False, asked=text, settings=UNJUDGED)

    def _way_up(self, asked: CommitPolicy) -> str:
        """What to ask for in place of `asked`, which is below the floor."""
        try:
            both = concise(asked & self.floor, self._membership, self._me)
        except PolicyInvalid:  # together they have no room in one text
            return "leave the policy out"
        return f"ask for {both.quoted}, or leave the policy out"

    def _twin(self, policy: CommitPolicy) -> CommitPolicy:
        """The first policy that the same copies meet: however many ways there are to write one, its watermark
        is worked out once.
        """
        if len(self._membership.voters) > ENUMERATED_VOTERS_MAX:
            return policy
        return self._twins.setdefault(minimal_sets(policy, self._membership, self._me), policy)

"""How far each policy in use is met: compiled rules over the ack table, each with the highest LSN it ever
reached.

A watermark never falls within a reign, whatever happens to the rows: a copy that was proven once was proven,
and what was released on it cannot be taken back.
"""

from __future__ import annotations

from redwire.position import Lsn
from regions.ack_table import AckTable
from regions.commit_policy import CommitPolicy
from regions.quorum import CompiledRule, QuorumConfig, compile_rule

POLICIES_MAX = 64
"""Policies beside the commit rule whose rules are kept. Clients choose them, so there is a bound; few are in
use.
"""
_NEVER_LOOKED = -1


class _Mark:
    """One policy's rule, the highest LSN it reached, and the table version it was last worked out for."""

    __slots__ = ("rule", "value", "version")

    def __init__(self, rule: CompiledRule) -> None:
        self.rule = rule
        self.value = Lsn(0)
        self.version = _NEVER_LOOKED


class Watermarks:
    """The watermark of the commit rule and of any other policy, over one ack table.

    Raises `PolicyInvalid` when the commit rule, or a policy asked for, names a quorum that waits for nobody.
    """

    def __init__(self, table: AckTable, rule: CommitPolicy, quorum: QuorumConfig) -> None:
        self._table = table
        self._quorum = quorum
        self._rule = rule
        self._term_start = Lsn(0)
        self._commit = self._compiled(rule)
        self._marks: dict[CommitPolicy, _Mark] = {}

    def begin_reign(self, term_start: Lsn, known: Lsn) -> Lsn:
        """Count only from `term_start` on; until then the commit rule stays where it is, or at `known` if
        higher.

        A record of an older term on enough disks is not committed by their number: a node that lacks it may
        still win a later reign and cut it. A committed record of the own term commits all that precede it
        (R3).
        """
        self._term_start = term_start
        self._commit.value = max(self._commit.value, known)
        self._marks.clear()
        return self._commit.value

    def rebound(self) -> None:
        """Read the table's membership anew. The commit rule stays where it is; all others are asked again."""
        value = self._commit.value
        self._commit = self._compiled(self._rule)
        self._commit.value = value
        self._marks.clear()

    def value(self, policy: CommitPolicy | None = None) -> Lsn:
        """The watermark of `policy`, None being the commit rule: 0 where nothing of this reign is met yet."""
        mark = self._commit if policy is None else self._mark(policy)
        table = self._table
        if mark.version != table.version:
            mark.version = table.version
            reached = mark.rule.watermark(table.counted)
            if reached > mark.value and reached >= self._term_start:
                mark.value = Lsn(reached)
        return mark.value

    def _mark(self, policy: CommitPolicy) -> _Mark:
        mark = self._marks.get(policy)
        if mark is None:
            if policy == self._rule:
                return self._commit
            if len(self._marks) >= POLICIES_MAX:
                del self._marks[next(iter(self._marks))]
            mark = self._marks[policy] = self._compiled(policy)
        return mark

    def _compiled(self, policy: CommitPolicy) -> _Mark:
        table = self._table
        return _Mark(compile_rule(self._quorum.resolve(policy), table.membership, table.me))

"""How far each policy in use is met: compiled rules over the ack table, each with the highest LSN it ever
reached.

The commit rule's watermark never falls within a reign, whatever happens to the rows: a copy that was proven
once was proven, and what was released on it cannot be taken back. Another policy's mark may begin anew, when
members are bound or admitted and when more than `POLICIES_MAX` are in use: that can delay an answer that
waits for it, and never gives one too early. While a change of the rule is on its way the commit rule
stops below its record; when that is committed, the new members and the new rule are in force at once.
"""

from __future__ import annotations

from redwire.position import Lsn
from regions.ack_table import AckTable
from regions.commit_policy import CommitPolicy
from regions.quorum import CompiledRule, QuorumConfig, compile_rule
from regions.transition import Step, joint_watermark

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
        self.rule = rule
        self.pending: tuple[Step, ...] = ()
        self._table = table
        self._quorum = quorum
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
        self.pending = ()
        self._table.candidates = frozenset()
        return self._commit.value

    def rebound(self) -> None:
        """Read the table's membership anew. The commit rule stays where it is; all others are asked again."""
        value = self._commit.value
        self._commit = self._compiled(self.rule)
        self._commit.value = value
        self._marks.clear()

    def propose(self, step: Step) -> None:
        """A change was logged, above all others that were: the commit rule stops below it until it is
        committed.
        """
        self.pending = (*self.pending, step)
        self._commit.version = _NEVER_LOOKED
        self._table.candidates = frozenset(v.id for each in self.pending for v in each.membership.voters)

    def value(self, policy: CommitPolicy | None = None) -> Lsn:
        """The watermark of `policy`, None being the commit rule: 0 where nothing of this reign is met yet."""
        table = self._table
        if self.pending and self._commit.version != table.version:
            self._advance()
        mark = self._commit if policy is None else self._mark(policy)
        if mark.version != table.version:
            mark.version = table.version
            reached = mark.rule.watermark(table.counted)
            if mark is self._commit and self.pending:
                reached = min(reached, self._gate(self.pending[0]) - 1)
            if reached > mark.value and reached >= self._term_start:
                mark.value = Lsn(reached)
        return mark.value

    def _advance(self) -> None:
        """Put into force what is committed of the pending changes: the first ones, or more of them together,
        where a later one names as lost what an earlier one waits for.
        """
        count = 1
        while count <= len(self.pending):
            steps, last = self.pending[:count], self.pending[count - 1]
            in_force = Step(Lsn(0), self._table.membership, self._quorum.resolve(self.rule))
            reached = joint_watermark((in_force, *steps), self._table.me, self._table.worth)
            if reached < self._gate(last):
                count += 1
                continue
            self.pending, count = self.pending[count:], 1
            self.rule = last.rule
            self._table.adopt(last.membership)
            self.rebound()
            reached = self._gate(last)
            if self.pending:  # what another reign left here may share the gate of the change behind it
                reached = min(reached, Lsn(self._gate(self.pending[0]) - 1))
            if reached >= self._term_start:
                self._commit.value = max(self._commit.value, reached)

    def _gate(self, step: Step) -> Lsn:
        """The LSN that commits `step`: its record, or the first one of this reign, which proves it (R3)."""
        return max(step.at, self._term_start)

    def _mark(self, policy: CommitPolicy) -> _Mark:
        mark = self._marks.get(policy)
        if mark is None:
            if policy == self.rule:
                return self._commit
            if len(self._marks) >= POLICIES_MAX:
                del self._marks[next(iter(self._marks))]
            mark = self._marks[policy] = self._compiled(policy)
        return mark

    def _compiled(self, policy: CommitPolicy) -> _Mark:
        table = self._table
        return _Mark(compile_rule(self._quorum.resolve(policy), table.membership, table.me))

"""What a node that was told to lead has heard by now: the facts in reports that `cluster.opening` judges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cluster.challenge import lacks_committed
from redwire.message.peer import Report
from redwire.node_role import NodeRole
from redwire.position import NodeId, Term


class Heard(msgspec.Struct, frozen=True):
    """`mine` is this node's own report, `others` are those of the other members in reach, by their ids; empty
    while nobody is. Whoever was `given_up`, as our log says, is none of them: its word is that of a history
    that is over. But the terms and votes that it knows of bind it in ours.
    """

    mine: Report
    others: Mapping[NodeId, Report]
    given_up: Mapping[NodeId, Report] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, mine: Report, reports: Mapping[NodeId, Report]) -> Heard:
        """What is heard of all these."""
        over = {node: report for node, report in reports.items() if report.given_up(mine)}
        return cls(mine, {node: report for node, report in reports.items() if node not in over}, over)

    @property
    def everybody(self) -> Sequence[Report]:
        """All reports, ours first."""
        return (self.mine, *self.others.values())

    @property
    def bound(self) -> Sequence[Report]:
        """All reports whose terms and votes count: who was given up keeps what it has promised, too."""
        return (*self.everybody, *self.given_up.values())

    @property
    def leader(self) -> Report | None:
        """Of the others who lead, the one with the newest term, were it given up: what it acknowledges was
        not.
        """
        return newest_leader((*self.others.values(), *self.given_up.values()))

    @property
    def follower(self) -> Report | None:
        """One who follows another node than us, in a reign no older than the last that we accepted."""
        for report in self.others.values():
            if report.follows not in ("", self.mine.node) and report.term >= self.mine.term:
                return report
        return None

    @property
    def led_last(self) -> bool:
        """Whether nobody can have led since this node did, as far as it and those in reach know."""
        mine = self.mine
        led = any(
            each.term > mine.term and each.primary not in ("", mine.node) for each in self.others.values()
        )
        given = (each.other_vote if each.voted_for == mine.node else each.vote for each in self.bound)
        voted = max(given) > mine.term
        return mine.primary == mine.node and mine.last_term <= mine.term and not led and not voted

    @property
    def longest(self) -> Report:
        """Whose log is the longest, of ours and of those that lack nothing of what somebody knows committed;
        `mine` where none is longer.
        """
        sound = [report for report in self.others.values() if self._ahead_of(report) is None]
        return max((self.mine, *sound), key=_log_end)

    @property
    def ahead(self) -> Report | None:
        """Who knows that what our log lacks is committed; None for nobody."""
        return self._ahead_of(self.mine)

    @property
    def as_long(self) -> Sequence[Report]:
        """The others whose logs are as long as ours, or longer."""
        return [report for report in self.others.values() if _log_end(report) >= _log_end(self.mine)]

    @property
    def newest_term(self) -> Term:
        """The newest that anybody has accepted, has in its log (a lent one can be of a reign that its new
        holder never accepted), or has given another node than us a vote for; 0 for none.
        """
        votes = (report.vote for report in self.bound if report.voted_for != self.mine.node)
        return Term(max(0, *(max(each.term, each.last_term) for each in self.bound), *votes))

    @property
    def stood_term(self) -> Term:
        """The newest that anybody has given us a vote for, in this process or an earlier one; 0 for none."""
        votes = (report.vote for report in self.bound if report.voted_for == self.mine.node)
        return Term(max(votes, default=0))

    def rival(self, among: Iterable[Report]) -> str | None:
        """The least name of those of `among` that were told to lead too, if it is less than ours."""
        told = (report.node for report in among if report.role == NodeRole.OPENING)
        least = min(told, default=self.mine.node)
        return least if least < self.mine.node else None

    def _ahead_of(self, report: Report) -> Report | None:
        return next((other for other in self.everybody if lacks_committed(report, other)), None)


def newest_leader(reports: Iterable[Report]) -> Report | None:
    """Of those who lead, the one with the newest term; None where nobody does."""
    leading = (report for report in reports if report.role == NodeRole.PRIMARY)
    return max(leading, key=lambda report: report.term, default=None)


def _log_end(report: Report) -> tuple[int, int]:
    """By which logs are compared in length: that of the newer last term is the longer one."""
    return report.last_term, report.last_lsn

"""What a change of the settings wins and loses: the verdicts before and after it, where they differ."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from redwire.message.settings import MemberView, SettingsChanged, SettingsView
from redwire.position import NodeId, Region
from redwire.status import NodeStatus
from regions.binding import Member, MemberKind, Membership
from regions.commit_policy import CommitPolicy
from regions.prover import QUESTIONS, Loss, LossVerdict, Verdict, Writable, prove
from tools.grid import Part, Words
from tools.verdict import ANSWERS, answers_document, lost_document

LINE_CHARS = 80
"""A terminal has no fewer."""
_INDENT = " " * 6
_HARD_SPACE = "\u00a0"
_RANKS = (Writable.NO, Writable.UNLESS_PRIMARY_LOST, Writable.WITH_SUCCESSOR, Writable.YES)
"""From the worst answer to the best."""


class Difference(msgspec.Struct, frozen=True):
    """After `lost` the answer to `question` is another one; `won` says whether it is the better one.

    What there is on one side only, as of a member that joins or leaves, makes no difference.
    """

    lost: Loss
    question: str
    before: str
    after: str
    won: bool


class Group(msgspec.Struct, frozen=True):
    """Losses after which the answer to `question` is another one in the same way."""

    won: bool
    question: str
    before: str
    after: str
    losses: tuple[str, ...]


class Outlook(msgspec.Struct, frozen=True):
    """Both verdicts of a change, and where they differ. `unmet` is that of `SettingsChanged`."""

    before: Verdict
    after: Verdict
    differences: tuple[Difference, ...]
    unmet: str = ""

    @property
    def warning(self) -> str:
        """Why the settings that follow promise nothing; "" when they promise something."""
        return self.after.empty

    @property
    def risk(self) -> str:
        """Why the change is to be asked about: it makes the promise empty, or there is a node or region whose
        loss acknowledged writes survived before and do not after, or writes are refused from now on; "" if
        nothing of that. Of two nodes at once the table tells.
        """
        return "; ".join(filter(None, (self._risk, self.refused)))

    @property
    def refused(self) -> str:
        """That writes are refused from now on, and why; "" if they are not."""
        return f"writes that name no policy are refused for now: {self.unmet}" if self.unmet else ""

    @property
    def _risk(self) -> str:
        kept = {str(each.lost) for each in self.before.losses if each.kept}
        losses = [loss for loss in map(str, self.after.single_points.data) if loss in kept]
        if not losses:
            return "" if self.before.empty else self.warning
        return f"acknowledged writes would no longer survive the loss of {', '.join(losses)}"

    @property
    def groups(self) -> tuple[Group, ...]:
        """The differences, what is lost first. A pair of which one node is enough says nothing new."""
        singles = [each for each in self.differences if each.lost.single]
        alone = {(each.won, each.question, each.lost.nodes) for each in singles}
        found: dict[tuple[bool, str, str, str], list[str]] = {}
        for each in self.differences:
            parts = ((each.won, each.question, (node,)) for node in each.lost.nodes)
            if each.lost.single or alone.isdisjoint(parts):
                kind = (each.won, each.question, each.before, each.after)
                found.setdefault(kind, []).append(str(each.lost))
        groups = (Group(*kind, tuple(losses)) for kind, losses in found.items())
        return tuple(sorted(groups, key=lambda group: group.won))


def membership(members: Iterable[MemberView | NodeStatus]) -> Membership:
    """`members` as policies count them: only voters do. Raises `MembershipInvalid` where there are none."""
    return Membership(
        tuple(
            Member(
                NodeId(member.id),
                Region(member.region),
                MemberKind.VOTER if member.kind == "voter" else MemberKind.READER,
                member.addr,
            )
            for member in members
        )
    )


def verdict(view: SettingsView) -> Verdict:
    """What the settings in `view` promise, whoever leads."""
    rule, policy = CommitPolicy.parse(view.commit_rule), CommitPolicy.parse(view.policy)
    return prove(rule, membership(view.members), None, policy)


def own_floor(view: SettingsView) -> str:
    """What holds where no floor is set; "" where one is."""
    if view.floor:
        return ""
    return f"the policy is its own floor: no write is confirmed with less than {view.policy}"


def outlook(changed: SettingsChanged) -> Outlook:
    """What `changed` wins and loses."""
    before, after = verdict(changed.before), verdict(changed.after)
    return Outlook(before, after, tuple(_differences(before, after)), changed.unmet)


def _differences(before: Verdict, after: Verdict) -> Iterator[Difference]:
    old = {str(each.lost): each for each in before.losses}  # by name: a region may have other nodes now
    for each in after.losses:
        was = old.get(str(each.lost))
        if was is None:
            continue
        answers = zip(QUESTIONS, was.words, each.words, _ranks(was), _ranks(each), strict=True)
        for question, then, now, rank_then, rank_now in answers:
            if then != now:
                yield Difference(each.lost, question, then, now, rank_now > rank_then)


def _ranks(verdict: LossVerdict) -> tuple[int, int, int]:
    """How good each answer is, in the order of `QUESTIONS`: of two answers to one the higher is better."""
    return int(verdict.kept), _RANKS.index(verdict.writable), int(verdict.successor)


def part(found: Outlook) -> Part:
    """What is won and lost, losses with the same answers in one paragraph; or words that nothing is."""
    if not found.groups:
        return Words("nothing is won or lost, whatever node or region is lost")
    return Words(
        "\n".join(["What is won and lost", *(line for each in found.groups for line in _lines(each))])
    )


def _lines(group: Group) -> Iterator[str]:
    """A head, and the losses below it: no table, since there may be many of them. None is broken in two."""
    answer = f"{group.question}: {group.before} -> {group.after}"
    yield f"{'won ' if group.won else 'LOST'}  {answer}, when this is lost:"
    losses = ", ".join(each.replace(" ", _HARD_SPACE) for each in group.losses)
    for line in textwrap.wrap(losses, LINE_CHARS - len(_INDENT), break_on_hyphens=False):
        yield _INDENT + line.replace(_HARD_SPACE, " ")


def document(changed: SettingsChanged, found: Outlook, *, dry_run: bool) -> dict[str, Any]:
    """The JSON document of a change. `lsn` and `term` are 0 when nothing was logged."""
    return {
        "text": changed.text,
        "dry_run": dry_run,
        "lsn": changed.lsn,
        "term": changed.term,
        "before": settings_document(changed.before),
        "after": settings_document(changed.after),
        "promise": {"before": found.before.promise, "after": found.after.promise},
        "empty": found.warning,
        "unmet": found.unmet,
        "differences": list(_difference_documents(found)),
    }


def _difference_documents(found: Outlook) -> Iterator[dict[str, Any]]:
    """Every loss that leaves something else than before, with which answers are better or worse then."""
    names = dict(zip(QUESTIONS, ANSWERS, strict=True))
    old = {str(each.lost): each for each in found.before.losses}
    for each in found.after.losses:
        differences = [difference for difference in found.differences if difference.lost == each.lost]
        if differences:
            yield lost_document(each.lost) | {
                "before": answers_document(old[str(each.lost)]),
                "after": answers_document(each),
                "better": [names[difference.question] for difference in differences if difference.won],
                "worse": [names[difference.question] for difference in differences if not difference.won],
            }


def settings_document(view: SettingsView) -> dict[str, Any]:
    """The JSON document of settings. `floor` is the commit rule, whether it was set or is the policy."""
    return {
        "lsn": view.lsn,
        "policy": view.policy,
        "floor": view.commit_rule,
        "floor_is_policy": not view.floor,
        "policy_timeout_ms": view.policy_timeout_ms,
        "replica_timeout_ms": view.replica_timeout_ms,
        "members": [{"id": m.id, "region": m.region, "addr": m.addr, "kind": m.kind} for m in view.members],
        "admins": list(view.admins),
        "pending": view.pending,
    }

"""Whether a node that was told to lead may open a reign, judged from what the other members report (R3, R5).

A reign must not begin over a log that the cluster has already outgrown, nor over an emptied disk. So a node
that starts as primary asks every member in reach first:

* somebody leads already                      → refuse to start
* its own log is empty, somebody's is not     → refuse to start: this disk was replaced
* it is no voter                              → refuse to start
* all logs are empty                          → make a new cluster, once a majority of the members said so
                                                and gave it their votes
* somebody's log is longer                    → follow that member to the end, then ask again; unless that log
                                                lacks what somebody knows committed: then it lost
* its own log is one that lost                → refuse to start
* it followed another primary last            → refuse, unless the operator said `--take-over`
* it did, or somebody has followed or voted
  for one since                               → wait for one of every set of voters that is enough for a
                                                commit, and for its vote
* it led last itself                          → wait for the votes of as many as a commit takes, with its own
* somebody follows one who leads              → wait until it does not: what that one still commits through it
                                                would be missing here
* otherwise                                   → open, with a term above every term that anyone has seen

It waits for everybody, but no longer than its patience; who is silent then is not in reach, and ends a
reign that should not have begun later (`challenge`). Who led last and hears enough for a commit, another
voter among them where there is one, needs nobody else, and waits for a moment only: others may have what it
sent and had not synced itself, of which nobody was told that it is committed. While all who answer say that
another process has this node's id there is no reign: it may be a second one of that node's.

A report alone promises nothing: whoever says that it follows nobody may follow the old primary again a moment
later, and ack. Its vote is that promise (R11): it is on its disk, it came with what its log held then, and
from then on it accepts no older term.

Whoever led last has all that it acknowledged, and its log ends with what it wrote itself. Whether it did is
not for it to know alone: whoever led since has the votes of one of every set that is enough for a commit, so
one such set must say that there is none, and promise that there will not be. A reign without any votes would
be in the term of another one, and the longer log of the two not the one to follow. Any other node has what
the voters in reach have: were none heard of a set that is enough for a commit, that set may hold what was
acknowledged and nobody else has. A voter with another data directory than the one that the log has admitted
says nothing of what it held before (R11); nor does one of whom this log admits none: a record that only
others hold may have admitted one since. Who was given up for a reign that is in this log, and has nothing of
that, counts as lost still (R5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from cluster.challenge import outgrown
from cluster.heard import Heard
from redwire.body import TERM_MAX
from redwire.errors import Code, ConfigInvalid, Refused
from redwire.message.peer import Report
from redwire.node_role import NodeRole
from redwire.position import Incarnation, NodeId, Reign, Term
from redwire.spelling import guess

RETURN_MS = 1_500
"""What members in reach take to answer a node that is there again: some five round trips, of 0.25 s
between the two regions that are furthest apart.
"""
_MAY_HOLD = "may hold writes that were acknowledged and that nobody else has"
_MAY_LEAD = "may have elected another primary since, as nobody in reach knows"
_MISSED = (
    "{}: {}. Start one of them, with the disk that it had, or if they are gone for good, say so with "
    "--take-over --lost {}"
)


class Wait(msgspec.Struct, frozen=True):
    """Not yet: `reason` says for whom."""

    reason: str


class Refuse(msgspec.Struct, frozen=True):
    """Never: the process ends with this error."""

    error: Refused


class FollowFirst(msgspec.Struct, frozen=True):
    """`node` has the longer log."""

    node: NodeId


class Bootstrap(msgspec.Struct, frozen=True):
    """Make a new cluster; `incarnations` are the lives of the members that answered, ours included."""

    incarnations: Mapping[NodeId, str]


class Stand(msgspec.Struct, frozen=True):
    """Ask for votes in `term`; those of `voters` are missing. `bound` says of some what they do that keeps
    them from voting.
    """

    term: Term
    voters: Sequence[NodeId]
    bound: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """For whom to wait."""
        text = f"asking {', '.join(self.voters)} to follow nobody before term {self.term}"
        return "; ".join((text, *self.bound))


class Open(msgspec.Struct, frozen=True):
    """Open a reign with this term."""

    term: Term


Decision = Wait | Refuse | FollowFirst | Bootstrap | Stand | Open


def followed_last(me: NodeId, reign: Reign | None) -> Refused | None:
    """Why a node whose log is not empty, and that has accepted `reign` last, leads only by a `TakeOver`; None
    when that was its own.
    """
    if reign is None or reign.primary == me:
        return None
    text = f"this data directory last followed {reign.primary} (term {reign.term})"
    return Refused(Code.NOT_PRIMARY, text, hint="start it as replica, or pass --take-over to make it lead")


class TakeOver(msgspec.Struct, frozen=True):
    """An operator has this node lead although another one led last. What only the `lost` hold is given up."""

    lost: frozenset[NodeId] = frozenset()

    def check(self, members: Iterable[NodeId]) -> None:
        """Raises `ConfigInvalid` for a name that none of `members` bears, all that there ever were."""
        known = sorted(set(members))
        for name in sorted(self.lost.difference(known)):
            hint = guess(name, known, f"there are {', '.join(known)}")
            raise ConfigInvalid("--lost", "", f"{name} is no member of the cluster", hint=hint)


class Opening(msgspec.Struct, frozen=True):
    """The question, put by `me`. `members` are all configured members, this node included; `voters` are those
    whose copies can count, and `admitted` is which incarnation of each does; `patience_ms` bounds the
    asking; `enough` says whether copies on these nodes alone can have committed a record, by any of the
    settings that may count, and `enough_by_all` whether by all of them. `wrote_last` says that the last batch
    of this node's log is its own. `taken` are those who say that another process has this node's id. `stands`
    is the term for which votes were asked so far, 0 for none.
    """

    me: NodeId
    members: frozenset[NodeId]
    voters: frozenset[NodeId]
    admitted: Mapping[NodeId, Incarnation]
    patience_ms: int
    take_over: TakeOver | None
    enough: Callable[[frozenset[NodeId]], bool]
    enough_by_all: Callable[[frozenset[NodeId]], bool]
    wrote_last: bool
    taken: frozenset[NodeId]
    stands: Term

    def decide(self, mine: Report, others: Mapping[NodeId, Report], elapsed_ms: int) -> Decision:
        """The decision, from this node's own report and those of the members in reach."""
        if self.me not in self.voters:
            hint = "start a voter as primary"
            return Refuse(Refused(Code.NOT_PRIMARY, f"{self.me} is no voter of this cluster", hint=hint))
        heard = Heard.of(mine, others)
        leader = heard.leader
        if leader is not None and leader.term >= mine.term:
            text = f"{leader.node} leads term {leader.term} already"
            return Refuse(Refused(Code.TERM_TAKEN, text, hint="start this node with role: replica"))
        if self.taken and not others:
            return Wait(f"another process is {self.me}, say {', '.join(sorted(self.taken))}: stop one")
        everybody = self.members <= others.keys() | {self.me}
        waited = everybody or elapsed_ms >= self._patience_ms(heard)
        if mine.last_lsn == 0:
            return self._empty(heard, waited)
        followed = followed_last(self.me, mine.reign)
        if followed is not None and self.take_over is None:
            return Refuse(followed)
        if not waited:
            return Wait(f"asking {', '.join(sorted(self.members - others.keys() - {self.me}))}")
        first = _led(heard) or _further(heard) or _rival(heard, heard.as_long, ", and its log is as long")
        if first is not None:
            return first
        term = self._term(heard)
        if term > TERM_MAX:
            text = f"term {term - 1} is the last one that there can be"
            return Refuse(
                Refused(Code.STALE_TERM, text, hint="a member reports terms that never were: find it")
            )
        return self._missing(heard, term) or Open(term)

    def _patience_ms(self, heard: Heard) -> int:
        """How long to wait for who is silent. Short or long, `_missing` says whether a reign may begin."""
        known = self.voters.difference(self._unknown(heard), self._lost(heard))
        told = len(known) >= min(2, len(self.voters))  # who is enough alone has not heard of a reign since
        returns = told and self.wrote_last and heard.led_last and self.enough_by_all(known)
        return min(self.patience_ms, RETURN_MS) if returns else self.patience_ms

    def _missing(self, heard: Heard, term: Term) -> Wait | Stand | None:
        """Whose word, or vote, a reign of `term` lacks; None when it may begin."""
        unknown, undecided, lost = self._unknown(heard), self._undecided(term, heard), self._lost(heard)
        led_last = self.wrote_last and heard.led_last
        if led_last and self.enough_by_all(self.voters.difference(unknown, undecided, lost)):
            return None
        unheard = bool(unknown) and self.enough(lost.union(unknown))
        if not unheard and not (undecided and self.enough(lost.union(unknown, undecided))):
            return None
        if unheard and not (led_last and undecided):
            why = " and ".join(f"{node} ({why})" for node, why in unknown.items())
            fear = _MAY_LEAD if led_last else _MAY_HOLD
            return Wait(_MISSED.format(fear, why, ",".join(sorted(lost.union(unknown)))))
        bound = [_bound(self.me, heard.others[node]) for node in undecided]
        return Stand(term, undecided, tuple(filter(None, bound)))

    def _term(self, heard: Heard) -> Term:
        """Above every term that anyone has seen. The one that we have stood for is kept while it is."""
        return Term(max(heard.newest_term + 1, self.stands, heard.stood_term))

    def _undecided(self, term: Term, heard: Heard) -> Sequence[NodeId]:
        """The other voters in reach whose vote for `term` is not ours yet."""
        asked = self.voters - self._lost(heard)
        reports = (heard.others[node] for node in sorted(asked & heard.others.keys()))
        return [NodeId(each.node) for each in reports if (each.vote, each.voted_for) != (term, self.me)]

    def _lost(self, heard: Heard) -> frozenset[NodeId]:
        """Those given up, now or for a reign that is in our log and not on the disk that they had: another
        disk says nothing of what that one held since.
        """
        over = (node for node, each in heard.given_up.items() if self.admitted.get(node) == each.incarnation)
        return (self.take_over or TakeOver()).lost.union(over)

    def _unknown(self, heard: Heard) -> Mapping[NodeId, str]:
        """The voters of whom nobody says what they held, each with the reason."""
        unknown: dict[NodeId, str] = {}
        for node in sorted(self.voters - self._lost(heard)):
            report = heard.mine if node == self.me else heard.others.get(node) or heard.given_up.get(node)
            if report is None:
                unknown[node] = "not heard yet"
            elif node not in self.admitted:
                unknown[node] = "this log never admitted its disk"
            elif self.admitted[node] != report.incarnation:
                unknown[node] = "its disk was replaced"
        return unknown

    def _empty(self, heard: Heard, waited: bool) -> Decision:
        ours = ("", heard.mine.cluster)  # a start that came to nothing may have left one, here and elsewhere
        others = heard.others.values()
        grown = next((each for each in others if each.last_lsn or each.cluster not in ours), None)
        if grown is not None:
            led = (
                f"{grown.primary} as primary" if grown.primary != self.me else "another one with --take-over"
            )
            has, hint = "belongs to a cluster", f"start the node as replica, and {led}"
            if grown.last_lsn:
                has = f"has a log up to LSN {grown.last_lsn}"
                hint = "this disk was replaced: start the node as replica; it takes a snapshot by itself"
            text = f"the data directory is empty, and {grown.node} {has}"
            return Refuse(Refused(Code.PRIMARY_LACKS_COMMITTED, text, hint=hint))
        empty = {NodeId(report.node): report.incarnation for report in heard.everybody}
        if len(empty) * 2 <= len(self.members):
            missing = ", ".join(sorted(self.members - empty.keys()))
            return Wait(f"a new cluster needs a majority of its members; not heard yet: {missing}")
        if not waited:
            return Wait("waiting for the other members, so that they are admitted from the start")
        match self._elected(heard):
            case Stand() as stand:
                free = [each for each in heard.others.values() if each.voted_for in ("", each.node)]
                return _rival(heard, free) or stand
            case Wait() as wait:
                return wait
            case None:
                return Bootstrap(empty)

    def _elected(self, heard: Heard) -> Stand | Wait | None:
        """Whose votes a new cluster still needs; None when it has them. A vote for the first term is given
        once and for good: no two clusters begin with a majority of the same members.
        """
        first, mine = Term(1), heard.mine
        others_votes = {node: report.voted_for for node, report in heard.others.items() if report.vote}
        ours = [node for node, voted_for in others_votes.items() if voted_for == self.me]
        open_ = sorted(heard.others.keys() - others_votes.keys())
        own = mine.voted_for in ("", self.me)
        if (own + len(ours)) * 2 > len(self.members):
            return None
        if (own + len(ours) + len(open_)) * 2 > len(self.members):
            return Stand(first, open_)
        given = {**others_votes, **({} if own else {self.me: mine.voted_for})}
        away = {node: voted_for for node, voted_for in sorted(given.items()) if voted_for != self.me}
        text = ", ".join(f"{node} to {voted_for}" for node, voted_for in away.items())
        whom = " or ".join(sorted(set(away.values())))
        mend = (
            f"start {whom} with role: primary; only if it is gone for good, and never led, give "
            f"{', '.join(away)} an empty data directory"
        )
        return Wait(f"votes for the new cluster were given already: {text}; {mend}")


def _rival(heard: Heard, among: Iterable[Report], also: str = "") -> Refuse | None:
    """Of several that were told to lead, the one with the least name does; why we do not, `also` said."""
    rival = heard.rival(among)
    if rival is None:
        return None
    text = f"{rival} was told to lead too{also}"
    hint = f"one may be: stop {rival}, or start this node with role: replica"
    return Refuse(Refused(Code.TERM_TAKEN, text, hint=hint))


def _led(heard: Heard) -> Wait | None:
    """Why to wait for the end of a reign that we hear of only from its followers; None when there is none."""
    follower = heard.follower
    if follower is None:
        return None
    text = f"{follower.node} follows {follower.follows}, which leads term {follower.term}"
    return Wait(f"{text}: stop {follower.follows} first, or mend the way to it and let it lead")


def _bound(me: NodeId, report: Report) -> str:
    """What keeps a member from voting until somebody stops it: a reign of an older term; "" for nothing."""
    if report.role == NodeRole.PRIMARY:
        return f"{report.node} leads term {report.term} and votes for nobody meanwhile: stop it first"
    if report.follows not in ("", me):
        text = f"{report.node} follows {report.follows} in term {report.term} and votes for nobody meanwhile"
        return f"{text}: stop {report.follows} first"
    return ""


def _further(heard: Heard) -> FollowFirst | Refuse | None:
    """Whom to follow first, or why never to lead; None when our log is as long as any that lacks nothing of
    what somebody knows committed.
    """
    longest = heard.longest
    if longest is not heard.mine:
        return FollowFirst(NodeId(longest.node))
    ahead = heard.ahead
    return Refuse(outgrown(heard.mine, ahead)) if ahead is not None else None

"""The other members as this node sees them: their last reports, the sessions with them, and whom it could
follow.

That, and whatever else happens to its log, goes by what the node is about. Nothing that appends to a log goes
beside what replaces it, nor beside a reign that goes on from its end:

| it is about          | its role              | follows             | votes | takes a snapshot  | its reign |
|----------------------|-----------------------|---------------------|-------|-------------------|-----------|
| nothing              | replica               | who leads or guides | yes   | of whom it asked  | none      |
| `aspires`            | opening               | anybody             | no    | of whom it asked  | may begin |
| `aspires`, `opens`   | opening               | nobody              | no    | no                | begins    |
| `fetching`           | rebuilding or opening | nobody              | no    | it comes          | none      |
| `installing`         | rebuilding or opening | nobody              | no    | it is here        | none      |
| leading              | primary               | nobody              | no    | no                | goes on   |

So says `Roster.may_follow` of following, `Node.greeted` of votes, `Rebuilder.begin` and the session with a
member of snapshots, `Candidate.run` of reigns; `Node.role_name` is what others hear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple, Protocol

from cluster.bell import Bell
from cluster.feed import Feed
from cluster.heard import newest_leader
from redwire.errors import RedwireError
from redwire.message.peer import Report
from redwire.position import Incarnation, NodeId, Position, Reign, Term

GONE_MS = 2_500
"""Two hellos that did not come (`peers.HELLO_S`)."""
TWIN_MS = 2 * GONE_MS
TWIN_TRIES = 3
"""Who is refused for so long, and so often, did not just start anew."""
TWIN_PAUSE_MS = 60_000
"""A process that ends when it is refused, and is started again and again, is still the same trouble."""


class PeerEnd(Protocol):
    """This side of one session with a member, dialled or accepted."""

    node: NodeId

    def send(self, kind: int, payload: bytes, *, urgent: bool = False, correlation: int = 0) -> None:
        """Send one frame. Never waits."""

    def drop(self, error: RedwireError) -> None:
        """Tell the member why, and end the session."""


class Lines(Protocol):
    """The lines from this node to the members."""

    def follow(self, member: NodeId) -> None:
        """Ask `member` for its log, if there is a line to it."""

    def greet(self, member: NodeId | None) -> None:
        """Say hello at once to `member`, None for all: they hear where we stand, and say where they do."""

    def met(self, member: NodeId) -> None:
        """`member` has dialled us, so it can probably be dialled too: a node that starts is found at once."""

    def told(self, member: NodeId, reached_at: str) -> None:
        """`member` says where it is reached."""


class NoLines:
    """Before there are lines: nobody hears anything."""

    def follow(self, member: NodeId) -> None:
        """Nothing."""

    def greet(self, member: NodeId | None) -> None:
        """Nothing."""

    def met(self, member: NodeId) -> None:
        """Nothing."""

    def told(self, member: NodeId, reached_at: str) -> None:
        """Nothing."""


class Life(NamedTuple):
    """A process that is a member, by its word: its data directory, the process itself, and when it last said
    so (monotonic).
    """

    incarnation: Incarnation
    process: str
    heard_ms: int


@dataclass(slots=True, eq=False)
class Candidacy:
    """What this node wants of the members. `aspires`: it was told to lead and asks whether it may; `stands`
    is the term for which it asks for their votes, 0 while it does not. `opens`: it may, and its reign is on
    the way to the disk, so its log stands still. `outbid` rings while it leads and a member that is free to
    follow knows of a newer term.
    """

    aspires: bool = False
    stands: Term = Term(0)
    opens: bool = False
    outbid: Bell = field(default_factory=Bell)


class Twins:
    """Members of which a second process says that it is one, and is refused."""

    def __init__(self) -> None:
        self._refused: dict[NodeId, _Refused] = {}

    def refused(self, node: NodeId, now_ms: int) -> bool:
        """A second `node` was refused now (monotonic ms). True once, as soon as that has gone on for
        `TWIN_MS` and `TWIN_TRIES`; and anew after a pause.
        """
        known = self._refused.get(node)
        if known is None or now_ms - known.last_ms > TWIN_PAUSE_MS:
            known = self._refused[node] = _Refused(now_ms)
        known.last_ms, known.tries = now_ms, known.tries + 1
        if known.told or known.tries < TWIN_TRIES or now_ms - known.first_ms < TWIN_MS:
            return False
        known.told = True
        return True


class _Refused:
    """The second processes of one member. `told`: there was an event."""

    __slots__ = ("first_ms", "last_ms", "told", "tries")

    def __init__(self, now_ms: int) -> None:
        self.first_ms = self.last_ms = now_ms
        self.tries = 0
        self.told = False


@dataclass(slots=True, eq=False)
class Roster:
    """Sessions are numbered from 1 and never reused, so what an old one still says can be told apart (R4).

    `lives` holds who the member of an accepted session last said it was; `taken` since when (monotonic ms) a
    member has said at every try that another process has our id. `fetching` is the session over which a
    snapshot comes, None for none; `installing`: it is here, and takes the place of state and log, whatever
    becomes of that session.
    """

    reports: dict[NodeId, Report] = field(default_factory=dict)
    ends: dict[int, PeerEnd] = field(default_factory=dict)
    feeds: dict[int, Feed] = field(default_factory=dict)
    dialled: dict[NodeId, int] = field(default_factory=dict)
    lives: dict[int, Life] = field(default_factory=dict)
    taken: dict[NodeId, int] = field(default_factory=dict)
    candidacy: Candidacy = field(default_factory=Candidacy)
    fetching: int | None = None
    installing: bool = False
    twins: Twins = field(default_factory=Twins)
    lines: Lines = field(default_factory=NoLines)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def rebuilding(self) -> bool:
        """Whether a snapshot is on its way: until it is installed nobody is followed."""
        return self.fetching is not None or self.installing

    def may_follow(self, *, leads: bool, guides: bool = False) -> bool:
        """Whether a member that answers with its log is followed now. What it would append must not be what a
        snapshot takes the place of, nor come behind what a reign of ours is about to go on from. One that
        does not lead is followed as a mere lender: on the way to lead, or because it `guides`.
        """
        lends = self.candidacy.aspires or guides
        return (leads or lends) and not (self.rebuilding or self.candidacy.opens)

    def guide(self, knows: Callable[[NodeId], bool], end: Position, term_min: Term) -> NodeId | None:
        """A member that follows a primary whom nobody here `knows`, of no term before `term_min`, and has
        more than our log, which ends at `end`: the settings by which that one is a member are in what we
        lack.
        """
        for name, report in self.reports.items():
            further = (report.last_term, report.last_lsn) > (end.term, end.lsn)
            unknown = report.follows != "" and not knows(NodeId(report.follows))
            if further and unknown and report.term >= term_min:
                return name
        return None

    def attach(self, end: PeerEnd, *, dialled: bool) -> int:
        """A session began; its number."""
        session = next(self._numbers)
        self.ends[session] = end
        if dialled:
            self.dialled[end.node] = session
        else:
            self.lines.met(end.node)
        return session

    def detach(self, session: int) -> None:
        """A session ended. The member's report goes with the session that we dialled."""
        end = self.ends.pop(session, None)
        self.feeds.pop(session, None)
        self.lives.pop(session, None)
        if self.fetching == session:
            self.fetching = None
        if end is not None and self.dialled.get(end.node) == session:
            del self.dialled[end.node]
            self.reports.pop(end.node, None)

    def claim(self, session: int, life: Life) -> Life | None:
        """The member of `session` says who it is; refused if this returns another process with its id.

        A process that has said nothing for `GONE_MS` has ended, or will be refused itself when it goes on.
        """
        node = self.ends[session].node
        for other, known in self.lives.items():
            here = other != session and self.ends[other].node == node
            if here and known.process != life.process and life.heard_ms - known.heard_ms < GONE_MS:
                return known
        self.lives[session] = life
        return None

    def taken_ms(self, member: NodeId, reign: Reign | None, now_ms: int) -> int:
        """`member` says that another process has our id: for how long it and all others who answer, or the
        primary of our `reign`, have said so.
        """
        since = self.taken.setdefault(member, now_ms)
        leads = reign is not None and reign.primary == member
        return now_ms - since if leads or not self.reports else 0

    def leader(self, term_min: Term) -> NodeId | None:
        """The member in reach that leads the newest reign, if that is not of a term before `term_min`."""
        newest = newest_leader(self.reports.values())
        return None if newest is None or newest.term < term_min else NodeId(newest.node)

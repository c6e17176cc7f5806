"""The node: takes everything that waits, lets the core decide, carries out what it says; a turn at a time.

The role (`Primary` or `Replica`) decides what becomes of the log and of requests, and is replaced whole when
it changes. Decided here is only what concerns no role alone: whom a node that looks for a primary asks, that
a newer reign ends ours, and who is turned away by a node that does not lead.
Threads and sessions talk to the node only through its inbox, so a turn sees one consistent world and never
waits.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
from msgspec.structs import replace

from cluster.announcer import Announcer
from cluster.answers import caller_of
from cluster.bulletin import Bulletin
from cluster.challenge import outbid, superseded
from cluster.damage import Damage
from cluster.effects import (
    Applied,
    ChangeProposed,
    Deposed,
    Durable,
    Event,
    Now,
    Proposal,
    Proposed,
    SourceFound,
    SourceLost,
    Stood,
    TailCut,
    Tick,
)
from cluster.events import EventKind, Events, level
from cluster.inbox import Inbox
from cluster.log_config import Note
from cluster.milestones import Milestones, News
from cluster.outbox import Outbox
from cluster.primary import Primary
from cluster.replica import Replica
from cluster.roster import Roster
from cluster.storage import Storage, follower
from redwire.errors import Code, NotPrimary, RedwireError, Refused
from redwire.message.peer import Report
from redwire.node_role import NodeRole
from redwire.position import NodeId, Reign, Term

TICK_S = 0.1
"""A fifth of a heartbeat's interval: so late may be what goes by the clock, but for deadlines of writes."""
TICK_MIN_S = 0.005
"""However many deadlines come one after the other; and as much for each thousand who wait, since each look is
at all of them.
"""


class Node:
    """One node of a cluster, in its first role when made. `run` has turns until it is cancelled.

    `on_applied` is called when the state has moved on; the answers that this brings leave in the turn that
    follows.
    """

    def __init__(self, storage: Storage, role: Replica, clock: Callable[[], Now], note: Note) -> None:
        self.storage = storage
        self.role: Primary | Replica = role
        self.roster = Roster()
        self.inbox = Inbox()
        self.bulletin = Bulletin(Events(storage.me))
        self.outbox = Outbox(storage, self.roster, self.inbox, clock, note)
        self.announcer = Announcer(storage.config.node.region, storage.settings.cluster.membership.members)
        self.clock = clock
        self.note = note
        self._milestones = Milestones()
        self.on_applied: Callable[[], None] = lambda: None
        self.damage = Damage(storage.me, self.happened)
        self.outbox.end_reign = self._reign_ended
        self.outbox.happened = self.happened
        storage.applies.on_applied = self._applied
        storage.journal.disk.ahead.on_room = self.inbox.wake
        storage.connect(lambda lsn: self.inbox.post(Durable(lsn), now=True))

    async def run(self) -> None:
        """Have turns for ever."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.outbox.apply.run)
            tasks.start_soon(self.outbox.announce, lambda: self.role)
            tasks.start_soon(self._ticks)
            await self.inbox.serve(self._turn)

    def report(self) -> Report:
        """Where this node stands, for its peers."""
        leader = self.role.leader if isinstance(self.role, Replica) else None
        stands = self.roster.candidacy.stands
        return self.storage.report(self.role_name, self.role.watermark, leader, stands)

    def introduction(self) -> Report:
        """The same with how this node is, as last looked at: what it says of itself once a second."""
        return replace(self.report(), vitals=self.bulletin.vitals)

    def happened(self, kind: EventKind, text: str) -> None:
        """An event: for the log as well as for whoever asks for the status."""
        self.bulletin.events.add(kind, text, self.clock().wall_ms)
        self.note(text, level(kind))

    @property
    def leads(self) -> bool:
        """Whether this node is in a reign of its own."""
        return isinstance(self.role, Primary)

    @property
    def role_name(self) -> NodeRole:
        """What this node does, for whoever asks."""
        if self.leads:
            return NodeRole.PRIMARY
        if self.roster.candidacy.aspires:
            return NodeRole.OPENING
        return NodeRole.REBUILDING if self.roster.rebuilding else NodeRole.REPLICA

    def heard(self, report: Report) -> None:
        """A member said where it stands; ask it for its log if it leads and nobody is followed.

        While we lead it may prove that our reign is over: we may have been out of reach when another began.
        """
        self.roster.reports[NodeId(report.node)] = report
        self.bulletin.heard(report, self.clock())
        role = self.role
        if isinstance(role, Primary):
            over = superseded(self.report(), report, ready=role.ready)
            if over is not None:
                self.end_reign(over)
            elif outbid(self.report(), report, ready=role.ready):
                self.roster.candidacy.outbid.ring()
        if isinstance(role, Replica) and self.role_name is NodeRole.REPLICA and role.searching:
            source = self.roster.leader(role.term_min) or _guide(self, role)
            if source is not None:
                self.roster.lines.follow(source)

    def greeted(self, report: Report) -> None:
        """A member that dialled us says where it stands. If it leads, and we look for who does, ask it at
        once: what counts is what it says on the line that we dialled. If it asks for our vote, see to that.
        """
        self.bulletin.heard(report, self.clock())
        self.roster.lines.told(NodeId(report.node), report.reached_at)
        role = self.role
        if isinstance(role, Replica) and role.searching and report.role == NodeRole.PRIMARY:
            self.roster.lines.greet(NodeId(report.node))
        if report.stands and self.role_name is NodeRole.REPLICA:
            self.inbox.post(Stood(Reign(Term(report.stands), NodeId(report.node))))

    def stop_following(self) -> None:
        """End the session with the source, if there is one; the log stands still afterwards."""
        role = self.role
        if isinstance(role, Replica) and role.session is not None:
            session = role.session
            role.step(SourceLost(session), self.clock())
            self.outbox.drop(
                session,
                Refused(Code.NOT_READY, "its log is followed no more, and the line to it begins anew"),
            )

    def become_primary(self, primary: Primary) -> None:
        """Begin a reign. Its term is on disk, and everything in the log is durable."""
        assert not self.leads and not self.roster.rebuilding and primary.end == self.storage.log.end
        known = self.role.watermark  # apply may lag behind: what is known committed was not on this disk yet
        self.role, self.roster.candidacy.aspires = primary, False
        primary.waiter.times.on_sample = self.bulletin.counts.committed
        text = f"term {primary.reign.term} begins at LSN {primary.end.lsn + 1}"
        self.happened(EventKind.REIGN_BEGUN, text)
        for effect in primary.begin(known, self.clock()):
            self.outbox.carry_out(effect, primary)
        self.roster.lines.greet(None)
        self.inbox.wake()

    def end_reign(self, error: RedwireError) -> None:
        """End our own reign now, on what is known now; whoever waits is told. Nothing, if we do not lead."""
        self._step(Deposed(error), self.clock())

    def become_replica(self, replica: Replica) -> None:
        """Follow from now on. What is committed and on its way to apply stays there."""
        self.role = replica
        self.announcer.follow()
        self.inbox.wake()

    def _turn(self) -> None:
        """Events, until they bring no more; then proposals, for the role that they have left us; then what
        followers are to be told of both.
        """
        inbox = self.inbox
        while events := inbox.events():
            now = self.clock()
            for event in events:
                self._step(event, now)
        if inbox.waiting:
            self._look_at_proposals(self.role)
        self.outbox.tell_followers(self.role)

    def _look_at_proposals(self, role: Primary | Replica) -> None:
        """Have those that are ripe logged, or all sent away where nobody leads."""
        inbox = self.inbox
        if isinstance(role, Replica):
            _send_away(inbox.proposals())
            inbox.settle()
            return
        now, backlog = self.clock(), role.backlog
        if inbox.ripe(backlog.requests, role.waiter.times.lately_us, now):
            self._step(Proposed(inbox.proposals(), self.storage.room()), now)
            backlog = role.backlog
            inbox.gathered(backlog.requests, role.waiter.under_way)
        inbox.settle(backlog.queued)

    def _step(self, event: Event, now: Now) -> None:
        """Let the role take `event`, which passes over what was meant for one that is over."""
        role = self.role
        if isinstance(role, Primary):
            effects = role.step(event, now)
        elif isinstance(event, ChangeProposed):
            _send_away([event.proposal])
            return
        elif isinstance(event, SourceFound) and not self.roster.may_follow(
            leads=event.reply.leads, guides=event.node == _guide(self, role)
        ):
            return
        else:
            effects = role.step(event, now)
            if isinstance(event, TailCut):
                text = f"what this log held above LSN {self.storage.log.end.lsn} lies in diverged/ now"
                self.happened(EventKind.TAIL_SAVED, text)
        for effect in effects:
            self.outbox.carry_out(effect, role)

    def _reign_ended(self, error: RedwireError) -> None:
        """Nobody is led from here on: followers look for the primary anew, and so does this node."""
        self.happened(EventKind.REIGN_ENDED, f"the reign ends: {error}")
        for session in list(self.roster.feeds):
            self.outbox.drop(session, NotPrimary(f"{self.storage.me} leads no more"))
        self.become_replica(follower(self.storage, self.role.watermark))

    def _applied(self, event: Applied) -> None:
        self.on_applied()
        self.inbox.post(event, now=True)

    async def _ticks(self) -> None:
        while True:
            await anyio.sleep(tick_in_s(self.role, self.clock()))
            self.inbox.post(Tick())
            for kind, text in self._news():
                self.happened(kind, text)

    def _news(self) -> list[News]:
        role = self.role
        if isinstance(role, Replica):
            return self._milestones.following(role.status(), role.session, leads=role.leader is not None)
        members = role.coordinator.status(self.clock().ms).members
        sessions = {self.roster.ends[session].node: session for session in self.roster.feeds}
        return self._milestones.leading(members, sessions, role.end.lsn)


def _guide(node: Node, role: Replica) -> NodeId | None:
    cluster, end = node.storage.settings.cluster, node.storage.log.end
    return node.roster.guide(lambda name: cluster.member(name) is not None, end, role.term_min)


def tick_in_s(role: Primary | Replica, now: Now) -> float:
    """How long until the next tick: until somebody's time is up, where that is sooner than another one. He is
    to hear of it in what is left of his own time, a tenth, which may be less than what lies between two.
    """
    if isinstance(role, Replica):
        return TICK_S
    backlog, waiter = role.backlog, role.waiter
    least_s = TICK_MIN_S * (1 + (backlog.requests + waiter.under_way) / 1_000)
    due_us = [at for at in (backlog.expires_us, waiter.expires_us) if at is not None]
    return min(TICK_S, *(max(least_s, (at - now.us) / 1e6) for at in due_us)) if due_us else TICK_S


def _send_away(proposals: list[Proposal]) -> None:
    for proposal in proposals:
        error = NotPrimary("this node does not lead", hint="ask the primary")
        caller_of(proposal).rejected(proposal, error)

"""What the core decided, on its way out: to the disk, to apply, to followers, to callers, to peers."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from cluster import log_config
from cluster.answers import by_caller, caller_of, parts, share
from cluster.apply_feed import ApplyFeed
from cluster.bell import Bell
from cluster.effects import (
    Append,
    Beat,
    Commit,
    Cut,
    Drop,
    Effect,
    EndReign,
    Known,
    MetaSaved,
    Note,
    Now,
    Rebuild,
    Reject,
    Release,
    SaveMeta,
    SaveVote,
    SendAck,
    TailCut,
    Unconfirmed,
)
from cluster.events import EventKind
from cluster.feed import Feed
from cluster.inbox import Inbox
from cluster.primary import Primary
from cluster.replica import Replica
from cluster.roster import Roster
from cluster.storage import Storage
from redwire.batch import Batch
from redwire.errors import RedwireError
from redwire.frame import Kind
from redwire.message.peer import Heartbeat
from redwire.position import NO_REIGN, ClusterId, Lsn
from regions.coordinator import ProvedLess

Role = Primary | Replica

ANNOUNCE_S = 0.01
"""Under load the next batch carries the watermark for free; a frame of its own for each commit would double
the frames. Ten milliseconds are little beside any distance between regions.
"""


class Outbox:
    """Carries effects out, in the order given. `apply` knows how far apply may go.

    `rebuild` and `end_reign` are the two effects that change the role; they are set by whoever owns it, as
    `happened` is, by which an operator is told.
    """

    def __init__(
        self,
        storage: Storage,
        roster: Roster,
        inbox: Inbox,
        clock: Callable[[], Now],
        note: log_config.Note,
    ) -> None:
        self.apply = ApplyFeed(storage.log, storage.journal.read, storage.applies, storage.applied.lsn)
        self.rebuild: Callable[[Rebuild], None] = lambda effect: None
        self.end_reign: Callable[[RedwireError], None] = lambda error: None
        self.happened: Callable[[EventKind, str], None] = lambda kind, text: None
        self._storage = storage
        self._roster = roster
        self._inbox = inbox
        self._clock = clock
        self._note = note
        self._told = Lsn(0)  # the watermark that followers know of
        self._beat = False  # a heartbeat is due at the end of this turn
        self._rose = Bell()

    def carry_out(self, effect: Effect, role: Role) -> None:
        """Do what one effect says; `role` is the core that said it."""
        match effect:
            case Append(batch):
                self._storage.journal.append(batch, self.apply.through, self._feed)
                self._told = max(self._told, batch.watermark)
            case Commit(watermark):
                self.apply.committed(watermark, answered=isinstance(role, Primary))
            case Release():
                self._release(effect, role)
            case SendAck(session, ack):
                self._send(session, Kind.ACK, ack.encode())
            case Beat():
                self._beat = True
            case Known(proposal, result):
                caller_of(proposal).known(proposal, result)
            case Unconfirmed():
                self._unconfirmed(effect, role)
            case Reject(proposal, error):
                caller_of(proposal).rejected(proposal, error)
            case Drop(session, error):
                self.drop(session, error)
            case SaveMeta(reign):
                leader = self._roster.reports.get(reign.primary)
                cluster = ClusterId(leader.cluster if leader is not None else "")
                self._storage.save_reign(reign, cluster, lambda: self._inbox.post(MetaSaved()))
            case SaveVote(reign):
                self._storage.save_vote(reign)
            case Cut(to, reason):
                self._storage.journal.cut(to, reason, lambda: self._inbox.post(TailCut()))
            case Rebuild():
                self.rebuild(effect)
            case EndReign(error):
                self.end_reign(error)
            case ProvedLess():
                self.happened(EventKind.MEMBER_PROVED_LESS, str(effect))
            case Note(text, level):
                self._note(text, level)

    def follower_joined(self, session: int, feed: Feed, role: Role) -> None:
        """Keep `feed` going with every batch from now on, until its session ends."""
        self._roster.feeds[session] = feed
        feed.push()
        self._send(session, Kind.HEARTBEAT, self._heartbeat(role), urgent=True)

    def tell_followers(self, role: Role) -> None:
        """At the end of a turn: a heartbeat that is due, and the watermark soon (R10)."""
        if self._beat:
            self.beat(role)
        elif self._told < self.apply.through and self._roster.feeds:
            self._rose.ring()

    def beat(self, role: Role) -> None:
        """Send every follower a heartbeat, which carries the watermark."""
        frame = self._heartbeat(role)
        for session in self._roster.feeds:
            self._send(session, Kind.HEARTBEAT, frame, urgent=True)
        self._told, self._beat = self.apply.through, False

    async def announce(self, role: Callable[[], Role]) -> None:
        """Tell followers a watermark that no batch has carried within `ANNOUNCE_S`."""
        while True:
            await self._rose.wait()
            rose_to = self.apply.through
            await anyio.sleep(ANNOUNCE_S)
            if self._told < rose_to:  # a later one has rung anew
                self.beat(role())

    def drop(self, session: int, error: RedwireError) -> None:
        """End a session with a peer, if it is still there."""
        end = self._roster.ends.get(session)
        if end is not None:
            end.drop(error)

    def _feed(self, batch: Batch) -> None:
        for feed in self._roster.feeds.values():
            feed.extend(batch)

    def _heartbeat(self, role: Role) -> bytes:
        reign = role.reign or NO_REIGN
        head, wall_ms = self._storage.log.end.lsn, self._clock().wall_ms
        return Heartbeat(reign.term, head, role.watermark, wall_ms, reign.primary).encode()

    def _release(self, release: Release, role: Role) -> None:
        assert isinstance(role, Primary)
        for part in parts(release):
            proposals = (proposal for proposal, _ in part.answers)
            shared = share(part.flight, part.watermark, proposals, role.coordinator)
            for caller, answers in by_caller(part):
                caller.released(shared, answers)

    def _unconfirmed(self, effect: Unconfirmed, role: Role) -> None:
        assert isinstance(role, Primary)
        proposal, flight = effect.proposal, effect.flight
        shared = None if flight is None else share(flight, self.apply.through, [proposal], role.coordinator)
        first = Lsn(0) if flight is None else flight.first_of(proposal)
        caller_of(proposal).unconfirmed(proposal, shared, first, effect.message)

    def _send(self, session: int, kind: Kind, payload: bytes, *, urgent: bool = False) -> None:
        end = self._roster.ends.get(session)
        if end is not None:
            end.send(kind, payload, urgent=urgent)

"""The follower's decisions: whom to accept, what to append, what to ack, what to apply.

    SEARCHING --SourceFound--> SETTLING --(meta saved, tail cut)--> FOLLOWING --SourceLost--> SEARCHING

Per session a follower has a *matched* LSN: its log is proven equal to the source's up to there. While it
follows, the whole log is matched, because a conflicting tail was cut first (R4). It acks what is on disk,
never what is on its way, and applies up to the lowest of announced watermark, matched and own durable. Before
its first ack in a reign the reign is on disk (R3). What is known committed is never cut: a source that lacks
it is refused, whatever its term (R5). So it is applied whether or not anybody is followed.

While it follows nobody it gives its vote to a member that wants to lead in a newer term. From then on it
accepts no older one: what it acked before, it has told that member of, and what it would ack in an older
reign afterwards might be committed there without the new one (R11).

A source that does not lead (`Following.leads` is False) is followed by a node that is about to lead and wants
the longest log first (R5): same rules, no reign to accept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from cluster.catchup import PARTED_HINT
from cluster.effects import (
    Append,
    Applied,
    BatchesReceived,
    Commit,
    Cut,
    Drop,
    Durable,
    Effect,
    Event,
    HeartbeatReceived,
    MetaSaved,
    Note,
    Now,
    Rebuild,
    SaveMeta,
    SaveVote,
    SendAck,
    SourceFound,
    SourceLost,
    Stood,
    TailCut,
    Tick,
)
from cluster.log_config import Level
from redwire.batch import follows
from redwire.errors import Code, ProtocolError, Refused
from redwire.message.peer import Ack
from redwire.position import NO_REIGN, Lsn, NodeId, Position, Reign, Term

SILENCE_MS = 5_000
"""Ten heartbeats (`primary.BEAT_MS`): a source that says nothing of its log for so long is tried again over a
new connection, even if its line lives, which is for `peers.SILENCE_S` to judge.
"""
ARRIVALS_MAX = 4_096
"""Batches whose time to the disk is measured at once: more than the disk may owe of any real size."""


class FollowerState(Enum):
    """Where the follower stands with its source."""

    SEARCHING = "searching"
    SETTLING = "settling"
    FOLLOWING = "following"


class ReplicaStatus(msgspec.Struct, frozen=True):
    """The follower at a glance. `source_head` is what the source last said."""

    state: FollowerState
    reign: Reign | None
    source: NodeId | None
    end: Lsn
    durable: Lsn
    watermark: Lsn
    applied: Lsn
    source_head: Lsn


@dataclass(slots=True, eq=False)
class Replica:
    """A follower. `reign` was accepted last, and is on disk once FOLLOWING; `watermark` is the highest known
    here, ever (R5); `vote` is the reign that we gave our vote to last.

    `_settling` counts our orders to the disk that are not done; `_committing` is how far apply was sent,
    `_told` what the last ack said was durable and applied.
    """

    reign: Reign | None
    end: Position
    durable: Lsn
    watermark: Lsn
    applied: Lsn
    vote: Reign = NO_REIGN
    state: FollowerState = FollowerState.SEARCHING
    _source: _Source | None = None
    _settling: int = 0
    _committing: Lsn = Lsn(0)
    _told: tuple[Lsn, Lsn] = field(default=(Lsn(0), Lsn(0)))

    def step(self, event: Event, now: Now) -> list[Effect]:
        """Take one event; what the shell must do, in order: nothing for what only a primary takes."""
        match event:
            case BatchesReceived():
                return self._received(event, now)
            case Durable(lsn):
                # a sync from before a cut may still be reported after it
                self.durable = min(lsn, self.end.lsn)
                synced_us = self._source.arrivals.synced(lsn, now.us) if self._source is not None else 0
                return self._ack(synced_us=synced_us) + self._commit()
            case HeartbeatReceived():
                return self._heard(event, now)
            case Applied(last, _):
                self.applied = last
                return self._ack() if last == self.end.lsn else []  # else one follows with what comes
            case SourceFound():
                return self._found(event, now)
            case Stood(reign):
                return self._stood(reign)
            case MetaSaved() | TailCut():
                return self._settled(now)
            case SourceLost(session):
                if self._source is not None and self._source.session == session:
                    self._source = None
                    self.state = FollowerState.SEARCHING
                return []
            case Tick():
                return self._tick(now)
            case _:
                return []

    def status(self) -> ReplicaStatus:
        """The follower at a glance."""
        source = self._source
        return ReplicaStatus(
            self.state,
            self.reign,
            source.node if source else None,
            self.end.lsn,
            self.durable,
            self.watermark,
            self.applied,
            source.head if source else Lsn(0),
        )

    @property
    def searching(self) -> bool:
        """Whether it has no source."""
        return self.state is FollowerState.SEARCHING

    @property
    def session(self) -> int | None:
        """The session with the source that is followed."""
        return self._source.session if self._source is not None else None

    @property
    def leader(self) -> NodeId | None:
        """Whoever leads and is followed right now; None when the primary is lost."""
        return self._source.node if self._source is not None and self._source.leads else None

    @property
    def term_min(self) -> Term:
        """No reign of an older term is accepted."""
        return max(self.vote.term, self.reign.term if self.reign is not None else Term(0))

    def _stood(self, reign: Reign) -> list[Effect]:
        if not self.searching or reign.term <= self.term_min:
            return []
        self.vote = reign
        text = f"{reign.primary} has our vote for term {reign.term}: nobody is followed in an older one"
        return [SaveVote(reign), Note(text)]

    def _found(self, event: SourceFound, now: Now) -> list[Effect]:
        """Accept or refuse a source, and bring the log to the last common point."""
        reply, session = event.reply, event.session
        if self.state is not FollowerState.SEARCHING or event.asked != self.end:
            # an answer to what our log was: the common point may lie below what was appended since
            text = f"{event.node} answers for a log that ended at {event.asked}, it ends at {self.end}"
            if self._source is not None and event.asked == self.end:
                text = f"{event.node} answers, and {self._source.node} is followed already"
            return [Drop(session, Refused(Code.NOT_READY, text, hint="it is asked anew by itself"))]
        common = reply.common
        refusal = self._refusal(event)
        if refusal is not None:
            note = Note(f"{event.node} is refused: {refusal.message}", Level.WARNING)
            return [Drop(session, refusal), note]
        if (shared := _shared(event)) < self.watermark:
            lacking = f"LSN {shared + 1} to {self.watermark}"
            reason = f"this node was given up, and what only it knows committed with it, {lacking}"
            return [Rebuild(session, reason, diverged=True, given_up=True)]
        if event.local != common:
            reason = f"the logs disagree at LSN {common.lsn}, which both should share"
            return [Rebuild(session, reason, diverged=True)]
        self._source = _Source(
            event.node, session, reply.leads, Lsn(reply.head), now.ms, Lsn(reply.watermark)
        )
        self.state = FollowerState.SETTLING
        effects: list[Effect] = []
        if reply.leads and reply.reign != self.reign:
            self.reign = reply.reign
            self._settling += 1
            effects.append(SaveMeta(self.reign))
        if common.lsn < self.end.lsn:
            self.end = common
            self.durable = min(self.durable, common.lsn)
            self._settling += 1
            effects.append(Cut(common, f"{event.node}'s log of term {reply.term} goes on differently"))
        return effects if self._settling else self._begin(now)

    def _refusal(self, event: SourceFound) -> Refused | None:
        node, reply, shared = event.node, event.reply, _shared(event)
        if shared < self.watermark and not (event.given_up and reply.leads):
            text = f"LSN {shared + 1} to {self.watermark} are known committed and {node} lacks them"
            parted = reply.watermark > shared
            hint = PARTED_HINT if parted else "start the node that holds them as primary"
            return Refused(Code.PRIMARY_LACKS_COMMITTED, text, hint=hint)
        if not reply.leads:
            return None
        vote = self.vote
        taken = reply.term == vote.term and reply.primary != vote.primary and not reply.settled
        if reply.term < vote.term or taken:
            return Refused(Code.NOT_READY, f"{vote.primary} has our vote for term {vote.term}", hint="wait")
        if self.reign is None:
            return None
        if reply.term < self.reign.term:
            return Refused(Code.STALE_TERM, f"term {reply.term} is over, {self.reign.term} has begun")
        if reply.term == self.reign.term and reply.primary != self.reign.primary and not reply.settled:
            return Refused(Code.TERM_TAKEN, f"term {reply.term} belongs to {self.reign.primary}")
        return None

    def _settled(self, now: Now) -> list[Effect]:
        """One of our orders to the disk is done. They outlive a session: the next one waits for them too."""
        assert self._settling > 0
        self._settling -= 1
        return self._begin(now) if self.state is FollowerState.SETTLING and not self._settling else []

    def _begin(self, now: Now) -> list[Effect]:
        assert self._source is not None
        self.state = FollowerState.FOLLOWING
        self._source.heard_ms = now.ms  # a source is silent until the first ack, however long our disk took
        self._told = (Lsn(0), Lsn(0))
        return self._ack(first=True) + self._commit()

    def _received(self, event: BatchesReceived, now: Now) -> list[Effect]:
        """Append what continues the log; anything else ends the session."""
        source = self._source
        if source is None or source.session != event.session or self.state is not FollowerState.FOLLOWING:
            return []
        effects: list[Effect] = []
        source.heard_ms = now.ms
        for batch in event.batches:
            if source.leads and self.reign is not None and not _within(batch.reign, self.reign):
                text = f"{source.node} sends a batch of {batch.reign} within the reign {self.reign}"
                return [*effects, self._drop(ProtocolError(text))]
            if not follows(batch, self.end):
                text = f"batch {batch.first}..{batch.last} does not continue the log at {self.end}"
                return [*effects, self._drop(ProtocolError(text))]
            self.end = batch.position
            source.head = max(source.head, batch.last)
            source.watermark = max(source.watermark, batch.watermark)
            source.arrivals.received(batch.last, now.us)
            effects.append(Append(batch))
        return effects + self._commit()

    def _heard(self, event: HeartbeatReceived, now: Now) -> list[Effect]:
        source, beat = self._source, event.heartbeat
        if source is None or source.session != event.session or self.state is not FollowerState.FOLLOWING:
            return []
        if source.leads and self.reign != Reign(Term(beat.term), NodeId(beat.primary)):
            text = f"a heartbeat of {beat.term}:{beat.primary} within the reign {self.reign}"
            return [self._drop(ProtocolError(text))]
        source.heard_ms = now.ms
        source.head = max(source.head, Lsn(beat.head))
        source.watermark = max(source.watermark, Lsn(beat.watermark))
        return self._commit() + self._ack()

    def _commit(self) -> list[Effect]:
        """Apply up to the lowest of announced watermark, matched and own durable; `end` is the matched LSN
        while somebody is followed, and what is known already was matched before.
        """
        source = self._source
        if source is not None and self.state is FollowerState.FOLLOWING:
            self.watermark = max(self.watermark, min(source.watermark, self.end.lsn))
        target = min(self.watermark, self.durable)
        if target <= max(self._committing, self.applied):
            return []
        self._committing = Lsn(target)
        return [Commit(Lsn(target))]

    def _ack(self, *, first: bool = False, synced_us: int = 0) -> list[Effect]:
        source = self._source
        if source is None or self.state is not FollowerState.FOLLOWING:
            return []
        if not source.leads and not first and self._told == (self.durable, self.applied):
            return []
        self._told = (self.durable, self.applied)
        reign = self.reign or NO_REIGN
        ack = Ack(reign.term, self.durable, self.applied, self.end.lsn, reign.primary, synced_us)
        return [SendAck(source.session, ack)]

    def _drop(self, error: ProtocolError) -> Drop:
        assert self._source is not None
        session = self._source.session
        self._source = None
        self.state = FollowerState.SEARCHING
        return Drop(session, error)

    def _tick(self, now: Now) -> list[Effect]:
        source = self._source
        if source is None or self.state is not FollowerState.FOLLOWING:
            return self._commit()  # what was known before it began, too
        silent_ms = now.ms - source.heard_ms
        if silent_ms < SILENCE_MS:
            return []
        return [self._drop(ProtocolError(f"{source.node} has been silent for {silent_ms} ms"))]


def _within(written: Reign, reign: Reign) -> bool:
    """Whether a log that `reign` goes on writing may hold a batch of `written` (R3)."""
    return written.term < reign.term or written == reign


@dataclass(slots=True, eq=False)
class _Arrivals:
    """When the batches came, last LSN and monotonic microseconds, that are not on disk yet."""

    _came: deque[tuple[Lsn, int]] = field(default_factory=lambda: deque(maxlen=ARRIVALS_MAX))

    def received(self, last: Lsn, now_us: int) -> None:
        """A batch came."""
        self._came.append((last, now_us))

    def synced(self, lsn: Lsn, now_us: int) -> int:
        """How long the newest batch up to `lsn` took, which is on disk now, at least 1; 0 for none."""
        newest_us = None
        while self._came and self._came[0][0] <= lsn:
            _, newest_us = self._came.popleft()
        return 0 if newest_us is None else max(1, now_us - newest_us)


@dataclass(slots=True, eq=False)
class _Source:
    """The session with whom we follow, and what it last said."""

    node: NodeId
    session: int
    leads: bool
    head: Lsn
    heard_ms: int
    watermark: Lsn
    arrivals: _Arrivals = field(default_factory=_Arrivals)


def _shared(event: SourceFound) -> Lsn:
    """How far our log is the source's, at most: a point that both should share, and do not, is none."""
    return Lsn(event.reply.common_lsn - (event.local != event.reply.common))

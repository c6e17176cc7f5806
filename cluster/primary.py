"""The primary's decisions for one reign: order the writes, count the copies, release the waiters.

A reign begins with a term-start record and ends for good when anyone proves that this node must not lead
(R3, R5). Copies count only once they cover the term-start record, so nothing of an earlier term is committed
by counting alone; what precedes follows (R3). Until that record is applied no write is logged: from then on
keys and reads are complete.

A turn takes everything that waits, makes one batch of it (or several, when it is more than a batch holds),
and hands the batch to disk and followers in the same breath (R2).
"""

from __future__ import annotations

from collections.abc import Reversible, Sequence
from dataclasses import InitVar, dataclass, field
from itertools import takewhile
from typing import NamedTuple

import msgspec

from cluster.admissions import Admissions
from cluster.catchup import is_streaming
from cluster.changes import Changes
from cluster.commit_waiter import CommitWaiter
from cluster.effects import (
    Append,
    Applied,
    Beat,
    ChangeProposed,
    Commit,
    Deposed,
    Drop,
    Durable,
    Effect,
    EndReign,
    Event,
    Flight,
    FollowerAcked,
    FollowerJoined,
    FollowerLeft,
    Note,
    Now,
    Proposal,
    Proposed,
    Reject,
    Result,
    Tick,
)
from cluster.intake import Intake, KeyLookup, Room, Turn, disk_full, not_ready
from cluster.log_config import Level
from cluster.log_room import LogRoom
from cluster.queued import Queued
from cluster.settings import Planned, Settings
from redwire import body
from redwire.batch import make_batch
from redwire.errors import Code, RedwireError, Refused
from redwire.message.log import Admit, ClusterRecord, TermStart
from redwire.position import Incarnation, Lsn, NodeId, Position, Reign
from redwire.record import RequestKind, encode_system
from regions.coordinator import QuorumCoordinator
from regions.errors import AckInvalid

BEAT_MS = 500
"""A tenth of the default replica timeout: one lost heartbeat proves nothing."""
FLIGHT_BYTES_MAX = 32 << 20
"""What may be logged and not yet applied: two of the largest requests, one on its way and one behind it.
Beyond it proposals wait in the queue.
"""
UNSYNCED_MAX = 2
"""Batches that our own disk may owe: one that it syncs and one that waits. A third could not be durable any
earlier than if it were made when the first is done, and by then it holds more. The second is made only when
it is as large as the first: what a batch costs every node is paid for many writes, or not at all.
"""
NO_ROOM = Room(log_bytes=0, flight_bytes=1, batches=1)
"""Nothing is logged and whoever waits is refused, however much is in flight: that stays so without space."""


class Backlog(NamedTuple):
    """So many requests, which are `queued`. Nobody's time is up before `expires_us`."""

    requests: int
    queued: Queued
    expires_us: int | None

    @property
    def size(self) -> int:
        """How many bytes they are."""
        return self.queued.size


class PrimaryStatus(msgspec.Struct, frozen=True):
    """The reign at a glance."""

    reign: Reign
    head: Lsn
    watermark: Lsn
    applied: Lsn
    ready: bool
    flights: int
    flight_bytes: int


@dataclass(slots=True, eq=False)
class Primary:
    """One reign. `end` is where the log ends, `time_ms` the time of its last batch, `applied` what state
    has.

    The membership of the coordinator, which is that of `changes`, names the incarnations that the log has
    admitted. `start` is the term-start record; `record` is logged behind the first one of a new cluster, None
    otherwise.
    """

    reign: Reign
    end: Position
    time_ms: int
    applied: Lsn
    changes: Changes
    lookup: InitVar[KeyLookup]
    start: TermStart
    record: ClusterRecord | None = None
    coordinator: QuorumCoordinator = field(init=False)
    waiter: CommitWaiter = field(init=False)
    _intake: Intake = field(init=False)
    _admissions: Admissions = field(default_factory=Admissions)
    _told: _Told = field(init=False)

    def __post_init__(self, lookup: KeyLookup) -> None:
        self.coordinator = self.changes.coordinator
        self.waiter = CommitWaiter(self.coordinator)
        flights, policies = self.waiter.flights, self.changes.policies
        reached, refusal = self.coordinator.commit_watermark, self.coordinator.refusal
        self._intake = Intake(lookup, reached, refusal, flights, policies)
        self._told = _Told()

    def begin(self, known: Lsn, now: Now) -> list[Effect]:
        """Open the reign: its term-start record, and the cluster's record when there is no cluster yet.

        The whole log is durable, and committed at least up to `known`: what of that is not applied yet is,
        whether or not anything of this reign is ever committed.
        """
        assert known <= self.end.lsn, "a log that lacks what is known committed opens no reign (R5)"
        term_start = Lsn(self.end.lsn + 1)
        self._told.watermark = known
        self.coordinator.begin_reign(term_start, now.ms, known=known)
        self.waiter.times.begin(now.ms)
        self.coordinator.own_durable(self.end.lsn, now.ms)
        self.coordinator.own_applied(self.applied, now.ms)
        self.changes.begin()
        requests = [encode_system(RequestKind.TERM_START, body.encode(self.start))]
        if self.record is not None:
            requests.append(encode_system(RequestKind.CONFIG, body.encode(self.record)))
            self.changes.log(Settings.of(self.record, Lsn(term_start + 1)))
        begun = self._log(requests, [None] * len(requests), len(requests), now)
        return [*begun, Commit(known)] if known > self.applied else begun

    @property
    def ready(self) -> bool:
        """Whether the term-start record is applied: reads and keys are complete from here on (R3)."""
        return self.applied >= self.coordinator.term_start > 0

    def check_ready(self) -> None:
        """Raises `Refused` (NOT_READY) while it is not `ready`."""
        if not self.ready:
            raise not_ready()

    @property
    def watermark(self) -> Lsn:
        """How far the commit rule is met."""
        return self.coordinator.commit_watermark()

    @property
    def backlog(self) -> Backlog:
        """What waits to be logged; the shell stops reading sessions at a bound (R1)."""
        return Backlog(len(self._intake), self._intake.queued, self._intake.expires_us)

    @property
    def complete(self) -> bool:
        """Whether the whole log is applied: what the state says of keys is then all there is to say."""
        return self.ready and self.applied == self.end.lsn

    def step(self, event: Event, now: Now) -> list[Effect]:
        """Take one event; what the shell must do, in order: nothing for what only a follower takes. After
        `EndReign` the core takes nothing more.
        """
        match event:  # what happens most often comes first
            case FollowerAcked():
                return self._acked(event, now)
            case Proposed(proposals, room):
                self._intake.add(proposals)
                return self._turn(room, now)
            case Durable(lsn):
                since = self.coordinator.durable(self.reign.primary)
                self.coordinator.own_durable(lsn, now.ms)
                return self._covered(self.reign.primary, since, now)
            case Applied(last, results):
                return self._applied(last, results, now)
            case ChangeProposed(proposal, planned):
                return self._change(proposal, planned, now)
            case FollowerJoined():
                return self._joined(event, now)
            case FollowerLeft(node, session):
                self.coordinator.left(node, session, now.ms)
                return []
            case Deposed(error):
                return self._end(error)
            case Tick():
                return self._tick(now)
            case _:
                return []

    def status(self) -> PrimaryStatus:
        """The reign at a glance."""
        watermark = self.coordinator.commit_watermark()
        return PrimaryStatus(
            self.reign,
            self.end.lsn,
            watermark,
            self.applied,
            self.ready,
            len(self.waiter.flights),
            self.waiter.flight_bytes,
        )

    def _turn(self, log: LogRoom, now: Now) -> list[Effect]:
        """Log what may be logged; refuse what certainly cannot be; leave the rest waiting."""
        turn = self._looking(now)
        if log.full:
            room = NO_ROOM
        else:
            synced = self.coordinator.durable(self.reign.primary)
            batches = batches_due(self.waiter.flights, synced, self._intake.queued.size)
            left = FLIGHT_BYTES_MAX - self.waiter.flight_bytes
            room = Room(log.sure_bytes, left, batches, log.later_bytes)
        effects: list[Effect] = [*self._intake.take(turn, room)]
        for draft in turn.drafts:
            requests = [proposal.request for proposal in draft.proposals]
            effects += self._log(requests, [*draft.proposals], draft.records, now)
        return effects

    def _looking(self, now: Now) -> Turn:
        hold = self.changes.hold if self.ready else not_ready()
        return Turn(now, hold, self.complete, now.ms < self.coordinator.grace_until_ms)

    def _change(self, proposal: Proposal, planned: Planned, now: Now) -> list[Effect]:
        """Log a change of the settings, in a batch of its own.

        Until the reign is `ready` only what gives nodes up is logged: it may need just that, and then its
        first record is committed with the change.
        """
        begun = self.ready or planned.lost
        error = self.changes.refusal(planned, now.ms) if begun else not_ready()
        if error is not None:
            proposal.answered = True
            return [Reject(proposal, error)]
        settings = planned.after(Lsn(self.end.lsn + 1))
        if planned.lost:
            self.waiter.hold_to_policies()
        self.changes.log(settings)
        note = Note(f"{planned.record.by} changes the settings at LSN {settings.lsn}: {planned.text}")
        return [*self._log([proposal.request], [proposal], 1, now), note]

    def _log(
        self, requests: list[bytes], proposals: list[Proposal | None], records: int, now: Now
    ) -> list[Effect]:
        self.time_ms = max(self.time_ms + 1, now.wall_ms)
        watermark = self.coordinator.commit_watermark()
        batch = make_batch(self.reign, self.end, requests, records, self.time_ms, watermark)
        self.end = batch.position
        self.coordinator.extended(batch.last, now.ms, len(batch.data))
        self.waiter.launch(Flight(batch, now.us, proposals, []))
        return [Append(batch)]

    def _acked(self, event: FollowerAcked, now: Now) -> list[Effect]:
        node, session, ack = event.node, event.session, event.ack
        if (ack.term, ack.primary) != (self.reign.term, self.reign.primary):
            return []  # what it holds of another reign proves nothing in this one (R3)
        if node not in self.coordinator.membership:
            return []
        since, durable = self.coordinator.durable(node), Lsn(ack.durable)
        streaming = True if is_streaming(self.end.lsn, durable) else None
        try:
            if not self.coordinator.acked(
                node, session, durable, Lsn(ack.applied), Lsn(ack.received), now.ms, streaming=streaming
            ):
                return []
        except AckInvalid as error:
            return [Drop(session, error), Note(str(error), Level.WARNING)]
        life = self._admissions.due(node, durable)
        admitted = self._admit(node, life, now) if life is not None else []
        return admitted + self._covered(node, since, now, ack.synced_us)

    def _covered(self, node: NodeId, since: Lsn, now: Now, synced_us: int = 0) -> list[Effect]:
        """`node` proved more than `since`: who waits for that?"""
        durable = self.coordinator.durable(node)
        if self.coordinator.votes(node):
            self.waiter.covered(node, since, durable, now)
        watermark = self.coordinator.commit_watermark()
        effects: list[Effect] = []
        if watermark > self._told.watermark:
            self._told.watermark = watermark
            self.waiter.committed(watermark, node, durable, synced_us, now)
            effects.append(Commit(watermark))
        effects += self.waiter.released(watermark)
        return effects

    def _applied(self, last: Lsn, results: Sequence[tuple[Lsn, Sequence[Result]]], now: Now) -> list[Effect]:
        was_ready = self.ready
        self.applied = last
        self.coordinator.own_applied(last, now.ms)
        effects: list[Effect] = [*self.waiter.applied(results, self._told.watermark, now)]
        if self.changes.applied(last):
            self._intake.policies = self.changes.policies
            self._intake.recheck()
        if self.ready and not was_ready:
            self._intake.recheck()
            effects.append(
                Note(f"term {self.reign.term} serves writes from LSN {self.coordinator.term_start}")
            )
        return effects

    def _joined(self, event: FollowerJoined, now: Now) -> list[Effect]:
        node, session, matched, incarnation = event.node, event.session, event.matched, event.incarnation
        if event.reign != self.reign:
            text = f"{node} follows the reign {event.reign}, this is {self.reign}"
            return [Drop(session, Refused(Code.STALE_TERM, text, hint="it asks anew by itself"))]
        try:
            since = self.coordinator.durable(node)
            streaming = is_streaming(self.end.lsn, matched)
            lost = self.coordinator.joined(
                node, session, matched, event.applied, now.ms, streaming=streaming, incarnation=incarnation
            )
        except RedwireError as error:
            return [Drop(session, error), Note(str(error), Level.WARNING)]
        self._intake.recheck()
        effects: list[Effect] = [lost] if lost is not None else []
        self._admissions.forget(node)  # of another life, which is over
        known = self.coordinator.membership.member(node).incarnation
        if known is None:
            effects += self._admit(node, incarnation, now)
        elif known != incarnation:
            self._admissions.expect(node, incarnation, self.end.lsn)
            effects.append(
                Note(f"{node} comes with a new data directory: it counts again when it has caught up")
            )
            effects += self._admit(node, self._admissions.due(node, matched), now)
        return effects + self._covered(node, since, now)

    def _admit(self, node: NodeId, incarnation: Incarnation | None, now: Now) -> list[Effect]:
        """Log that this life of the member, if any, counts; its copies count from that record on (R11)."""
        if incarnation is None:
            return []
        self.coordinator.admit(node, incarnation, Lsn(self.end.lsn + 1))
        request = encode_system(RequestKind.ADMIT, body.encode(Admit(node, incarnation)))
        return [*self._log([request], [None], 1, now), Note(f"{node} is admitted as {incarnation[:8]}")]

    def _tick(self, now: Now) -> list[Effect]:
        self.waiter.times.settle()
        effects: list[Effect] = [*self.waiter.expired(now), *self._intake.expired(self._looking(now))]
        self._intake.recheck()  # who is in reach may have changed with the time alone
        if now.ms - self._told.beat_ms >= BEAT_MS:
            self._told.beat_ms = now.ms
            effects.append(Beat())
        self.coordinator.tick(now.ms)
        return effects

    def _end(self, error: RedwireError) -> list[Effect]:
        """Nobody who waits is left without an answer."""
        unconfirmed = self.waiter.abandoned(f"the reign of {self.reign.primary} has ended")
        return [*unconfirmed, *self._intake.end(), EndReign(error)]


def refusal(core: Primary, log: LogRoom, now: Now) -> RedwireError | None:
    """Why a write under the default policy would now be refused, or wait for who may never come back; None
    when it would be logged, at once or when the log's next segment is there.
    """
    if not core.ready:
        return core.coordinator.refusal(None, now.ms) or not_ready()
    if log.full:
        return disk_full()
    policy = core.changes.policies.effective("").parsed
    return core.changes.obstacle(now.ms) or core.coordinator.refusal(policy, now.ms)


def batches_due(flights: Reversible[Flight], synced: Lsn, waiting_bytes: int) -> int:
    """How many batches may be made now of `waiting_bytes` of requests, where our own disk holds `synced`."""
    owed = takewhile(lambda flight: flight.batch.last > synced, reversed(flights))
    owed_bytes = [len(flight.batch.body) for flight in owed]
    return UNSYNCED_MAX - len(owed_bytes) if waiting_bytes >= sum(owed_bytes) else 0


@dataclass(slots=True, eq=False)
class _Told:
    """The highest watermark that the rest of the node was told, and when it was told to beat last
    (monotonic ms).
    """

    watermark: Lsn = Lsn(0)
    beat_ms: int = 0

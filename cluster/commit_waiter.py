"""Who waits for which LSN, and who is released when: the waiting side of a commit.

The waiter keeps no ack table. It holds the batches in flight with their proposals, learns what was applied,
and asks the coordinator how far a policy is met. Requests under the commit rule leave as soon as they are
applied; requests under a stronger policy wait on, per policy, in LSN order.

`await_acks` is for users of the package: a handle that the same events settle (`cluster.ack_waits`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from msgspec.structs import replace

from cluster.ack_waits import AckWait, AckWaits
from cluster.commit_times import CommitTimes
from cluster.effects import Flight, Now, Proposal, Release, Result, Unconfirmed
from redwire.position import Lsn, NodeId
from regions.commit_policy import CommitPolicy


class CopyCounts(Protocol):
    """What the waiter asks of the coordinator."""

    def commit_watermark(self, policy: CommitPolicy | None = None) -> Lsn:
        """The highest LSN that meets `policy`; None is the commit rule."""

    def copies(self, lsn: Lsn) -> int:
        """How many voters other than this node hold a durable copy of `lsn`."""


class WaiterStatus(msgspec.Struct, frozen=True):
    """Counts since the reign began, and what waits now."""

    flights: int
    waiting_stronger: int
    reached: int
    timed_out: int


@dataclass(slots=True, eq=False)
class _Held:
    """Applied answers of one batch that a stronger policy still holds back."""

    flight: Flight
    answers: list[tuple[Proposal, Result]]


@dataclass(slots=True, eq=False)
class CommitWaiter:
    """The batches of one reign that are not applied yet, in LSN order, with `under_way` requests of
    `flight_bytes` in all, and who waits longer than that. `times` tells where their time went; `acks` are the
    waits of `await_acks`. Nobody's time is up before `expires_us`.
    """

    table: CopyCounts
    times: CommitTimes = field(default_factory=CommitTimes)
    flights: deque[Flight] = field(default_factory=deque)
    flight_bytes: int = 0
    under_way: int = 0
    expires_us: int | None = None
    acks: AckWaits = field(init=False)
    _stronger: dict[CommitPolicy, deque[_Held]] = field(default_factory=dict)
    _reached: int = 0
    _timed_out: int = 0

    def __post_init__(self) -> None:
        self.acks = AckWaits(self.table.copies)

    def launch(self, flight: Flight) -> None:
        """A batch was made. Its proposals are released, expired or abandoned later, each exactly once."""
        self.flights.append(flight)
        self.flight_bytes += len(flight.batch.data)
        self.under_way += len(flight.proposals)
        for proposal in flight.proposals:
            if proposal is not None and (self.expires_us is None or proposal.deadline_us < self.expires_us):
                self.expires_us = proposal.deadline_us

    def covered(self, node: NodeId, since: Lsn, lsn: Lsn, now: Now) -> None:
        """`node` made everything up to `lsn` durable; up to `since` was known before."""
        _prove(reversed(self.flights), node, since, lsn, now.us)
        for waiting in self._stronger.values():
            _prove((entry.flight for entry in reversed(waiting)), node, since, lsn, now.us)
        self.acks.settle(now.ms)

    def committed(self, watermark: Lsn, by: NodeId, lsn: Lsn, synced_us: int, now: Now) -> None:
        """The commit rule is met up to `watermark`, and `by` brought the last copy that it took.

        Its ack was for everything up to `lsn`, whose batch took `synced_us` from its receipt to the disk, 0
        if that is not known.
        """
        for flight in self.flights:
            if flight.batch.last > watermark:
                break
            if flight.committed_us is None:
                nodes = [node for node, _ in flight.acks]
                flight.completing = nodes.index(by) if by in nodes else None
                flight.committed_us = now.us
                flight.remote_us = synced_us if synced_us and flight.batch.last == lsn else None

    def applied(
        self, results: Sequence[tuple[Lsn, Sequence[Result]]], watermark: Lsn, now: Now
    ) -> list[Release]:
        """Batches were applied: the answers that may leave now, one Release per batch that has any."""
        releases: list[Release] = []
        for last, batch_results in results:
            if not self.flights or self.flights[0].batch.last != last:
                continue  # of an earlier reign: nobody waits for it here
            flight = self.flights.popleft()
            self.flight_bytes -= len(flight.batch.data)
            self.under_way -= len(flight.proposals)
            self.times.note(flight, now)
            ready: list[tuple[Proposal, Result]] = []
            for proposal, result in zip(flight.proposals, batch_results, strict=True):
                if proposal is None or proposal.answered:
                    continue
                if proposal.policy.is_rule:
                    proposal.answered = True
                    ready.append((proposal, result))
                else:
                    self._keep_back(flight, proposal, result)
            if ready:
                self._reached += len(ready)
                releases.append(Release(flight, watermark, ready))
        return releases + self.released(watermark)

    def hold_to_policies(self) -> None:
        """The commit rule is about to be met in another way than these requests were promised: hold each to
        its own policy.
        """
        for flight in self.flights:
            for proposal in flight.proposals:
                if proposal is not None:
                    proposal.policy = replace(proposal.policy, is_rule=False)

    def released(self, watermark: Lsn) -> list[Release]:
        """The held answers whose stronger policy is met by now."""
        releases: list[Release] = []
        for policy, held in list(self._stronger.items()):
            reached = self.table.commit_watermark(policy)
            while held and held[0].flight.batch.last <= reached:
                entry = held.popleft()
                answers = [(proposal, result) for proposal, result in entry.answers if not proposal.answered]
                for proposal, _ in answers:
                    proposal.answered = True
                if answers:
                    self._reached += len(answers)
                    releases.append(Release(entry.flight, watermark, answers))
            if not held:
                del self._stronger[policy]
        return releases

    def expired(self, now: Now) -> list[Unconfirmed]:
        """Those whose time is up: told "not confirmed" once, and never released afterwards."""
        self.acks.settle(now.ms)
        if self.expires_us is None or now.us < self.expires_us:
            return []
        late = [(p, f) for p, f in self._open() if p.deadline_us <= now.us]
        given_up = self._give_up(late, "the copies that the policy asks for were not proven in time")
        self._let_go()
        self.expires_us = min((p.deadline_us for p, _ in self._open()), default=None)
        return given_up

    def abandoned(self, reason: str) -> list[Unconfirmed]:
        """The reign ends: everyone who still waits is told that nobody knows yet."""
        late = list(self._open())
        self.flights.clear()
        self.flight_bytes = self.under_way = 0
        self._stronger.clear()
        self.expires_us = None
        self.acks.end()
        return self._give_up(late, reason)

    def await_acks(self, target: Lsn, required: int, now_ms: int, timeout_ms: int) -> AckWait:
        """A wait for `required` copies of `target` beside our own; settled at once where it can be."""
        return self.acks.add(target, required, now_ms, timeout_ms)

    def status(self) -> WaiterStatus:
        """Counts since the reign began, and what waits now."""
        stronger = sum(
            not proposal.answered
            for held in self._stronger.values()
            for entry in held
            for proposal, _ in entry.answers
        )
        return WaiterStatus(len(self.flights), stronger, self._reached, self._timed_out)

    def _let_go(self) -> None:
        """Forget held batches whose last answer was given: else they stay for copies that may never come."""
        for policy, held in list(self._stronger.items()):
            kept = deque(entry for entry in held if any(not p.answered for p, _ in entry.answers))
            if kept:
                self._stronger[policy] = kept
            else:
                del self._stronger[policy]

    def _keep_back(self, flight: Flight, proposal: Proposal, result: Result) -> None:
        held = self._stronger.setdefault(proposal.policy.counted_by, deque())
        if not held or held[-1].flight is not flight:
            _lighten(flight)
            held.append(_Held(flight, []))
        held[-1].answers.append((proposal, result))

    def _open(self) -> list[tuple[Proposal, Flight]]:
        pairs = [(p, f) for f in self.flights for p in f.proposals if p is not None and not p.answered]
        for waiting in self._stronger.values():
            pairs += [(p, entry.flight) for entry in waiting for p, _ in entry.answers if not p.answered]
        return pairs

    def _give_up(self, late: Sequence[tuple[Proposal, Flight]], message: str) -> list[Unconfirmed]:
        for proposal, _ in late:
            proposal.answered = True
        self._timed_out += len(late)
        return [Unconfirmed(proposal, flight, message) for proposal, flight in late]


def _prove(flights: Iterator[Flight], node: NodeId, since: Lsn, lsn: Lsn, now_us: int) -> None:
    """Note on `flights`, the youngest first, that `node` holds those above `since` up to `lsn`: an ack looks
    at what is new in it, however much is held.
    """
    for flight in flights:
        last = flight.batch.last
        if last <= since:
            return
        if last <= lsn and node not in dict(flight.acks):
            flight.acks.append((node, now_us - flight.made_us))


def _lighten(flight: Flight) -> None:
    """Hold the bytes of its requests no longer: `flight_bytes` bounds them until they are applied, and
    nothing would while they wait for more copies, which may be seconds.
    """
    flight.batch = replace(flight.batch, data=b"")
    for proposal in flight.proposals:
        if proposal is not None:
            proposal.request = b""

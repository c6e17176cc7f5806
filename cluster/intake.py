"""Proposals before they are logged: the queue, and what a turn logs, holds back or answers (R1, R8, R9).

A proposal is logged as soon as the reign is ready, the members that its policy needs are in reach, and there
is room for it. Where readiness or reach is missing it is held back and looked at again by `recheck`; where
room is short for the moment it waits, and all behind it do; none waits beyond its deadline. What is refused
here is certainly not written, so before a refusal the key is looked up, and a later attempt is refused only
when no earlier one can be anywhere in the log, in flight or in the queue.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import msgspec

from cluster.effects import Fate, Flight, Known, Now, Proposal, Reject, Result, Unconfirmed
from cluster.policies import UNJUDGED, Effective, Policies
from cluster.queued import Queued
from redwire.batch import BATCH_BYTES_SOFT, BATCH_RECORDS_SOFT
from redwire.errors import Code, NotPrimary, RedwireError, Refused
from redwire.message.client import RESULT
from redwire.position import Lsn
from redwire.record import Key
from regions.commit_policy import CommitPolicy

FRAMING_BYTES_MAX = 256
"""What a batch takes in the log beside its requests: its header and the disk's mark, rounded up."""
NEW_REIGN = "the new reign has not committed its first record yet"

Answer = Known | Reject | Unconfirmed

KeyLookup = Callable[[Key], Result | None]
"""The stored result of a key that was applied; None when it is not known, EXPIRED for a forgotten
one.
"""

Reached = Callable[[CommitPolicy], Lsn]
"""How far a policy is met by the copies that are proven."""

Refusal = Callable[[CommitPolicy, int], RedwireError | None]
"""Why a policy cannot be met by the members in reach at that time (monotonic ms); None when it can (R8)."""


class Draft(msgspec.Struct, eq=False):
    """A batch in the making."""

    proposals: list[Proposal] = []
    records: int = 0
    size: int = 0

    def full_with(self, proposal: Proposal) -> bool:
        """Whether `proposal` must go into the next batch (R1)."""
        if not self.proposals:
            return False
        size = self.size + len(proposal.request)
        return size > BATCH_BYTES_SOFT or self.records + proposal.count > BATCH_RECORDS_SOFT

    def add(self, proposal: Proposal) -> None:
        """Take `proposal` in; one that is larger than a batch fills it alone."""
        self.proposals.append(proposal)
        self.records += proposal.count
        self.size += len(proposal.request)


class Room(NamedTuple):
    """What a turn may log. `log_bytes` is what the log will surely take, framing included, and `later_bytes`
    what one batch may have that waits for more room; `flight_bytes` is for requests, and exceeded by one of
    them at most.
    """

    log_bytes: int
    flight_bytes: int
    batches: int
    later_bytes: int = 0


class Turn(msgspec.Struct, eq=False):
    """What holds for all proposals that are looked at in one step.

    `hold`: why nothing may be logged now, None when the reign is ready. `complete`: the whole log is applied.
    `grace`: nobody is refused for who is out of reach. `errors` are the refusals asked for so far, by the
    policy's text; `drafts` are the batches to log; `keys` counts the keys of everything that is not applied,
    once somebody asks.
    """

    now: Now
    hold: RedwireError | None
    complete: bool
    grace: bool
    errors: dict[str, RedwireError | None] = {}
    drafts: list[Draft] = []
    keys: Counter[tuple[bytes, int]] | None = None


@dataclass(slots=True, eq=False)
class Intake:
    """The proposals of one reign that are not logged. `flights` are the reign's batches that are not
    applied; `policies` are those in force.

    `queued` are those of all requests in here. Nobody's time is up before `expires_us`.
    """

    lookup: KeyLookup
    reached: Reached
    refusal: Refusal
    flights: Collection[Flight]
    policies: Policies
    queued: Queued = field(default_factory=Queued)
    expires_us: int | None = None
    _fresh: deque[Proposal] = field(default_factory=deque)
    _held: deque[Proposal] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._fresh) + len(self._held)

    def add(self, proposals: Sequence[Proposal]) -> None:
        """Each of them is logged or answered later, exactly once."""
        self._fresh.extend(proposals)
        for proposal in proposals:
            self.queued.add(proposal)
            if self.expires_us is None or proposal.deadline_us < self.expires_us:
                self.expires_us = proposal.deadline_us

    def recheck(self) -> None:
        """Something changed that proposals are held back for: the next `take` looks at them again, and
        first.
        """
        self._fresh.extendleft(reversed(self._held))
        self._held.clear()

    def take(self, turn: Turn, room: Room) -> list[Answer]:
        """Fill `turn.drafts` with the batches to log now; returns the early answers."""
        drafts, answers = turn.drafts, list[Answer]()
        log_bytes, flight_bytes, batches, later_bytes = room
        while self._fresh and flight_bytes > 0 and batches > 0:
            proposal = self._fresh.popleft()
            answer = self._judged(proposal, turn) or self._early(proposal, turn)
            if answer is None and (turn.hold is not None or self._error(proposal, turn) is not None):
                self._held.append(proposal)
                continue
            new = not drafts or drafts[-1].full_with(proposal)
            if answer is None and new and len(drafts) == batches:
                self._fresh.appendleft(proposal)
                break
            size = len(proposal.request)
            roomy = size + new * FRAMING_BYTES_MAX <= log_bytes
            if answer is None and not roomy:
                if size + FRAMING_BYTES_MAX <= later_bytes:
                    self._fresh.appendleft(proposal)
                    break
                answer = self._known(proposal, turn) or self._refuse(proposal, disk_full(), turn)
            self.queued.remove(proposal)
            if answer is not None:
                answers.append(answer)
                continue
            if new:
                drafts.append(Draft())
            drafts[-1].add(proposal)
            log_bytes -= size + new * FRAMING_BYTES_MAX
            flight_bytes -= size
        return answers

    def expired(self, turn: Turn) -> list[Answer]:
        """Those whose time is up before they were logged."""
        if self.expires_us is None or turn.now.us < self.expires_us:
            return []
        answers: list[Answer] = []
        for queue in (self._held, self._fresh):
            for _ in range(len(queue)):
                proposal = queue.popleft()
                answer = self._early(proposal, turn) if proposal.deadline_us <= turn.now.us else None
                if answer is None:
                    queue.append(proposal)
                else:
                    self.queued.remove(proposal)
                    answers.append(answer)
        self.expires_us = min((proposal.deadline_us for proposal in self._waiting()), default=None)
        return answers

    def end(self) -> list[Answer]:
        """The reign is over, and there is another one, which may know of what we do not: nobody stays
        without an answer.
        """
        answers: list[Answer] = []
        for proposal in self._waiting():
            proposal.answered = True
            if proposal.attempt > 1:
                text = "an earlier attempt may be in the log, and this node's reign has ended"
                answers.append(Unconfirmed(proposal, None, text))
            else:
                text = "this node's reign has ended"
                answers.append(Reject(proposal, NotPrimary(text, hint="ask the new primary")))
        self._fresh.clear()
        self._held.clear()
        self.queued.clear()
        return answers

    def _judged(self, proposal: Proposal, turn: Turn) -> Answer | None:
        """Hold `proposal` to the settings in force; the answer if they refuse what it asks for."""
        if proposal.policy.settings == self.policies.lsn:
            return None
        try:
            proposal.policy = self.policies.effective(proposal.policy.asked)
        except RedwireError as error:
            return self._known(proposal, turn) or self._refuse(proposal, error, turn)
        return None

    def _early(self, proposal: Proposal, turn: Turn) -> Answer | None:
        """An answer without logging `proposal`; None when it is to be logged, or held back for an error."""
        if proposal.attempt > 1 and (answer := self._known(proposal, turn)) is not None:
            return answer
        error = self._error(proposal, turn)
        if turn.now.us >= proposal.deadline_us:
            error = error or turn.hold or _busy()
        elif error is None or turn.grace:
            return None
        return self._known(proposal, turn) or self._refuse(proposal, error, turn)

    def _error(self, proposal: Proposal, turn: Turn) -> RedwireError | None:
        policy = proposal.policy
        if policy.text not in turn.errors:
            turn.errors[policy.text] = self.refusal(policy.parsed, turn.now.ms)
        return turn.errors[policy.text]

    def _known(self, proposal: Proposal, turn: Turn) -> Answer | None:
        """What the key came to before. That a key is forgotten is believed only of a log applied to its end:
        a client's id names an LSN that apply may not have reached. None also where it was executed, and a
        policy stronger than the commit rule is not met yet: what is logged now will wait for that (R6).
        """
        known = None if proposal.key is None else self.lookup(proposal.key)
        if known is None or known.fate is Fate.EXPIRED and not turn.complete:
            return None
        refusal = known.refusal
        if refusal is None and not self._met(proposal.policy, known):
            return None
        proposal.answered = True
        return Known(proposal, known) if refusal is None else Reject(proposal, refusal)

    def _met(self, policy: Effective, known: Result) -> bool:
        """Whether the copies that `policy` asks for are proven of what was executed."""
        if policy.is_rule or policy.settings == UNJUDGED:
            return policy.is_rule
        last = known.first_lsn + len(known.items) // RESULT.size - 1
        return self.reached(policy.counted_by) >= last

    def _refuse(self, proposal: Proposal, error: RedwireError, turn: Turn) -> Answer:
        """Refuse for certain, or say "not confirmed" where an earlier attempt may yet be executed (R9), or
        was.
        """
        known = None if proposal.key is None else self.lookup(proposal.key)
        executed = known is not None and known.refusal is None
        certain = not executed and (proposal.attempt == 1 or self._alone(proposal, turn))
        proposal.answered = True
        if executed:
            text = f"an earlier attempt is committed, but not known to be by {proposal.policy.text}"
            return Unconfirmed(proposal, None, f"{text}, and now: {error}")
        if certain:
            return Reject(proposal, error)
        return Unconfirmed(proposal, None, f"an earlier attempt may be in the log, and now: {error}")

    def _alone(self, proposal: Proposal, turn: Turn) -> bool:
        """Whether the key of `proposal` is neither in the log nor on its way there by another attempt."""
        key = proposal.key
        if key is None or turn.hold is not None or self.lookup(key) is not None:
            return False
        if turn.keys is None:
            drafted = (other for draft in turn.drafts for other in draft.proposals)
            turn.keys = Counter(map(_ident, _keys(chain((proposal,), drafted, self._unapplied()))))
        return turn.keys[_ident(key)] <= 1

    def _unapplied(self) -> Iterator[Proposal | None]:
        """Everything that waits here or is in flight."""
        return chain(self._waiting(), *(flight.proposals for flight in self.flights))

    def _waiting(self) -> Iterator[Proposal]:
        return chain(self._held, self._fresh)


def _keys(proposals: Iterable[Proposal | None]) -> Iterator[Key]:
    return (proposal.key for proposal in proposals if proposal is not None and proposal.key is not None)


def _ident(key: Key) -> tuple[bytes, int]:
    """What makes two keys the same: each attempt may name another oldest sequence."""
    return key.client, key.sequence


def not_ready() -> Refused:
    """A reign that has not committed a record of its own does not know what the ones before it committed."""
    return Refused(Code.NOT_READY, NEW_REIGN, hint="retry")


def disk_full() -> Refused:
    """Nothing is logged for want of room, for the log or for the state that follows it."""
    text = "the primary's disk is full"
    return Refused(Code.DISK_FULL, text, hint="free space in its data_dir; it recovers by itself")


def _busy() -> Refused:
    return Refused(Code.BUSY, "the writes before this one were not applied in its time", hint="retry")

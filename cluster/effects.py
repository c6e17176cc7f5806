"""What goes into the cores of a node and what comes out: events, effects, and the proposals they speak of.

A core is a class with one `step(event, now)`. It returns effects, and the shell carries them out in the order
given. The ordering rules that make the log safe:

* `SaveMeta` is on disk (its `MetaSaved` came back) before the first `SendAck` of a new reign leaves (R3).
* `SaveVote` is on disk before any report tells of the vote (R11).
* `Append` reaches the disk thread and the followers in one go; only `Durable` may count the copy (R2).
* `Cut` has saved the conflicting tail and is on disk before anything else of the new session happens (R4).
* `Commit` never passes the node's own durable LSN (R6), so an applied record is always in the log.

An event holds a batch or more, never a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import takewhile
from typing import NamedTuple

import msgspec

from cluster.log_config import Level
from cluster.log_room import LogRoom
from cluster.policies import Effective
from cluster.settings import Planned
from redwire.batch import Batch
from redwire.errors import KeyClosed, KeyExpired, RedwireError
from redwire.message.peer import Ack, Following, Heartbeat
from redwire.position import Incarnation, Lsn, NodeId, Position, Reign
from redwire.record import Key, RequestKind
from regions.coordinator import ProvedLess


class Now(NamedTuple):
    """The time, passed in: a monotonic clock in microseconds, the wall clock in milliseconds since 1970."""

    us: int
    wall_ms: int

    @property
    def ms(self) -> int:
        """The monotonic clock in milliseconds."""
        return self.us // 1000


class Proposal(msgspec.Struct, eq=False):
    """One request on its way into the log, and the one who waits for it.

    `caller` (see `answers.Caller`) and `correlation` say whom to answer: the core only carries them.
    `request` is logged as it stands, and takes `count` LSNs. Its answer waits for `policy`, which the core
    judges anew under other settings. `deadline_us` (monotonic) is when the waiter is told "not confirmed" or
    "refused"; `arrived_us` is when it came, 0 if nobody looked. Without a `key` nobody asks for it again;
    above the first `attempt` an earlier one may be in the log (R9). `answered` is set by the core.
    """

    caller: object
    correlation: int
    kind: RequestKind
    request: bytes
    count: int
    policy: Effective
    deadline_us: int
    key: Key | None = None
    attempt: int = 1
    answered: bool = False
    arrived_us: int = 0


class Fate(Enum):
    """What became of one request in the log."""

    EXECUTED = "executed"
    DUPLICATE = "executed before, with the same key"
    CLOSED = "never executed: its key was closed before it came"
    EXPIRED = "not known: the memory of its key is gone"


class Result(NamedTuple):
    """What one request came to when it was applied. `first_lsn` is the LSN of its first record where it was
    executed, then or before, and that at which its key was closed; 0 for EXPIRED. `items` holds a packed
    (u8 status, u64 version) for each record that was executed.
    """

    fate: Fate
    first_lsn: int = 0
    items: bytes = b""

    @property
    def refusal(self) -> RedwireError | None:
        """What to tell whoever asked for it to be executed; None where it was."""
        match self.fate:
            case Fate.CLOSED:
                return KeyClosed()
            case Fate.EXPIRED:
                return KeyExpired()
            case Fate.EXECUTED | Fate.DUPLICATE:
                return None


class Flight(msgspec.Struct, eq=False):
    """One batch of this reign from its making to its last answer, with the durable copies proven so far.

    `proposals` is aligned with the batch's requests; None stands for the node's own records. `acks` holds
    (node, microseconds since the batch was made) in order of arrival; `completing` indexes the one that
    completed the commit rule, at `committed_us`. `remote_us` is how long its disk took, where that was told.
    """

    batch: Batch
    made_us: int
    proposals: list[Proposal | None]
    acks: list[tuple[NodeId, int]]
    completing: int | None = None
    committed_us: int | None = None
    remote_us: int | None = None

    def first_of(self, proposal: Proposal) -> Lsn:
        """The LSN of the first record of `proposal`, one of this batch."""
        before = takewhile(lambda other: other is not proposal, self.proposals)
        return Lsn(self.batch.first + sum(1 if other is None else other.count for other in before))


# --- events


class Proposed(msgspec.Struct, frozen=True):
    """Everything that waited when the turn began, and the room for it."""

    proposals: Sequence[Proposal]
    room: LogRoom


class ChangeProposed(msgspec.Struct, frozen=True):
    """A change of the settings that an operator wants; `proposal` is who waits for it."""

    proposal: Proposal
    planned: Planned


class Durable(msgspec.Struct, frozen=True):
    """The node's own log is on disk up to `lsn`."""

    lsn: Lsn


class Applied(msgspec.Struct, frozen=True):
    """Batches were applied, in log order, up to `last`; `results` has a pair for each: the LSN of its last
    record, and a result for each of its requests, in their order.
    """

    last: Lsn
    results: Sequence[tuple[Lsn, Sequence[Result]]]


class FollowerJoined(msgspec.Struct, frozen=True):
    """A follower in `reign` proved that its log equals ours up to `matched`, all of it on its disk."""

    node: NodeId
    session: int
    incarnation: Incarnation
    matched: Lsn
    applied: Lsn
    reign: Reign


class FollowerAcked(msgspec.Struct, frozen=True):
    """A follower's cumulative ack on its session."""

    node: NodeId
    session: int
    ack: Ack


class FollowerLeft(msgspec.Struct, frozen=True):
    """A follower's session ended."""

    node: NodeId
    session: int


class Deposed(msgspec.Struct, frozen=True):
    """Why this node must not lead: a newer term, a taken term, a committed record that we lack."""

    error: RedwireError


class SourceFound(msgspec.Struct, frozen=True):
    """The source answered Follow. `local` is our own position at `reply.common_lsn`, None if no batch of ours
    ends there; `asked` is where our log ended when we asked. `given_up`: what only we know committed was.
    """

    node: NodeId
    session: int
    reply: Following
    local: Position | None
    asked: Position
    given_up: bool = False


class BatchesReceived(msgspec.Struct, frozen=True):
    """Whole batches from the source, in order; none when only a part of one has come: it is alive."""

    session: int
    batches: Sequence[Batch]


class HeartbeatReceived(msgspec.Struct, frozen=True):
    """The source's head, watermark and clock."""

    session: int
    heartbeat: Heartbeat


class SourceLost(msgspec.Struct, frozen=True):
    """The session with the source ended."""

    session: int


class Stood(msgspec.Struct, frozen=True):
    """A member asks for our vote: it would lead in `reign`."""

    reign: Reign


class MetaSaved(msgspec.Struct, frozen=True):
    """The last `SaveMeta` is on disk."""


class TailCut(msgspec.Struct, frozen=True):
    """The last `Cut` is on disk; the log ends there now."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


FollowerEvent = FollowerJoined | FollowerAcked | FollowerLeft
PrimaryEvent = Proposed | ChangeProposed | Durable | Applied | FollowerEvent | Deposed | Tick
SourceEvent = SourceFound | BatchesReceived | HeartbeatReceived | SourceLost
ReplicaEvent = SourceEvent | Stood | MetaSaved | TailCut | Durable | Applied | Tick
Event = PrimaryEvent | ReplicaEvent


# --- effects


class Append(msgspec.Struct, frozen=True):
    """Write the batch to the log and send it to whoever follows."""

    batch: Batch

    def __str__(self) -> str:
        return f"append {self.batch}"


class Commit(msgspec.Struct, frozen=True):
    """The watermark rose: apply up to it. Followers learn it with the next batch, or soon (R10)."""

    watermark: Lsn

    def __str__(self) -> str:
        return f"commit {self.watermark}"


class Beat(msgspec.Struct, frozen=True):
    """Send a heartbeat to every follower."""

    def __str__(self) -> str:
        return "beat"


class Release(msgspec.Struct, frozen=True):
    """Answers for requests of one batch: committed ones with their results."""

    flight: Flight
    watermark: Lsn
    answers: list[tuple[Proposal, Result]]

    def __str__(self) -> str:
        who = " ".join(f"{p.caller}#{p.correlation}@{r.first_lsn}" for p, r in self.answers)
        acks = ",".join(node for node, _ in self.flight.acks)
        return f"release {who} copies={acks}"


class Known(msgspec.Struct, frozen=True):
    """The key was applied before: answer with what it came to then (R9)."""

    proposal: Proposal
    result: Result

    def __str__(self) -> str:
        return f"known {self.proposal.caller}#{self.proposal.correlation}@{self.result.first_lsn}"


class Unconfirmed(msgspec.Struct, frozen=True):
    """May or may not survive. `flight` is its batch, None if only an earlier attempt may be in the log."""

    proposal: Proposal
    flight: Flight | None
    message: str

    def __str__(self) -> str:
        return f"not confirmed {self.proposal.caller}#{self.proposal.correlation}: {self.message}"


class Reject(msgspec.Struct, frozen=True):
    """Certainly not written."""

    proposal: Proposal
    error: RedwireError

    def __str__(self) -> str:
        return f"reject {self.proposal.caller}#{self.proposal.correlation}: {self.error}"


class Drop(msgspec.Struct, frozen=True):
    """End the session with a peer, telling it why."""

    session: int
    error: RedwireError

    def __str__(self) -> str:
        return f"drop session {self.session}: {self.error}"


class EndReign(msgspec.Struct, frozen=True):
    """This node no longer leads; it becomes a replica and follows whoever does."""

    error: RedwireError

    def __str__(self) -> str:
        return f"end reign: {self.error}"


class SaveVote(msgspec.Struct, frozen=True):
    """Write our vote to `meta.cbor`, and tell of it only then."""

    reign: Reign

    def __str__(self) -> str:
        return f"save vote {self.reign}"


class SaveMeta(msgspec.Struct, frozen=True):
    """Write (term, primary) to `meta.cbor`; `MetaSaved` follows."""

    reign: Reign

    def __str__(self) -> str:
        return f"save meta {self.reign}"


class Cut(msgspec.Struct, frozen=True):
    """Move everything above `to` into `diverged/` and end the log there; `TailCut` follows."""

    to: Position
    reason: str

    def __str__(self) -> str:
        return f"cut to {self.to}: {self.reason}"


class SendAck(msgspec.Struct, frozen=True):
    """Ack to the source of this session."""

    session: int
    ack: Ack

    def __str__(self) -> str:
        return f"ack term={self.ack.term} durable={self.ack.durable} applied={self.ack.applied}"


class Rebuild(msgspec.Struct, frozen=True):
    """Take a snapshot (R5). `diverged`: keep what we have as well. `given_up`: so is what is committed."""

    session: int
    reason: str
    diverged: bool
    given_up: bool = False

    def __str__(self) -> str:
        how = f"{' diverged' if self.diverged else ''}{' given up' if self.given_up else ''}"
        return f"rebuild{how}: {self.reason}"


class Note(msgspec.Struct, frozen=True):
    """Something an operator wants to read about."""

    text: str
    level: Level = Level.INFO

    def __str__(self) -> str:
        return f"note {self.text}"


_OfPrimary = Beat | Release | Known | Unconfirmed | Reject | EndReign | ProvedLess
_OfReplica = SaveMeta | SaveVote | Cut | SendAck | Rebuild
Effect = Append | Commit | Drop | Note | _OfPrimary | _OfReplica

"""What goes into the cores of a node and what comes out: events, effects, and the proposals they speak of.

A core is a class with one `step(event, now)`. It returns effects, and the shell carries them out in the order
given. The ordering rules that make the log safe:

* `SaveMeta` is on disk (its `MetaSaved` came back) before the first `SendAck` of a new reign leaves (R3).
* `Append` reaches the disk thread and the followers in one go; only `Durable` may count the copy (R2).
* `Cut` has saved the conflicting tail and is on disk before anything else of the new session happens (R4).
* `Commit` never passes the node's own durable LSN (R6), so an applied record is always in the log.

An event holds a batch or more, never a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.log_config import Level
from cluster.policies import Effective
from cluster.settings import Planned
from redwire.batch import Batch
from redwire.errors import RedwireError
from redwire.message.peer import Ack, Following, Heartbeat
from redwire.position import Incarnation, Lsn, NodeId, Position, Reign
from redwire.record import Key, Kind


class Now(NamedTuple):
    """The time, passed in: a monotonic clock in microseconds, the wall clock in milliseconds since 1970."""

    us: int
    wall_ms: int

    @property
    def ms(self) -> int:
        """The monotonic clock in milliseconds."""
        return self.us // 1000


@dataclass(slots=True, eq=False)
class Proposal:
    """One request on its way into the log, and the one who waits for it.

    `session` and `correlation` say whom to answer. `request` is logged as it stands. `deadline_us`
    (monotonic) is when the waiter is told "not confirmed" or "refused"; `arrived_us` is when it came, 0 if
    nobody looked. `answered` is set by the core.
    """

    session: object
    correlation: int
    kind: Kind
    request: bytes
    count: int
    policy: Effective
    deadline_us: int
    key: Key | None = None
    attempt: int = 1
    answered: bool = False
    arrived_us: int = 0


class Result(NamedTuple):
    """What one request came to when it was applied. `items` holds a packed (u8 status, u64 version) per
    record.
    """

    first_lsn: int
    duplicate: bool
    expired: bool
    items: bytes


@dataclass(slots=True, eq=False)
class Flight:
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


# --- events


@dataclass(frozen=True, slots=True)
class Proposed:
    """Everything that waited when the turn began. `room_bytes`: what the log will surely take (R2)."""

    proposals: Sequence[Proposal]
    room_bytes: int


@dataclass(frozen=True, slots=True)
class ChangeProposed:
    """A change of the settings that an operator wants; `proposal` is who waits for it."""

    proposal: Proposal
    planned: Planned


@dataclass(frozen=True, slots=True)
class Durable:
    """The node's own log is on disk up to `lsn`."""

    lsn: Lsn


@dataclass(frozen=True, slots=True)
class Applied:
    """Batches were applied, in log order; `results` has one list per batch, aligned with its requests."""

    last: Lsn
    results: Sequence[tuple[Lsn, Sequence[Result]]]


@dataclass(frozen=True, slots=True)
class FollowerJoined:
    """A follower in `reign` proved that its log equals ours up to `matched`, all of it on its disk."""

    node: NodeId
    session: int
    incarnation: Incarnation
    matched: Lsn
    applied: Lsn
    reign: Reign


@dataclass(frozen=True, slots=True)
class FollowerAcked:
    """A follower's cumulative ack on its session."""

    node: NodeId
    session: int
    ack: Ack


@dataclass(frozen=True, slots=True)
class FollowerLeft:
    """A follower's session ended."""

    node: NodeId
    session: int


@dataclass(frozen=True, slots=True)
class Deposed:
    """Why this node must not lead: a newer term, a taken term, a committed record that we lack."""

    error: RedwireError


@dataclass(frozen=True, slots=True)
class SourceFound:
    """The source answered Follow. `local` is our own position at `reply.common_lsn`, None if no batch of ours
    ends there; `asked` is where our log ended when we asked.
    """

    node: NodeId
    session: int
    reply: Following
    local: Position | None
    asked: Position


@dataclass(frozen=True, slots=True)
class BatchesReceived:
    """Whole batches from the source, in order."""

    session: int
    batches: Sequence[Batch]


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """The source's head, watermark and clock."""

    session: int
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class SourceLost:
    """The session with the source ended."""

    session: int


@dataclass(frozen=True, slots=True)
class MetaSaved:
    """The last `SaveMeta` is on disk."""


@dataclass(frozen=True, slots=True)
class TailCut:
    """The last `Cut` is on disk; the log ends there now."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


FollowerEvent = FollowerJoined | FollowerAcked | FollowerLeft
PrimaryEvent = Proposed | ChangeProposed | Durable | Applied | FollowerEvent | Deposed | Tick
ReplicaEvent = (
    SourceFound
    | BatchesReceived
    | HeartbeatReceived
    | SourceLost
    | MetaSaved
    | TailCut
    | Durable
    | Applied
    | Tick
)


# --- effects


@dataclass(frozen=True, slots=True)
class Append:
    """Write the batch to the log and send it to whoever follows."""

    batch: Batch

    def __str__(self) -> str:
        return f"append {self.batch}"


@dataclass(frozen=True, slots=True)
class Commit:
    """The watermark rose: apply up to it. Followers learn it with the next batch, or soon (R10)."""

    watermark: Lsn

    def __str__(self) -> str:
        return f"commit {self.watermark}"


@dataclass(frozen=True, slots=True)
class Beat:
    """Send a heartbeat to every follower."""

    def __str__(self) -> str:
        return "beat"


@dataclass(frozen=True, slots=True)
class Release:
    """Answers for requests of one batch: committed ones with their results."""

    flight: Flight
    watermark: Lsn
    answers: list[tuple[Proposal, Result]]

    def __str__(self) -> str:
        who = " ".join(f"{p.session}#{p.correlation}@{r.first_lsn}" for p, r in self.answers)
        acks = ",".join(node for node, _ in self.flight.acks)
        return f"release {who} copies={acks}"


@dataclass(frozen=True, slots=True)
class Known:
    """The key was applied before: answer with what it came to then (R9)."""

    proposal: Proposal
    result: Result

    def __str__(self) -> str:
        return f"known {self.proposal.session}#{self.proposal.correlation}@{self.result.first_lsn}"


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """May or may not survive. `flight` is its batch, None if only an earlier attempt may be in the log."""

    proposal: Proposal
    flight: Flight | None
    message: str

    def __str__(self) -> str:
        return f"not confirmed {self.proposal.session}#{self.proposal.correlation}: {self.message}"


@dataclass(frozen=True, slots=True)
class Reject:
    """Certainly not written."""

    proposal: Proposal
    error: RedwireError

    def __str__(self) -> str:
        return f"reject {self.proposal.session}#{self.proposal.correlation}: {self.error}"


@dataclass(frozen=True, slots=True)
class Drop:
    """End the session with a peer, telling it why."""

    session: int
    error: RedwireError

    def __str__(self) -> str:
        return f"drop session {self.session}: {self.error}"


@dataclass(frozen=True, slots=True)
class EndReign:
    """This node no longer leads; it becomes a replica and follows whoever does."""

    error: RedwireError

    def __str__(self) -> str:
        return f"end reign: {self.error}"


@dataclass(frozen=True, slots=True)
class SaveMeta:
    """Write (term, primary) to `meta.cbor`; `MetaSaved` follows."""

    reign: Reign

    def __str__(self) -> str:
        return f"save meta {self.reign}"


@dataclass(frozen=True, slots=True)
class Cut:
    """Move everything above `to` into `diverged/` and end the log there; `TailCut` follows."""

    to: Position
    reason: str

    def __str__(self) -> str:
        return f"cut to {self.to}: {self.reason}"


@dataclass(frozen=True, slots=True)
class SendAck:
    """Ack to the source of this session."""

    session: int
    ack: Ack

    def __str__(self) -> str:
        return f"ack term={self.ack.term} durable={self.ack.durable} applied={self.ack.applied}"


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The source's log cannot be followed: take a snapshot (R5). `diverged`: keep what we have as well."""

    session: int
    reason: str
    diverged: bool

    def __str__(self) -> str:
        return f"rebuild{' diverged' if self.diverged else ''}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Note:
    """Something an operator wants to read about."""

    text: str
    level: Level = Level.INFO

    def __str__(self) -> str:
        return f"note {self.text}"


Effect = (
    Append
    | Commit
    | Beat
    | Release
    | Known
    | Unconfirmed
    | Reject
    | Drop
    | EndReign
    | SaveMeta
    | Cut
    | SendAck
    | Rebuild
    | Note
)

"""One write under way: what its caller holds, and what a link tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import anyio

from redwire.attempts import LAST_TRY_SHARE
from redwire.course import Again, Course, End, Step
from redwire.errors import (
    ASK_HINT,
    BodyInvalid,
    Conflict,
    NotConfirmed,
    ProtocolError,
    RedwireError,
    RequestInvalid,
    UnknownOutcome,
)
from redwire.frame import Frame
from redwire.message.client import Outcome, RecordStatus, WrittenEntry
from redwire.position import ClusterId
from redwire.receipt import Committed, RecordResult, open_receipt, unconfirmed
from redwire.record import REQUEST_HEADER, RequestKind, records
from redwire.session_keys import SessionKeys, WriteKey

if TYPE_CHECKING:
    import random

_CONFLICTS = (RecordStatus.EXISTS, RecordStatus.VERSION_MISMATCH)


class Owner(Protocol):
    """Who sends the writes of a client and keeps them to their deadlines."""

    cluster: ClusterId
    chance: random.Random

    def require_loop(self) -> None:
        """Raises `RequestInvalid` in another event loop than the client's, or in none."""

    def pursue(self, pending: Pending, step: Step) -> None:
        """Have `step` done, and what follows from it."""

    def finished(self, pending: Pending) -> None:
        """`pending` has its outcome."""


class Pending:
    """One write under way, or its outcome. Await it, or submit it with a callback; dropping it is fine.

    It goes on by itself until its own deadline, whoever waits and for how long.
    """

    atomic: ClassVar[bool] = True
    """All records or none, and none raises `Conflict`; else each stands for itself, as its result tells."""

    def __init__(
        self,
        owner: Owner,
        keys: SessionKeys,
        sequence: int,
        request: bytes,
        ids: Sequence[str],
        policy: str,
        timeout_s: float,
    ) -> None:
        """`sequence` was taken from `keys`, and `request` is what goes out under it."""
        self.ids = tuple(ids)  # the caller may fill the list anew while the write is under way
        self.policy = policy
        self.request = request
        self.timeout_s = timeout_s
        self.deadline_s = time.monotonic() + timeout_s
        self.sequence = sequence
        self.keys = keys
        self.course: Course | None = None  # made when something goes wrong
        self.callback: Callable[[Pending], None] | None = None
        self._owner = owner
        self._outcome: tuple[bytes, WrittenEntry] | RedwireError | None = None
        self._settled: anyio.Event | None = None  # made by those who wait for it

    @property
    def done(self) -> bool:
        """Whether there is an outcome: `result` then has it."""
        return self._outcome is not None

    @property
    def error(self) -> RedwireError | None:
        """Why the write was not committed; None while it is under way, and when it was."""
        return self._outcome if isinstance(self._outcome, RedwireError) else None

    @property
    def key(self) -> WriteKey:
        """Its idempotency key, by its text: what else it knows may change meanwhile. Another one takes its
        place only where the cluster has forgotten the client id: whoever asks for the first one then is told
        KEY_EXPIRED.

        Look at it before there is an outcome, and it can be asked for until this client has begun `OPEN_MAX`
        more writes, or has had the answers of `ANSWERED_MAX` more whose keys were looked at; else only while
        the outcome is not known.
        """
        self.keys.show(self.sequence)
        return self.keys.key(self.sequence, self.ids, atomic=self.atomic)

    def result(self) -> Committed:
        """The outcome. Raises `Conflict` where a condition did not hold, and all that `Client.put` raises;
        `RequestInvalid` while there is none.
        """
        if isinstance(self._outcome, RedwireError):
            raise self._outcome
        if self._outcome is None:
            raise RequestInvalid("the write is still under way", hint="await it, or ask `done` first")
        block, entry = self._outcome
        committed = Committed(self.ids, entry, block, self._owner.cluster)
        if self.atomic and not entry.all_applied:
            pairs = zip(records(memoryview(self.request)), committed.records, strict=True)
            check_conditions(committed, [f"{record[2].decode()}/{row.id}" for record, row in pairs])
        return committed

    async def wait(self) -> Committed:
        """The outcome, as soon as there is one; as `result`. Cancelling this ends only the wait. While the
        write is under way, raises `RequestInvalid` in another event loop than the client's.
        """
        if self._outcome is None:
            self._owner.require_loop()
            if self._settled is None:
                self._settled = anyio.Event()
            await self._settled.wait()
        return self.result()

    def __await__(self) -> Generator[Any, Any, Committed]:
        return self.wait().__await__()

    def written(self, block: bytes, entry: WrittenEntry) -> None:
        """The server's answer. Raises `BodyInvalid` for an answer that does not fit the request."""
        if self._outcome is not None:  # late: the key stays open for whoever was told to ask for it
            return
        try:
            if entry.outcome is Outcome.COMMITTED:
                if entry.count != len(self.ids):
                    raise BodyInvalid(f"Written: {entry.count} results for {len(self.ids)} records")
                self._settle((block, entry))
            else:
                receipt = open_receipt(block, entry, self._owner.cluster, len(self.ids))
                error = NotConfirmed(f"{unconfirmed(receipt)}: {receipt}", hint=ASK_HINT)
                error.receipt = receipt
                self.failed(error)
        except BodyInvalid as error:
            self.lost(error)
            raise

    def answered(self, frame: Frame) -> None:
        """No server answers a Write with a frame of its own. Raises `ProtocolError`."""
        error = ProtocolError(f"a write was answered with kind 0x{frame.kind:02x}")
        self.lost(error)
        raise error

    def failed(self, error: RedwireError) -> None:
        """The server, or the way to it, refused."""
        if self._outcome is None:
            self._go_on(self._story(in_flight=True).failed(error))

    def lost(self, error: RedwireError) -> None:
        """The connection ended before the answer."""
        if self._outcome is None:
            self._go_on(self._story(in_flight=True).lost(error))

    def expire(self, phase: str, why: str, hint: str) -> None:
        """The deadline has come. `why` and `hint` are what stands against a line to the primary, and what to
        do about that.
        """
        course = self._story(in_flight=True)
        phase = "answer" if course.doubtful else phase
        self._settle(course.timed_out(phase, self.timeout_s, why, hint))

    def abandon(self) -> None:
        """The client is being closed."""
        self._settle(self._story(in_flight=True).abandoned())

    def end(self, error: RedwireError) -> None:
        """The outcome is `error`."""
        if self._outcome is None:
            self._settle(error)

    def park(self) -> None:
        """It cannot be sent yet."""
        self._story(in_flight=False)
        self._owner.pursue(self, Again(0.0))

    def forget(self) -> None:
        """Nobody wants to know any more: nothing is sent again, and a late answer is dropped."""
        if self._outcome is None:
            text = "the call was cancelled: written or not is not known"
            self._settle(UnknownOutcome(text, phase="answer", hint=ASK_HINT))

    def rekey(self, keys: SessionKeys, sequence: int) -> None:
        """Go on under a `sequence` taken from `keys`: nothing was logged under the old one, nor will be."""
        self.keys.close(self.sequence)
        self.keys, self.sequence = keys, sequence
        length, _, flags, count, *_ = REQUEST_HEADER.unpack_from(self.request)
        head = request_head(length, flags, count, self.keys, sequence)
        self.request = head + self.request[REQUEST_HEADER.size :]

    def _story(self, *, in_flight: bool) -> Course:
        if self.course is None:
            self.course = Course(self._owner.chance, in_flight=in_flight)
        return self.course

    def _go_on(self, step: Step) -> None:
        refusal = self._story(in_flight=False).refused
        if isinstance(step, End):
            self._settle(step.error)
        elif refusal is not None and self.deadline_s - time.monotonic() < LAST_TRY_SHARE * self.timeout_s:
            self._settle(refusal)
        else:
            self._owner.pursue(self, step)

    def _settle(self, outcome: tuple[bytes, WrittenEntry] | RedwireError) -> None:
        if isinstance(outcome, NotConfirmed | UnknownOutcome):
            outcome.key = self.keys.key(self.sequence, self.ids, atomic=self.atomic)
            self.keys.keep(self.sequence)
        else:
            self.keys.answered(self.sequence)
        self._outcome = outcome
        self._owner.finished(self)
        if self._settled is not None:
            self._settled.set()
        if self.callback is not None:
            self.callback(self)


class PendingRows(Pending):
    """A write of records that stand for themselves, also where there is only one."""

    atomic = False


def request_head(length: int, flags: int, count: int, keys: SessionKeys, sequence: int) -> bytes:
    """The header of a WRITE request of `length` bytes with `count` records, under `sequence`."""
    return REQUEST_HEADER.pack(length, RequestKind.WRITE, flags, count, keys.client, sequence, keys.oldest)


def unproven(
    pending: Pending, default: str, block: bytes, entry: WrittenEntry, cluster: ClusterId
) -> NotConfirmed | None:
    """Of `pending`, which was refused for good, an earlier attempt came to this: the error where that is
    committed, but by less than what was asked. The answer to a question for a key speaks of the commit rule.

    `default` is the cluster's policy, for a write that names none. Texts are compared, but for their blanks:
    of two ways to write one policy this calls one not confirmed, which its receipt then mends.

    Raises `BodyInvalid` for a block that no server sends.
    """
    assert pending.course is not None
    if entry.outcome is not Outcome.COMMITTED:
        return None
    asked, receipt = pending.policy or default, open_receipt(block, entry, cluster, entry.count)
    if receipt.achieved is not None and _unspaced(receipt.achieved) == _unspaced(asked):
        return None
    text = f"an earlier attempt is committed, but not known to be by {asked}"
    error = NotConfirmed(f"{text}, and now: {pending.course.trouble}", hint=ASK_HINT)
    error.receipt = receipt
    return error


def _unspaced(policy: str) -> str:
    return "".join(policy.split())


NO_COLLECTION = (
    "its collection cannot begin: another name differs only in case, or there are as many as there may be"
)
"""A write that would begin a collection is a conflict with version 0 then."""


def check_conditions(committed: Committed, names: Sequence[str]) -> None:
    """Raises `Conflict` for a request of all records or none, and hence for any of one record, where it was
    none: a condition did not hold. `names` are the documents'.
    """
    for name, row in zip(names, committed.records, strict=True):
        if row.status in _CONFLICTS:
            raise _conflict(committed, name, row)


def _conflict(committed: Committed, name: str, row: RecordResult) -> Conflict:
    exists = row.status is RecordStatus.EXISTS
    if not row.version:
        text = f"{name}: {NO_COLLECTION}" if exists else f"{name} does not exist, so it has no version"
    else:
        text = f"{name} {'exists already' if exists else 'has another version'}; it stands at {row.version}"
    conflict = Conflict(text, status=row.status.name, version=row.version)
    conflict.receipt = committed.receipt
    return conflict

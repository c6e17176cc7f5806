"""What a record means: given the document's version now, the record's status and what happens to the
document.

Conditions are decided here, when a record is applied, and from nothing but the log before it: every node
comes to the same result. A document's version is the LSN of the record that wrote it; 0 stands for "there
is no document".

    operation   wanted    document   status              version       effect
    PUT         -         either     APPLIED             own LSN       write
    INSERT      -         absent     APPLIED             own LSN       write
    INSERT      -         present    EXISTS              the present   none
    DELETE      -         present    DELETED             the deleted   delete
    DELETE      -         absent     NOT_FOUND           0             none
    any         = it      as wanted  as without condition
    any         not it    either     VERSION_MISMATCH    the present   none

So a DELETE that wants version 0 finds what it wants, an absent document, and is NOT_FOUND. A write into a
collection whose name differs from an existing one only in case would create a second one that SQL cannot
tell from the first: it is EXISTS with version 0, which no document can have, and creates nothing. So is one
into a collection that would be one more than there may be.

A request with the ATOMIC flag has all its effects or none. EXISTS and VERSION_MISMATCH fail it, a DELETE of
nothing does not: the document is as absent as was asked for. The record that failed keeps its status, all
others are ABORTED.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from redwire.message.client import RESULT, RecordStatus
from redwire.record import Op


class Effect(Enum):
    """What happens to the document."""

    NONE = "none"
    WRITE = "write"
    DELETE = "delete"


class Decision(NamedTuple):
    """A record's result, `status` and `version` as the client sees them, and its effect."""

    status: RecordStatus
    version: int
    effect: Effect


FAILURES = frozenset((RecordStatus.EXISTS, RecordStatus.VERSION_MISMATCH))
"""Statuses that fail an atomic request."""

_OUTCOMES = {
    (Op.PUT, False): (RecordStatus.APPLIED, Effect.WRITE),
    (Op.PUT, True): (RecordStatus.APPLIED, Effect.WRITE),
    (Op.INSERT, False): (RecordStatus.APPLIED, Effect.WRITE),
    (Op.INSERT, True): (RecordStatus.EXISTS, Effect.NONE),
    (Op.DELETE, False): (RecordStatus.NOT_FOUND, Effect.NONE),
    (Op.DELETE, True): (RecordStatus.DELETED, Effect.DELETE),
}
"""(operation, whether the document is there) to what comes of it."""

_ABORTED = RESULT.pack(RecordStatus.ABORTED, 0)


def decide(op: Op, wanted: int | None, current: int, lsn: int, *, barred: bool = False) -> Decision:
    """What the record at `lsn` comes to. `wanted` is None for an unconditional record.

    `current` is the document's version, 0 if absent. `barred`: the collection does not exist, and
    cannot begin: another one's name differs from its only in case, or there are as many as there may be (then
    `current` is 0).
    """
    if wanted is not None and wanted != current:
        return Decision(RecordStatus.VERSION_MISMATCH, current, Effect.NONE)
    status, effect = _OUTCOMES[op, current > 0]
    if effect is Effect.WRITE:
        if barred:
            return Decision(RecordStatus.EXISTS, 0, Effect.NONE)
        return Decision(status, lsn, effect)
    return Decision(status, current, effect)


def aborted(failed: int, item: bytes, count: int) -> bytes:
    """The packed results of an atomic request of `count` records whose record `failed` came to `item`."""
    return _ABORTED * failed + item + _ABORTED * (count - failed - 1)


def generated_id(lsn: int) -> str:
    """The id of an INSERT that names none: its record's LSN in decimal."""
    return str(lsn)

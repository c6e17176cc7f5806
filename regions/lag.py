"""How far behind a member is and whether it is healthy; the unknown is called unknown, never zero."""

from __future__ import annotations

import math

import msgspec

from redwire.position import Lsn
from regions.trail import Trail

DEFAULT_REPLICA_TIMEOUT_MS = 5_000
"""How long a silent member counts as in reach, where a cluster's settings say nothing else."""
LAG_MS_MAX = 0xFFFF_FFFE
"""The topology's field is 32 bits wide, and its highest value says "unknown"."""


class LagConfig(msgspec.Struct, frozen=True):
    """When a silent member counts as lost, and a rate to estimate time from records where it was not
    observed.

    `records_per_ms` None (or no positive finite number) means "no estimate".
    """

    replica_timeout_ms: int = DEFAULT_REPLICA_TIMEOUT_MS
    records_per_ms: float | None = None


class CaughtUp(msgspec.Struct, frozen=True):
    """Nothing is missing, as of an ack that is young enough."""

    def __str__(self) -> str:
        return "caught up"


class Behind(msgspec.Struct, frozen=True):
    """`records` are missing, of about `bytes`, the oldest of them `ms` old; None where that is not known."""

    records: int
    bytes: int | None = None
    ms: int | None = None

    def __str__(self) -> str:
        size = "? bytes" if self.bytes is None else f"{self.bytes} bytes"
        return f"{self.records} records, {size}, {'?' if self.ms is None else self.ms} ms behind"


class Unknown(msgspec.Struct, frozen=True):
    """Nobody can say. `since_ms` is the time of the last word from the member, None for "never heard"."""

    since_ms: int | None = None

    def __str__(self) -> str:
        return "unknown, never heard" if self.since_ms is None else f"unknown since {self.since_ms} ms"


Lag = CaughtUp | Behind | Unknown


class Contact(msgspec.Struct, frozen=True):
    """What is known of the line to a member.

    `acked_ms` is when it last said where it stands, None for never. `streaming` is False while it takes a
    snapshot or catches up from far behind.
    """

    connected: bool
    streaming: bool
    acked_ms: int | None

    def heard_within(self, timeout_ms: int, now_ms: int) -> bool:
        """Whether the session is open and its last word young enough, the bound included.

        A word from further in the future than the bound means that the clock went back: it proves nothing
        either.
        """
        return self.connected and self.acked_ms is not None and abs(now_ms - self.acked_ms) <= timeout_ms


class Progress(msgspec.Struct, frozen=True):
    """One of a member's numbers: where it stands, when it last rose, and what it should follow."""

    name: str
    position: Lsn
    moved_ms: int | None
    target: Trail


class Health(msgspec.Struct, frozen=True):
    """Whether a member does its work; `reason` says why not and is empty when it does."""

    healthy: bool
    reason: str = ""

    def __str__(self) -> str:
        return "healthy" if self.healthy else f"unhealthy: {self.reason}"


def measure(head: Trail, applied: Lsn, contact: Contact, config: LagConfig, now_ms: int) -> Lag:
    """The lag of a member that serves reads up to `applied` behind the end of the primary's log.

    Unknown unless it was heard within the timeout: an idle primary proves nothing about a silent member.
    """
    if not contact.heard_within(config.replica_timeout_ms, now_ms):
        return Unknown(contact.acked_ms)
    records = head.value - applied
    if records <= 0:
        return CaughtUp()
    passed = head.passed_ms(applied) if head.reaches(applied) else None
    age = _estimated_ms(records, config) if passed is None else max(0, now_ms - passed)
    return Behind(records, head.size_above(applied), age)


def _estimated_ms(records: int, config: LagConfig) -> int | None:
    rate = config.records_per_ms
    if rate is None or not math.isfinite(rate) or rate <= 0:
        return None
    return round(min(records / rate, LAG_MS_MAX))


def lag_ms(lag: Lag) -> int | None:
    """The lag as the topology carries it: 0 when caught up, an estimate that fits its field, None for
    unknown.
    """
    match lag:
        case CaughtUp():
            return 0
        case Behind(ms=ms):
            return None if ms is None else min(ms, LAG_MS_MAX)
        case Unknown():
            return None


def health(contact: Contact, progress: tuple[Progress, ...], config: LagConfig, now_ms: int) -> Health:
    """Healthy is who was heard within the timeout, streams, and moves where there is something to reach."""
    if not contact.connected:
        return Health(False, "not connected")
    if contact.acked_ms is None:
        return Health(False, "connected, has not said where it stands")
    if not contact.heard_within(config.replica_timeout_ms, now_ms):
        return Health(False, f"silent for {abs(now_ms - contact.acked_ms)} ms")
    if not contact.streaming:
        return Health(False, "takes a snapshot or catches up from far behind")
    for number in progress:
        stalled = _stalled_ms(number, now_ms)
        if stalled > config.replica_timeout_ms:
            where = f"{number.name} stands at {number.position}, {number.target.value} is there"
            return Health(False, f"no progress for {stalled} ms: {where}")
    return Health(True)


def _stalled_ms(number: Progress, now_ms: int) -> int:
    """For how long there has been something to move to and the number did not move."""
    passed_ms = number.target.passed_ms(number.position)
    if passed_ms is None:
        return 0
    since_ms = passed_ms if number.moved_ms is None else max(passed_ms, number.moved_ms)
    return now_ms - since_ms

"""Whether a node is alive, and whether it is ready for reads or writes: yes or no, and why.

*Alive* is about the process alone (`cluster.pulse`); who fails it should be started anew. *Ready* is about
what a client would get here now; who fails it should get no new clients, and must not be started anew for it.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from cluster.bulletin import PrimaryState
from redwire.errors import RequestInvalid
from redwire.node_role import NodeRole
from redwire.status import UNKNOWN, Lag, Status

ASKED_LAG_MS_MAX = 86_400_000
"""A day: who asks for less freshness than that means none, and says so by leaving it out."""
_DIGITS_MAX = len(str(ASKED_LAG_MS_MAX))
"""What is longer is not made a number, however many zeros it begins with."""


class Purpose(Enum):
    """What a node is to be ready for."""

    READ = "read"
    WRITE = "write"


class Demand(msgspec.Struct, frozen=True):
    """What is asked of `/readyz`: `max_lag_ms` is how old a read may be, None for any age."""

    purpose: Purpose
    max_lag_ms: int | None = None

    @classmethod
    def parse(cls, query: list[tuple[str, str]]) -> Demand:
        """From the pairs of a query string. Raises `RequestInvalid`, which says what would be right."""
        given = dict(query)
        if len(given) != len(query) or given.keys() - {"for", "max_lag_ms"}:
            raise RequestInvalid("a parameter is unknown or given twice", hint="for=read|write, max_lag_ms=N")
        purposes = {purpose.value: purpose for purpose in Purpose}
        purpose, lag = given.get("for", ""), given.get("max_lag_ms")
        if purpose not in purposes:
            raise RequestInvalid(
                f"for is {purpose!r}" if purpose else "for is missing", hint="for=read|write"
            )
        if lag is None:
            return cls(purposes[purpose])
        if purposes[purpose] is Purpose.WRITE:
            raise RequestInvalid("max_lag_ms goes with for=read", hint="a primary has no lag")
        digits = lag.isascii() and lag.isdecimal() and len(lag) <= _DIGITS_MAX
        if not digits or int(lag) > ASKED_LAG_MS_MAX:
            raise RequestInvalid(
                f"max_lag_ms is {lag!r}", hint=f"whole milliseconds, 0 to {ASKED_LAG_MS_MAX}"
            )
        return cls(purposes[purpose], int(lag))


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/livez`. `disk_answered_ms`: how long ago the disk answered last."""

    alive: bool
    why: str
    node: str
    disk_answered_ms: int


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/readyz`. `lag_ms` is how old a read may be at most, None where that is not known."""

    ready: bool
    why: str
    purpose: str = msgspec.field(name="for")
    node: str
    role: str
    primary: str
    lag_ms: int | None


def readiness(status: Status, demand: Demand, trouble: str) -> Readiness:
    """Whether the node that made `status` is ready. `trouble` keeps it from serving anything, "" if none."""
    own, lag_ms = status.own, _lag_ms(status)
    why = trouble or (
        _no_read(status, demand, lag_ms) if demand.purpose is Purpose.READ else _no_write(status)
    )
    return Readiness(
        ready=not why,
        why=why,
        purpose=demand.purpose.value,
        node=status.vantage.node,
        role=own.role,
        primary=status.primary.node if status.primary.state == PrimaryState.LEADING else "",
        lag_ms=lag_ms,
    )


def _no_write(status: Status) -> str:
    """Why a write under the default policy would not be accepted here; "" if it would."""
    if status.own.role != NodeRole.PRIMARY:
        leads = status.primary.state == PrimaryState.LEADING
        return f"{status.vantage.node} does not lead" + (f"; {status.primary.node} does" if leads else "")
    if not status.quorum.met:
        return status.quorum.why
    return "" if status.own.disk.state in ("working", UNKNOWN) else f"the disk is {status.own.disk.state}"


def _no_read(status: Status, demand: Demand, lag_ms: int | None) -> str:
    """Why a read would not be answered here, or from too old a state; "" if it would."""
    own = status.own
    if not status.cluster.id:
        return f"{status.vantage.node} has not joined its cluster yet"
    if own.role == NodeRole.REBUILDING:
        return "it takes a snapshot"
    if own.disk.state == "damaged":
        return "the disk is damaged"
    if demand.max_lag_ms is None:
        return ""
    if lag_ms is None:
        return "its lag is unknown"
    if lag_ms > demand.max_lag_ms:
        return f"it is {lag_ms} ms behind, {demand.max_lag_ms} are allowed"
    return ""


def _lag_ms(status: Status) -> int | None:
    """How old a read may be: the lag as the primary judged it, and how old that judgement is.

    A primary has none for as long as it does its work: it applies what it commits at once.
    """
    lag: Lag = status.own.lag
    if status.own.role == NodeRole.PRIMARY and status.own.health != "unhealthy":
        return 0
    return None if lag.state == UNKNOWN or lag.ms is None else lag.ms + status.vantage.age_ms

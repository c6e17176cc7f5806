"""What one measurement found, and the arithmetic between raw samples and a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec


class Load(msgspec.Struct, frozen=True):
    """So many connections, each with so many writes under way: whenever one is answered the next one leaves.

    `beside` is the load of the other system that this one is held against, where it has no such load itself:
    PostgreSQL takes one transaction at a time from a connection, so as many callers need as many of them.
    """

    name: str
    connections: int
    in_flight: int = 1
    beside: str = ""


LOADS = (
    Load("1 client", 1),
    Load("8 clients", 8),
    Load("8 callers, 1 connection", 1, 8, "8 clients"),
    Load("64 clients", 64),
    Load("64 callers, 1 connection", 1, 64, "64 clients"),
    Load("8 × 128 in flight", 8, 128),
)


class Conditions(msgspec.Struct, frozen=True):
    """Under what a row was measured. Rows that differ here are not to be compared."""

    policy: str
    fsync: str
    tls: str
    filesystem: str
    software: str

    def __str__(self) -> str:
        return f"{self.policy}, fsync {self.fsync}, {self.tls}, {self.filesystem}, {self.software}"


class Wire(msgspec.Struct, frozen=True):
    """TCP payload bytes per commit, TLS included and both ways: between clients and primary, and between
    primary and all followers together.
    """

    clients_bytes: float
    feeds_bytes: float


class Stages(msgspec.Struct, frozen=True):
    """Where the time of a commit goes, medians in ms: own copy durable, commit rule met, answer received.

    The first two are counted from when the batch was made, the last from when the client sent the write.
    """

    own_disk_ms: float
    rule_met_ms: float
    answered_ms: float


class Row(msgspec.Struct, frozen=True):
    """One measured window of `seconds`. `note` says what is peculiar or, without `commits_per_s`, why so.

    `server_us` and `client_us` are CPU time per commit, over all processes of the cluster and over the load
    generator's. `other_cores` is how many cores were busy with what is not ours.
    """

    system: str
    load: Load
    conditions: Conditions
    seconds: float = 0.0
    commits: int = 0
    failed: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    server_us: float | None = None
    client_us: float | None = None
    other_cores: float | None = None
    wire: Wire | None = None
    stages: Stages | None = None
    note: str = ""

    @property
    def commits_per_s(self) -> float | None:
        """Commits in the window; None when nothing was measured."""
        return self.commits / self.seconds if self.commits and self.seconds else None


class Figure(msgspec.Struct, frozen=True):
    """A measured number that is not of a load: `value` in `unit`, or None and `note` says why."""

    name: str
    value: float | None
    unit: str
    note: str = ""


class Findings(msgspec.Struct, frozen=True):
    """Everything that one run found, in the order in which it was measured. `about` describes the machine."""

    about: Mapping[str, str]
    rows: Sequence[Row] = msgspec.field(default_factory=tuple)
    figures: Sequence[Figure] = msgspec.field(default_factory=tuple)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ascending samples that at least `share` of them do not exceed (nearest rank).

    There is at least one sample, and `share` is above 0 and at most 1.
    """
    assert ordered and 0 < share <= 1
    return ordered[math.ceil(share * len(ordered)) - 1]


def median(samples: Sequence[float]) -> float | None:
    """The median by nearest rank; None of nothing."""
    return percentile(sorted(samples), 0.5) if samples else None


def ratio(row: Row, rows: Sequence[Row]) -> float | None:
    """A row's throughput over the other system's under the same load; only for rows of the first system."""
    if row.system != rows[0].system or row.commits_per_s is None:
        return None
    load = row.load.beside or row.load.name
    others = (each.commits_per_s for each in rows if each.load.name == load and each.system != row.system)
    other = next(others, None)
    return row.commits_per_s / other if other else None

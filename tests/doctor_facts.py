"""Facts for the doctor: a cluster in which all is well but for what a test says, and what comes of it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cluster.credentials import DAY_MS
from redwire.status import (
    Cluster,
    Disk,
    Lag,
    NodeStatus,
    Primary,
    Quorum,
    RegionStatus,
    Slot,
    Status,
    Vantage,
)
from redwire.status import Settings as InForce
from tools.doctor.facts import Asked, Facts
from tools.doctor.finding import Finding, Level
from tools.doctor.judge import judge

NOW_MS = 1_700_000_000_000
NAMES = ("eu-1", "us-1", "ap-1")
MB = 1_000_000


def node(name: str, **changes: Any) -> NodeStatus:
    """One that is well, and reaches both others in 80 ms."""
    well = NodeStatus(
        id=name,
        addr=f"{name}.example.net:5050",
        region=name[:2],
        declared=name[:2],
        role="primary" if name == "eu-1" else "replica",
        health="healthy",
        connected=True,
        lag=Lag(state="caught_up", records=0, bytes=0, ms=0),
        slot=Slot(state="ok"),
        rtts_us={other: 80_000 for other in NAMES if other != name},
        disk=Disk(state="working", fsync_p99_us=900, free_bytes=900 * MB, floor_bytes=200 * MB),
        certificate_ends_at_ms=NOW_MS + 300 * DAY_MS,
        version="0.1.0",
    )
    return replace(well, **changes)


def cluster(**nodes: NodeStatus) -> Status:
    """A document in which all is well but for the nodes that are given, as eu_1=…"""
    given = {name.replace("_", "-"): row for name, row in nodes.items()}
    rows = tuple(given.get(name) or node(name) for name in NAMES)
    return Status(
        vantage=Vantage(node="eu-1", region="eu", source="eu-1", at_ms=NOW_MS),
        cluster=Cluster(id="ab" * 16, name="shop"),
        term=1,
        primary=Primary(node="eu-1", state="leading", since_at_ms=NOW_MS - 60_000),
        settings=InForce(
            lsn=3,
            policy="majority",
            floor="majority",
            policy_timeout_ms=10_000,
            replica_timeout_ms=5_000,
        ),
        quorum=Quorum(met=True),
        regions=tuple(RegionStatus(name=row.region, nodes=(row.id,), voters=1) for row in rows),
        nodes=rows,
    )


def seen_from(name: str, status: Status) -> Status:
    """The same as another node tells it."""
    return replace(status, vantage=replace(status.vantage, node=name, region=name[:2]))


def asked(status: Status, *silent: str, **ahead_ms: float) -> tuple[Asked, ...]:
    """All nodes but the `silent` answer with that document."""
    return tuple(
        Asked(name, f"{name}.example.net:5050", error="refused")
        if name in silent
        else Asked(
            name,
            f"{name}.example.net:5050",
            seen_from(name, status),
            ahead_ms=ahead_ms.get(name.replace("-", "_"), 0.0),
            unsure_ms=40.0,
        )
        for name in NAMES
    )


def facts(status: Status | None = None, *silent: str, **changes: Any) -> Facts:
    known: dict[str, Any] = {
        "now_ms": NOW_MS,
        "version": "0.1.0",
        "hosts": tuple(f"{name}.example.net:5050" for name in NAMES),
        "asked": asked(status or cluster(), *silent),
    }
    return Facts(**(known | changes))


def bad(found: Facts) -> list[Finding]:
    """What is not in order; whatever is wrong says what to do."""
    findings = [finding for finding in judge(found) if finding.level is not Level.OK]
    assert all(finding.what and finding.where and finding.mend for finding in findings)
    return findings


def only(found: Facts) -> Finding:
    (finding,) = bad(found)
    return finding


def policy(text: str, floor: str) -> Status:
    status = cluster()
    return replace(status, settings=replace(status.settings, policy=text, floor=floor))

"""The text that Prometheus gets: each name of the document, with its labels, and nothing that is unknown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from cluster.audit import AuditStatus
from cluster.commit_times import Sample
from cluster.counts import Counts
from cluster.disk import DiskState, DiskStatus
from cluster.events import EventKind, Events
from cluster.histogram import Buckets, Histogram
from cluster.metrics import Snapshot, exposition
from cluster.state import StateStatus
from redwire.errors import Code
from redwire.position import NodeId
from redwire.status import (
    Cluster,
    Commits,
    Disk,
    Lag,
    NodeStatus,
    Primary,
    Quorum,
    RegionStatus,
    Settings,
    Slot,
    Status,
    Vantage,
)

METRICS = (Path(__file__).parents[3] / "docs" / "METRICS.md").read_text()
EU, US = NodeId("eu-1"), NodeId("us-1")
STATE = StateStatus(wal_bytes=2_000, clients=3, open_keys=70, key_bytes=13_000, collections=5)
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def status() -> Status:
    """`eu-1` leads, and everything about `us-1` is known."""
    return Status(
        vantage=Vantage(node="eu-1", region="eu", source="eu-1"),
        cluster=Cluster(id="c1", name="shop"),
        term=3,
        primary=Primary(node="eu-1", state="leading"),
        head=10,
        watermark=9,
        settings=Settings(lsn=2),
        quorum=Quorum(met=True),
        regions=(RegionStatus(name="us", voters=1, durable=8, holds_watermark=False),),
        nodes=(
            NodeStatus(
                id="eu-1",
                region="eu",
                role="primary",
                health="healthy",
                connected=True,
                received=10,
                durable=10,
                applied=9,
                base=4,
                disk=Disk(state="working", free_bytes=5, floor_bytes=4, floor_ms=2_500, log_bytes=3),
                certificate_ends_at_ms=1_700_000_000_500,
                version='0.1 "x"',
            ),
            NodeStatus(
                id="us-1",
                region="us",
                role="replica",
                health="unhealthy",
                connected=True,
                sent=9,
                durable=8,
                applied=7,
                watermark=6,
                acked_at_ms=1_700_000_000_000,
                lag=Lag(state="behind", records=3, bytes=300, ms=1_250, catch_up_ms=5_000),
                slot=Slot(state="at_risk", bound="bytes_max", eviction_ms=60_000, held_bytes=77),
                rtt_us=80_000,
            ),
        ),
        commits=Commits(waiting=4, waiting_bytes=400),
    )


def disk_status(syncs: Buckets, logged_bytes: int) -> DiskStatus:
    """A disk thread that is well. Nobody looks at its log's own status here."""
    wal: Any = None
    return DiskStatus(DiskState.WORKING, 99, None, None, syncs, logged_bytes, wal)


@pytest.fixture
def snapshot(status: Status) -> Snapshot:
    counts, events, syncs = Counts(), Events(EU), Histogram()
    counts.committed(Sample(0, 5, US, 400, 2_000, 79_000, 1_000, 600, 90_000))
    counts.answered(Code.NOT_CONFIRMED)
    counts.answered(Code.BUSY)
    counts.session_begun()
    events.add(EventKind.DISK_FULL, "no room", 0)
    syncs.note(2_000)
    disk = disk_status(syncs.status(), 123)
    return Snapshot(status, counts.status(), events.counts(), disk, STATE, AuditStatus("", 6, 0, 8, 9), 7)


def told(snapshot: Snapshot) -> Samples:
    """Every sample but those of the process: (name, labels but cluster and node, by name) to value."""
    found: Samples = {}
    for family in text_string_to_metric_families(exposition(snapshot).decode()):
        for sample in family.samples:
            if sample.name.startswith("redwire_"):
                labels = dict(sample.labels)
                assert (labels.pop("cluster"), labels.pop("node")) == ("shop", snapshot.status.vantage.node)
                found[sample.name, tuple(sorted(labels.items()))] = sample.value
    return found


def of(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


AT_US = of(member="us-1", region="us")


def test_the_document_lists_what_is_served_in_its_order_with_types_and_labels(snapshot: Snapshot) -> None:
    pattern = r"^\| `(\w+)` \| (\w+) \| [^|]*\w[^|]* \|([^|]*)\| [^|]*\w[^|]* \|$"
    documented = re.findall(pattern, METRICS, re.MULTILINE)
    text = exposition(snapshot).decode()
    assert [(name, kind) for name, kind, _ in documented] == re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M)
    labels = {name: set(re.findall(r"`(\w+)`", cell)) for name, _, cell in documented}
    for name, found in told(snapshot):
        family = name if name in labels else re.sub(r"_(bucket|sum|count)$", "", name)
        assert {label for label, _ in found} - {"le"} == labels[family], name


def test_gauges_are_the_status_documents_in_seconds_and_bytes(snapshot: Snapshot) -> None:
    found = told(snapshot)
    assert found["redwire_node_info", of(version='0.1 "x"', region="eu", kind="voter")] == 1
    assert found["redwire_role", of(role="primary")] == 1 and found["redwire_role", of(role="replica")] == 0
    assert found["redwire_disk_state", of(state="working")] == 1
    assert found["redwire_disk_floor_seconds", ()] == 2.5
    assert found["redwire_certificate_end_timestamp_seconds", ()] == 1_700_000_000.5
    assert found["redwire_quorum_met", ()] == found["redwire_primary_in_sight", ()] == 1
    assert (found["redwire_head_lsn", ()], found["redwire_watermark_lsn", ()]) == (10, 9)
    assert (found["redwire_waiting_requests", ()], found["redwire_waiting_bytes", ()]) == (4, 400)
    assert (found["redwire_log_base_lsn", ()], found["redwire_member_watermark_lsn", AT_US]) == (4, 6)
    assert found["redwire_state_log_bytes", ()] == 2_000
    assert (found["redwire_key_clients", ()], found["redwire_keys", ()]) == (3, 70)
    assert (found["redwire_key_memory_bytes", ()], found["redwire_collections", ()]) == (13_000, 5)
    assert found["redwire_member_healthy", AT_US] == 0
    assert found["redwire_member_lag_seconds", AT_US] == 1.25
    assert found["redwire_member_rtt_seconds", AT_US] == 0.08
    assert found["redwire_member_slot_state", of(member="us-1", region="us", state="at_risk")] == 1
    assert found["redwire_member_slot_eviction_seconds", AT_US] == 60
    assert found["redwire_region_holds_watermark", of(region="us")] == 0


def test_counters_and_histograms_are_what_was_counted(snapshot: Snapshot) -> None:
    found = told(snapshot)
    assert found["redwire_commits_total", ()] == 5
    assert found["redwire_completed_total", of(member="us-1")] == 1
    assert found["redwire_not_confirmed_total", ()] == found["redwire_refusals_total", of(code="BUSY")] == 1
    assert (found["redwire_sessions", ()], found["redwire_sessions_begun_total", ()]) == (1, 1)
    assert found["redwire_authentications_total", ()] == 8
    assert found["redwire_authentications_failed_total", ()] == 9
    assert found["redwire_audit_lines_lost_total", ()] == 6
    assert found["redwire_log_lines_dropped_total", ()] == 7
    assert found["redwire_logged_bytes_total", ()] == 123
    assert found["redwire_events_total", of(kind="disk_full")] == 1
    assert found["redwire_events_total", of(kind="disk_working")] == 0
    assert found["redwire_commit_seconds_sum", of(stage="wire")] == 0.079
    below = [
        found["redwire_commit_seconds_bucket", of(stage="wire", le=le)] for le in ("0.05", "0.1", "+Inf")
    ]
    assert below == [0, 1, 1]
    assert found["redwire_disk_sync_seconds_count", ()] == 1


def test_a_replica_tells_of_itself_and_judges_nobody(snapshot: Snapshot, status: Status) -> None:
    follower = replace(status, vantage=replace(status.vantage, node="us-1", age_ms=700))
    names = {
        name
        for name, _ in told(Snapshot(follower, snapshot.counts, {}, snapshot.disk, STATE, snapshot.audit, 0))
    }
    assert {"redwire_durable_lsn", "redwire_head_lsn", "redwire_status_age_seconds"} <= names
    assert not any(
        name.startswith(("redwire_member_", "redwire_region_", "redwire_waiting_")) for name in names
    )
    assert "redwire_quorum_met" not in names


def test_what_is_unknown_has_no_sample_and_is_never_zero(snapshot: Snapshot) -> None:
    lone = Status(vantage=Vantage(node="eu-1"), cluster=Cluster(name="shop"))
    disk = disk_status(Buckets(), 0)
    found = told(Snapshot(lone, Counts().status(), {}, disk, STATE, AuditStatus("", 0, 0, 0, 0), 0))
    absent = (
        *("term", "head_lsn", "watermark_lsn", "durable_lsn", "disk_free_bytes", "disk_floor_seconds"),
        *("role", "disk_state"),
    )
    assert not {f"redwire_{name}" for name in absent} & {name for name, _ in found}
    assert found["redwire_primary_in_sight", ()] == 0


def test_the_primary_keeps_no_log_for_itself_and_tells_no_state_of_such_a_slot(snapshot: Snapshot) -> None:
    slots = [labels for name, labels in told(snapshot) if name == "redwire_member_slot_state"]
    assert slots == [of(member="us-1", region="us", state=state) for state in ("ok", "at_risk", "evicted")]


def test_a_member_that_nobody_judged_is_neither_well_nor_unwell(snapshot: Snapshot, status: Status) -> None:
    rows = (status.nodes[0], replace(status.nodes[1], health="unknown", lag=Lag()))
    unsure = replace(status, nodes=rows)
    found = told(Snapshot(unsure, snapshot.counts, {}, snapshot.disk, STATE, snapshot.audit, 0))
    assert ("redwire_member_healthy", AT_US) not in found
    assert ("redwire_member_lag_seconds", AT_US) not in found

"""One snapshot of a node as Prometheus metrics: gauges of its status document, and what it has counted.

What is unknown has no sample; it is never zero. Every sample names the cluster and the node that says it.
What a primary judges (`redwire_member_`, `redwire_region_`, the quorum) it alone says, so that an alert is
raised once and not by every node. docs/METRICS.md explains each name.

The library costs some 2 MB: a node whose metrics are off does not import this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from cluster.audit import AuditStatus
from cluster.counts import CountsStatus
from cluster.disk import DiskState, DiskStatus
from cluster.events import EventKind
from cluster.histogram import BOUNDS_US, Buckets
from cluster.state import StateStatus
from redwire.node_role import NodeRole
from redwire.status import NodeStatus, RegionStatus, Status

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
ROLES = tuple(role.value for role in NodeRole)
DISK_STATES = tuple(state.value for state in DiskState)
SLOT_STATES = ("ok", "at_risk", "evicted")
_OWN = ("cluster", "node")


class Snapshot(msgspec.Struct, frozen=True):
    """Everything that is told at one moment."""

    status: Status
    counts: CountsStatus
    events: Mapping[EventKind, int]
    disk: DiskStatus
    state: StateStatus
    audit: AuditStatus
    log_lines_lost: int

    @property
    def judged(self) -> tuple[NodeStatus, ...]:
        """The rows of all members where this node leads, else none."""
        return self.status.nodes if self.leads else ()

    @property
    def leads(self) -> bool:
        """Whether this node judges the others."""
        return self.status.own.role == NodeRole.PRIMARY


Value = float | None
_HEALTH = {"healthy": 1, "unhealthy": 0}
_NODE: tuple[tuple[str, str, Callable[[Snapshot], Value]], ...] = (
    ("term", "Term that the node leads or follows.", lambda s: s.status.term),
    ("epoch", "Version of the topology that it tells.", lambda s: s.status.epoch),
    ("head_lsn", "End of the primary's log.", lambda s: s.status.head),
    ("watermark_lsn", "How far the log is known committed.", lambda s: s.status.watermark),
    ("settings_lsn", "Record of the settings in force.", lambda s: s.status.settings.lsn),
    ("received_lsn", "End of the node's log.", lambda s: s.status.own.received),
    ("durable_lsn", "How far that is on its disk.", lambda s: s.status.own.durable),
    ("applied_lsn", "How far its state goes.", lambda s: s.status.own.applied),
    ("primary_in_sight", "1 if it sees a primary.", lambda s: s.status.primary.state == "leading"),
    ("status_age_seconds", "Age of what it knows of others.", lambda s: _s(s.status.vantage.age_ms)),
    ("disk_free_bytes", "Free on its volume.", lambda s: s.status.own.disk.free_bytes),
    ("disk_floor_bytes", "What retention wants free.", lambda s: s.status.own.disk.floor_bytes),
    ("disk_floor_seconds", "Until no more is free.", lambda s: _s(s.status.own.disk.floor_ms)),
    ("log_base_lsn", "The log is kept from the record after it.", lambda s: s.status.own.base),
    ("log_bytes", "Files of the log.", lambda s: s.status.own.disk.log_bytes),
    ("log_room_bytes", "What the log surely takes.", lambda s: s.disk.room_bytes),
    ("state_log_bytes", "SQLite's log of the state.", lambda s: s.state.wal_bytes),
    ("key_clients", "Clients that are remembered.", lambda s: s.state.clients),
    ("keys", "Keys of theirs.", lambda s: s.state.open_keys),
    ("key_memory_bytes", "What they take.", lambda s: s.state.key_bytes),
    ("collections", "Names of collections.", lambda s: s.state.collections),
    (
        "certificate_end_timestamp_seconds",
        "When its certificate ends.",
        lambda s: _s(s.status.own.certificate_ends_at_ms),
    ),
    ("sessions", "Clients that are in.", lambda s: s.counts.sessions),
    ("quorum_met", "1 if writes are accepted.", lambda s: s.status.quorum.met if s.leads else None),
    ("waiting_requests", "Not logged yet.", lambda s: s.status.commits.waiting if s.leads else None),
    ("waiting_bytes", "Bytes of them.", lambda s: s.status.commits.waiting_bytes if s.leads else None),
)
_MEMBER: tuple[tuple[str, str, Callable[[NodeStatus], Value]], ...] = (
    ("healthy", "1 if the primary calls it healthy.", lambda row: _HEALTH.get(row.health)),
    ("connected", "1 if it has a session.", lambda row: row.connected),
    ("counted", "1 if its copies count.", lambda row: not row.uncounted),
    ("sent_lsn", "How far it was sent the log.", lambda row: row.sent),
    ("durable_lsn", "How far that is on its disk.", lambda row: row.durable),
    ("applied_lsn", "How far its state goes.", lambda row: row.applied),
    ("watermark_lsn", "How far it knows the log committed.", lambda row: row.watermark),
    ("acked_timestamp_seconds", "Its last word.", lambda row: _s(row.acked_at_ms)),
    ("lag_records", "Records that it has not applied.", lambda row: row.lag.records),
    ("lag_bytes", "Bytes of them.", lambda row: row.lag.bytes),
    ("lag_seconds", "Age of the oldest of them.", lambda row: _s(row.lag.ms)),
    ("catch_up_seconds", "Until there are none.", lambda row: _s(row.lag.catch_up_ms)),
    ("rtt_seconds", "Round trip to it.", lambda row: None if row.rtt_us is None else row.rtt_us / 1e6),
    ("slot_held_bytes", "Log that is kept for it.", lambda row: row.slot.held_bytes),
    ("slot_eviction_seconds", "Until it is not.", lambda row: _s(row.slot.eviction_ms)),
)
_REGION: tuple[tuple[str, str, Callable[[RegionStatus], Value]], ...] = (
    ("voters", "Voters that are bound to it.", lambda row: row.voters),
    ("durable_lsn", "How far one of them has the log on disk.", lambda row: row.durable),
    ("holds_watermark", "1 if that is all that is committed.", lambda row: row.holds_watermark),
)
_COUNTERS: tuple[tuple[str, str, Callable[[Snapshot], float]], ...] = (
    ("commits", "Requests that were committed.", lambda s: s.counts.commits),
    ("not_confirmed", "Requests that may or may not survive.", lambda s: s.counts.not_confirmed),
    ("sessions_begun", "Clients that came in.", lambda s: s.counts.sessions_begun),
    ("authentications", "Handshakes that were accepted.", lambda s: s.audit.accepted),
    ("authentications_failed", "Handshakes that were refused.", lambda s: s.audit.rejected),
    ("logged_bytes", "Batches that were logged.", lambda s: s.disk.logged_bytes),
    ("log_lines_dropped", "Lines of the node's log that were lost.", lambda s: s.log_lines_lost),
    ("audit_lines_lost", "Lines of the audit log that were lost.", lambda s: s.audit.lost),
)


def exposition(snapshot: Snapshot) -> bytes:
    """`snapshot`, and how this process is, in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False, support_collectors_without_names=True)
    registry.register(_Source(snapshot))
    registry.register(_PROCESS)
    return generate_latest(registry)


_PROCESS = ProcessCollector(registry=None)


class _Source:
    """The metrics of one snapshot, for the library to print."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._own = (snapshot.status.cluster.name, snapshot.status.vantage.node)

    def collect(self) -> Iterator[Metric]:
        """Each family once, also where it has no sample."""
        seen, own = self._snapshot, self._snapshot.status.own
        info = InfoMetricFamily("redwire_node", "What the node is.", labels=_OWN)
        info.add_metric(self._own, {"version": own.version, "region": own.region, "kind": own.kind})
        yield info
        for name, text, read in _NODE:
            yield self._gauge(name, text, (), [((), read(seen))])
        yield self._states("role", "1 for its role.", (), "role", ROLES, [((), own.role)])
        yield self._states(
            "disk_state", "1 for its disk's state.", (), "state", DISK_STATES, [((), own.disk.state)]
        )
        yield from self._members()
        for name, text, of_region in _REGION:
            rows = seen.status.regions if seen.leads else ()
            yield self._gauge(
                f"region_{name}", text, ("region",), [((row.name,), of_region(row)) for row in rows]
            )
        yield from self._counters()
        yield from self._histograms()

    def _members(self) -> Iterator[Metric]:
        labels, rows = ("member", "region"), self._snapshot.judged
        for name, text, of_member in _MEMBER:
            points = [((row.id, row.region), of_member(row)) for row in rows]
            yield self._gauge(f"member_{name}", text, labels, points)
        slots = [((row.id, row.region), row.slot.state) for row in rows]
        yield self._states(
            "member_slot_state", "1 for the state of its slot.", labels, "state", SLOT_STATES, slots
        )

    def _counters(self) -> Iterator[Metric]:
        seen = self._snapshot
        for name, text, read in _COUNTERS:
            yield self._counter(name, text, (), [((), read(seen))])
        refused = [((code.value,), count) for code, count in seen.counts.refused.items()]
        yield self._counter("refusals", "Errors that clients were told, by code.", ("code",), refused)
        events = [((kind.value,), count) for kind, count in seen.events.items()]
        yield self._counter("events", "Events of this node, by kind.", ("kind",), events)
        completed = [((member,), count) for member, count in seen.counts.completed.items()]
        yield self._counter("completed", "Batches whose rule a member completed.", ("member",), completed)

    def _histograms(self) -> Iterator[Metric]:
        stages = HistogramMetricFamily(
            "redwire_commit_seconds", "Where the time of commits goes.", labels=(*_OWN, "stage")
        )
        for stage, buckets in self._snapshot.counts.stages.items():
            stages.add_metric((*self._own, stage), _cumulative(buckets), buckets.sum_us / 1e6)
        yield stages
        syncs = HistogramMetricFamily("redwire_disk_sync_seconds", "Write and sync of a group.", labels=_OWN)
        found = self._snapshot.disk.syncs
        syncs.add_metric(self._own, _cumulative(found), found.sum_us / 1e6)
        yield syncs

    def _gauge(
        self, name: str, text: str, labels: tuple[str, ...], points: Iterable[tuple[tuple[str, ...], Value]]
    ) -> Metric:
        family = GaugeMetricFamily(f"redwire_{name}", text, labels=(*_OWN, *labels))
        for values, value in points:
            if value is not None:
                family.add_metric((*self._own, *values), value)
        return family

    def _states(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        label: str,
        states: tuple[str, ...],
        points: Iterable[tuple[tuple[str, ...], str]],
    ) -> Metric:
        """A sample for each of `states`, 1 for the one that is; none where that is none of them."""
        known = [(values, now) for values, now in points if now in states]
        spread = [((*values, state), state == now) for values, now in known for state in states]
        return self._gauge(name, text, (*labels, label), spread)

    def _counter(
        self, name: str, text: str, labels: tuple[str, ...], points: Iterable[tuple[tuple[str, ...], float]]
    ) -> Metric:
        family = CounterMetricFamily(f"redwire_{name}", text, labels=(*_OWN, *labels))
        for values, value in points:
            family.add_metric((*self._own, *values), value)
        return family


def _s(ms: int | None) -> float | None:
    return None if ms is None else ms / 1_000


def _cumulative(buckets: Buckets) -> list[tuple[str, float]]:
    """Each bucket with all below it, named by its bound in seconds."""
    bounds = (*(str(bound / 1e6) for bound in BOUNDS_US), "+Inf")
    return list(zip(bounds, accumulate(buckets.counts), strict=True))

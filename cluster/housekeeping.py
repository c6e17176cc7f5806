"""What a node does by the clock: topology, freshness, the watermark of an idle log, retention."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from cluster.announcer import Epochs
from cluster.config import NodeConfig
from cluster.credentials import NodeCredentials
from cluster.node import Node
from cluster.primary import Primary
from cluster.retention import (
    AtRisk,
    Bounds,
    Evicted,
    Holdings,
    Ok,
    Slot,
    SlotKind,
    SlotState,
    decide,
)
from cluster.service import Service
from cluster.snapshot import SnapshotLibrary
from cluster.topology_advertiser import ReplicaView
from cluster.vitals import VitalSigns
from cluster.volume import Volume
from redwire import status
from redwire.frame import Kind
from redwire.message.client import TopologyNotice
from redwire.position import Lsn, NodeId
from regions.binding import MemberKind

TICK_S = 0.1
"""A topology changes ten times a second at most (R12): looking more often would find nothing."""
RETENTION_S = 1.0
"""No disk fills a segment of 64 MiB much sooner."""


class Housekeeping:
    """Runs beside the node's turns."""

    def __init__(
        self,
        node: Node,
        service: Service,
        config: NodeConfig,
        snapshots: SnapshotLibrary,
        credentials: NodeCredentials | None,
    ) -> None:
        self._node = node
        self._service = service
        self._snapshots = snapshots
        retention = config.retention
        self._bounds = Bounds(retention.bytes_max, retention.age_max_s * 1000, retention.disk_free_min_bytes)
        self.on_settings: Callable[[], None] = lambda: None
        self._settings = node.storage.settings
        self._started_ms = node.clock().ms
        self._seen_ms: dict[NodeId, int] = {}
        self._noted = Lsn(0)
        self._epochs_told = Epochs()
        self._vitals = VitalSigns(node, config, credentials)
        self._volume = Volume(node.storage.journal.disk, node.storage.data_dir, node.note)

    async def run(self) -> None:
        """Tick for ever."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._expire_snapshots)
            await self._ticks()

    async def _ticks(self) -> None:
        ticks = 0
        self._retain()
        while True:
            await anyio.sleep(TICK_S)
            ticks += 1
            self._heed_settings()
            self._observe()
            self._service.reads.tick()
            if ticks % round(RETENTION_S / TICK_S) == 0:
                self._note_watermark()
                self._retain()
                self._service.desk.second()

    async def _expire_snapshots(self) -> None:
        """Beside the ticks: a disk that is slow to remove files holds up none of them."""
        while True:
            await anyio.sleep(RETENTION_S)
            await self._snapshots.expire()

    def _heed_settings(self) -> None:
        """Say it once when other settings are in force."""
        settings = self._node.storage.settings
        if settings.lsn != self._settings.lsn:
            self._settings = settings
            self._node.announcer.members_changed(settings.cluster.membership.members)
            self.on_settings()

    def _observe(self) -> None:
        """Number topologies while leading, and relay the primary's while following (R12)."""
        node, role = self._node, self._node.role
        self._service.desk.observe()
        if not isinstance(role, Primary):
            node.announcer.lost_primary(role.leader is None)
            return
        now, timeout_ms = node.clock(), self._service.settings.cluster.replica_timeout_ms
        views = {
            row.id: ReplicaView.of(
                row, node.bulletin.lately(row.id, timeout_ms, now), node.roster.reports.get(row.id)
            )
            for row in role.coordinator.status(now.ms).members
        }
        node.announcer.observe(views, now.ms)
        self._relay()

    def _relay(self) -> None:
        """Every follower hears a new topology; a new follower hears the current one."""
        node = self._node
        body = TopologyNotice(False, node.announcer.current.encode()).encode()
        epoch = node.announcer.current.epoch
        for session in self._epochs_told.behind(node.roster.feeds.keys(), epoch):
            node.roster.ends[session].send(Kind.TOPOLOGY, body)

    def _note_watermark(self) -> None:
        """Put the watermark on disk when no batch has carried it for a second (R5)."""
        watermark = self._node.role.watermark
        if watermark > self._noted:
            self._noted = watermark
            self._node.storage.journal.disk.note_watermark(watermark)

    def _retain(self) -> None:
        """Let go of log that nobody is promised any more."""
        storage, now_ms = self._node.storage, self._node.clock().ms
        disk = storage.disk_status()
        wal = disk.wal
        total = sum(extent.size_bytes for extent in wal.segments)
        growth = self._vitals.growth_bytes_s(total)
        self._volume.look()
        holdings = Holdings(wal.base.lsn, wal.segments, growth, self._volume.free_bytes)
        slots, pins = self._slots(now_ms), self._snapshots.pins()
        decision = decide(self._bounds, holdings, storage.state.checkpointed, slots, pins, now_ms)
        self._node.bulletin.slots = {
            slot.id: slot_status(decision.slots[slot.id], holdings.held_bytes(slot.restart or wal.base.lsn))
            for slot in slots
        }
        self._vitals.look(disk, holdings.disk_free_bytes, self._volume.name)
        if wal.segments and decision.prune_through >= wal.segments[0].last > 0 and len(wal.segments) > 1:
            storage.journal.prune(decision.prune_through)

    def _slots(self, now_ms: int) -> list[Slot]:
        """What is promised to whom: known while we lead, else everything within bounds."""
        role, me = self._node.role, self._node.storage.me
        restarts: dict[NodeId, Lsn] = {}
        if isinstance(role, Primary):
            for row in role.coordinator.status(now_ms).members:
                if row.acked_ms is not None:
                    restarts[row.id] = row.durable
                    self._seen_ms[row.id] = row.acked_ms
        return [
            Slot(
                member.id,
                SlotKind.VOTER if member.kind is MemberKind.VOTER else SlotKind.READER,
                restarts.get(member.id),
                self._seen_ms.get(member.id, self._started_ms),
            )
            for member in self._settings.cluster.members
            if member.id != me
        ]


def slot_status(state: SlotState, held_bytes: int) -> status.Slot:
    """A slot as the status document shows it."""
    match state:
        case Ok():
            return status.Slot(state="ok", held_bytes=held_bytes)
        case AtRisk(bound, eta_ms):
            return status.Slot(state="at_risk", bound=bound.value, eviction_ms=eta_ms, held_bytes=held_bytes)
        case Evicted(reason):
            return status.Slot(state="evicted", bound=reason.value, held_bytes=0)

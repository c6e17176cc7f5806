"""What a node does by the clock: the order and the pace of it."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from cluster.config import NodeConfig
from cluster.credentials import NodeCredentials
from cluster.herald import Herald
from cluster.keeper import Keeper
from cluster.node import Node
from cluster.service import Service
from cluster.snapshot_library import SnapshotLibrary
from cluster.vitals import VitalSigns
from cluster.volume import Volume

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
        self.on_settings: Callable[[], None] = lambda: None
        self._settings = node.storage.settings
        self._herald = Herald(node)
        self._keeper = Keeper(node, config.retention, snapshots)
        self._vitals = VitalSigns(node, config, credentials)
        self._volume = Volume(node.storage.journal.disk, node.storage.data_dir, node.note)

    async def run(self) -> None:
        """Tick for ever."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._expire_snapshots)
            await self._ticks()

    async def _ticks(self) -> None:
        ticks = 0
        self._look_at_disk()
        while True:
            await anyio.sleep(TICK_S)
            ticks += 1
            self._heed_settings()
            self._service.desk.observe()
            self._herald.look()
            self._service.reads.tick()
            if ticks % round(RETENTION_S / TICK_S) == 0:
                self._keeper.note_watermark()
                self._look_at_disk()
                self._service.desk.second()

    async def _expire_snapshots(self) -> None:
        """Beside the ticks: a disk that is slow to remove files holds up none of them."""
        while True:
            await anyio.sleep(RETENTION_S)
            await self._snapshots.expire(short=self._keeper.short)

    def _heed_settings(self) -> None:
        """Say it once when other settings are in force."""
        settings = self._node.storage.settings
        if settings.lsn != self._settings.lsn:
            self._settings = settings
            self._node.announcer.members_changed(settings.cluster.membership.members)
            self.on_settings()

    def _look_at_disk(self) -> None:
        """What is on it, what is left, and what of the log may go for that."""
        disk, volume = self._node.storage.disk_status(), self._volume
        log_bytes = sum(extent.size_bytes for extent in disk.wal.segments)
        growth_bytes_s = self._vitals.growth_bytes_s(log_bytes)
        volume.look()
        self._keeper.retain(disk, growth_bytes_s, volume.free_bytes)
        self._vitals.look(disk, volume.free_bytes, volume.free_inodes, volume.name)

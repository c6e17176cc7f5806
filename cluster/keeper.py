"""What a node does for its log on disk: the log that is promised to nobody goes, the watermark is noted."""

from __future__ import annotations

from cluster.config import RetentionConfig
from cluster.disk import DiskState, DiskStatus
from cluster.node import Node
from cluster.primary import Primary
from cluster.promises import Promises, slot_status
from cluster.retention import Bounds, Holdings, decide
from cluster.snapshot_library import SnapshotLibrary
from redwire.position import Lsn


class Keeper:
    """Keeps the log of `node` within the bounds of `config`. `snapshots` pin what their receivers need.
    `short`: when looked at last the disk was full, or no more than the floor was free.
    """

    def __init__(self, node: Node, config: RetentionConfig, snapshots: SnapshotLibrary) -> None:
        self._node = node
        self._snapshots = snapshots
        self._bounds = Bounds(config.bytes_max, config.age_max_s * 1000, config.disk_free_min_bytes)
        self._promises = Promises(node.storage.me, node.clock().ms)
        self._noted = Lsn(0)
        self.short = False

    def note_watermark(self) -> None:
        """Put the watermark on disk when no batch has carried it since this was called last (R5). Not while a
        snapshot takes the place of the log that it is of: it may be that of another history.
        """
        watermark = self._node.role.watermark
        if watermark != self._noted and not self._node.roster.installing:
            self._noted = watermark
            self._node.storage.journal.disk.note_watermark(watermark)

    def retain(self, disk: DiskStatus, growth_bytes_s: int, free_bytes: int | None) -> None:
        """Say how each promise stands, and let go of log that nobody is promised any more. The log grows by
        `growth_bytes_s`, `free_bytes` of its volume are left, None if that is not known. Where they are few
        SQLite's log is folded early, too.
        """
        storage, role, now_ms = self._node.storage, self._node.role, self._node.clock().ms
        self.short = disk.state is DiskState.FULL or self._bounds.short(free_bytes)
        if self.short:
            storage.applies.ease()
        wal = disk.wal
        holdings = Holdings(wal.base.lsn, wal.segments, growth_bytes_s, free_bytes)
        rows = role.coordinator.status(now_ms).members if isinstance(role, Primary) else ()
        slots = self._promises.slots(storage.settings.cluster.membership.members, rows)
        pins = self._snapshots.pins()
        decision = decide(self._bounds, holdings, storage.state.checkpointed, slots, pins, now_ms)
        states = self._promises.kept(slots, decision.slots)
        self._node.bulletin.slots = {
            slot.id: slot_status(states[slot.id], holdings.held_bytes(slot.restart or wal.base.lsn))
            for slot in slots
        }
        if wal.segments and decision.prune_through >= wal.segments[0].last > 0 and len(wal.segments) > 1:
            storage.journal.prune(decision.prune_through)

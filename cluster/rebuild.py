"""Taking a snapshot when the log cannot be continued, and going on from there.

Two snapshots in a row that the log could not continue mean that the source lets go of its log faster than a
snapshot travels: then no third one is fetched by itself, and the note says which limit to raise.
"""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from cluster.effects import Rebuild
from cluster.events import EventKind
from cluster.links import Links
from cluster.node import Node
from cluster.replacement import Replacement
from cluster.replica import Replica
from cluster.snapshot import SnapshotReceiver
from redwire.message.peer import SnapshotManifest

IN_A_ROW_MAX = 2


class Rebuilder:
    """Fetches and installs snapshots for one node."""

    def __init__(self, node: Node, links: Links) -> None:
        self._node = node
        self._links = links
        self._folder: Path = node.storage.data_dir / "snapshots"
        self._diverged = False
        self._in_a_row = 0
        self._applied_then = 0
        self._said = False

    def begin(self, effect: Rebuild) -> None:
        """Fetch a snapshot over the session that `effect` names, or go on with an interrupted one."""
        node = self._node
        link = self._links.with_session(effect.session)
        if link is None or node.roster.rebuilding:
            return
        if node.storage.applied.lsn > self._applied_then:
            self._in_a_row = 0
        if self._in_a_row >= IN_A_ROW_MAX:
            if not self._said:
                self._said = True
                hint = "raise retention.bytes_max or age_max_s on the primary, then restart this node"
                node.note(f"{self._in_a_row} snapshots in a row came too late to go on from: {hint}")
            return
        self._diverged = effect.diverged
        node.roster.rebuilding = effect.session
        node.happened(EventKind.SNAPSHOT_BEGUN, f"taking a snapshot: {effect.reason}")
        link.rebuild(SnapshotReceiver(self._folder, self._install))

    async def _install(self, file: Path, manifest: SnapshotManifest) -> None:
        try:
            await self._replace(file, manifest)
        finally:
            self._node.roster.rebuilding = 0

    async def _replace(self, file: Path, manifest: SnapshotManifest) -> None:
        node = self._node
        if manifest.lsn < node.role.watermark:
            await anyio.to_thread.run_sync(file.unlink)
            known = node.role.watermark
            node.note(f"the snapshot ends at LSN {manifest.lsn}, below {known}, which is known committed")
            return
        node.stop_following()
        await node.storage.replace(Replacement(file, manifest.position, self._diverged))
        storage, log = node.storage, node.storage.log
        self._in_a_row += 1
        self._applied_then = log.end.lsn
        text = f"the snapshot is installed: state and log go on from LSN {log.end.lsn}"
        node.happened(EventKind.SNAPSHOT_DONE, text)
        if self._diverged:
            node.happened(EventKind.TAIL_SAVED, "log and state of before lie in diverged/ now")
        watermark = storage.meta.watermark
        node.become_replica(
            Replica(storage.me, storage.reign, log.end, log.durable, watermark, storage.applied.lsn)
        )
        node.on_applied()

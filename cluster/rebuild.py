"""Taking a snapshot when the log cannot be continued, and going on from there.

Two snapshots in a row that the log could not continue mean that the source lets go of its log faster than a
snapshot travels: then no third one is fetched by itself, and the event says which limit to raise.

A snapshot that is here is installed by a task of the node: the line that it came over may break meanwhile,
and half of an installation would be none.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread

from cluster.bell import Bell
from cluster.effects import Rebuild
from cluster.events import EventKind
from cluster.links import Links
from cluster.node import Node
from cluster.replacement import Replacement
from cluster.replica import Replica
from cluster.snapshot import SnapshotReceiver
from redwire.errors import Code, Refused
from redwire.message.peer import SnapshotManifest

IN_A_ROW_MAX = 2


class Rebuilder:
    """Fetches snapshots for one node, and installs them while `run` does."""

    def __init__(self, node: Node, links: Links) -> None:
        self._node = node
        self._links = links
        self._folder: Path = node.storage.data_dir / "snapshots"
        self._diverged = False
        self._in_a_row = 0
        self._applied_then = 0
        self._given_up = False
        self._arrived = Bell()
        self._arrival: tuple[Path, SnapshotManifest] | None = None
        self._installed = anyio.Event()

    async def run(self) -> None:
        """Install what arrives, until cancelled."""
        while True:
            await self._arrived.wait()
            if self._arrival is not None:
                await self._replace(*self._arrival)
                self._arrival = None
                self._installed.set()

    def begin(self, effect: Rebuild) -> None:
        """Fetch a snapshot over the session that `effect` names, or go on with an interrupted one."""
        node = self._node
        link = self._links.with_session(effect.session)
        if link is None or node.roster.rebuilding:
            return
        if node.storage.applied.lsn > self._applied_then:
            self._in_a_row, self._given_up = 0, False
        if self._in_a_row >= IN_A_ROW_MAX:
            if not self._given_up:
                self._given_up = True
                hint = "raise retention.bytes_max or age_max_s on the primary, then restart this node"
                text = f"{self._in_a_row} snapshots in a row came too late to go on from: {hint}"
                node.happened(EventKind.SNAPSHOT_GIVEN_UP, text)
            return
        self._diverged = effect.diverged
        node.roster.fetching = effect.session
        node.happened(EventKind.SNAPSHOT_BEGUN, f"taking a snapshot: {effect.reason}")
        link.rebuild(SnapshotReceiver(self._folder, self._install))

    async def _install(self, file: Path, manifest: SnapshotManifest) -> None:
        """Have `run` install it. Raises `Refused` for one that lacks what is known committed (R5)."""
        roster, known = self._node.roster, self._node.role.watermark
        self._in_a_row += 1
        if manifest.lsn < known:
            self._applied_then = self._node.storage.applied.lsn
            await anyio.to_thread.run_sync(file.unlink)
            text = f"the snapshot ends at LSN {manifest.lsn}, below {known}, which is known committed"
            raise Refused(Code.PRIMARY_LACKS_COMMITTED, text)
        self._installed = anyio.Event()
        self._arrival, roster.installing, roster.fetching = (file, manifest), True, None
        self._arrived.ring()
        await self._installed.wait()

    async def _replace(self, file: Path, manifest: SnapshotManifest) -> None:
        node, storage = self._node, self._node.storage
        node.stop_following()
        await node.outbox.apply.stop()
        await storage.replace(Replacement(file, manifest.position, self._diverged))
        log = storage.log
        self._applied_then = log.end.lsn
        text = f"the snapshot is installed: state and log go on from LSN {log.end.lsn}"
        node.happened(EventKind.SNAPSHOT_DONE, text)
        if self._diverged:
            node.happened(EventKind.TAIL_SAVED, "log and state of before lie in diverged/ now")
        watermark = storage.meta.watermark
        node.roster.installing = False
        node.outbox.apply.restart(storage.applied.lsn)
        node.become_replica(
            Replica(storage.me, storage.reign, log.end, log.durable, watermark, storage.applied.lsn)
        )
        node.on_applied()

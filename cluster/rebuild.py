"""Taking a snapshot when the log cannot be continued, and going on from there.

Where the disk has no room for one the line that it came over ends, which stops the source. The next one stays
up while it is looked here whether there is room, and nothing is asked for before.

A snapshot that is here is installed by a task of the node: the line that it came over may break meanwhile,
and half of an installation would be none.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from cluster.bell import Bell
from cluster.effects import Rebuild
from cluster.errors import DiskFailed, FormatNewer, FormatOlder, StateCorrupt
from cluster.events import EventKind
from cluster.links import Links
from cluster.node import Node
from cluster.peers import PeerSession
from cluster.replacement import Replacement
from cluster.snapshot import SnapshotReceiver
from cluster.snapshot_tries import Fetch, GiveUp, SnapshotTries, StayAway
from cluster.storage import follower
from redwire.errors import Code, Refused
from redwire.message.peer import SnapshotManifest

ROOM_S = 3.0
"""How often it is looked whether there is room: nobody frees any without waiting for that."""


class Rebuilder:
    """Fetches snapshots for one node, and installs them while `run` does."""

    def __init__(self, node: Node, links: Links) -> None:
        self._node = node
        self._links = links
        self._folder: Path = node.storage.data_dir / "snapshots"
        self._diverged = self._given_up = False
        self._tries = SnapshotTries()
        self._arrived = Bell()
        self._arrival: Replacement | None = None
        self._installed = anyio.Event()
        self._receiver: SnapshotReceiver | None = None

    async def run(self) -> None:
        """Install what arrives, until cancelled."""
        while True:
            await self._arrived.wait()
            if self._arrival is not None:
                await self._replace(self._arrival)
                self._arrival = None
                self._installed.set()

    def begin(self, effect: Rebuild) -> None:
        """Fetch a snapshot over the session that `effect` names, or go on with an interrupted one."""
        node = self._node
        session = self._links.session(effect.session)
        if session is None or node.roster.rebuilding or node.roster.candidacy.opens or node.leads:
            return
        match self._tries.next(node.storage.applied.lsn):
            case Fetch():
                self._fetch(effect, session)
            case GiveUp(text):
                node.happened(EventKind.SNAPSHOT_GIVEN_UP, text)
            case StayAway():
                pass

    def _fetch(self, effect: Rebuild, session: PeerSession) -> None:
        """Ask for one over `session`, unless the one before found no room: then that is looked for first."""
        node, before = self._node, self._receiver
        try:
            receiver = self._receiver = SnapshotReceiver(self._folder, self._install)
        except DiskFailed as error:
            node.storage.fail(error)
            return
        self._diverged, self._given_up = effect.diverged, effect.given_up
        node.roster.fetching = effect.session
        if before is None or before.full is None:
            node.happened(EventKind.SNAPSHOT_BEGUN, f"taking a snapshot: {effect.reason}")
            session.rebuild(receiver)
            return
        receiver.full, receiver.waits = before.full, True
        if not before.waits:
            text = f"there is no room for the snapshot: {before.full.message}; it goes on once there is"
            node.happened(EventKind.DISK_FULL, text)

    async def find_room(self, every_s: float = ROOM_S) -> None:
        """Have a snapshot that waits for room go on once there is, until cancelled. Raises `DiskFailed`."""
        while True:
            await anyio.sleep(every_s)
            receiver, number = self._receiver, self._node.roster.fetching
            if receiver is None or not receiver.waits or number is None:
                continue
            roomy = await anyio.to_thread.run_sync(receiver.has_room)
            session = self._links.session(number)
            if roomy and session is not None and receiver is self._receiver:
                receiver.full, receiver.waits = None, False
                text = "there is room for the snapshot: it goes on"
                self._node.happened(EventKind.DISK_WORKING, text)
                session.rebuild(receiver)

    async def _install(self, file: Path, manifest: SnapshotManifest) -> None:
        """Have `run` install it. Raises `Refused` for one that is of no use."""
        roster = self._node.roster
        by = Replacement(file, manifest.position, self._diverged)
        self._tries.arrived()
        refusal = await self._refusal(by)
        if refusal is not None:
            self._tries.ended(self._node.storage.applied.lsn)
            await anyio.to_thread.run_sync(partial(file.unlink, missing_ok=True))
            raise refusal
        self._installed = anyio.Event()
        self._arrival, roster.installing, roster.fetching = by, True, None
        self._arrived.ring()
        await self._installed.wait()

    async def _refusal(self, by: Replacement) -> Refused | None:
        """Why a snapshot is not installed: it lacks what is known committed (R5), or is no state."""
        known = 0 if self._given_up else self._node.role.watermark
        if by.at.lsn < known:
            text = f"the snapshot ends at LSN {by.at.lsn}, below {known}, which is known committed"
            return Refused(Code.PRIMARY_LACKS_COMMITTED, text)
        try:
            await anyio.to_thread.run_sync(by.check)
        except (StateCorrupt, FormatNewer, FormatOlder) as error:
            self._tries.unusable(str(error))
            return Refused(Code.DAMAGED, f"the snapshot cannot be used: {error}")
        return None

    async def _replace(self, by: Replacement) -> None:
        node, storage = self._node, self._node.storage
        node.stop_following()
        await node.outbox.apply.stop()
        await storage.replace(by)
        node.damage.replaced()
        log = storage.log
        self._tries.ended(log.end.lsn)
        text = f"the snapshot is installed: state and log go on from LSN {log.end.lsn}"
        node.happened(EventKind.SNAPSHOT_DONE, text)
        if by.diverged:
            node.happened(EventKind.TAIL_SAVED, "log and state of before lie in diverged/ now")
        node.roster.installing = False
        node.outbox.apply.restart(storage.applied.lsn)
        node.become_replica(follower(storage, storage.meta.watermark))
        node.on_applied()

"""The snapshots that a node offers: made from the live state, kept for a while, sent in hashed chunks
(DESIGN 7).

The file is materialised first and then sent, so no read transaction lives as long as a transfer. While a
snapshot is made or kept here its LSN is pinned: the log that its receiver needs next is not removed.

Files of this size are made, hashed and removed in threads: to remove 1.5 GB takes ext4 0.4 s, in which the
event loop must not stand still.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from cluster.bell import Bell
from cluster.errors import DiskFailed, DiskFull, NodeError
from cluster.files import FOLDER_MODE, open_file, translated
from cluster.peer_end import ChannelEnd
from cluster.recall import Recall
from cluster.volume import free_bytes
from redwire.body import encode
from redwire.frame import Kind
from redwire.message.peer import CHUNK_BYTES_MAX, SnapshotChunk, SnapshotFetch, SnapshotManifest
from redwire.position import Lsn, Position

KEPT_S = 600.0
"""How long a finished snapshot is offered again: a receiver that lost its line comes back within minutes."""
KEPT_SHORT_S = 10.0
"""And where space is short, on a volume that is full or at its floor: lines are dialled anew within 3 s."""
KEPT_MAX = 4
"""Each is as large as the state. Before one more is made, the eldest that nobody is being sent goes; where
all are being sent, the youngest of them serves one receiver more.
"""
HASHED_BYTES = 1 << 20
"""Between two looks whether it is called off."""


@dataclass(slots=True, eq=False)
class _Offer:
    """A snapshot that is made, until it is `done`: then it has a `manifest`, or there is an `error`.

    It needs the log from `lsn`. `users` wait for it or are being sent it; `whole` is whether one was sent all
    of it.
    """

    name: str
    path: Path
    lsn: Lsn
    done: anyio.Event
    manifest: SnapshotManifest | None = None
    error: NodeError | None = None
    used_s: float = 0.0
    users: int = 0
    whole: bool = False


class SnapshotLibrary:
    """The snapshots that this node offers. `make(path, recall)` materialises one and returns where it
    stands in the log.

    They are made by `run`, one at a time: who waits for one and loses his line meanwhile asks again for what
    goes on without him. A state of gigabytes takes minutes, which not every line lasts.
    """

    def __init__(
        self,
        folder: Path,
        make: Callable[[Path, Recall], Position],
        applied: Callable[[], Lsn],
        continues: Callable[[Position], bool],
        needs: Callable[[], int] = lambda: 0,
    ) -> None:
        """`applied` says how far the state goes now, `continues` whether the log goes on from a position;
        `needs` how many bytes have to be free for one more, asked in a thread.

        Raises `DiskFailed` where `folder` cannot be made, or emptied of what an earlier process offered.
        """
        self._folder = folder
        self._make = make
        self._applied = applied
        self._continues = continues
        self._needs = needs
        self._kept: dict[str, _Offer] = {}
        self._making: _Offer | None = None
        self._asked = Bell()
        with translated(folder):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            for stray in folder.glob("offer-*"):
                stray.unlink()

    def pins(self) -> list[Lsn]:
        """The LSNs from which the snapshots kept, and the one being made, need the log."""
        making = [] if self._making is None else [self._making]
        return [offer.lsn for offer in (*self._kept.values(), *making)]

    async def run(self) -> None:
        """Make what is asked for, for ever. When this is cancelled the one that is made is called off."""
        while True:
            await self._asked.wait()
            offer = self._making
            assert offer is not None
            try:
                await self._make_room()
                offer.manifest = await self._made(offer)
                offer.lsn, offer.used_s = Lsn(offer.manifest.lsn), anyio.current_time()
                self._kept[offer.name] = offer
            except NodeError as error:
                offer.error = error
            self._making = None
            offer.done.set()

    async def serve(self, end: ChannelEnd, asked: SnapshotFetch) -> None:
        """Send the snapshot that is asked for from its offset, or else another one from the start: one that
        nobody was sent all of yet, or a new one. Raises `DiskFailed` and `DiskFull`.
        """
        offer = await self._offer(asked.snapshot)
        offer.users += 1
        try:
            await offer.done.wait()
            if offer.error is not None:
                raise copy(offer.error) from offer.error.__cause__
            assert offer.manifest is not None
            end.send(Kind.SNAPSHOT_MANIFEST, encode(offer.manifest))
            await self._send(end, offer.path, asked.offset if offer.name == asked.snapshot else 0)
            offer.whole = True
        except DiskFailed:
            await self._forget([offer])  # it would fail again
            raise
        finally:
            offer.users -= 1
            offer.used_s = anyio.current_time()

    async def expire(self, *, short: bool = False) -> None:
        """Remove what nobody has asked for in a while, and what the log does not continue any more. Where
        space is `short` a while is what a line takes to come back.
        """
        eldest_s = anyio.current_time() - (KEPT_SHORT_S if short else KEPT_S)
        await self._forget([k for k in self._idle() if k.used_s < eldest_s or not self._continued(k)])

    async def _offer(self, name: str) -> _Offer:
        """The one of this name, or else one that is there or being made."""
        while (kept := self._fitting(name)) is not None:
            if await self._is_there(kept):
                return kept
            await self._forget([kept])  # somebody made room
        if self._making is None:
            name = f"offer-{secrets.token_hex(8)}"
            # It will stand at this LSN or above: the log that its receiver needs next is kept from now on.
            self._making = _Offer(name, self._folder / f"{name}.db", self._applied(), anyio.Event())
            self._asked.ring()
        return self._making

    def _fitting(self, name: str) -> _Offer | None:
        """What may be sent to who asks for this name: what the log continues, which another snapshot may have
        replaced. One that somebody was sent all of, and did not go on from, is of no use to him; another one
        gets it where no more can be made.
        """
        continued = {kept.name: kept for kept in self._kept.values() if self._continued(kept)}
        if name in continued:
            return continued[name]
        crowded = len(self._kept) >= KEPT_MAX and not self._idle()
        fit = [kept for kept in continued.values() if crowded or not kept.whole]
        return max(fit, key=lambda kept: kept.lsn, default=None)

    def _continued(self, kept: _Offer) -> bool:
        return kept.manifest is not None and self._continues(kept.manifest.position)

    @staticmethod
    async def _is_there(kept: _Offer) -> bool:
        """Whether nobody has removed its file. It is not forgotten meanwhile."""
        kept.users += 1
        try:
            return await anyio.to_thread.run_sync(kept.path.exists)
        finally:
            kept.users -= 1

    def _idle(self) -> list[_Offer]:
        """Those that nobody is being sent, the eldest first."""
        return [kept for kept in self._kept.values() if not kept.users]

    async def _forget(self, gone: Sequence[_Offer]) -> None:
        """Offer these no more, from now on, and remove their files."""
        for kept in gone:
            self._kept.pop(kept.name, None)
        for kept in gone:
            with translated(kept.path):
                await anyio.to_thread.run_sync(partial(kept.path.unlink, missing_ok=True))

    async def _made(self, offer: _Offer) -> SnapshotManifest:
        """What was made of it. Cancelling this does not wait for the rest."""
        recall = Recall()
        outcome: SnapshotManifest | NodeError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_call_off, recall)
            try:
                outcome = await anyio.to_thread.run_sync(self._materialise, offer.name, offer.path, recall)
            except NodeError as error:
                outcome = error
            tasks.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint_if_cancelled()
        if isinstance(outcome, NodeError):
            raise outcome
        assert outcome is not None
        return outcome

    async def _make_room(self) -> None:
        """Have those go that nobody is being sent, where they are too many, or there is no room for one more.
        Raises `DiskFull` if that does not do: a copy that fails fills the volume, and nothing is written
        meanwhile.
        """
        await self._forget(self._idle()[: max(0, len(self._kept) - KEPT_MAX + 1)])
        if await anyio.to_thread.run_sync(self._missing) and (idle := self._idle()):
            await self._forget(idle)
        if missing := await anyio.to_thread.run_sync(self._missing):
            raise DiskFull(self._folder, missing)

    def _missing(self) -> str:
        """What there is no room for, "" for nothing."""
        with translated(self._folder):
            self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            free, needs = free_bytes(self._folder), self._needs()
        if free >= needs:
            return ""
        return f"for the state: it and retention.disk_free_min_bytes take {needs} bytes, and {free} are free"

    def _materialise(self, name: str, path: Path, recall: Recall) -> SnapshotManifest:
        with translated(self._folder):
            self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        at = self._make(path, recall)
        try:
            with translated(path), open(path, "rb", opener=open_file) as file:
                size, digest = os.fstat(file.fileno()).st_size, hashlib.sha256()
                while data := file.read(HASHED_BYTES):
                    recall.look()
                    digest.update(data)
        except NodeError:  # called off, or the disk failed
            with translated(path):
                path.unlink(missing_ok=True)
            raise
        return SnapshotManifest(
            snapshot=name, lsn=at.lsn, term=at.term, chain=at.chain, size=size, sha256=digest.digest()
        )

    @staticmethod
    async def _send(end: ChannelEnd, path: Path, offset: int) -> None:
        with translated(path):
            opened = await anyio.open_file(path, "rb", opener=open_file)
        async with opened as file:
            with translated(path):
                await file.seek(offset)
            while data := await _read(path, file):
                end.send(Kind.SNAPSHOT_CHUNK, SnapshotChunk(offset, data).encode())
                offset += len(data)
                await end.ready()
        end.send(Kind.SNAPSHOT_CHUNK, SnapshotChunk(offset, b"").encode())


async def _call_off(recall: Recall) -> None:
    """Call the work of `recall` off when this is cancelled."""
    try:
        await anyio.sleep_forever()
    finally:
        recall.call_off()


async def _read(path: Path, file: anyio.AsyncFile[bytes]) -> bytes:
    with translated(path):
        return await file.read(CHUNK_BYTES_MAX)

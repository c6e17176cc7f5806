"""Snapshots between nodes: made from the live state, sent in hashed chunks, resumed where a line broke
(DESIGN 7).

The sender materialises the file first and then sends it, so no read transaction lives as long as a transfer.
While a snapshot is kept here its LSN is pinned: the log that its receiver needs next is not removed.

Files of this size are made, hashed and removed in threads: to remove 1.5 GB takes ext4 0.4 s, in which the
event loop must not stand still.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from cluster.errors import DiskFull, NodeError
from cluster.files import FOLDER_MODE, not_a_file, open_file, translated
from cluster.peer_end import ChannelEnd
from cluster.recall import Recall
from cluster.volume import free_bytes
from redwire.body import decode, encode
from redwire.errors import ProtocolError
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
ROOM_BYTES = 1 << 20
"""Some chunks, written to see whether there is room: more would take it from others for a moment."""

HASHED_BYTES = 1 << 20
"""Between two looks whether anybody waits still."""

Install = Callable[[Path, SnapshotManifest], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Kept:
    manifest: SnapshotManifest
    path: Path
    used_s: float
    users: int = 0


class SnapshotLibrary:
    """The snapshots that this node offers. `make(path, recall)` materialises one and returns where it
    stands in the log.
    """

    def __init__(
        self,
        folder: Path,
        make: Callable[[Path, Recall], Position],
        applied: Callable[[], Lsn],
        base: Callable[[], Lsn],
        needs: Callable[[], int] = lambda: 0,
    ) -> None:
        """`applied` and `base` say how far the state goes now and where the kept log begins; `needs` how many
        bytes have to be free for one more, asked in a thread.

        Raises `DiskFailed` where `folder` cannot be made, or emptied of what an earlier process offered.
        """
        self._folder = folder
        self._make = make
        self._applied = applied
        self._base = base
        self._needs = needs
        self._kept: dict[str, _Kept] = {}
        self._making = anyio.Lock()
        self._pinned: dict[str, Lsn] = {}
        with translated(folder):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            for stray in folder.glob("offer-*"):
                stray.unlink()

    def pins(self) -> list[Lsn]:
        """The LSNs from which the snapshots kept, and those being made, need the log."""
        return [*(Lsn(kept.manifest.lsn) for kept in self._kept.values()), *self._pinned.values()]

    async def serve(self, end: ChannelEnd, asked: SnapshotFetch) -> None:
        """Send the snapshot that is asked for from its offset, or else another one, mostly new, from the
        start. Raises `DiskFailed` and `DiskFull`.
        """
        kept = self._kept.get(asked.snapshot)
        if kept is not None and not await self._is_there(kept):
            await self._forget([kept])  # somebody made room
            kept = None
        offset = asked.offset if kept is not None else 0
        if kept is None:
            kept = await self._new()
        kept.users += 1
        try:
            end.send(Kind.SNAPSHOT_MANIFEST, encode(kept.manifest))
            await self._send(end, kept.path, offset)
        finally:
            kept.users -= 1
            kept.used_s = anyio.current_time()

    async def expire(self, *, short: bool = False) -> None:
        """Remove what nobody has asked for in a while, and what the log does not continue any more. Where
        space is `short` a while is what a line takes to come back.
        """
        eldest_s, base = anyio.current_time() - (KEPT_SHORT_S if short else KEPT_S), self._base()
        await self._forget([k for k in self._idle() if k.used_s < eldest_s or k.manifest.lsn < base])

    @staticmethod
    async def _is_there(kept: _Kept) -> bool:
        """Whether nobody has removed its file. It is not forgotten meanwhile."""
        kept.users += 1
        try:
            return await anyio.to_thread.run_sync(kept.path.exists)
        finally:
            kept.users -= 1

    def _idle(self) -> list[_Kept]:
        """Those that nobody is being sent, the eldest first."""
        return [kept for kept in self._kept.values() if not kept.users]

    async def _forget(self, gone: Sequence[_Kept]) -> None:
        """Offer these no more, from now on, and remove their files."""
        for kept in gone:
            self._kept.pop(kept.manifest.snapshot, None)
        for kept in gone:
            with translated(kept.path):
                await anyio.to_thread.run_sync(partial(kept.path.unlink, missing_ok=True))

    async def _new(self) -> _Kept:
        async with self._making:
            if len(self._kept) >= KEPT_MAX and not self._idle():
                for kept in sorted(self._kept.values(), key=lambda kept: -kept.manifest.lsn):
                    if kept.manifest.lsn >= self._base() and await self._is_there(kept):
                        return kept
            await self._forget(self._idle()[: max(0, len(self._kept) - KEPT_MAX + 1)])
            await self._make_room()
            name = f"offer-{secrets.token_hex(8)}"
            path = self._folder / f"{name}.db"
            # It will stand there or above: the log that its receiver needs next is kept from now on.
            self._pinned[name] = self._applied()
            try:
                return await self._made(name, path)
            finally:
                del self._pinned[name]

    async def _made(self, name: str, path: Path) -> _Kept:
        """A new one. Whoever is cancelled meanwhile, as with a line that ends or a node that stops, does not
        wait for the rest of it.
        """
        recall = Recall()
        outcome: _Kept | NodeError | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_call_off, recall)
                try:
                    manifest = await anyio.to_thread.run_sync(self._materialise, name, path, recall)
                    outcome = _Kept(manifest, path, anyio.current_time())
                except NodeError as error:
                    outcome = error
                tasks.cancel_scope.cancel()
        finally:
            if isinstance(outcome, _Kept):
                self._kept[name] = outcome  # not before: `expire` is not to see it while nobody uses it
        await anyio.lowlevel.checkpoint_if_cancelled()
        if isinstance(outcome, NodeError):
            raise outcome
        assert outcome is not None
        return outcome

    async def _make_room(self) -> None:
        """Have those go that nobody is being sent, where there is no room for one more. Raises `DiskFull` if
        that does not do: a copy that fails fills the volume, and nothing is written meanwhile.
        """
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


class SnapshotReceiver:
    """Takes one snapshot into `folder`; what is there of an interrupted one is continued. Raises `DiskFailed`
    where that cannot be looked at.

    `install(path, manifest)` is called once, with the whole file, synced and verified. `begin` and `take`
    raise `DiskFull` where there is no room, and what is here by then is continued later; and `DiskFailed`.
    `full` is why that was, None for no such reason; `waits`: for room, before anything is asked for.
    """

    def __init__(self, folder: Path, install: Install) -> None:
        self._path = folder / "incoming.part"
        self._about = folder / "incoming.cbor"
        self._install = install
        self._received_bytes = 0
        self._manifest = self._resumable()
        self.full: DiskFull | None = None
        self.waits = False

    def has_room(self) -> bool:
        """Whether all that is still to come would find room now; what is here of it may have been removed to
        make some. May run in a thread. Raises `DiskFailed`.
        """
        probe = self._path.with_name(f"{self._path.name}.room")
        try:
            with translated(probe):
                probe.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
                self._received_bytes = self._path.stat().st_size if self._path.exists() else 0
                left = 0 if self._manifest is None else self._manifest.size - self.received_bytes
                if free_bytes(probe.parent) < max(left, ROOM_BYTES):
                    return False
                try:
                    with open(probe, "wb", opener=open_file) as file:
                        file.write(bytes(ROOM_BYTES))  # what is free on a volume need not be free for us
                finally:
                    probe.unlink(missing_ok=True)
            return True
        except DiskFull:
            return False

    def request(self) -> SnapshotFetch:
        """What to ask the source for."""
        if self._manifest is None:
            return SnapshotFetch("", 0)
        return SnapshotFetch(self._manifest.snapshot, self.received_bytes)

    @property
    def received_bytes(self) -> int:
        """How much of the file is here."""
        return self._received_bytes

    async def begin(self, manifest: SnapshotManifest) -> None:
        """The source sends this snapshot: go on with ours if it is the same, else start over."""
        if self._manifest != manifest:
            with self._noticed():
                await anyio.to_thread.run_sync(self._start_over, manifest)
            self._manifest = manifest

    async def take(self, chunk: SnapshotChunk) -> bool:
        """Take the next chunk; whether it was the last.

        Raises `ProtocolError` for a gap, and for a file that is not what was announced.
        """
        manifest = self._manifest
        if (
            manifest is None
            or chunk.offset != self.received_bytes
            or chunk.offset + len(chunk.data) > manifest.size
        ):
            raise ProtocolError(f"a snapshot chunk at byte {chunk.offset}, {self.received_bytes} are here")
        if chunk.data:
            with self._noticed():
                await anyio.to_thread.run_sync(self._append, bytes(chunk.data))
            return False
        with self._noticed():
            whole = await anyio.to_thread.run_sync(self._finish, manifest.sha256)
        self._manifest = None
        if not whole:
            raise ProtocolError("the snapshot's hash is not the announced one: it is fetched anew")
        await self._install(self._path, manifest)
        return True

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except DiskFull as error:
            self.full = error
            raise

    def _start_over(self, manifest: SnapshotManifest) -> None:
        with translated(self._about):
            self._path.unlink(missing_ok=True)
            self._received_bytes = 0
            with open(self._about, "wb", opener=open_file) as file:
                file.write(encode(manifest))

    def _append(self, data: bytes) -> None:
        with translated(self._path):
            try:
                with open(self._path, "ab", opener=open_file) as file:
                    file.write(data)
            except OSError:
                self._received_bytes = self._path.stat().st_size  # a part of it may be there
                raise
        self._received_bytes += len(data)

    def _finish(self, sha256: bytes) -> bool:
        """Sync the file, which is complete; whether it is what was announced. If not, it is gone."""
        with translated(self._path), open(self._path, "rb", opener=open_file) as file:
            os.fsync(file.fileno())
            whole = hashlib.file_digest(file, "sha256").digest() == sha256
            self._about.unlink(missing_ok=True)
            if not whole:
                self._path.unlink()
        return whole

    def _resumable(self) -> SnapshotManifest | None:
        """What the part that is here is of; None where there is none to go on with."""
        for path in (self._about, self._path):
            with translated(path):
                if not_a_file(path):
                    path.unlink()  # whoever opens a pipe waits, and the node with it
        with translated(self._about):
            try:
                manifest = decode(self._about.read_bytes(), SnapshotManifest)
            except FileNotFoundError:
                return None
            except (ProtocolError, msgspec.ValidationError):
                self._about.unlink()
                return None
            self._received_bytes = self._path.stat().st_size if self._path.exists() else 0
        return manifest if self._received_bytes <= manifest.size else None  # else every chunk is a gap

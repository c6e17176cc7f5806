"""A snapshot that comes from another node: taken in hashed chunks, and resumed where a line broke (DESIGN 7).

Its file is written, hashed and removed in threads: to remove 1.5 GB takes ext4 0.4 s, in which the event loop
must not stand still.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import msgspec

from cluster.errors import DiskFull
from cluster.files import FOLDER_MODE, not_a_file, open_file, translated
from cluster.volume import free_bytes
from redwire.body import decode, encode
from redwire.errors import ProtocolError
from redwire.message.peer import SnapshotChunk, SnapshotFetch, SnapshotManifest

ROOM_BYTES = 1 << 20
"""Some chunks, written to see whether there is room: more would take it from others for a moment."""

Install = Callable[[Path, SnapshotManifest], Awaitable[None]]


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

"""Taking a snapshot where there is no room for it: nothing but a wait comes of that."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from cluster.errors import DiskFull
from cluster.files import FILE_MODE
from cluster.snapshot import SnapshotReceiver
from redwire.message.peer import SnapshotChunk, SnapshotFetch, SnapshotManifest
from redwire.position import EMPTY

pytestmark = pytest.mark.anyio

CONTENT = b"documents"
MANIFEST = SnapshotManifest(
    snapshot="a1",
    lsn=EMPTY.lsn,
    term=EMPTY.term,
    chain=EMPTY.chain,
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).digest(),
)
FULL = Path("/dev/full")
"""Takes no byte, for want of space."""


class Installed:
    """Remembers what was to be installed."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    async def __call__(self, path: Path, manifest: SnapshotManifest) -> None:
        assert manifest == MANIFEST
        assert path.stat().st_mode & 0o777 == FILE_MODE
        self.found.append(path.read_bytes())


async def take(receiver: SnapshotReceiver) -> None:
    """Let all of it arrive, from where the receiver is."""
    offset = receiver.received_bytes
    if CONTENT[offset:]:
        assert not await receiver.take(SnapshotChunk(offset, CONTENT[offset:]))
    assert await receiver.take(SnapshotChunk(len(CONTENT), b""))


async def test_a_chunk_that_finds_no_room_is_asked_for_again(tmp_path: Path) -> None:
    installed = Installed()
    receiver = SnapshotReceiver(tmp_path, installed)
    await receiver.begin(MANIFEST)
    (tmp_path / "incoming.part").symlink_to(FULL)
    with pytest.raises(DiskFull, match="incoming.part: no space"):
        await receiver.take(SnapshotChunk(0, CONTENT))
    (tmp_path / "incoming.part").unlink()
    again = SnapshotReceiver(tmp_path, installed)
    assert again.request() == SnapshotFetch("a1", 0)
    await again.begin(MANIFEST)
    await take(again)
    assert installed.found == [CONTENT]


async def test_a_manifest_that_finds_no_room_is_asked_for_again(tmp_path: Path) -> None:
    installed = Installed()
    receiver = SnapshotReceiver(tmp_path, installed)
    (tmp_path / "incoming.cbor").symlink_to(FULL)
    with pytest.raises(DiskFull, match="incoming.cbor: no space"):
        await receiver.begin(MANIFEST)
    (tmp_path / "incoming.cbor").unlink()
    receiver = SnapshotReceiver(tmp_path, installed)
    assert receiver.request() == SnapshotFetch("", 0)
    await receiver.begin(MANIFEST)
    await take(receiver)
    assert installed.found == [CONTENT]


async def test_room_is_what_all_that_is_to_come_would_find(tmp_path: Path) -> None:
    receiver = SnapshotReceiver(tmp_path, Installed())
    assert receiver.has_room(), "nothing is known yet of what is to come"
    probe = tmp_path / "incoming.part.room"
    probe.symlink_to(FULL)
    assert not receiver.has_room() and not probe.exists(), "as where a quota ends"
    await receiver.begin(replace(MANIFEST, size=1 << 62))
    assert not receiver.has_room()
    await receiver.begin(MANIFEST)
    assert receiver.has_room() and receiver.full is None
    (tmp_path / "incoming.part").symlink_to(FULL)
    with pytest.raises(DiskFull):
        await receiver.take(SnapshotChunk(0, CONTENT))
    assert isinstance(receiver.full, DiskFull)

"""A snapshot that comes: one that finds no room is waited with, and what is here of it is gone on with."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from cluster.errors import DiskFailed, DiskFull
from cluster.files import FILE_MODE
from cluster.snapshot import SnapshotReceiver
from redwire.errors import ProtocolError
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


async def test_after_a_chunk_that_failed_the_offset_is_what_is_there(tmp_path: Path) -> None:
    receiver, part = SnapshotReceiver(tmp_path, Installed()), tmp_path / "incoming.part"
    await receiver.begin(MANIFEST)
    await receiver.take(SnapshotChunk(0, CONTENT[:3]))
    assert receiver.request() == SnapshotFetch("a1", 3)
    part.unlink()
    part.symlink_to(FULL)
    with pytest.raises(DiskFull):
        await receiver.take(SnapshotChunk(3, CONTENT[3:]))
    assert receiver.request() == SnapshotFetch("a1", 0)


@pytest.mark.parametrize("name", ["incoming.part", "incoming.cbor"])
async def test_a_pipe_in_the_place_of_what_was_begun_holds_nobody_up(tmp_path: Path, name: str) -> None:
    installed = Installed()
    await SnapshotReceiver(tmp_path, installed).begin(MANIFEST)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    receiver = SnapshotReceiver(tmp_path, installed)
    await receiver.begin(MANIFEST)
    await take(receiver)
    assert installed.found == [CONTENT]


@pytest.mark.parametrize("rest", [CONTENT[3:], b""])
async def test_a_pipe_that_takes_the_place_of_the_part_midway_holds_nobody_up(
    tmp_path: Path, rest: bytes
) -> None:
    receiver, part = SnapshotReceiver(tmp_path, Installed()), tmp_path / "incoming.part"
    await receiver.begin(MANIFEST)
    await receiver.take(SnapshotChunk(0, CONTENT[:3]))
    part.unlink()
    os.mkfifo(part)
    with pytest.raises(DiskFailed, match="incoming.part"):
        await receiver.take(SnapshotChunk(3, rest))


@pytest.mark.parametrize("folder_too", [False, True])
async def test_a_part_that_is_removed_to_make_room_is_fetched_from_its_beginning(
    tmp_path: Path, folder_too: bool
) -> None:
    installed, folder = Installed(), tmp_path / "snapshots"
    folder.mkdir()
    receiver = SnapshotReceiver(folder, installed)
    await receiver.begin(MANIFEST)
    await receiver.take(SnapshotChunk(0, CONTENT[:3]))
    (folder / "incoming.part").unlink()
    if folder_too:
        (folder / "incoming.cbor").unlink()
        folder.rmdir()
    assert receiver.has_room()
    assert receiver.request() == SnapshotFetch("a1", 0)
    await receiver.begin(MANIFEST)
    await take(receiver)
    assert installed.found == [CONTENT]


def test_a_pipe_where_it_is_looked_whether_there_is_room_holds_nobody_up(tmp_path: Path) -> None:
    receiver, probe = SnapshotReceiver(tmp_path, Installed()), tmp_path / "incoming.part.room"
    os.mkfifo(probe)
    with pytest.raises(DiskFailed, match=probe.name):
        receiver.has_room()
    assert receiver.has_room()


async def test_a_part_longer_than_the_whole_is_begun_anew(tmp_path: Path) -> None:
    installed = Installed()
    await SnapshotReceiver(tmp_path, installed).begin(MANIFEST)
    (tmp_path / "incoming.part").write_bytes(CONTENT + b"and more")
    receiver = SnapshotReceiver(tmp_path, installed)
    assert receiver.request() == SnapshotFetch("", 0)
    await receiver.begin(MANIFEST)
    await take(receiver)
    assert installed.found == [CONTENT]


@pytest.mark.parametrize("name", ["incoming.part", "incoming.cbor"])
def test_a_directory_in_the_place_of_what_was_begun_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DiskFailed, match=f"^{tmp_path / name}: "):
        SnapshotReceiver(tmp_path, Installed())


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


class Watched(type(Path())):  # type: ignore[misc]
    """A path that remembers which threads removed files."""

    removers: list[int]

    def unlink(self, missing_ok: bool = False) -> None:
        Watched.removers.append(threading.get_ident())
        super().unlink(missing_ok)


async def test_no_file_is_removed_by_the_event_loop(tmp_path: Path) -> None:
    Watched.removers = []
    receiver = SnapshotReceiver(Watched(tmp_path), Installed())
    await receiver.begin(replace(MANIFEST, size=3, snapshot="other"))
    await receiver.take(SnapshotChunk(0, b"abc"))
    await receiver.begin(MANIFEST)
    assert len(Watched.removers) == 2
    await receiver.take(SnapshotChunk(0, b"DOCUMENTS"))
    with pytest.raises(ProtocolError, match="hash"):
        await receiver.take(SnapshotChunk(len(CONTENT), b""))
    assert len(Watched.removers) == 4
    assert list(tmp_path.iterdir()) == []
    assert threading.get_ident() not in Watched.removers

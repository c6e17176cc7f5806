"""Snapshots: one that finds no room is waited with, and those that were given are kept for a while."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from msgspec.structs import replace

from cluster import snapshot
from cluster.errors import DiskFailed, DiskFull
from cluster.files import FILE_MODE, FOLDER_MODE
from cluster.peer_end import ChannelEnd
from cluster.recall import Recall
from cluster.snapshot import KEPT_MAX, KEPT_SHORT_S, SnapshotLibrary, SnapshotReceiver
from redwire.errors import ProtocolError
from redwire.message.peer import SnapshotChunk, SnapshotFetch, SnapshotManifest
from redwire.position import EMPTY, Lsn, Position

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


async def test_however_many_are_sent_one_at_a_time_no_more_are_made_than_are_kept(tmp_path: Path) -> None:
    shelf, going = Shelf(tmp_path), anyio.Event()

    class Slow(Member):
        async def ready(self) -> None:
            await going.wait()

    async with anyio.create_task_group() as tasks:
        for _ in range(3 * KEPT_MAX):
            slow: Any = Slow()
            tasks.start_soon(shelf.library.serve, cast(ChannelEnd, slow), SnapshotFetch("", 0))
        await anyio.wait_all_tasks_blocked()
        while shelf.made < 9 + KEPT_MAX or len(shelf.kept) < KEPT_MAX:
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)
        assert len(shelf.kept) == KEPT_MAX
        going.set()
    assert len(shelf.kept) == KEPT_MAX


async def test_of_those_that_are_all_being_sent_one_is_shared_only_if_it_is_there(tmp_path: Path) -> None:
    shelf, going = Shelf(tmp_path), anyio.Event()

    class Slow(Member):
        async def ready(self) -> None:
            await going.wait()

    async with anyio.create_task_group() as tasks:
        for made in range(KEPT_MAX):
            slow: Any = Slow()
            tasks.start_soon(shelf.library.serve, cast(ChannelEnd, slow), SnapshotFetch("", 0))
            while len(shelf.library.pins()) <= made or shelf.made < 10 + made:
                await anyio.sleep(0.01)
        await anyio.sleep(0.05)
        await shelf.give()
        assert shelf.made == 9 + KEPT_MAX, "it was given one of those"
        for file in [*shelf.folder.glob("offer-*")]:
            os.unlink(file)
        await shelf.give()
        assert shelf.made == 10 + KEPT_MAX
        shelf.base = Lsn(99)
        await shelf.library.expire()
        await shelf.give()
        assert shelf.made == 11 + KEPT_MAX, "the log does not continue any other"
        going.set()


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


@pytest.mark.parametrize("name", ["snapshots", "snapshots/offer-x.db"])
def test_what_keeps_snapshots_from_being_offered_is_a_failure_that_names_it(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "snapshots"
    if name == "snapshots":
        folder.touch()
    else:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DiskFailed, match=name):
        SnapshotLibrary(folder, lambda path, recall: EMPTY, lambda: Lsn(0), lambda: Lsn(0))


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


class Member:
    """In the place of a `ChannelEnd`: takes all that it is sent."""

    def send(self, kind: int, payload: bytes) -> None:
        pass

    async def ready(self) -> None:
        pass


class Shelf:
    """A library of states that are made at LSN 10, 11, …, over a log that begins at `base`. While it `loses`
    them somebody removes each file as soon as it is there; while it is `endless` none is ever done, and
    while it `fails` none can be read.
    """

    def __init__(self, folder: Path) -> None:
        Watched.removers = []
        self.folder, self.made, self.base, self.loses = Watched(folder), 9, Lsn(0), False
        self.needs, self.size, self.endless, self.fails = 0, len(CONTENT), False, False
        self.library = SnapshotLibrary(
            self.folder, self._make, lambda: Lsn(self.made), lambda: self.base, lambda: self.needs
        )

    def _make(self, path: Path, recall: Recall) -> Position:
        self.made += 1
        while self.endless:
            recall.look()
        if self.fails:
            path.symlink_to(self.folder)
        elif not self.loses:
            path.write_bytes(CONTENT)
            os.truncate(path, self.size)
        return replace(EMPTY, lsn=Lsn(self.made))

    async def give(self, name: str = "") -> None:
        member: Any = Member()
        await self.library.serve(cast(ChannelEnd, member), SnapshotFetch(name, 0))

    @property
    def kept(self) -> list[Lsn]:
        assert len(list(self.folder.glob("offer-*"))) == len(self.library.pins())
        return self.library.pins()


async def test_of_snapshots_that_nobody_is_sent_the_youngest_are_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for _ in range(KEPT_MAX + 2):
        await shelf.give()
    assert shelf.kept == [12, 13, 14, 15]


@pytest.mark.parametrize("folder_too", [False, True])
async def test_in_the_place_of_a_snapshot_that_somebody_removed_a_new_one_is_made(
    tmp_path: Path, folder_too: bool
) -> None:
    shelf = Shelf(tmp_path / "snapshots")
    await shelf.give()
    (made,) = shelf.folder.iterdir()
    made.unlink()
    if folder_too:
        shelf.folder.rmdir()
    await shelf.give(made.stem)
    assert shelf.kept == [11]
    assert shelf.folder.stat().st_mode & 0o777 == FOLDER_MODE


async def test_a_snapshot_that_cannot_be_read_is_a_failure_that_names_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    await shelf.give()
    (made,) = shelf.folder.iterdir()
    made.unlink()
    made.mkdir()
    with pytest.raises(DiskFailed, match=made.name):
        await shelf.give(made.stem)


async def test_a_snapshot_that_is_removed_while_it_is_made_is_a_failure_that_names_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.loses = True
    with pytest.raises(DiskFailed, match="offer-"):
        await shelf.give()
    shelf.loses = False
    await shelf.give()
    assert shelf.kept == [11]


async def test_a_snapshot_whose_log_is_gone_when_it_is_made_is_sent_all_the_same(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.base = Lsn(99)
    async with anyio.create_task_group() as tasks:

        async def keep_house() -> None:
            while True:
                await shelf.library.expire()
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(keep_house)
        await shelf.give()
        tasks.cancel_scope.cancel()
    await shelf.library.expire()
    assert shelf.kept == []


async def test_of_a_snapshot_that_cannot_be_hashed_nothing_is_left(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.fails = True
    with pytest.raises(DiskFailed, match="offer-"):
        await shelf.give()
    assert [*tmp_path.iterdir()] == []


async def test_a_pipe_in_the_place_of_a_snapshot_that_is_kept_holds_nobody_up(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    await shelf.give()
    (made,) = shelf.folder.iterdir()
    made.unlink()
    os.mkfifo(made)
    with pytest.raises(DiskFailed, match=made.name):
        await shelf.give(made.stem)


async def test_without_room_none_is_begun_and_those_that_nobody_is_sent_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    free = {0: 50, 1: 40}  # by the number of offers
    monkeypatch.setattr(snapshot, "free_bytes", lambda folder: free[len(list(folder.glob("offer-*")))])
    shelf.needs = 45
    await shelf.give()
    assert shelf.kept == [10]
    await shelf.give()
    assert shelf.kept == [11], "the one before was in the way"
    shelf.needs = 51
    with pytest.raises(DiskFull, match="no space for the state: it and .* take 51 bytes, and 50 are free"):
        await shelf.give()
    assert shelf.kept == [] and shelf.made == 11


async def test_where_space_is_short_an_idle_snapshot_goes_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    await shelf.give()
    await shelf.library.expire(short=True)
    assert shelf.kept == [10], "who has lost its line may come back for it"
    now = anyio.current_time()
    monkeypatch.setattr(anyio, "current_time", lambda: now + KEPT_SHORT_S + 1)
    await shelf.library.expire()
    assert shelf.kept == [10]
    await shelf.library.expire(short=True)
    assert shelf.kept == []


async def test_a_snapshot_that_the_log_does_not_continue_goes(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for _ in range(2):
        await shelf.give()
    await shelf.library.expire()
    assert shelf.kept == [10, 11]
    shelf.base = Lsn(11)
    await shelf.library.expire()
    assert shelf.kept == [11]


async def test_no_file_is_removed_by_the_event_loop(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for _ in range(KEPT_MAX + 1):
        await shelf.give()
    shelf.base = Lsn(99)
    await shelf.library.expire()
    assert shelf.kept == [] and len(Watched.removers) == KEPT_MAX + 1
    receiver = SnapshotReceiver(shelf.folder, Installed())
    await receiver.begin(replace(MANIFEST, size=3, snapshot="other"))
    await receiver.take(SnapshotChunk(0, b"abc"))
    await receiver.begin(MANIFEST)
    assert len(Watched.removers) == KEPT_MAX + 3
    await receiver.take(SnapshotChunk(0, b"DOCUMENTS"))
    with pytest.raises(ProtocolError, match="hash"):
        await receiver.take(SnapshotChunk(len(CONTENT), b""))
    assert len(Watched.removers) == KEPT_MAX + 5
    assert list(tmp_path.iterdir()) == []
    assert threading.get_ident() not in Watched.removers


@pytest.mark.parametrize("size", [0, 1 << 40])
async def test_who_is_cancelled_waits_neither_for_a_copy_that_is_made_nor_for_its_hash(
    tmp_path: Path, size: int
) -> None:
    shelf = Shelf(tmp_path)
    shelf.endless, shelf.size = not size, size
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shelf.give)
            while shelf.made == 9:
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    assert shelf.kept == [], "nor is anything left of it"
    shelf.endless, shelf.size = False, len(CONTENT)
    await shelf.give()
    assert shelf.kept == [11]

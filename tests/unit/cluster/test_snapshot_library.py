"""The snapshots that a node offers: made whoever is there to wait for them, and kept for a while."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from cluster import snapshot_library
from cluster.errors import DiskFailed, DiskFull
from cluster.files import FOLDER_MODE
from cluster.peer_end import ChannelEnd
from cluster.recall import Recall
from cluster.snapshot_library import KEPT_MAX, KEPT_SHORT_S, SnapshotLibrary
from redwire.message.peer import SnapshotFetch
from redwire.position import EMPTY, Lsn, Position, Term

pytestmark = pytest.mark.anyio

CONTENT = b"documents"


class Watched(type(Path())):  # type: ignore[misc]
    """A path that remembers which threads removed files."""

    removers: list[int]

    def unlink(self, missing_ok: bool = False) -> None:
        Watched.removers.append(threading.get_ident())
        super().unlink(missing_ok)


class Member:
    """In the place of a `ChannelEnd`: takes all that it is sent, once it is `going`."""

    def __init__(self, going: anyio.Event | None) -> None:
        self._going = going

    def send(self, kind: int, payload: bytes) -> None:
        pass

    async def ready(self) -> None:
        if self._going is not None:
            await self._going.wait()


class Shelf:
    """A library of states that are made at LSN 10, 11, …, over a log of `term` that begins at `base`. While
    it `loses` them somebody removes each file as soon as it is there; while it is `endless` none is ever
    done, and while it `fails` none can be read.
    """

    def __init__(self, folder: Path) -> None:
        Watched.removers = []
        self.folder, self.made, self.base, self.loses = Watched(folder), 9, Lsn(0), False
        self.term = Term(1)
        self.needs, self.size, self.endless, self.fails = 0, len(CONTENT), False, False
        self.library = SnapshotLibrary(
            self.folder, self._make, lambda: Lsn(self.made), self._continues, lambda: self.needs
        )

    def _continues(self, at: Position) -> bool:
        return at.lsn >= self.base and at.term == self.term

    def _make(self, path: Path, recall: Recall) -> Position:
        self.made += 1
        while self.endless:
            recall.look()
        if self.fails:
            path.symlink_to(self.folder)
        elif not self.loses:
            path.write_bytes(CONTENT)
            os.truncate(path, self.size)
        return replace(EMPTY, lsn=Lsn(self.made), term=self.term)

    async def give(self, name: str = "", going: anyio.Event | None = None) -> None:
        member: Any = Member(going)
        await self.library.serve(cast(ChannelEnd, member), SnapshotFetch(name, 0))

    @property
    def kept(self) -> list[Lsn]:
        assert len(list(self.folder.glob("offer-*"))) == len(self.library.pins())
        return self.library.pins()


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(tmp_path / "snapshots")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shelf.library.run)
        yield shelf
        tasks.cancel_scope.cancel()


async def test_of_snapshots_that_nobody_is_sent_the_youngest_are_kept(shelf: Shelf) -> None:
    for _ in range(KEPT_MAX + 2):
        await shelf.give()
    assert shelf.kept == [12, 13, 14, 15]


@pytest.mark.parametrize("folder_too", [False, True])
async def test_in_the_place_of_a_snapshot_that_somebody_removed_a_new_one_is_made(
    shelf: Shelf, folder_too: bool
) -> None:
    await shelf.give()
    (made,) = shelf.folder.iterdir()
    made.unlink()
    if folder_too:
        shelf.folder.rmdir()
    await shelf.give(made.stem)
    assert shelf.kept == [11]
    assert shelf.folder.stat().st_mode & 0o777 == FOLDER_MODE


async def test_a_snapshot_that_cannot_be_read_is_a_failure_that_names_it(shelf: Shelf) -> None:
    await shelf.give()
    (made,) = shelf.folder.iterdir()
    made.unlink()
    made.mkdir()
    with pytest.raises(DiskFailed, match=made.name):
        await shelf.give(made.stem)


async def test_a_snapshot_that_is_removed_while_it_is_made_is_a_failure_that_names_it(shelf: Shelf) -> None:
    shelf.loses = True
    with pytest.raises(DiskFailed, match="offer-"):
        await shelf.give()
    shelf.loses = False
    await shelf.give()
    assert shelf.kept == [11]


async def test_a_snapshot_whose_log_is_gone_when_it_is_made_is_sent_all_the_same(shelf: Shelf) -> None:
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


async def test_of_a_snapshot_that_cannot_be_hashed_nothing_is_left(shelf: Shelf) -> None:
    shelf.fails = True
    with pytest.raises(DiskFailed, match="offer-"):
        await shelf.give()
    assert [*shelf.folder.iterdir()] == []


async def test_a_pipe_in_the_place_of_a_snapshot_that_is_kept_holds_nobody_up(shelf: Shelf) -> None:
    await shelf.give()
    (made,) = shelf.folder.iterdir()
    made.unlink()
    os.mkfifo(made)
    with pytest.raises(DiskFailed, match=made.name):
        await shelf.give(made.stem)
    await shelf.give(made.stem)
    assert shelf.kept == [11], "what cannot be read is not offered again"


async def test_without_room_none_is_begun_and_those_that_nobody_is_sent_go_first(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {0: 50, 1: 40}  # by the number of offers
    monkeypatch.setattr(
        snapshot_library, "free_bytes", lambda folder: free[len(list(folder.glob("offer-*")))]
    )
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
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.give()
    await shelf.library.expire(short=True)
    assert shelf.kept == [10], "who has lost its line may come back for it"
    now = anyio.current_time()
    monkeypatch.setattr(anyio, "current_time", lambda: now + KEPT_SHORT_S + 1)
    await shelf.library.expire()
    assert shelf.kept == [10]
    await shelf.library.expire(short=True)
    assert shelf.kept == []


async def test_a_snapshot_that_the_log_does_not_continue_goes(shelf: Shelf) -> None:
    for _ in range(2):
        await shelf.give()
    await shelf.library.expire()
    assert shelf.kept == [10, 11]
    shelf.base = Lsn(11)
    await shelf.library.expire()
    assert shelf.kept == [11]


async def test_no_file_is_removed_by_the_event_loop(shelf: Shelf) -> None:
    for _ in range(KEPT_MAX + 1):
        await shelf.give()
    shelf.base = Lsn(99)
    await shelf.library.expire()
    assert shelf.kept == [] and len(Watched.removers) == KEPT_MAX + 1
    assert threading.get_ident() not in Watched.removers


@pytest.mark.parametrize("size", [0, 1 << 40])
async def test_a_node_that_stops_waits_neither_for_a_copy_that_is_made_nor_for_its_hash(
    tmp_path: Path, size: int
) -> None:
    shelf = Shelf(tmp_path)
    shelf.endless, shelf.size = not size, size
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shelf.library.run)
            tasks.start_soon(shelf.give)
            while shelf.made == 9:
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    assert [*tmp_path.iterdir()] == [], "nor is anything left of it"


async def test_all_who_ask_before_one_was_sent_as_a_whole_are_sent_the_same(shelf: Shelf) -> None:
    going = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(3 * KEPT_MAX):
            tasks.start_soon(shelf.give, "", going)
        await anyio.wait_all_tasks_blocked()
        while shelf.library.pins() != [10]:
            await anyio.sleep(0.01)
        going.set()
    await shelf.give()
    assert shelf.kept == [10, 11]


async def test_of_those_that_are_all_being_sent_one_is_shared_only_if_it_is_there(shelf: Shelf) -> None:
    going = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for made in range(KEPT_MAX):
            tasks.start_soon(shelf.give, "", going)
            while len(shelf.library.pins()) <= made or shelf.made < 10 + made:
                await anyio.sleep(0.01)
            await shelf.give()
        assert shelf.made == 9 + KEPT_MAX
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


async def test_who_comes_back_is_sent_what_was_made_meanwhile(shelf: Shelf) -> None:
    shelf.endless = True
    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shelf.give)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert shelf.library.pins() == [9], "the log that it will need is kept"
    shelf.endless = False
    while shelf.library.pins() != [10]:
        await anyio.sleep(0.001)
    shelf.base = Lsn(10)
    await shelf.library.expire()
    await shelf.give()
    assert shelf.kept == [10], "nothing was made twice"


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize(
    ("base", "term"), [(11, 1), (9, 2)], ids=["its log is gone", "another was installed"]
)
async def test_what_the_log_does_not_continue_is_given_to_nobody_who_comes_back(
    shelf: Shelf, base: int, term: int, by_name: bool
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shelf.give, "", anyio.Event())
        while shelf.library.pins() != [10]:
            await anyio.sleep(0.001)
        (made,) = shelf.folder.iterdir()
        tasks.cancel_scope.cancel()
    shelf.base, shelf.term = Lsn(base), Term(term)
    await shelf.give(made.stem if by_name else "")
    assert shelf.made == 11
    await shelf.library.expire()
    assert shelf.kept == [11]


async def test_each_who_waits_for_what_cannot_be_made_gets_an_error_of_its_own(shelf: Shelf) -> None:
    shelf.fails, told = True, []

    async def give() -> None:
        with pytest.raises(DiskFailed, match="offer-") as failed:
            await shelf.give()
        told.append(failed.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(give)
    assert shelf.made == 10 and told[0] is not told[1]


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
        SnapshotLibrary(folder, lambda path, recall: EMPTY, lambda: Lsn(0), lambda at: True)

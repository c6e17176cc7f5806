"""One data directory, open: what it says of itself while things go wrong in it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from cluster import meta as meta_file
from cluster.errors import ApplyStopped, DataDirInUse, DiskFailed, DiskFull, MetaCorrupt, StateCorrupt
from cluster.replacement import Replacement
from cluster.state import State
from cluster.storage import Storage
from redwire import body
from redwire.position import EMPTY, ClusterId, Lsn, Reign, Term
from redwire.record import Op, Record, RequestKind, encode_system

BIG = Record(Op.PUT, "orders", "a", b'{"n":"%s"}' % (b"x" * 200_000))


@pytest.fixture
def config_request(cluster_record: Any) -> Callable[[str], bytes]:
    """The request for a CONFIG record, by its policy."""
    return lambda policy: encode_system(RequestKind.CONFIG, body.encode(cluster_record(policy=policy)))


def test_a_directory_that_is_let_go_of_is_all_in_its_files(
    open_storage: Callable[[], Storage], written_log: Any, config_request: Any
) -> None:
    storage = open_storage()
    storage.state.apply([written_log.batch(config_request("local"))])
    log_of_sqlite = Path(f"{storage.state.path}-wal")
    assert log_of_sqlite.exists()
    storage.close()
    assert not log_of_sqlite.exists()


def test_an_apply_that_is_undone_puts_no_other_settings_into_force(
    storage: Storage, written_log: Any, config_request: Any
) -> None:
    assert storage.settings.lsn == 0
    storage.state.apply([written_log.batch(config_request("local"))])
    before = storage.settings
    assert before.lsn == 1
    storage.state._connection.execute("PRAGMA max_page_count = 20")
    batch = written_log.write(BIG)
    for _ in range(2):
        with pytest.raises(DiskFull):
            storage.state.apply([batch])
        assert storage.settings is before
    storage.state._connection.execute("PRAGMA max_page_count = 1000000")
    storage.state.apply([batch, written_log.batch(config_request("majority"))])
    assert (storage.settings.lsn, str(storage.settings.cluster.default_policy)) == (3, "majority")


def test_a_batch_above_the_state_that_only_a_newer_version_understands_is_told_with_its_lsn(
    storage: Storage, written_log: Any, config_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = bytearray(config_request("local"))
    request[4] = 99  # a kind that there is none of
    batch = written_log.batch(bytes(request))

    async def read(*_: object) -> list[Any]:
        return [batch]

    monkeypatch.setattr(storage.journal, "read", read)
    monkeypatch.setattr(storage, "log", SimpleNamespace(end=batch.position))
    with pytest.raises(
        ApplyStopped, match="the batch that ends at LSN 1: request of kind 99.*a newer version"
    ):
        anyio.run(storage.logged)


@pytest.mark.anyio
async def test_what_is_not_on_disk_yet_is_waited_for_and_not_where_it_was_cut(
    storage: Storage, written_log: Any, config_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = written_log.batch(config_request("local"))
    log = SimpleNamespace(end=batch.position)
    reads = 0

    async def read(*_: object) -> list[Any]:
        nonlocal reads
        reads += 1
        return [batch] if on_disk else []

    monkeypatch.setattr(storage.journal, "read", read)
    monkeypatch.setattr(storage, "log", log)
    on_disk = False
    with anyio.move_on_after(0.2) as waiting:
        await storage.logged()
    assert waiting.cancelled_caught and 0 < reads <= 11
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(storage.logged)
        await anyio.sleep(0.05)
        log.end = EMPTY
    on_disk, log.end = True, batch.position
    assert [settings.lsn for settings in (await storage.logged()).settings] == [batch.last]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"lock"}


@pytest.mark.parametrize("left", ["state.db", "state-2.db", "wal/0000000001/1-1.log"])
def test_files_without_the_meta_that_names_them_are_refused_and_left(
    open_storage: Callable[[], Storage], left: str
) -> None:
    storage = open_storage()
    folder = storage.data_dir
    storage.close()
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()
    (folder / left).parent.mkdir(parents=True, exist_ok=True)
    (folder / left).write_bytes(b"documents")
    with pytest.raises(MetaCorrupt, match=f"it is not there, and {left} is"):
        open_storage()
    assert names(folder) == {left}


def test_an_older_meta_than_the_state_is_refused_and_nothing_is_removed(
    open_storage: Callable[[], Storage],
) -> None:
    storage = open_storage()
    folder = storage.data_dir
    storage.close()
    (folder / "state.db").rename(folder / "state-2.db")
    before = names(folder)
    with pytest.raises(MetaCorrupt, match=r"it names state\.db, and there is state-2\.db"):
        open_storage()
    assert names(folder) == before


def test_whatever_the_system_refuses_while_it_is_opened_is_told_as_what_it_is(
    open_storage: Callable[[], Storage],
) -> None:
    storage = open_storage()
    folder = storage.data_dir
    storage.close()
    (folder / "state.db").unlink()
    (folder / "state.db").symlink_to("state.db")
    with pytest.raises(DiskFailed, match=r"/data: .*Too many levels of symbolic links: .*/state\.db"):
        open_storage()


@pytest.mark.parametrize("what", ["was removed, or is empty", "stands at LSN 1"])
def test_a_state_that_the_log_does_not_go_on_from_is_refused(
    open_storage: Callable[[], Storage], written_log: Any, what: str
) -> None:
    storage = open_storage()
    folder, path = storage.data_dir, storage.state.path
    storage.state.apply([written_log.write(BIG)])
    storage.state.snapshot_into(folder / "older")
    storage.state.apply([written_log.write(BIG) for _ in range(2)])
    storage.journal.wal.restart(storage.applied, storage.state.terms, 2)
    meta_file.save(folder, replace(storage.meta, generation=2, base=storage.applied))
    storage.close()
    if what == "stands at LSN 1":
        (folder / "older").replace(path)
    else:
        path.unlink()
    with pytest.raises(StateCorrupt, match=f"it {what}, and the log goes on only from 4") as caught:
        open_storage()
    assert "takes a snapshot" in caught.value.hint


@pytest.mark.parametrize(
    ("ends", "says"),
    [((1,), "says 1/1:"), ((2, 1), "says 1/3:"), ((3,), "says 1/3:"), ((1, 1), "no batch ends")],
)
def test_a_state_of_another_history_than_the_log_is_refused(
    open_storage: Callable[[], Storage], written_log: Any, tmp_path: Path, ends: tuple[int, ...], says: str
) -> None:
    """As one that was copied from a cluster of before, without the log."""
    storage, theirs = open_storage(), type(written_log)()
    path, batches = storage.state.path, [written_log.write(BIG), written_log.write(BIG, BIG)]
    storage.journal.wal.append(batches, Lsn(0))
    storage.state.apply(batches)
    storage.close()
    other = State.open(tmp_path / "other.db")
    other.apply([theirs.write(*[replace(BIG, id="b")] * records) for records in ends])
    other.close()
    open_storage().close()
    (tmp_path / "other.db").replace(path)
    with pytest.raises(
        StateCorrupt, match=f"it stands at 1/.*, and the log {says}.*: they are of two histories"
    ):
        open_storage()


def test_while_a_disk_that_hangs_may_yet_write_the_directory_stays_locked(
    open_storage: Callable[[], Storage],
) -> None:
    storage = open_storage()
    storage.connect(lambda lsn: None)
    hangs = threading.Event()
    storage.journal.disk.call(lambda: hangs.wait(60), lambda nothing: None)
    storage.journal.close_s = 0.01
    with pytest.raises(DiskFailed, match=r"not ended within 0\.01 s; the directory stays locked"):
        storage.close()
    with pytest.raises(DataDirInUse):
        open_storage()
    hangs.set()
    assert storage.journal.disk.join(20)
    storage.lock.close()
    open_storage().close()


@pytest.fixture
def snapshot(storage: Storage, written_log: Any) -> Path:
    """A snapshot that ends at LSN 1."""
    storage.state.apply([written_log.write(BIG)])
    path = storage.data_dir / "incoming.part"
    storage.state.snapshot_into(path)
    return path


def test_a_snapshot_is_a_state_that_ends_where_it_was_said_to(storage: Storage, snapshot: Path) -> None:
    Replacement(snapshot, storage.applied, diverged=False).check()
    with pytest.raises(StateCorrupt, match="was announced"):
        Replacement(snapshot, EMPTY, diverged=False).check()
    assert names(storage.data_dir) >= {"incoming.part"} and "incoming.part-wal" not in names(storage.data_dir)


def test_bytes_that_are_no_state_are_no_snapshot(storage: Storage, snapshot: Path) -> None:
    whole = snapshot.read_bytes()
    for spoilt in (b"", b"documents" * 1_000, whole[:8192], b"\0" * 100 + whole[100:]):
        snapshot.write_bytes(spoilt)
        with pytest.raises(StateCorrupt):
            Replacement(snapshot, storage.applied, diverged=False).check()


@pytest.mark.parametrize(
    "spoil",
    [
        "INSERT INTO keys VALUES (1, x'0102030405060708')",
        "INSERT INTO terms VALUES (9, 9, 9, 9)",
        "INSERT INTO config VALUES (1, 1, x'0102030405060708')",
        "DELETE FROM meta",
    ],
)
def test_a_snapshot_of_which_any_row_that_an_opening_reads_is_damaged_is_refused(
    storage: Storage, snapshot: Path, spoil: str
) -> None:
    with closing(sqlite3.connect(snapshot)) as connection, connection:
        connection.execute(spoil)
    with pytest.raises(StateCorrupt):
        Replacement(snapshot, storage.applied, diverged=False).check()


@pytest.mark.anyio
async def test_nobody_hears_of_a_new_cluster_before_it_is_on_the_disk(
    open_storage: Callable[..., Storage],
) -> None:
    """A full disk may never have it: a token of it would be of a cluster that never was."""
    with closing(open_storage(asyncio.get_running_loop().call_soon_threadsafe)) as storage:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(storage.begin_reign, Term(1), ClusterId("c" * 32))
            await anyio.sleep(0.05)
            assert storage.meta.cluster == "" and storage.reign == Reign(Term(1), storage.me)
            storage.connect(lambda lsn: None)
        assert storage.meta.cluster == storage.journal.disk.meta.cluster == "c" * 32

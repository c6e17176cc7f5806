"""A snapshot takes the place of state and log, also when the disk is full on the way."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cluster import meta as meta_file
from cluster.accounts import Accounts
from cluster.errors import DiskFailed, DiskFull
from cluster.files import Syscalls, translated
from cluster.meta import Meta
from cluster.replacement import Replacement, clear_strays
from cluster.state import State
from cluster.wal import Wal
from redwire.position import EMPTY, Incarnation, Lsn, NodeId, TermList
from redwire.record import Op, Record

INCARNATION = Incarnation("0a" * 16)
ROW = Record(Op.PUT, "orders", "a", b"{}")


class Tight(Syscalls, frozen=True):
    """A disk that has no space at what is named in `full`, the first time."""

    full: list[str] = msgspec.field(default_factory=list)

    def write_all(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        self._give_way("copy")
        return super().write_all(fd, buffers, offset)

    def replace_whole(self, path: Path, data: bytes) -> None:
        self._give_way("manifest")
        super().replace_whole(path, data)

    def make_folder(self, folder: Path) -> None:
        self._give_way(folder.name)
        super().make_folder(folder)

    def _give_way(self, what: str) -> None:
        if what in self.full:
            self.full.remove(what)
            raise OSError(errno.ENOSPC, "No space left on device")


def saving(disk: Tight) -> Callable[[Path, Meta], None]:
    """`meta.save` on `disk`."""
    save = meta_file.save

    def on_it(data_dir: Path, meta: Meta) -> None:
        with translated(data_dir):
            disk._give_way("meta.cbor")
        save(data_dir, meta)

    return on_it


def moving(disk: Tight) -> Callable[[Path, Path], None]:
    """`os.replace` on `disk`: a folder that cannot grow takes no new name."""
    replace = os.replace

    def on_it(source: Path, target: Path) -> None:
        disk._give_way(target.name)
        replace(source, target)

    return on_it


def lost_history(folder: Path, written_log: Any, calls: Syscalls) -> Wal:
    """A log of two batches that a snapshot is to replace."""
    wal, _ = Wal.open(
        folder / "wal",
        incarnation=INCARNATION,
        generation=1,
        base=EMPTY,
        base_terms=TermList(),
        applied=Lsn(0),
        watermark=Lsn(0),
        calls=calls,
    )
    wal.append([written_log.write(ROW), written_log.write(ROW)], Lsn(0))
    return wal


def snapshot(folder: Path, written_log: Any) -> Replacement:
    """One of another history, with three documents."""
    source = State.open(folder / "source.db")
    source.apply([written_log.write(*(msgspec.structs.replace(ROW, id=name) for name in "abc"))])
    path = folder / "incoming.part"
    source.snapshot_into(path)
    source.close()
    return Replacement(path, source.applied, diverged=True)


@pytest.mark.parametrize(
    "full", ["diverged", "copy", "manifest", "0000000002", "meta.cbor", "state-2.db", "1-state.db"]
)
def test_an_installation_that_met_a_full_disk_is_tried_again(
    tmp_path: Path, written_log: Any, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    meta = Meta(node=NodeId("eu-1"), incarnation=INCARNATION)
    meta_file.save(data, meta)
    by = snapshot(tmp_path, type(written_log)())
    old, disk = State.open(data / meta.state_file), Tight()
    wal = lost_history(data, written_log, disk)
    disk.full.append(full)
    if full == "meta.cbor":
        monkeypatch.setattr(meta_file, "save", saving(disk))
    monkeypatch.setattr(os, "replace", moving(disk))
    with pytest.raises(DiskFull):
        by.install(data, meta, wal, old)
    assert old.applied == EMPTY and old.accounts() == Accounts()
    if full != "1-state.db":
        assert meta_file.load(data) == meta
        assert wal.end.lsn == 2 or full == "meta.cbor", "what meta.cbor names is there still"
    with closing(by.install(data, meta, wal, old)[1]) as state:
        assert state.applied == by.at == wal.end == wal.base
    wal.close()
    found = meta_file.load(data)
    assert found is not None and (found.generation, found.base, found.state_file) == (2, by.at, "state-2.db")
    assert sorted(path.name for path in data.glob("state*.db")) == ["state-2.db"]
    (kept,) = (data / "diverged").glob("*.log")  # a disk that is full takes no second copy at each try
    assert kept.read_bytes() == b"".join(batch.data for batch in written_log.batches)


def test_what_cannot_be_removed_once_a_snapshot_is_installed_is_told(
    tmp_path: Path, written_log: Any
) -> None:
    data = tmp_path / "data"
    (data / "state-0.db").mkdir(parents=True)  # a file by its name
    meta = Meta(node=NodeId("eu-1"), incarnation=INCARNATION)
    by, old = snapshot(tmp_path, type(written_log)()), State.open(data / meta.state_file)
    with (
        closing(lost_history(data, written_log, Tight())) as wal,
        pytest.raises(DiskFailed, match=r"/data: .*Is a directory: .*/state-0\.db"),
    ):
        by.install(data, meta, wal, old)


def test_a_snapshot_that_was_removed_to_make_room_leaves_what_it_was_to_replace(
    tmp_path: Path, written_log: Any
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    meta = Meta(node=NodeId("eu-1"), incarnation=INCARNATION)
    meta_file.save(data, meta)
    by = snapshot(tmp_path, type(written_log)())
    disk = Tight()
    with (
        closing(State.open(data / meta.state_file)) as old,
        closing(lost_history(data, written_log, disk)) as wal,
    ):
        disk.full.append("copy")
        with pytest.raises(DiskFull):
            by.install(data, meta, wal, old)
        by.file.unlink()
        with pytest.raises(DiskFailed, match="incoming.part: it was removed before it was installed"):
            by.install(data, meta, wal, old)
        assert meta_file.load(data) == meta and wal.end.lsn == 2
        assert [path.name for path in data.glob("state*.db")] == ["state.db"]


def test_nothing_is_left_of_a_state_whose_installation_was_killed(tmp_path: Path) -> None:
    """SQLite would roll a journal that is left back into the next snapshot, which has the same name."""
    meta = Meta(node=NodeId("eu-1"), incarnation=INCARNATION)
    kept = [f"{meta.state_file}{what}" for what in ("", "-journal", "-shm", "-wal")]
    for name in (*kept, *(f"state-2.db{what}" for what in ("", "-journal", "-shm", "-wal"))):
        (tmp_path / name).touch()
    clear_strays(tmp_path, meta)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_a_state_that_is_set_aside_is_kept_wherever_its_installation_was_killed(
    tmp_path: Path, written_log: Any
) -> None:
    """`meta.cbor` names the new one by then. What the old one applied last is not in its own file yet."""
    meta = Meta(
        node=NodeId("eu-1"),
        incarnation=INCARNATION,
        state_file="state-2.db",
        generation=2,
        set_aside="state.db",
    )
    State.open(tmp_path / meta.state_file).close()
    old = State.open(tmp_path / meta.set_aside)
    old.apply([written_log.write(ROW)])
    stands, killed = old.applied, tmp_path / "killed"
    shutil.copytree(tmp_path, killed)  # as it lies there while it is open
    old.close()
    assert (killed / "state.db-wal").stat().st_size
    clear_strays(killed, meta)
    assert not list(killed.glob("state.db*"))
    with closing(State.open(killed / "diverged" / "1-state.db")) as kept:
        assert kept.applied == stands


def test_who_has_logged_nothing_since_its_last_snapshot_sets_its_state_aside(
    tmp_path: Path, written_log: Any
) -> None:
    meta = Meta(node=NodeId("eu-1"), incarnation=INCARNATION, generation=2)
    data = tmp_path / "data"
    data.mkdir()
    by, old = snapshot(tmp_path, type(written_log)()), State.open(data / meta.state_file)
    with closing(lost_history(data, written_log, Tight())) as wal:
        old.apply(written_log.batches)
        wal.restart(old.applied, old.terms, meta.generation)
        by.install(data, meta, wal, old)[1].close()
        assert wal.end == by.at
    assert [path.name for path in (data / "diverged").iterdir()] == ["2-state.db"]

"""Snapshots of a state: where they stand, and what is left of one that fails."""

from __future__ import annotations

import resource
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from cluster import state as state_module
from cluster.errors import CalledOff, DiskFailed, DiskFull
from cluster.recall import Recall
from cluster.soundness import verify
from cluster.state import State, copy_bytes
from redwire.record import Key
from tests.state_writes import ANN, documents, put


def test_a_snapshot_is_a_state_that_stands_at_a_batch_boundary_and_goes_on_from_there(
    state: State, tmp_path: Path, written_log: Any
) -> None:
    batches = [written_log.write(put(str(lsn)), key=Key(ANN, lsn, 1)) for lsn in range(1, 200)]
    state.apply(batches[:50])
    taken: list[Any] = []
    copier = threading.Thread(target=lambda: taken.append(state.snapshot_into(tmp_path / "snap.db")))
    copier.start()
    for batch in batches[50:150]:
        state.apply([batch])
    copier.join()
    (position,) = taken
    assert position in [batch.position for batch in batches[49:150]]
    assert verify(tmp_path / "snap.db") == position
    assert (tmp_path / "snap.db").stat().st_mode & 0o777 == 0o600
    copy = State.open(tmp_path / "snap.db")
    assert (copy.applied, copy.terms) == (position, state.terms)
    assert copy.lookup(Key(ANN, position.lsn, 1)) is not None
    copy.apply(batches[position.lsn :])
    state.apply(batches[150:])
    assert documents(copy.path) == documents(state.path)
    assert copy.keys == state.keys
    copy.close()


def test_a_snapshot_never_replaces_a_file(state: State, tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.write_bytes(b"mine")
    with pytest.raises(DiskFailed):
        state.snapshot_into(target)
    assert target.read_bytes() == b"mine"
    with pytest.raises(DiskFailed):
        state.snapshot_into(tmp_path / "missing" / "snap.db")


def test_a_snapshot_that_cannot_be_written_leaves_nothing_behind(
    state: State, tmp_path: Path, written_log: Any
) -> None:
    doc = b'{"n":"%s"}' % (b"x" * 5_000)
    state.apply([written_log.write(*(put(str(place), doc) for place in range(1_000)))])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(DiskFailed):
            state.snapshot_into(tmp_path / "snap.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [*tmp_path.glob("snap.db*")] == []


def test_a_snapshot_without_room_is_named_by_its_own_file_and_is_as_large_as_said(
    state: State, tmp_path: Path, written_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    doc = b'{"n":"%s"}' % (b"x" * 5_000)
    state.apply([written_log.write(*(put(str(place), doc) for place in range(1_000)))])
    state.snapshot_into(tmp_path / "whole.db")
    size = (tmp_path / "whole.db").stat().st_size
    assert abs(copy_bytes(state.path) - size) <= size // 50
    open_reader = state_module.open_reader

    class Full:
        def __init__(self, path: Path) -> None:
            self._real = open_reader(path)

        def execute(self, statement: str, *values: Any) -> Any:
            if "VACUUM" in statement:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return self._real.execute(statement, *values)

        def set_progress_handler(self, look: Any, steps: int) -> None:
            self._real.set_progress_handler(look, steps)

        def close(self) -> None:
            self._real.close()

    monkeypatch.setattr(state_module, "open_reader", Full)
    with pytest.raises(DiskFull, match=f"{tmp_path}/snap.db: no space"):
        state.snapshot_into(tmp_path / "snap.db")
    assert not (tmp_path / "snap.db").exists()


def test_a_snapshot_that_is_called_off_leaves_nothing_behind(
    state: State, tmp_path: Path, written_log: Any
) -> None:
    state.apply([written_log.write(*(put(str(place)) for place in range(1_000)))])
    recall = Recall()
    recall.call_off()
    with pytest.raises(CalledOff):
        state.snapshot_into(tmp_path / "snap.db", recall)
    assert [*tmp_path.glob("snap.db*")] == []
    state.snapshot_into(tmp_path / "snap.db")

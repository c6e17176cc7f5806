"""When SQLite's log is folded into the file of a state, and what keeps it from that."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster import sqlite_log
from cluster.errors import DiskFull
from cluster.state import State
from cluster.tables import open_reader
from tests.state_writes import put


def test_a_checkpoint_is_complete_once_no_reader_needs_the_older_view(
    state: State, path: Path, written_log: Any
) -> None:
    state.apply([written_log.write(put("a"))])
    reader = open_reader(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM docs").fetchall()
    state.apply([written_log.write(put("b"))])
    assert state.checkpoint() is None
    assert state.checkpointed == 0
    reader.execute("ROLLBACK")
    assert state.checkpoint() == 2
    assert (state.checkpointed, state.status().wal_bytes) == (2, 0)
    reader.close()


@pytest.mark.parametrize("which", ["FOLD_BYTES", "FOLD_CAUSE_BYTES"])
def test_a_checkpoint_is_due_when_sqlites_log_is_long_or_the_nodes_own(
    path: Path, written_log: Any, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(sqlite_log, which, 8 << 20)
    with closing(State.open(path)) as state:
        assert not state.checkpoint_due
        for times in range(1, 3):
            logged = 0
            while (logged if which == "FOLD_CAUSE_BYTES" else state.status().wal_bytes) < 8 << 20:
                assert not state.checkpoint_due
                batch = written_log.write(put(f"{times} {logged}", b'{"n":"%s"}' % (b"x" * (1 << 20))))
                logged += len(batch.data)
                state.apply([batch])
            assert state.checkpoint_due
            sqlite_log.fold_beside(state.path)
            assert state.checkpoint() == state.applied.lsn
            assert not state.checkpoint_due


def test_a_checkpoint_that_found_no_space_is_due_again_at_once(
    path: Path, written_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "FOLD_CAUSE_BYTES", 1)
    with closing(State.open(path)) as state:
        state.apply([written_log.write(put("a"))])
        whole = state._connection

        class Full:
            def execute(self, statement: str) -> Any:
                if "wal_checkpoint" in statement:
                    error = sqlite3.OperationalError("database or disk is full")
                    error.sqlite_errorcode = sqlite3.SQLITE_FULL
                    raise error
                return whole.execute(statement)

        monkeypatch.setattr(state._log, "_connection", Full())
        with pytest.raises(DiskFull):
            state.checkpoint()
        assert state.checkpoint_due
        monkeypatch.setattr(state._log, "_connection", whole)
        assert state.checkpoint() == 1
        assert not state.checkpoint_due

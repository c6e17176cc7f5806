"""When SQLite's log is folded into the file of a state, and what keeps it from that."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
            state.sqlite_log.fold_beside()
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

        monkeypatch.setattr(state.sqlite_log, "_connection", Full())
        with pytest.raises(DiskFull):
            state.checkpoint()
        assert state.checkpoint_due
        monkeypatch.setattr(state.sqlite_log, "_connection", whole)
        assert state.checkpoint() == 1
        assert not state.checkpoint_due


@contextmanager
def overlapping_views(state: State) -> Iterator[None]:
    """Inside, two statements after each other's middle keep some view of the file held at any time."""
    over, seconds = threading.Event(), 0.2

    def statements(first_s: float) -> None:
        over.wait(first_s)
        with closing(open_reader(state.path)) as reader:
            while not over.is_set():
                with state.sqlite_log.way.passing():
                    reader.execute("BEGIN")
                    reader.execute("SELECT count(*) FROM docs").fetchall()
                    over.wait(seconds)
                    reader.execute("ROLLBACK")

    threads = [threading.Thread(target=statements, args=(first_s,)) for first_s in (0.0, seconds / 2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("which", ["FOLD_BYTES", "FOLD_CAUSE_BYTES"])
def test_statements_that_overlap_without_an_end_are_held_back_for_a_fold_that_is_urgent(
    path: Path, written_log: Any, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    most = 4 << 20
    monkeypatch.setattr(sqlite_log, which, most // 4)
    monkeypatch.setattr(sqlite_log, f"{which}_URGENT", most)
    doc = b'{"n":"%s"}' % (b"x" * (256 << 10))
    with closing(State.open(path)) as state, overlapping_views(state):
        ends, kept = [0], 0
        while len(ends) < 4:
            batch = written_log.write(put("a", doc))
            state.apply([batch])
            kept += len(batch.data)
            assert state.status().wal_bytes < 2 * most and kept < 2 * most
            threading.Event().wait(0.01)
            if state.checkpoint_due:
                state.sqlite_log.claim()
                state.sqlite_log.fold_beside()
                if state.checkpoint() == state.applied.lsn:
                    ends.append(state.applied.lsn)
                    kept = 0
        assert not state.sqlite_log.urgent


@pytest.mark.parametrize(
    ("meanwhile", "passes", "converges"),
    [((400, 120, 20), 4, True), ((20,), 2, True), ((2_000,) * 9, 2, False)],
)
def test_what_is_written_during_a_long_fold_is_folded_beside_the_writer_unless_that_is_as_fast(
    path: Path,
    written_log: Any,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: tuple[int, ...],
    passes: int,
    converges: bool,
) -> None:
    most = 400
    monkeypatch.setattr(sqlite_log, "FOLD_LEFT_PAGES", most)
    connect, folded, waiting = sqlite3.connect, list[int](), iter(meanwhile)
    with closing(State.open(path)) as state, closing(open_reader(path)) as reader:

        def write(times: int) -> None:
            for place in range(times):
                state.apply([written_log.write(put(f"{place}", b'{"n":"%s"}' % (b"x" * 8_000)))])

        class Folding(sqlite3.Connection):
            """Something is written during each pass, and somebody reads what was there before."""

            def execute(self, statement: str, *values: Any) -> Any:
                reader.execute("BEGIN")
                reader.execute("SELECT * FROM meta").fetchall()
                row = super().execute(statement, *values).fetchone()
                folded.append(row[2])
                write(next(waiting, 0))
                reader.execute("ROLLBACK")
                return super().execute("SELECT ?, ?, ?", row)

        write(1_000)
        monkeypatch.setattr(sqlite3, "connect", lambda *of, **how: connect(*of, factory=Folding, **how))
        state.sqlite_log.fold_beside()
        left = state.status().wal_bytes // 4_096 - folded[-1]
    assert len(folded) == passes and (left <= most) is converges

"""SQLite's log, which is folded beside the applies and between them."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any

import pytest

from cluster import applier as applier_module
from cluster import folds, space, sqlite_log
from cluster import state as state_module
from cluster.client_ids import MARK_BYTES, marked
from cluster.errors import DiskFull
from cluster.folds import LOOK_EVERY
from cluster.state import State
from cluster.tables import open_reader
from redwire.position import Lsn
from redwire.record import Key, Op, Record

CLIENT = marked(Lsn(0), b"m" * MARK_BYTES)


def put(ident: str, doc: bytes = b"{}") -> Record:
    return Record(Op.PUT, "orders", ident, doc)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_long_log_of_sqlite_is_checkpointed_between_applies(
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any, at_once: bool
) -> None:
    monkeypatch.setattr(applier_module, "AT_ONCE_BYTES_MAX", 3 << 20)
    running = applier(state)
    doc = b'{"n":"%s"}' % (b"x" * (2 << 20))
    while not state.checkpointed:
        assert written_log.end.lsn < 4 * sqlite_log.FOLD_BYTES // len(doc)
        running.apply([written_log.write(put(str(written_log.end.lsn % 4), doc))], at_once=at_once)
        while len(loop.applied) < written_log.end.lsn:
            loop.run_one()
    running.stop()
    assert state.status().wal_bytes < sqlite_log.FOLD_BYTES
    assert loop.errors == []


@pytest.mark.parametrize("room", [True, False])
def test_stored_keys_are_rewritten_behind_a_fold_where_there_is_room_for_it(
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any, room: bool
) -> None:
    monkeypatch.setattr(state_module, "KEY_BYTES_SLACK", 0)
    state.sqlite_log._due_at_cause = 1
    rewrite_keys, rewritten = state.rewrite_keys, threading.Event()

    def rewrite() -> None:
        rewrite_keys()
        rewritten.set()

    monkeypatch.setattr(state, "rewrite_keys", rewrite)
    running = applier(state)
    monkeypatch.setattr(running._space, "has", lambda size_bytes: room)
    for sequence in range(1, LOOK_EVERY + 1):
        running.apply([written_log.write(put("a"), key=Key(CLIENT, sequence, sequence))], at_once=True)
    assert rewritten.wait(10 if room else 0.2) == room
    running.stop()
    assert (state.keys_due, loop.errors) == (not room, [])
    with closing(State.open(state.path)) as again:
        assert (again.keys, again.keys_due) == (state.keys, not room)


def test_stored_keys_are_not_rewritten_behind_a_fold_that_stayed_behind(
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(state_module, "KEY_BYTES_SLACK", 0)
    state.sqlite_log._due_at_cause = 1
    checkpoint, folded = state.checkpoint, list[Lsn | None]()

    def fold() -> Lsn | None:
        folded.append(checkpoint())
        return folded[-1]

    monkeypatch.setattr(state, "checkpoint", fold)
    with closing(open_reader(state.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM docs").fetchone()
        running = applier(state)
        for sequence in range(1, LOOK_EVERY + 1):
            running.apply([written_log.write(put("a"), key=Key(CLIENT, sequence, sequence))], at_once=True)
        while not folded:
            time.sleep(0.001)
        running.stop()
    assert (folded, state.keys_due, loop.errors) == ([None], True, [])


def test_statements_have_their_way_again_after_an_urgent_fold_though_nobody_writes(
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any
) -> None:
    for name in ("FOLD_CAUSE_BYTES", "FOLD_CAUSE_BYTES_URGENT"):
        monkeypatch.setattr(sqlite_log, name, 1 << 20)
    state.sqlite_log._due_at_cause = 1 << 20
    running, way = applier(state), state.sqlite_log.way
    with way.passing():
        running.apply([written_log.write(put("a", b'{"n":"%s"}' % (b"x" * (2 << 20))))])
        while not way._taken:
            time.sleep(0.001)
        assert state.checkpointed == 0
    with way.passing():
        assert state.checkpointed == 1
    running.stop()


def test_whoever_stops_waits_for_no_statement_that_an_urgent_fold_waits_for(
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(sqlite_log, "FOLD_CAUSE_BYTES_URGENT", 1 << 20)
    state.sqlite_log._due_at_cause = 1 << 20
    running, way = applier(state), state.sqlite_log.way
    with way.passing():
        running.apply([written_log.write(put("a", b'{"n":"%s"}' % (b"x" * (2 << 20))))])
        while not way._taken:
            time.sleep(0.001)
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < sqlite_log.STATEMENTS_END_S / 2
    assert not way._taken


def test_a_fold_for_space_waits_for_no_statement_though_the_one_beside_has_only_begun(
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(sqlite_log, "FOLD_CAUSE_BYTES_URGENT", 1 << 20)
    state.sqlite_log._due_at_cause = 1 << 20
    way, begun, given_back = state.sqlite_log.way, threading.Event(), threading.Event()
    fold_beside, give_back = state.sqlite_log.fold_beside, way.give_back

    def late() -> None:
        begun.set()
        assert given_back.wait(10)
        fold_beside()

    def give() -> None:
        give_back()
        given_back.set()

    monkeypatch.setattr(state.sqlite_log, "fold_beside", late)
    monkeypatch.setattr(way, "give_back", give)
    running = applier(Volume(state, folds=0))
    with way.passing():
        running.apply([written_log.write(put("a", b'{"n":"%s"}' % (b"x" * (2 << 20))))])
        loop.run_one()
        assert begun.wait(10)
        running._state.folds = 1  # type: ignore[attr-defined]
        began = time.monotonic()
        running.apply([written_log.write(put("b"))])
        loop.run_one()
        assert time.monotonic() - began < sqlite_log.STATEMENTS_END_S / 2
    running.stop()
    assert (loop.errors, state.applied) == ([], written_log.end)


def test_what_could_not_be_folded_afterwards_is_taken_back_and_waits(
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(applier_module, "RETRY_S", 0.01)
    running, free = applier(state), space.FOLD_FREE_BYTES + (3 << 19)
    monkeypatch.setattr(running._space, "_free_bytes", lambda folder: free)
    running.apply([written_log.write(put("a"))])
    loop.run_one()
    monkeypatch.setattr(applier_module, "RECORD_PAGES_BYTES", 0)
    running.apply([written_log.write(*[put(f"{place:0500}") for place in range(2_000)])])
    while not running.blocked:
        pass
    assert state.applied.lsn == 1 and "to fold its log afterwards" in running.status().blocked
    free += 1 << 24
    loop.run_one()
    running.stop()
    assert (running.blocked, loop.errors, state.applied) == (False, [], written_log.end)


class Volume:
    """A state on a volume that is full until SQLite's log is folded, as often as `folds` says in vain."""

    def __init__(self, state: State, folds: int = 1) -> None:
        self._state = state
        self.folds = folds
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def apply(self, batches: Any, patience_ms: int = 0, fits: Any = None) -> Any:
        self.tries += 1
        if self.folds:
            raise DiskFull(self._state.path, "for the state")
        return self._state.apply(batches)

    def checkpoint(self, *, urgent: bool = False) -> Any:
        assert urgent
        self.folds -= 1
        if self.folds:
            raise DiskFull(self._state.path, "for the state")
        return self._state.checkpoint(urgent=urgent)


def test_a_full_disk_has_sqlites_log_folded_before_anybody_hears_of_it(
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    state.apply([written_log.write(put("a"))])
    assert state.status().wal_bytes > 0
    running = applier(volume := Volume(state))
    running.apply([written_log.write(put("b"))])
    loop.run_one()
    running.stop()
    assert (volume.tries, state.checkpointed, state.applied) == (2, 1, written_log.end)
    assert running.status().blocked == ""


def test_a_disk_that_stays_full_is_folded_for_again_and_again(
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(applier_module, "RETRY_S", 0.01)
    running = applier(volume := Volume(state, folds=3))
    running.apply([written_log.write(put("a"))])
    loop.run_one()
    running.stop()
    assert (volume.tries, volume.folds, state.applied) == (4, 0, written_log.end)


def test_where_space_is_short_a_log_of_sqlite_that_is_worth_it_is_folded_early(
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any
) -> None:
    running = applier(state)
    running.apply([written_log.write(put("a"))])
    loop.run_one()
    running.ease()
    running.apply([written_log.write(put("b"))])
    loop.run_one()
    assert state.checkpointed == 0
    monkeypatch.setattr(folds, "FOLD_BYTES_SHORT", state.status().wal_bytes)
    until = time.monotonic() + 10
    while state.status().wal_bytes:
        assert time.monotonic() < until
        running.ease()  # and nothing is applied meanwhile
        time.sleep(0.01)
    running.stop()
    assert state.checkpointed == 2

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster import applier as applier_module
from cluster import folds, space, sqlite_log
from cluster import state as state_module
from cluster.applier import (
    AT_ONCE_BYTES_MAX,
    AT_ONCE_S,
    RECORD_PAGES_BYTES,
    THREAD_ALONE_S,
    TRANSACTION_BYTES_MAX,
    TRANSACTION_RECORDS_MAX,
    Applier,
)
from cluster.client_ids import MARK_BYTES, marked
from cluster.errors import DiskFailed, DiskFull, OutOfOrder
from cluster.folds import LOOK_EVERY
from cluster.log_room import KEPT_FREE_BYTES
from cluster.state import State
from cluster.tables import WRITER_BUSY_MS, open_reader
from redwire.position import EMPTY, Lsn
from redwire.record import Key, Op, Record

CLIENT = marked(Lsn(0), b"m" * MARK_BYTES)


def put(ident: str, doc: bytes = b"{}") -> Record:
    return Record(Op.PUT, "orders", ident, doc)


class Loop:
    """Stands for the event loop: what is posted runs in the test's thread, when the test lets it."""

    def __init__(self) -> None:
        self._posted: queue.Queue[tuple[Any, tuple[Any, ...]]] = queue.Queue()
        self.applied: list[tuple[list[int], int]] = []
        self.errors: list[BaseException] = []

    def post(self, callback: Any, *args: Any) -> None:
        self._posted.put((callback, args))

    def run_one(self) -> None:
        callback, args = self._posted.get(timeout=10)
        callback(*args)

    def run_what_is_there(self) -> None:
        while not self._posted.empty():
            self.run_one()

    def on_applied(self, batches: Any, position: Any) -> None:
        self.applied.append(([batch.last for batch in batches], position.lsn))


class Clock:
    """Tells `now_s`, and moves on by `step_s` each time that it is asked."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now_s, self.step_s = 100.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


class Gate:
    """A state whose applies wait until the test opens the gate, so that batches pile up behind it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.entered = threading.Event()
        self.open = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def apply(self, batches: Any, patience_ms: int = 0, fits: Any = None) -> Any:
        self.entered.set()
        assert self.open.wait(10)
        return self._state.apply(batches)


class Flaky:
    """A state on a disk that fails once."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def apply(self, batches: Any, patience_ms: int = 0, fits: Any = None) -> Any:
        self.tries += 1
        if self.tries == 1:
            raise DiskFailed(self._state.path, "Input/output error")
        return self._state.apply(batches)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path / "state.db")
    yield opened
    opened.close()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def applier(state: Any, loop: Loop, clock: Clock | None = None) -> Applier:
    return Applier(state, loop.post, loop.on_applied, loop.errors.append, clock or Clock())


def test_batches_are_applied_in_order_and_told_with_the_position(
    state: State, loop: Loop, written_log: Any
) -> None:
    running = applier(state, loop)
    running.apply([written_log.write(put("a"))])
    loop.run_one()
    running.apply([written_log.write(put("b"), put("c")), written_log.write(put("d"))])
    loop.run_one()
    running.stop()
    assert loop.applied == [([1], 1), ([3, 4], 4)]
    assert state.applied == written_log.end
    assert loop.errors == []


def test_a_little_is_applied_at_once_and_told_in_the_call(state: State, loop: Loop, written_log: Any) -> None:
    running = applier(state, loop)
    running.apply([written_log.write(put("a")), written_log.write(put("b"))], at_once=True)
    assert loop.applied == [([1, 2], 2)]
    running.apply([written_log.write(put("c", b'{"n":"%s"}' % (b"x" * AT_ONCE_BYTES_MAX)))], at_once=True)
    assert loop.applied == [([1, 2], 2)]
    loop.run_one()
    assert loop.applied[1:] == [([3], 3)]
    running.apply([written_log.write(put("d"))], at_once=True)
    assert loop.applied[2:] == [([4], 4)]
    running.stop()
    assert state.applied == written_log.end


def test_nothing_overtakes_what_the_thread_has_not_told_of(
    state: State, loop: Loop, written_log: Any
) -> None:
    running = applier(state, loop)
    running.apply([written_log.write(put("a"))])
    while state.applied == EMPTY:
        pass
    running.apply([written_log.write(put("b"))], at_once=True)
    assert loop.applied == []
    loop.run_one()
    loop.run_one()
    assert loop.applied == [([1], 1), ([2], 2)]
    running.stop()


def test_after_a_slow_apply_the_thread_does_it_for_a_while(
    state: State, loop: Loop, written_log: Any
) -> None:
    clock = Clock(AT_ONCE_S * 1.01)
    running = applier(state, loop, clock)
    running.apply([written_log.write(put("a"))], at_once=True)
    assert loop.applied == [([1], 1)]
    running.apply([written_log.write(put("b"))], at_once=True)
    assert loop.applied == [([1], 1)]
    loop.run_one()
    clock.step_s, clock.now_s = 0.0, clock.now_s + THREAD_ALONE_S
    running.apply([written_log.write(put("c"))], at_once=True)
    assert loop.applied == [([1], 1), ([2], 2), ([3], 3)]
    running.stop()


def test_what_fails_at_once_is_told_once_is_not_tried_again_and_ends_apply(
    state: State, loop: Loop, written_log: Any
) -> None:
    flaky = Flaky(state)
    running = applier(flaky, loop)
    running.apply([written_log.write(put("a"))], at_once=True)
    running.apply([written_log.write(put("b"))], at_once=True)
    running.stop()
    loop.run_what_is_there()
    assert [type(error) for error in loop.errors] == [DiskFailed]
    assert (flaky.tries, loop.applied, state.applied) == (1, [], EMPTY)


def test_nothing_is_applied_at_once_when_the_thread_has_been_stopped_since_it_was_asked(
    state: State, loop: Loop, written_log: Any
) -> None:
    stopped_meanwhile: list[Applier] = []

    class Late(Clock):
        def __call__(self) -> float:
            if stopped_meanwhile:
                stopped_meanwhile.pop().stop()
            return super().__call__()

    running = applier(state, loop, Late())
    stopped_meanwhile.append(running)
    running.apply([written_log.write(put("a"))], at_once=True)
    loop.run_what_is_there()
    assert (loop.applied, loop.errors, state.applied) == ([], [], EMPTY)


def test_a_full_disk_that_is_met_at_once_is_waited_out_by_the_thread(
    state: State, loop: Loop, written_log: Any
) -> None:
    state._connection.execute("PRAGMA max_page_count = 20")
    running = applier(state, loop)
    doc = b'{"n":"%s"}' % (b"x" * (AT_ONCE_BYTES_MAX // 2))
    for name in "abcdefghijklmnop":
        running.apply([written_log.write(put(name, doc))], at_once=True)
    while not running.blocked:
        pass
    told = len(loop.applied)
    assert 0 < told < 16
    state._connection.execute("PRAGMA max_page_count = 1000000")
    while len(loop.applied) == told or state.applied != written_log.end:
        loop.run_one()
    loop.run_what_is_there()
    told = len(loop.applied)
    running.apply([written_log.write(put("q"))], at_once=True)
    assert len(loop.applied) == told, "for a while the next ones are the thread's, too"
    loop.run_one()
    running.stop()
    assert loop.errors == []
    assert state.applied == written_log.end


def test_whoever_else_writes_into_the_file_is_waited_for_in_the_thread_alone(
    state: State, loop: Loop, written_log: Any
) -> None:
    running = applier(state, loop)
    with closing(sqlite3.connect(state.path, isolation_level=None)) as person:
        person.execute("BEGIN IMMEDIATE")
        began_s = time.monotonic()
        running.apply([written_log.write(put("a"))], at_once=True)
        assert time.monotonic() - began_s < WRITER_BUSY_MS / 1000 / 2, "the event loop has waited for a tool"
        assert loop.applied == []
        person.execute("ROLLBACK")
    loop.run_one()
    running.stop()
    assert (loop.applied, loop.errors) == ([([1], 1)], [])


def test_what_waits_behind_an_apply_becomes_one_transaction(
    state: State, loop: Loop, written_log: Any
) -> None:
    gate = Gate(state)
    running = applier(gate, loop)
    running.apply([written_log.write(put("first"))])
    assert gate.entered.wait(10)
    for lsn in range(2, 30):
        running.apply([written_log.write(put(str(lsn)))])
    waiting = running.status()
    assert (waiting.waiting, waiting.blocked) == (28, "")
    assert waiting.waiting_bytes == sum(len(batch.data) for batch in written_log.batches[1:])
    gate.open.set()
    running.stop()
    loop.run_what_is_there()
    assert loop.applied == [([1], 1), (list(range(2, 30)), 29)]
    assert (running.status().waiting, running.status().waiting_bytes) == (0, 0)


def test_a_transaction_is_bounded_but_takes_one_large_batch(
    state: State, loop: Loop, written_log: Any
) -> None:
    gate = Gate(state)
    running = applier(gate, loop)
    running.apply([written_log.write(put("first"))])
    assert gate.entered.wait(10)
    large = b'{"n":"%s"}' % (b"x" * (TRANSACTION_BYTES_MAX + 1))
    third = b'{"n":"%s"}' % (b"x" * (TRANSACTION_BYTES_MAX // 3))
    running.apply([written_log.write(put("large", large))])
    running.apply([written_log.write(put(str(place), third)) for place in range(3)])
    gate.open.set()
    running.stop()
    loop.run_what_is_there()
    assert [lasts for lasts, _ in loop.applied] == [[1], [2], [3, 4], [5]]


def test_small_records_are_bounded_by_their_number(state: State, loop: Loop, written_log: Any) -> None:
    gate = Gate(state)
    running = applier(gate, loop)
    running.apply([written_log.write(put("first"))])
    assert gate.entered.wait(10)
    half = TRANSACTION_RECORDS_MAX // 2
    for count in (half, half, 1, 2 * half + 1, 1):
        running.apply([written_log.write(*[put(str(place)) for place in range(count)])])
    gate.open.set()
    running.stop()
    loop.run_what_is_there()
    ends = [batch.last for batch in written_log.batches]
    assert [lasts for lasts, _ in loop.applied] == [[1], ends[1:3], ends[3:4], ends[4:5], ends[5:]]


def test_what_is_kept_free_is_not_applied_into(
    state: State, loop: Loop, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(applier_module, "RETRY_S", 0.01)
    running, records = applier(state, loop), 1_000
    free = space.FOLD_FREE_BYTES + records * RECORD_PAGES_BYTES
    monkeypatch.setattr(running._space, "_free_bytes", lambda folder: free)
    running.apply([written_log.write(put("a"))])
    loop.run_one()
    running.apply([written_log.write(*[put(str(place)) for place in range(records)])])
    while not running.blocked:
        pass
    assert state.applied.lsn == 1
    free += KEPT_FREE_BYTES
    loop.run_one()
    running.stop()
    assert (running.blocked, loop.errors, state.applied) == (False, [], written_log.end)


def test_stop_finishes_what_was_given(state: State, loop: Loop, written_log: Any) -> None:
    running = applier(state, loop)
    running.apply([written_log.write(put(str(lsn))) for lsn in range(50)])
    running.stop()
    assert state.applied.lsn == 50


def test_an_error_is_told_once_and_ends_apply(state: State, loop: Loop, written_log: Any) -> None:
    running = applier(state, loop)
    first, second, third = (written_log.write(put(name)) for name in "abc")
    running.apply([first])
    loop.run_one()
    running.apply([third])
    while not loop.errors:
        loop.run_one()
    running.apply([second])
    running.stop()
    loop.run_what_is_there()
    assert [type(error) for error in loop.errors] == [OutOfOrder]
    assert state.applied == first.position
    assert running.status().waiting == 0


def test_a_full_disk_is_waited_out(state: State, loop: Loop, written_log: Any) -> None:
    state._connection.execute("PRAGMA max_page_count = 20")
    running = applier(state, loop)
    running.apply([written_log.write(put("a", b'{"n":"%s"}' % (b"x" * 200_000)))])
    while not running.status().blocked:
        pass
    assert "space" in running.status().blocked
    assert running.blocked
    state._connection.execute("PRAGMA max_page_count = 1000000")
    loop.run_one()
    running.stop()
    assert loop.applied == [([1], 1)]
    assert loop.errors == []
    assert running.status().blocked == ""
    assert not running.blocked


def test_stop_does_not_wait_for_space(state: State, loop: Loop, written_log: Any) -> None:
    state._connection.execute("PRAGMA max_page_count = 20")
    running = applier(state, loop)
    running.apply([written_log.write(put("a", b'{"n":"%s"}' % (b"x" * 200_000)))])
    running.stop()
    assert state.applied == EMPTY
    assert loop.errors == []


@pytest.mark.parametrize("at_once", [False, True])
def test_a_long_log_of_sqlite_is_checkpointed_between_applies(
    state: State, loop: Loop, written_log: Any, monkeypatch: Any, at_once: bool
) -> None:
    monkeypatch.setattr(applier_module, "AT_ONCE_BYTES_MAX", 3 << 20)
    running = applier(state, loop)
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
    state: State, loop: Loop, written_log: Any, monkeypatch: Any, room: bool
) -> None:
    monkeypatch.setattr(state_module, "KEY_BYTES_SLACK", 0)
    state.sqlite_log._due_at_cause = 1
    rewrite_keys, rewritten = state.rewrite_keys, threading.Event()

    def rewrite() -> None:
        rewrite_keys()
        rewritten.set()

    monkeypatch.setattr(state, "rewrite_keys", rewrite)
    running = applier(state, loop)
    monkeypatch.setattr(running._space, "has", lambda size_bytes: room)
    for sequence in range(1, LOOK_EVERY + 1):
        running.apply([written_log.write(put("a"), key=Key(CLIENT, sequence, sequence))], at_once=True)
    assert rewritten.wait(10 if room else 0.2) == room
    running.stop()
    assert (state.keys_due, loop.errors) == (not room, [])
    with closing(State.open(state.path)) as again:
        assert (again.keys, again.keys_due) == (state.keys, not room)


def test_stored_keys_are_not_rewritten_behind_a_fold_that_stayed_behind(
    state: State, loop: Loop, written_log: Any, monkeypatch: Any
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
        running = applier(state, loop)
        for sequence in range(1, LOOK_EVERY + 1):
            running.apply([written_log.write(put("a"), key=Key(CLIENT, sequence, sequence))], at_once=True)
        while not folded:
            time.sleep(0.001)
        running.stop()
    assert (folded, state.keys_due, loop.errors) == ([None], True, [])


def test_statements_have_their_way_again_after_an_urgent_fold_though_nobody_writes(
    state: State, loop: Loop, written_log: Any, monkeypatch: Any
) -> None:
    for name in ("FOLD_CAUSE_BYTES", "FOLD_CAUSE_BYTES_URGENT"):
        monkeypatch.setattr(sqlite_log, name, 1 << 20)
    state.sqlite_log._due_at_cause = 1 << 20
    running, way = applier(state, loop), state.sqlite_log.way
    with way.passing():
        running.apply([written_log.write(put("a", b'{"n":"%s"}' % (b"x" * (2 << 20))))])
        while not way._taken:
            time.sleep(0.001)
        assert state.checkpointed == 0
    with way.passing():
        assert state.checkpointed == 1
    running.stop()


def test_whoever_stops_waits_for_no_statement_that_an_urgent_fold_waits_for(
    state: State, loop: Loop, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(sqlite_log, "FOLD_CAUSE_BYTES_URGENT", 1 << 20)
    state.sqlite_log._due_at_cause = 1 << 20
    running, way = applier(state, loop), state.sqlite_log.way
    with way.passing():
        running.apply([written_log.write(put("a", b'{"n":"%s"}' % (b"x" * (2 << 20))))])
        while not way._taken:
            time.sleep(0.001)
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < sqlite_log.STATEMENTS_END_S / 2
    assert not way._taken


def test_a_fold_for_space_waits_for_no_statement_though_the_one_beside_has_only_begun(
    state: State, loop: Loop, written_log: Any, monkeypatch: Any
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
    running = applier(Volume(state, folds=0), loop)
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
    state: State, loop: Loop, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(applier_module, "RETRY_S", 0.01)
    running, free = applier(state, loop), space.FOLD_FREE_BYTES + (3 << 19)
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
    state: State, loop: Loop, written_log: Any
) -> None:
    state.apply([written_log.write(put("a"))])
    assert state.status().wal_bytes > 0
    running = applier(volume := Volume(state), loop)
    running.apply([written_log.write(put("b"))])
    loop.run_one()
    running.stop()
    assert (volume.tries, state.checkpointed, state.applied) == (2, 1, written_log.end)
    assert running.status().blocked == ""


def test_a_disk_that_stays_full_is_folded_for_again_and_again(
    state: State, loop: Loop, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(applier_module, "RETRY_S", 0.01)
    running = applier(volume := Volume(state, folds=3), loop)
    running.apply([written_log.write(put("a"))])
    loop.run_one()
    running.stop()
    assert (volume.tries, volume.folds, state.applied) == (4, 0, written_log.end)


def test_where_space_is_short_a_log_of_sqlite_that_is_worth_it_is_folded_early(
    state: State, loop: Loop, written_log: Any, monkeypatch: Any
) -> None:
    running = applier(state, loop)
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

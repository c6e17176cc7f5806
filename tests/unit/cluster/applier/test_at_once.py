"""What is little enough to be applied by whoever brings it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

from cluster.applier import AT_ONCE_BYTES_MAX, AT_ONCE_S, THREAD_ALONE_S, Applier
from cluster.errors import DiskFailed
from cluster.state import State
from cluster.tables import WRITER_BUSY_MS
from redwire.position import EMPTY
from redwire.record import Op, Record


def put(ident: str, doc: bytes = b"{}") -> Record:
    return Record(Op.PUT, "orders", ident, doc)


class Clock:
    """Tells `now_s`, and moves on by `step_s` each time that it is asked."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now_s, self.step_s = 100.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


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


def test_a_little_is_applied_at_once_and_told_in_the_call(
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    running = applier(state)
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
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    running = applier(state)
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
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    clock = Clock(AT_ONCE_S * 1.01)
    running = applier(state, clock)
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
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    flaky = Flaky(state)
    running = applier(flaky)
    running.apply([written_log.write(put("a"))], at_once=True)
    running.apply([written_log.write(put("b"))], at_once=True)
    running.stop()
    loop.run_what_is_there()
    assert [type(error) for error in loop.errors] == [DiskFailed]
    assert (flaky.tries, loop.applied, state.applied) == (1, [], EMPTY)


def test_nothing_is_applied_at_once_when_the_thread_has_been_stopped_since_it_was_asked(
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    stopped_meanwhile: list[Applier] = []

    class Late(Clock):
        def __call__(self) -> float:
            if stopped_meanwhile:
                stopped_meanwhile.pop().stop()
            return super().__call__()

    running = applier(state, Late())
    stopped_meanwhile.append(running)
    running.apply([written_log.write(put("a"))], at_once=True)
    loop.run_what_is_there()
    assert (loop.applied, loop.errors, state.applied) == ([], [], EMPTY)


def test_a_full_disk_that_is_met_at_once_is_waited_out_by_the_thread(
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    state._connection.execute("PRAGMA max_page_count = 20")
    running = applier(state)
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
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    running = applier(state)
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

"""Batches on their way through the apply thread."""

from __future__ import annotations

import threading
from typing import Any

from cluster import applier as applier_module
from cluster import space
from cluster.applier import RECORD_PAGES_BYTES, TRANSACTION_BYTES_MAX, TRANSACTION_RECORDS_MAX
from cluster.errors import OutOfOrder
from cluster.log_room import KEPT_FREE_BYTES
from cluster.state import State
from redwire.position import EMPTY
from redwire.record import Op, Record


def put(ident: str, doc: bytes = b"{}") -> Record:
    return Record(Op.PUT, "orders", ident, doc)


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


def test_batches_are_applied_in_order_and_told_with_the_position(
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    running = applier(state)
    running.apply([written_log.write(put("a"))])
    loop.run_one()
    running.apply([written_log.write(put("b"), put("c")), written_log.write(put("d"))])
    loop.run_one()
    running.stop()
    assert loop.applied == [([1], 1), ([3, 4], 4)]
    assert state.applied == written_log.end
    assert loop.errors == []


def test_what_waits_behind_an_apply_becomes_one_transaction(
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    gate = Gate(state)
    running = applier(gate)
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
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    gate = Gate(state)
    running = applier(gate)
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


def test_small_records_are_bounded_by_their_number(
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    gate = Gate(state)
    running = applier(gate)
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
    state: State, applier: Any, loop: Any, written_log: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(applier_module, "RETRY_S", 0.01)
    running, records = applier(state), 1_000
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


def test_stop_finishes_what_was_given(state: State, applier: Any, loop: Any, written_log: Any) -> None:
    running = applier(state)
    running.apply([written_log.write(put(str(lsn))) for lsn in range(50)])
    running.stop()
    assert state.applied.lsn == 50


def test_an_error_is_told_once_and_ends_apply(
    state: State, applier: Any, loop: Any, written_log: Any
) -> None:
    running = applier(state)
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


def test_a_full_disk_is_waited_out(state: State, applier: Any, loop: Any, written_log: Any) -> None:
    state._connection.execute("PRAGMA max_page_count = 20")
    running = applier(state)
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


def test_stop_does_not_wait_for_space(state: State, applier: Any, loop: Any, written_log: Any) -> None:
    state._connection.execute("PRAGMA max_page_count = 20")
    running = applier(state)
    running.apply([written_log.write(put("a", b'{"n":"%s"}' % (b"x" * 200_000)))])
    running.stop()
    assert state.applied == EMPTY
    assert loop.errors == []

"""What a state remembers of keys: results, expired clients, and keys that were closed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster.client_ids import MARK_BYTES, marked
from cluster.effects import Fate, Result
from cluster.keys import CLIENT_AGE_MS
from cluster.state import State
from cluster.tables import key_rows, open_reader
from redwire import body
from redwire.message.client import RESULT
from redwire.message.log import CloseKey
from redwire.position import Lsn
from redwire.record import Key, RequestKind, encode_system
from tests.state_writes import ANN, APPLIED, documents, put, request, results


def test_a_duplicate_has_no_effect_and_answers_the_first_result(
    state: State, path: Path, written_log: Any
) -> None:
    key = Key(ANN, 1, 1)
    once, again = request(put("a", b'{"n":1}'), key=key), request(put("a", b'{"n":2}'), key=key)
    items = RESULT.pack(APPLIED, 1)
    (batch,) = state.apply([written_log.batch(once, again)])
    assert batch.results == [Result(Fate.EXECUTED, 1, items), Result(Fate.DUPLICATE, 1, items)]
    state.apply([written_log.write(put("b"))])
    state.close()
    reopened = State.open(path)
    (batch,) = reopened.apply([written_log.batch(again)])
    assert batch.results == [Result(Fate.DUPLICATE, 1, items)]
    assert reopened.lookup(key) == Result(Fate.DUPLICATE, 1, items)
    assert reopened.lookup(Key(ANN, 2, 1)) is None
    assert documents(path)["orders", "a"] == (1, b'{"n":1}')
    reopened.close()


def test_a_request_of_a_forgotten_client_is_expired_and_never_executed(
    state: State, path: Path, written_log: Any
) -> None:
    state.apply([written_log.write(put("a"), key=Key(ANN, 1, 1))])
    late = written_log.batch(request(put("b"), key=Key(ANN, 2, 1)), after_ms=CLIENT_AGE_MS)
    (batch,) = state.apply([late])
    assert batch.results == [Result(Fate.EXPIRED)]
    assert state.lookup(Key(ANN, 1, 1)) == Result(Fate.EXPIRED)
    assert documents(path) == {("orders", "a"): (1, b"{}")}
    state.close()
    again = State.open(path)
    assert again.lookup(Key(ANN, 1, 1)) == Result(Fate.EXPIRED)
    again.close()


def test_of_a_request_and_the_closing_of_its_key_the_first_in_the_log_counts(
    state: State, path: Path, written_log: Any
) -> None:
    def close(sequence: int) -> bytes:
        return encode_system(RequestKind.CLOSE, body.encode(CloseKey(ANN, sequence)))

    late = request(put("late"), key=Key(ANN, 1, 1))
    early = request(put("early"), key=Key(ANN, 2, 1))
    batch = written_log.batch(close(1), late, early, close(2), close(1))
    assert results(state, batch) == [[], [], [(APPLIED, 3)], [(APPLIED, 3)], []]
    assert documents(path).keys() == {("orders", "early")}
    state.close()
    again = State.open(path)
    assert results(again, written_log.batch(late)) == [[]]
    assert again.lookup(Key(ANN, 1, 1)) == Result(Fate.CLOSED, 1)
    again.close()


@pytest.mark.slow
def test_stored_keys_are_rewritten_when_most_were_dropped(state: State, path: Path, written_log: Any) -> None:
    clients = [marked(Lsn(0), number.to_bytes(MARK_BYTES, "big")) for number in range(1, 1001)]
    for sequence in range(1, 30):
        keyed = [request(put("a"), key=Key(client, sequence, max(1, sequence - 1))) for client in clients]
        state.apply([written_log.batch(*keyed)])
        if state.keys_due:
            state.rewrite_keys()
            assert not state.keys_due
    status = state.status()
    assert (status.clients, status.open_keys) == (1000, 2000)
    state.close()
    with closing(open_reader(path)) as connection:
        assert sum(map(len, key_rows(path, connection))) < 29_000 * state.keys.entry_bytes // 2000
    again = State.open(path)
    assert again.keys == state.keys
    again.close()

"""Which batches a state takes, what moves with them, and what stops it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster import state as state_module
from cluster.errors import ApplyStopped, DiskFailed, DiskFull, OutOfOrder, StateLocked
from cluster.state import State
from redwire import body
from redwire.batch import make_batch
from redwire.errors import RedwireError
from redwire.message.log import Admit, TermStart
from redwire.position import EMPTY, Lsn, NodeId, Reign, Term, TermEntry
from redwire.record import Key, Op, Record, RequestKind, encode_system
from tests.state_writes import ANN, APPLIED, documents, put, request, results


def test_a_missing_file_becomes_the_state_of_an_empty_log(path: Path) -> None:
    state = State.open(path)
    assert (state.applied, state.batch_time_ms, state.terms.entries) == (EMPTY, 0, ())
    assert (state.checkpointed, state.cluster_records(), dict(state.admits())) == (0, (), {})
    assert path.stat().st_mode & 0o777 == 0o600
    state.close()


def test_position_time_and_terms_move_with_the_documents_and_are_there_again_after_a_restart(
    state: State, path: Path, written_log: Any
) -> None:
    written_log.write(put("a"))
    written_log.term = Term(4)
    written_log.write(put("b"))
    applied = state.apply(written_log.batches)
    assert [batch.last for batch in applied] == [1, 2]
    batches = written_log.batches
    terms = tuple(TermEntry.of(batch.reign.term, batch.first, batch.chain) for batch in batches)
    expected = (written_log.end, written_log.time_ms, terms)
    assert (state.applied, state.batch_time_ms, state.terms.entries) == expected
    state.close()
    again = State.open(path)
    assert (again.applied, again.batch_time_ms, again.terms.entries) == expected
    assert again.checkpointed == 2
    assert documents(path) == {("orders", "a"): (1, b"{}"), ("orders", "b"): (2, b"{}")}
    again.close()


def test_only_a_batch_that_continues_the_state_is_applied(state: State, written_log: Any) -> None:
    first, second, third = (written_log.write(put(name)) for name in "abc")
    with pytest.raises(OutOfOrder):
        state.apply([second])
    state.apply([first])
    for wrong in ([first], [third], [second, second]):
        with pytest.raises(OutOfOrder):
            state.apply(wrong)
    other = make_batch(Reign(Term(1), NodeId("us-1")), EMPTY, [request(put("x"))], 1, 1, Lsn(0))
    forged = make_batch(Reign(Term(1), NodeId("us-1")), other.position, [request(put("y"))], 1, 2, Lsn(0))
    with pytest.raises(OutOfOrder):
        state.apply([forged])
    assert state.applied == first.position
    assert state.apply([]) == []
    assert [batch.last for batch in state.apply([second, third])] == [2, 3]


def broken(good: bytes, place: int, value: int) -> bytes:
    data = bytearray(good)
    data[place] = value
    return bytes(data)


def test_what_a_node_does_not_know_stops_apply_and_leaves_the_state(
    state: State, path: Path, written_log: Any
) -> None:
    good = request(put("a"), key=Key(ANN, 1, 1))
    first = written_log.batch(good)
    state.apply([first])
    write = request(put("b"))
    admit = encode_system(RequestKind.ADMIT, body.encode(Admit(NodeId("us-1"), "0" * 32)))
    unknown = [
        broken(write, 4, 99),  # kind
        broken(write, 5, 0x02),  # request flag
        broken(write, 48, 9),  # operation
        broken(write, 49, 0x04),  # record flag
        admit + b"\x00",
        encode_system(RequestKind.CONFIG, b"\xa0"),
        encode_system(RequestKind.ACCOUNT, body.encode(TermStart("1"))),
        write[:-1],
    ]
    keyed = request(put("c"), key=Key(ANN, 2, 1))
    for data in unknown:
        count = 2
        batch = make_batch(Reign(Term(2), NodeId("eu-1")), first.position, [keyed, data], count, 9, Lsn(0))
        with pytest.raises(ApplyStopped) as caught:
            state.apply([batch])
        assert caught.value.facts == {"lsn": 3}
        assert (state.applied, len(state.terms.entries)) == (first.position, 1)
        assert state.lookup(Key(ANN, 2, 1)) is None
        assert state.lookup(Key(ANN, 1, 1)) is not None
    assert documents(path) == {("orders", "a"): (1, b"{}")}
    assert results(state, written_log.write(put("b"))) == [[(APPLIED, 2)]]


def test_a_header_that_miscounts_its_records_stops_apply(state: State) -> None:
    wrong = make_batch(Reign(Term(1), NodeId("eu-1")), EMPTY, [request(put("a"))], 2, 9, Lsn(0))
    with pytest.raises(ApplyStopped, match="LSNs"):
        state.apply([wrong])
    assert state.applied == EMPTY


def test_a_file_that_another_process_writes_into_is_called_that_and_later_the_same_batches_apply(
    state: State, path: Path, written_log: Any
) -> None:
    batch = written_log.write(Record(Op.PUT, "orders", "a", b"{}"))
    with closing(sqlite3.connect(path, isolation_level=None)) as person:
        person.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateLocked, match="another process writes into it"):
            state.apply([batch], patience_ms=0)
        person.execute("ROLLBACK")
    assert state.applied == EMPTY
    state.apply([batch])
    assert state.applied == batch.position


def test_a_full_disk_leaves_the_state_and_later_the_same_batches_apply(
    state: State, path: Path, written_log: Any
) -> None:
    key = Key(ANN, 1, 1)
    batch = written_log.batch(request(put("a", b'{"n":"%s"}' % (b"x" * 200_000)), key=key))
    state._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(DiskFull):
        state.apply([batch])
    assert (state.applied, state.lookup(key)) == (EMPTY, None)
    state._connection.execute("PRAGMA max_page_count = 1000000")
    assert results(state, batch) == [[(APPLIED, 1)]]


def test_nothing_is_applied_over_what_is_remembered_by_halves(
    state: State, written_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = written_log.write(put("a"), key=Key(ANN, 1, 1))

    def unreadable(connection: Any, *rest: Any) -> Any:
        raise DiskFailed(state.path, "Input/output error")

    with monkeypatch.context() as bad:
        bad.setattr(state.documents, "flush", unreadable)
        bad.setattr(state_module, "read_position", unreadable)
        with pytest.raises(DiskFailed):
            state.apply([first])
    with pytest.raises(RedwireError):
        state.apply([first])
    assert state.applied == EMPTY

from __future__ import annotations

import copy
import os
import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import sqlite_log
from cluster import state as state_module
from cluster.client_ids import MARK_BYTES, marked
from cluster.effects import Fate, Result
from cluster.errors import (
    ApplyStopped,
    DiskFailed,
    DiskFull,
    FormatNewer,
    FormatOlder,
    OutOfOrder,
    StateCorrupt,
    StateLocked,
)
from cluster.keys import CLIENT_AGE_MS, Keys
from cluster.soundness import verify
from cluster.state import State
from cluster.tables import FORMAT, key_rows, open_reader
from redwire import body
from redwire.batch import make_batch
from redwire.errors import RedwireError
from redwire.message.admin import PutToken, PutUser, RemoveToken, RemoveUser, ScramRecord, SetRole
from redwire.message.client import RESULT, RecordStatus
from redwire.message.log import Admit, CloseKey, TermStart
from redwire.position import EMPTY, Lsn, NodeId, Reign, Term, TermEntry
from redwire.record import Key, Op, Record, RequestKind, encode_record, encode_system, encode_write

APPLIED, DELETED, NOT_FOUND = RecordStatus.APPLIED, RecordStatus.DELETED, RecordStatus.NOT_FOUND
EXISTS, MISMATCH, ABORTED = RecordStatus.EXISTS, RecordStatus.VERSION_MISMATCH, RecordStatus.ABORTED
ANN = marked(Lsn(0), b"m" * MARK_BYTES)


def put(ident: str, doc: bytes = b"{}", collection: str = "orders", version: int | None = None) -> Record:
    return Record(Op.PUT, collection, ident, doc, version)


def request(*records: Record, key: Key | None = None, atomic: bool = False) -> bytes:
    return encode_write([encode_record(record) for record in records], key, atomic=atomic)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    opened = State.open(path)
    yield opened
    opened.close()


def results(state: State, *batches: Any) -> list[list[tuple[int, int]]]:
    """(status, version) of each record, per request."""
    applied = state.apply(batches)
    return [list(RESULT.iter_unpack(result.items)) for batch in applied for result in batch.results]


def documents(path: Path) -> dict[tuple[str, str], tuple[int, bytes]]:
    connection = open_reader(path)
    rows = connection.execute(
        "SELECT name, id, version, doc FROM docs JOIN collections USING (c) ORDER BY name, id"
    ).fetchall()
    connection.close()
    return {(name, ident): (version, doc) for name, ident, version, doc in rows}


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


def test_records_of_one_request_are_applied_one_after_the_other(
    state: State, path: Path, written_log: Any
) -> None:
    batch = written_log.write(
        put("a", b'{"n":1}'),
        Record(Op.INSERT, "orders", "a", b"{}"),
        put("a", b'{"n":3}', version=1),
        put("a", b'{"n":4}', version=1),
        Record(Op.DELETE, "orders", "b"),
        Record(Op.INSERT, "orders", "", b'{"n":6}'),
        Record(Op.DELETE, "orders", "6", version=5),
        put("b", version=0),
        Record(Op.DELETE, "orders", "b"),
    )
    (items,) = results(state, batch)
    assert items[:5] == [(APPLIED, 1), (EXISTS, 1), (APPLIED, 3), (MISMATCH, 3), (NOT_FOUND, 0)]
    assert items[5:] == [(APPLIED, 6), (MISMATCH, 6), (APPLIED, 8), (DELETED, 8)]
    assert documents(path) == {("orders", "a"): (3, b'{"n":3}'), ("orders", "6"): (6, b'{"n":6}')}


def test_a_generated_id_that_somebody_chose_before_exists(state: State, written_log: Any) -> None:
    batch = written_log.write(put("2"), Record(Op.INSERT, "orders", "", b"{}"))
    assert results(state, batch) == [[(APPLIED, 1), (EXISTS, 1)]]


def test_an_atomic_request_has_all_its_effects_or_none(state: State, path: Path, written_log: Any) -> None:
    first = written_log.write(put("a"))
    fails = written_log.write(
        put("b", collection="fresh"), put("a", b'{"n":3}'), put("c", version=9), put("d"), atomic=True
    )
    holds = written_log.write(
        put("b"), Record(Op.DELETE, "orders", "nobody"), put("b", b'{"n":8}', version=6), atomic=True
    )
    assert results(state, first, fails, holds) == [
        [(APPLIED, 1)],
        [(ABORTED, 0), (ABORTED, 0), (MISMATCH, 0), (ABORTED, 0)],
        [(APPLIED, 6), (NOT_FOUND, 0), (APPLIED, 8)],
    ]
    assert documents(path) == {("orders", "a"): (1, b"{}"), ("orders", "b"): (8, b'{"n":8}')}
    # the number that "fresh" gave back is given again, on every node alike
    assert results(state, written_log.write(put("x", collection="FRESH"))) == [[(APPLIED, 9)]]
    assert results(state, written_log.write(put("x", collection="fresh"))) == [[(EXISTS, 0)]]


def test_names_that_differ_only_in_case_name_one_collection_at_most(
    state: State, path: Path, written_log: Any
) -> None:
    batch = written_log.write(
        put("a", collection="Orders"),
        put("b", collection="orders"),
        Record(Op.INSERT, "ORDERS", "", b"{}"),
        Record(Op.DELETE, "orders", "a"),
        put("c", collection="Orders"),
    )
    taken = [(APPLIED, 1), (EXISTS, 0), (EXISTS, 0), (NOT_FOUND, 0), (APPLIED, 5)]
    assert results(state, batch) == [taken]
    both = written_log.write(put("a", collection="New"), put("a", collection="new"), atomic=True)
    assert results(state, both) == [[(ABORTED, 0), (EXISTS, 0)]]
    assert {name for name, _ in documents(path)} == {"Orders"}


def test_a_condition_that_fails_begins_no_collection(state: State, path: Path, written_log: Any) -> None:
    batch = written_log.write(put("a", collection="one", version=3), put("a", collection="two"))
    assert results(state, batch) == [[(MISMATCH, 0), (APPLIED, 2)]]
    connection = open_reader(path)
    assert connection.execute("SELECT * FROM collections").fetchall() == [(1, "two")]
    connection.close()


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


def test_the_logs_own_records_take_one_lsn_each_and_the_last_one_holds(
    state: State, path: Path, written_log: Any, cluster_record: Any
) -> None:
    batch = written_log.batch(
        encode_system(RequestKind.TERM_START, body.encode(TermStart("0.1"))),
        encode_system(RequestKind.CONFIG, body.encode(cluster_record(name="shop"))),
        encode_system(RequestKind.ADMIT, body.encode(Admit(NodeId("us-1"), "a" * 32))),
        encode_system(RequestKind.CONFIG, body.encode(cluster_record(name="mall"))),
        encode_system(RequestKind.ADMIT, body.encode(Admit(NodeId("us-1"), "b" * 32))),
        encode_system(RequestKind.ADMIT, body.encode(Admit(NodeId("eu-1"), "c" * 32))),
    )
    assert results(state, batch) == [[(APPLIED, lsn)] for lsn in range(1, 7)]
    state.close()
    again = State.open(path)
    for seen in (state, again):
        assert [record.name for _, record in seen.cluster_records()] == ["shop", "mall"]
        assert seen.cluster_records()[-1][1] == cluster_record(name="mall")
        assert dict(seen.admits()) == {"us-1": "b" * 32, "eu-1": "c" * 32}
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


VERIFIER = ScramRecord(salt=bytes(16), iterations=4096, stored_key=bytes(32), server_key=bytes(32))


def test_removing_a_user_removes_its_tokens_and_a_token_of_nobody_is_none(
    state: State, path: Path, written_log: Any
) -> None:
    def account(change: Any) -> bytes:
        return encode_system(RequestKind.ACCOUNT, body.encode(change))

    def user(name: str, role: Any = "read") -> PutUser:
        return PutUser(name=name, role=role, verifier=VERIFIER, topology_read=False)

    def token(ident: str, name: str) -> PutToken:
        return PutToken(id=ident, user=name, role="read", sha256=bytes(32))

    changes = [
        user("ann"),
        user("bob"),
        user("bob", "write"),
        token("t1", "ann"),
        token("t2", "bob"),
        token("t3", "bob"),
        token("t4", "nobody"),
        RemoveUser("ann"),
        RemoveUser("nobody"),
        RemoveToken("t3"),
        RemoveToken("t9"),
        SetRole(name="bob", role="admin", topology_read=True),
        SetRole(name="ann", role="admin", topology_read=None),
    ]
    (applied,) = state.apply([written_log.batch(*map(account, changes))])
    came_to = [RecordStatus(result.items[0]) for result in applied.results]
    nothing = {
        changes.index(change) for change in (changes[6], RemoveUser("nobody"), RemoveToken("t9"), changes[12])
    }
    assert {at for at, status in enumerate(came_to) if status is RecordStatus.NOT_FOUND} == nothing
    assert (came_to[0], came_to[7], came_to[9]) == (
        RecordStatus.APPLIED,
        RecordStatus.DELETED,
        RecordStatus.DELETED,
    )
    state.close()
    again = State.open(path)
    for seen in (state, again):
        bob = PutUser(name="bob", role="admin", verifier=VERIFIER, topology_read=True)
        assert dict(seen.accounts().users) == {"bob": bob}
        assert dict(seen.accounts().tokens) == {"t2": token("t2", "bob")}
    again.close()


def test_a_file_that_is_no_state_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"this is no database" * 100)
    foreign = tmp_path / "foreign"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    for path in (text, foreign):
        before = path.read_bytes()
        with pytest.raises(StateCorrupt):
            State.open(path)
        assert path.read_bytes() == before


def test_a_state_of_another_format_is_refused(state: State, path: Path) -> None:
    state.close()
    connection = sqlite3.connect(path)
    for version, refused in ((FORMAT + 1, FormatNewer), (FORMAT - 1, FormatOlder)):
        connection.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(refused, match=f"of format {version}"):
            State.open(path)
    connection.close()


def test_a_state_in_a_missing_folder_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DiskFailed):
        State.open(tmp_path / "missing" / "state.db")


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


def test_nothing_is_applied_over_what_is_remembered_by_halves(
    state: State, written_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = written_log.write(put("a"), key=Key(ANN, 1, 1))

    def unreadable(connection: Any, *rest: Any) -> Any:
        raise DiskFailed(state.path, "Input/output error")

    with monkeypatch.context() as bad:
        bad.setattr(state, "_finish", unreadable)
        bad.setattr(state_module, "read_position", unreadable)
        with pytest.raises(DiskFailed):
            state.apply([first])
    with pytest.raises(RedwireError):
        state.apply([first])
    assert state.applied == EMPTY


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


def test_a_damaged_snapshot_does_not_verify(state: State, tmp_path: Path, written_log: Any) -> None:
    doc = b'{"n":"%s"}' % (b"x" * 5_000)
    state.apply([written_log.write(*(put(str(place), doc) for place in range(20)))])
    target = tmp_path / "snap.db"
    state.snapshot_into(target)
    data = bytearray(target.read_bytes())
    data[-4096 * 3 : -4096 * 2] = b"\xff" * 4096
    target.write_bytes(data)
    with pytest.raises(StateCorrupt):
        verify(target)
    target.write_bytes(b"")
    with pytest.raises(StateCorrupt):
        verify(target)


def turned(path: Path, needle: bytes) -> None:
    """Turn the lowest bit of the last byte of `needle`, wherever the file has it."""
    data = path.read_bytes()
    assert needle in data
    path.write_bytes(data.replace(needle, needle[:-1] + bytes([needle[-1] ^ 1])))


def test_a_bit_that_flips_in_a_document_is_never_taken_for_the_document(
    state: State, path: Path, written_log: Any
) -> None:
    state.apply([written_log.write(put("a", b'{"n":"xyzzy"}'), put("b"))])
    state.checkpoint()
    state.close()
    turned(path, b"xyzzy")
    with pytest.raises(StateCorrupt, match="the document 'a' of collection 1 does not match its checksum"):
        verify(path)
    damaged, asking = State.open(path), copy.deepcopy(written_log)
    with pytest.raises(StateCorrupt, match="'a'"):
        damaged.apply([asking.write(put("a", version=1))])
    with pytest.raises(StateCorrupt, match="'a'"):
        damaged.snapshot_into(path.with_name("snapshot.db"))
    damaged.apply([written_log.write(put("b", version=2), put("a"))])
    damaged.close()
    assert (documents(path)["orders", "a"], verify(path).lsn) == ((4, b"{}"), 4)


def test_sqlites_log_that_ends_below_what_was_folded_into_the_file_is_damage(
    state: State, tmp_path: Path, written_log: Any
) -> None:
    """A node that was killed between the two halves of a checkpoint leaves both, here as a copy."""
    state.apply([written_log.write(*(put(f"{n}", b'{"n":%500d}' % n) for n in range(100)))])
    state.checkpoint()
    state.apply([written_log.write(put("7"))])
    state.apply([written_log.write(put("93"))])
    sqlite_log.fold_beside(state.path)
    copy, log = tmp_path / "copy.db", state.path.with_name("state.db-wal").read_bytes()
    copy.write_bytes(state.path.read_bytes())
    beside = copy.with_name("copy.db-wal")
    for kept in (log, log[:32], b""):
        beside.write_bytes(kept)
        State.open(copy).close()
        assert documents(copy) == documents(state.path)
    beside.write_bytes(log[: 32 + (len(log) - 32) // 2].ljust(len(log), b"\0"))  # its header, half its frames
    with pytest.raises(StateCorrupt, match="stands at LSN 102, and with its -wal at 101: that was damaged"):
        State.open(copy)


def test_a_bit_that_flips_beside_the_documents_keeps_the_state_from_being_opened(
    state: State, path: Path, written_log: Any
) -> None:
    member = encode_system(RequestKind.ADMIT, body.encode(Admit("eu-1", "c0ffee" * 5 + "00")))
    user = PutUser(name="ada", role="read", verifier=VERIFIER, topology_read=False)
    account = encode_system(RequestKind.ACCOUNT, body.encode(user))
    state.apply([written_log.write(put("a"), key=Key(ANN, 1, 1)), written_log.batch(member, account)])
    state.checkpoint()
    state.close()
    whole = path.read_bytes()
    for needle in (ANN, b"c0ffee", b"ada", state.applied.chain):
        turned(path, needle)
        for look in (State.open, verify):
            with pytest.raises(StateCorrupt, match="does not match its checksum"):
                look(path)
        path.write_bytes(whole)
    State.open(path).close()


@pytest.mark.slow
def test_stored_keys_are_rewritten_when_most_were_dropped(state: State, path: Path, written_log: Any) -> None:
    clients = [marked(Lsn(0), number.to_bytes(MARK_BYTES, "big")) for number in range(1, 1001)]
    for sequence in range(1, 30):
        keyed = [request(put("a"), key=Key(client, sequence, max(1, sequence - 1))) for client in clients]
        state.apply([written_log.batch(*keyed)])
    status = state.status()
    assert (status.clients, status.open_keys) == (1000, 2000)
    state.close()
    with closing(open_reader(path)) as connection:
        assert sum(Keys().replay(entries) for entries in key_rows(path, connection)) < 29_000
    again = State.open(path)
    assert again.keys == state.keys
    again.close()


RECORDS = st.builds(
    lambda op, name, ident, version: Record(
        op,
        name,
        ident if op is not Op.INSERT or ident != "x" else "",
        b"" if op is Op.DELETE else b'{"n":1}',
        None if op is Op.INSERT else version,
    ),
    st.sampled_from(list(Op)),
    st.sampled_from(["one", "two", "Two"]),
    st.sampled_from(["a", "b", "x"]),
    st.one_of(st.none(), st.integers(0, 12)),
)
REQUESTS = st.tuples(st.lists(RECORDS, min_size=1, max_size=4), st.booleans(), st.integers(0, 4))


class Model:
    """The same rules over dicts, record by record, with a copy in place of a transaction."""

    def __init__(self) -> None:
        self.docs: dict[tuple[str, str], int] = {}
        self.names: dict[str, str] = {}
        self.keys: dict[int, list[tuple[int, int]]] = {}

    def write(self, records: list[Record], atomic: bool, sequence: int, first: int) -> list[tuple[int, int]]:
        if sequence in self.keys:
            return self.keys[sequence]
        docs, names, items = dict(self.docs), dict(self.names), []
        for place, record in enumerate(records):
            items.append(self.record(record, first + place))
            if atomic and items[-1][0] in (EXISTS, MISMATCH):
                self.docs, self.names = docs, names
                items = [(int(ABORTED), 0)] * place + [items[-1]]
                items += [(int(ABORTED), 0)] * (len(records) - place - 1)
                break
        if sequence:
            self.keys[sequence] = items
        return items

    def record(self, record: Record, lsn: int) -> tuple[int, int]:
        where = record.collection, record.id or str(lsn)
        current = self.docs.get(where, 0)
        if record.version is not None and record.version != current:
            return MISMATCH, current
        if record.op is Op.DELETE:
            return (DELETED, self.docs.pop(where)) if current else (NOT_FOUND, 0)
        if record.op is Op.INSERT and current:
            return EXISTS, current
        if self.names.setdefault(record.collection.lower(), record.collection) != record.collection:
            return EXISTS, 0
        self.docs[where] = lsn
        return APPLIED, lsn


@given(requests=st.lists(REQUESTS, max_size=12), split=st.integers(1, 4))
def test_a_state_and_a_plain_dict_agree_however_the_log_is_cut_into_batches_and_transactions(
    requests: list[tuple[list[Record], bool, int]],
    split: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("model") / "state.db"
    state, model, end, expected, batches = State.open(path), Model(), EMPTY, [], []
    for place, (records, atomic, sequence) in enumerate(requests):
        key = Key(ANN, sequence, 1) if sequence else None
        expected.append(model.write(records, atomic, sequence, end.lsn + 1))
        data = request(*records, key=key, atomic=atomic)
        reign = Reign(Term(1), NodeId("eu-1"))
        batches.append(make_batch(reign, end, [data], len(records), place + 1, Lsn(0)))
        end = batches[-1].position
    seen: list[list[tuple[int, int]]] = []
    for start in range(0, len(batches), split):
        seen += results(state, *batches[start : start + split])
    assert seen == expected
    assert {where: version for where, (version, _) in documents(path).items()} == model.docs
    state.close()
    again = State.open(path)
    assert (again.applied, again.keys) == (state.applied, state.keys)
    again.close()


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm"])
def test_a_pipe_in_the_place_of_one_of_its_files_is_damage_and_is_not_opened(
    tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / name)
    for opening in (State.open, open_reader):
        with pytest.raises(StateCorrupt, match=f"{name} is damaged: it is a pipe, and no file"):
            opening(tmp_path / "state.db")


def test_a_folder_that_is_none_any_more_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with closing(State.open(folder / "state.db")) as opened:
        folder.rename(tmp_path / "elsewhere")
        folder.touch()
        with pytest.raises(DiskFailed, match="state.db"):
            _ = opened.checkpoint_due

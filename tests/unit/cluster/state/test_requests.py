"""What the records of requests do to the documents: by hand, and beside a plain dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import documents as documents_module
from cluster.state import State
from cluster.tables import open_reader
from redwire.batch import make_batch
from redwire.errors import RequestInvalid
from redwire.position import EMPTY, Lsn, NodeId, Reign, Term
from redwire.record import Key, Op, Record
from tests.state_writes import (
    ABORTED,
    ANN,
    APPLIED,
    DELETED,
    EXISTS,
    MISMATCH,
    NOT_FOUND,
    documents,
    put,
    request,
    results,
)


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


def test_beyond_so_many_collections_none_begins_and_those_that_are_there_go_on(
    path: Path, written_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "COLLECTIONS_MAX", 2)
    state = State.open(path)
    batch = written_log.write(
        put("a", collection="one"),
        put("a", collection="two"),
        put("a", collection="three"),
        put("b", collection="two"),
        put("a", collection="three", version=5),
        Record(Op.DELETE, "three", "a"),
        Record(Op.INSERT, "three", "a", b"{}"),
    )
    assert results(state, batch) == [
        [(APPLIED, 1), (APPLIED, 2), (EXISTS, 0), (APPLIED, 4), (MISMATCH, 0), (NOT_FOUND, 0), (EXISTS, 0)]
    ]
    both = written_log.write(put("c", collection="one"), put("a", collection="three"), atomic=True)
    assert results(state, both) == [[(ABORTED, 0), (EXISTS, 0)]]
    gone = [Record(Op.DELETE, "two", "a"), Record(Op.DELETE, "two", "b"), put("a", collection="three")]
    assert results(state, written_log.write(*gone)) == [[(DELETED, 2), (DELETED, 4), (EXISTS, 0)]]
    state.close()
    state = State.open(path)
    again = written_log.write(put("a", collection="three"), put("d", collection="two"))
    assert results(state, again) == [[(EXISTS, 0), (APPLIED, again.last)]]
    assert {name for name, _ in documents(path)} == {"one", "two"}
    state.close()


def test_a_collection_that_an_atomic_request_takes_back_leaves_its_place(
    state: State, written_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "COLLECTIONS_MAX", 1)
    fails = written_log.write(put("a", collection="one"), put("a", version=9, collection="one"), atomic=True)
    assert results(state, fails) == [[(ABORTED, 0), (MISMATCH, 1)]]
    assert results(state, written_log.write(put("a", collection="two"))) == [[(APPLIED, 3)]]


def test_whoever_would_begin_one_more_collection_is_told_before_anything_is_logged(
    state: State, written_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "COLLECTIONS_MAX", 2)
    new = request(put("b"), put("a", collection="new"))
    results(state, written_log.write(put("a", collection="orders")))
    state.documents.check_room(new)
    results(state, written_log.write(put("a", collection="Other")))
    with pytest.raises(RequestInvalid, match="record 1: collection new .* the 2 there may be") as refused:
        state.documents.check_room(new)
    assert refused.value.facts == {"record": 1}
    for record in (
        put("b"),
        put("b", collection="other"),  # apply says that its name differs only in case
        Record(Op.DELETE, "new", "a"),
        put("a", collection="new", version=3),
    ):
        state.documents.check_room(request(record))
    with pytest.raises(RequestInvalid):
        state.documents.check_room(request(put("a", collection="new", version=0)))


RECORDS = st.builds(
    lambda op, name, ident, version: Record(
        op,
        name,
        ident if op is not Op.INSERT or ident != "x" else "",
        b"" if op is Op.DELETE else b'{"n":1}',
        None if op is Op.INSERT else version,
    ),
    st.sampled_from(list(Op)),
    st.sampled_from(["one", "two", "Two", "three"]),
    st.sampled_from(["a", "b", "x"]),
    st.one_of(st.none(), st.integers(0, 12)),
)
REQUESTS = st.tuples(st.lists(RECORDS, min_size=1, max_size=4), st.booleans(), st.integers(0, 4))

COLLECTIONS = 2


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
        if record.collection.lower() not in self.names and len(self.names) == COLLECTIONS:
            return EXISTS, 0
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
    with patch.object(documents_module, "COLLECTIONS_MAX", COLLECTIONS):
        agree(requests, split, tmp_path_factory.mktemp("model") / "state.db")


def agree(requests: list[tuple[list[Record], bool, int]], split: int, path: Path) -> None:
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

"""Rows of drivers: which id a document brings along, and how its fate is told."""

from __future__ import annotations

import pytest

from cluster.driver_rows import (
    conflict_of_batch,
    conflict_of_many,
    conflict_of_one,
    encode_insert,
    final_ids,
)
from redwire.errors import Code, RequestInvalid, TooLarge
from redwire.message.client import RESULT, RecordStatus, results_of
from redwire.record import CLIENT_BYTES, Key, Op, Record, Request, decode_write

APPLIED, EXISTS, ABORTED = RecordStatus.APPLIED, RecordStatus.EXISTS, RecordStatus.ABORTED


@pytest.mark.parametrize(
    ("document", "ident"),
    [
        (b"{}", ""),
        (b'{"id":null}', ""),
        (b'{"name":"x","nested":{"id":"inner"}}', ""),
        (b'{"id":"a"}', "a"),
        (b'{"id" : "\\u00e9" }', "é"),
        (b'{"id":42}', "42"),
        (b'{"id":-7}', "-7"),
        (b'{"id":0}', "0"),
        (b'{"id":123456789012345678901234567890}', "123456789012345678901234567890"),
        (b'{"id":{"$int":"-9007199254740993"}}', "-9007199254740993"),
        (b'{"id":{"$uint":"18446744073709551615"}}', "18446744073709551615"),
        (b'{"rid":"r"}', "r"),
        (b'{"rid":7,"id":null}', "7"),
        (b'{"rid":"r","id":"a"}', "a"),
        (b'{"id":"a","id":"b"}', "b"),
    ],
)
def test_a_document_names_itself_by_id_or_by_rid(document: bytes, ident: str) -> None:
    insert = encode_insert("c", [document])
    assert insert.ids == (ident,)
    assert decode_write(memoryview(insert.request)) == Request(
        None, False, (Record(Op.INSERT, "c", ident, document),)
    )


@pytest.mark.parametrize(
    "value",
    [
        *(b'""', b"true", b"1.0", b"1e3", b"[]", b"{}", b'{"$int":7}', b'{"$int":"x"}', b'{"$float":"1"}'),
        b'{"$int":"1","$uint":"1"}',
    ],
)
def test_an_id_of_another_type_is_refused_by_its_row(value: bytes) -> None:
    for field in (b"id", b"rid"):
        with pytest.raises(RequestInvalid, match="must be a text that is not empty or a whole number") as bad:
            encode_insert("c", [b"{}", b'{"%s":%s}' % (field, value)])
        assert bad.value.record == 1


@pytest.mark.parametrize(
    ("document", "what", "code"),
    [
        (b'{"a":', "not JSON", Code.INVALID),
        (b'{"a":"\xff"}', "not UTF-8", Code.INVALID),
        (b'{"id":"\xff"}', "not JSON", Code.INVALID),
        (b'{"id":"%s"}' % (b"x" * 513), "1 to 512 bytes", Code.INVALID),
        (b'{"id":"a\\u0000"}', "NUL", Code.INVALID),
        (b'{"a":"%s"}' % (b"x" * (8 << 20)), "document bytes", Code.TOO_LARGE),
        (b'{"a":' * 20_000, "too deep to be read here", Code.INVALID),
    ],
    ids=["cut short", "document not UTF-8", "id not UTF-8", "long id", "NUL in the id", "large", "deep"],
)
def test_a_row_that_cannot_be_stored_is_refused_by_its_place(document: bytes, what: str, code: Code) -> None:
    with pytest.raises(RequestInvalid, match=what) as bad:
        encode_insert("c", [b"{}", b"{}", document])
    assert (bad.value.record, bad.value.code) == (2, code)
    assert str(bad.value).count("record") == 1


def test_a_row_that_is_too_large_says_how_large_and_what_would_do() -> None:
    document = b'{"a":"%s"}' % (b"x" * (8 << 20))
    with pytest.raises(TooLarge) as bad:
        encode_insert("c", [b"{}", document])
    assert bad.value.facts == {"record": 1, "size": len(document), "limit": 8 << 20}


def test_a_request_carries_its_key_and_whether_it_is_atomic() -> None:
    key = Key(b"k" * CLIENT_BYTES, 5, 5)
    request = decode_write(memoryview(encode_insert("c", [b"{}", b"{}"], key, atomic=True).request))
    assert (request.key, request.atomic, len(request.records)) == (key, True, 2)


def test_too_many_rows_make_no_request() -> None:
    with pytest.raises(TooLarge) as bad:
        encode_insert("c", [b"{}"] * 10_001)
    assert bad.value.code is Code.BATCH_TOO_LARGE


def test_a_name_that_no_collection_has_is_refused_for_the_whole_request() -> None:
    with pytest.raises(RequestInvalid) as bad:
        encode_insert("../c", [b"{}"])
    assert bad.value.record is None and bad.value.hint.startswith("1 to 64 of")


def test_generated_ids_are_the_records_own_lsns() -> None:
    items = b"".join(RESULT.pack(APPLIED, lsn) for lsn in (7, 8, 9))
    assert final_ids(("", "a", ""), results_of(items)) == ["7", "a", "9"]


def test_a_conflict_names_the_document_that_stands_in_the_way() -> None:
    assert conflict_of_one("c", "a", 12) == "CONFLICT: 'a' already exists in c, at version 12"
    assert conflict_of_one("C", "a", 0).startswith("CONFLICT: the collection cannot begin")
    assert (
        conflict_of_one("c", "", 12)
        == "CONFLICT: the id that was generated already exists in c, at version 12"
    )


def test_conflicting_rows_are_named_and_beyond_twenty_counted() -> None:
    few = conflict_of_many("c", ("a", "b", "d"), [(EXISTS, 4), (APPLIED, 9), (EXISTS, 5)])
    assert few == (
        "CONFLICT: 2 of 3 rows were not written, the other 1 were; "
        "row 0: 'a' already exists in c, at version 4; row 2: 'd' already exists in c, at version 5"
    )
    many = conflict_of_many("c", ("a",) * 30, [(EXISTS, 4)] * 30)
    assert many.count("row ") == 20 and many.endswith("; and 10 more")


def test_a_batch_fails_by_its_first_conflict_and_says_so_without_its_rows() -> None:
    assert conflict_of_batch([(APPLIED, 3), (APPLIED, 4)]) is None
    failed = conflict_of_batch([(ABORTED, 0), (EXISTS, 12), (ABORTED, 0)])
    assert failed is not None and failed.record == 1 and "at version 12; no row was written" in failed.message
    taken = conflict_of_batch([(EXISTS, 0)])
    assert taken is not None and "only in case" in taken.message

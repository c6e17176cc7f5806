"""JSON bodies of RedDB's drivers: what they send, and the answers that they can read."""

from __future__ import annotations

import json
import math

import pytest

from redwire import errors
from redwire.errors import Code, RequestInvalid, TooLarge
from redwire.message.driver import (
    BatchError,
    BulkInsert,
    Target,
    decode_bulk_insert,
    decode_sql,
    decode_target,
    encode_batch_error,
    encode_batch_ok,
    encode_count,
    encode_deleted,
    encode_error,
    encode_got,
    encode_inserted,
    encode_param_result,
    encode_query_result,
    encode_stream_error,
)


@pytest.mark.parametrize(
    ("payload", "target"),
    [
        (b'{"collection":"c","id":"42"}', Target("c", "42")),
        (b' { "id" : "\\u00e9" , "collection" : "c" , "more" : [1] } ', Target("c", "é")),
    ],
)
def test_a_get_names_a_collection_and_an_id(payload: bytes, target: Target) -> None:
    assert decode_target(payload) == decode_target(memoryview(payload)) == target


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"nonsense", "not a JSON object"),
        (b'{"collection":"c","id":"1"} x', "not a JSON object"),
        (b'{"collection":"\xff","id":"1"}', "`collection` cannot be read"),
        (b'{"\xff":"c","id":"1"}', "not a JSON object"),
        (b'{"id":"1"}', "`collection` must be a string that is not empty"),
        (b'{"collection":"","id":"1"}', "`collection` must be a string"),
        (b'{"collection":7,"id":"1"}', "`collection` must be a string"),
        (b'{"collection":"c"}', "`id` must be a string that is not empty"),
        (b'{"collection":"c","id":""}', "`id` must be a string"),
        (b'{"collection":"c","id":42}', "`id` must be a string"),
        (b'{"collection":"c","id":null}', "`id` must be a string"),
    ],
)
def test_a_get_that_names_nothing_is_refused_by_its_field(payload: bytes, what: str) -> None:
    with pytest.raises(RequestInvalid, match=what):
        decode_target(payload)


def test_a_query_is_text() -> None:
    assert decode_sql(memoryview("SELECT 'é'".encode())) == "SELECT 'é'"
    with pytest.raises(RequestInvalid, match="not UTF-8 at byte 1"):
        decode_sql(b"x\xff")


EXACT = b'{"n":{"$int":"9007199254740993"},"u":{"$uint":"1"},"d":{"$decimal":"0.10"},"e":1.50,"s":"\\u00e9"}'


@pytest.mark.parametrize(
    ("payload", "single", "atomic", "key", "documents"),
    [
        (b'{"collection":"c","payload":{"a":1}}', True, False, None, [b'{"a":1}']),
        (b'{"collection":"c","payloads":[{"a":1},{}]}', False, False, None, [b'{"a":1}', b"{}"]),
        (b'{"collection":"c","payloads":[]}', False, False, None, []),
        (b'{"collection":"c","payload":[]}', True, False, None, [b"{}"]),
        (b'{"collection":"c","payload": [ ] }', True, False, None, [b"{}"]),
        (b'{"collection":"c","payloads":[[],{"a":1}]}', False, False, None, [b"{}", b'{"a":1}']),
        (b'{"collection":"c","payload":' + EXACT + b"}", True, False, None, [EXACT]),
        (b'{"collection":"c","payload":null,"payloads":[{}]}', False, False, None, [b"{}"]),
        (b'{"collection":"c","batch":false,"payload":{}}', True, False, None, [b"{}"]),
        (b'{"collection":"c","batch":null,"payload":{}}', True, False, None, [b"{}"]),
        (
            b'{"collection":"c","batch":true,"payloads":[{"fields":{"a":1}},{"fields":[]}]}',
            False,
            True,
            None,
            [b'{"a":1}', b"{}"],
        ),
        (
            b'{"collection":"c","idempotency_key":"k","payloads":[{"x":0,"fields":' + EXACT + b"}]}",
            False,
            True,
            "k",
            [EXACT],
        ),
    ],
)
def test_a_bulk_insert_hands_its_documents_on_untouched(
    payload: bytes, single: bool, atomic: bool, key: str | None, documents: list[bytes]
) -> None:
    insert = decode_bulk_insert(payload)
    assert (insert.collection, insert.single, insert.atomic, insert.idempotency_key) == (
        "c",
        single,
        atomic,
        key,
    )
    assert insert.documents() == documents


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"7", "not a JSON object"),
        (b'{"payload":{}}', "`collection`"),
        (b'{"collection":"c"}', "give `payload`, an object, or `payloads`"),
        (b'{"collection":"c","payload":null}', "give `payload`"),
        (b'{"collection":"c","payload":{},"payloads":[]}', "give `payload`"),
        (b'{"collection":"c","payloads":{}}', "`payloads` must be an array of objects"),
        (b'{"collection":"c","payloads":"x"}', "`payloads` must be an array of objects"),
        (b'{"collection":"c","batch":1,"payloads":[]}', "`batch` must be true or false"),
        (b'{"collection":"c","idempotency_key":"","payloads":[]}', "`idempotency_key` must be a string"),
        (b'{"collection":"c","idempotency_key":7,"payloads":[]}', "`idempotency_key` must be a string"),
    ],
)
def test_a_bulk_insert_without_its_parts_is_refused_by_its_field(payload: bytes, what: str) -> None:
    with pytest.raises(RequestInvalid, match=what) as refused:
        decode_bulk_insert(payload)
    assert refused.value.record is None


@pytest.mark.parametrize(
    ("payload", "row"),
    [
        (b'{"collection":"c","payload":7}', 0),
        (b'{"collection":"c","payload":[1]}', 0),
        (b'{"collection":"c","payload":"{}"}', 0),
        (b'{"collection":"c","payloads":[{},null]}', 1),
        (b'{"collection":"c","batch":true,"payloads":[{"fields":{}},{"a":1}]}', 1),
        (b'{"collection":"c","batch":true,"payloads":[{"fields":{}},7]}', 1),
        (b'{"collection":"c","batch":true,"payloads":[{"fields":7}]}', 0),
        (b'{"collection":"c","batch":true,"payloads":[{"\xff":7}]}', 0),
    ],
)
def test_a_row_that_is_no_object_is_refused_by_its_place(payload: bytes, row: int) -> None:
    with pytest.raises(RequestInvalid) as refused:
        decode_bulk_insert(payload).documents()
    assert refused.value.record == row


def test_ten_thousand_rows_pass_and_one_more_does_not() -> None:
    def rows(count: int) -> BulkInsert:
        return decode_bulk_insert(b'{"collection":"c","payloads":[' + b",".join([b"{}"] * count) + b"]}")

    assert len(rows(10_000).documents()) == 10_000
    with pytest.raises(TooLarge) as refused:
        rows(10_001).documents()
    assert refused.value.code is Code.BATCH_TOO_LARGE


def test_nesting_without_end_is_refused_in_words() -> None:
    with pytest.raises(RequestInvalid, match="not a JSON object"):
        decode_bulk_insert(b'{"collection":"c","payload":' + b"[" * 100_000)
    with pytest.raises(RequestInvalid):
        decode_bulk_insert(b'{"batch":' + b"[" * 3_000 + b"]" * 3_000 + b',"collection":"c","payload":{}}')


@pytest.mark.parametrize(
    ("ids", "single", "answer"),
    [
        (["42"], True, b'{"affected":1,"id":42}'),
        (["42"], False, b'{"affected":1,"ids":[42]}'),
        ([], False, b'{"affected":0,"ids":[]}'),
        (["9007199254740992"], True, b'{"affected":1,"id":9007199254740992}'),
        (["9007199254740993"], True, b'{"affected":1,"id":"9007199254740993"}'),
        (["18446744073709551615"], True, b'{"affected":1,"id":"18446744073709551615"}'),
        (
            ["007", "-1", "a", "\u0664", "\u00b2", "0"],
            False,
            '{"affected":6,"ids":["007","-1","a","\u0664","\u00b2",0]}'.encode(),
        ),
    ],
)
def test_ids_leave_as_numbers_only_where_a_double_holds_them(
    ids: list[str], single: bool, answer: bytes
) -> None:
    assert encode_inserted(ids, single=single) == answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (encode_batch_ok(3), b'{"ok":true,"count":3}'),
        (encode_count(3), b"\3\0\0\0\0\0\0\0"),
        (encode_deleted(1), b'{"affected":1}'),
        (encode_got(None), b'{"ok":true,"found":false,"entity":null}'),
        (encode_got(EXACT), b'{"ok":true,"found":true,"entity":' + EXACT + b"}"),
        (
            encode_query_result("select", 0),
            b'{"ok":true,"statement":"select","affected":0,"columns":[],"rows":[]}',
        ),
        (
            encode_query_result("select", 0, ["a", "b"], [(1, None), ("x", 1.5)]),
            b'{"ok":true,"statement":"select","affected":0,"columns":["a","b"],'
            b'"rows":[{"a":1,"b":null},{"a":"x","b":1.5}]}',
        ),
        (
            encode_param_result("select", 0, ["a"], [(True,)]),
            b'{"ok":true,"statement":"select","affected":0,"rows":[{"a":true}],'
            b'"result":{"columns":["a"],"records":[{"values":{"a":true}}]}}',
        ),
        (
            encode_param_result("insert", 2),
            b'{"ok":true,"statement":"insert","affected":2,"rows":[],"result":{"columns":[],"records":[]}}',
        ),
    ],
)
def test_an_answer_is_what_drivers_read(answer: bytes, expected: bytes) -> None:
    assert answer == expected


def test_values_that_json_has_no_word_for_leave_in_the_drivers_notation() -> None:
    row = (b"\x00\xff", math.nan, math.inf, -math.inf, 1 << 53, -(1 << 53), (1 << 53) + 1, -(1 << 63))
    answer = json.loads(encode_query_result("select", 0, ["b", "n", "i", "j", "k", "l", "m", "o"], [row]))
    assert answer["rows"] == [
        {
            "b": {"$bytes": "AP8="},
            "n": {"$float": "NaN"},
            "i": {"$float": "Infinity"},
            "j": {"$float": "-Infinity"},
            "k": 1 << 53,
            "l": -(1 << 53),
            "m": {"$int": "9007199254740993"},
            "o": {"$int": "-9223372036854775808"},
        }
    ]


@pytest.mark.parametrize(
    ("error", "code", "answer"),
    [
        (
            RequestInvalid("no object", 1),
            None,
            {"ok": False, "code": "RowParseFailure", "row_index": 1, "error": "record 1: no object"},
        ),
        (
            RequestInvalid("id taken", 0),
            BatchError.ROW_SCHEMA_REJECTED,
            {"ok": False, "code": "RowSchemaRejected", "row_index": 0, "error": "record 0: id taken"},
        ),
        (
            TooLarge("rows", 2, 1, code=Code.BATCH_TOO_LARGE),
            None,
            {"ok": False, "code": "BatchTooLarge", "error": "rows: 2, at most 1"},
        ),
    ],
)
def test_a_batch_error_names_code_and_row(
    error: RequestInvalid, code: BatchError | None, answer: dict[str, object]
) -> None:
    assert json.loads(encode_batch_error(error, code=code)) == answer


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            errors.Refused(Code.QUERY, "no such table", hint="SHOW COLLECTIONS"),
            "QUERY: no such table; SHOW COLLECTIONS",
        ),
        (errors.NotPrimary("eu-1 follows", hint="ask us-1"), "NOT_PRIMARY: eu-1 follows; ask us-1"),
        (RequestInvalid("no id", 2), "INVALID: record 2: no id"),
        (errors.Refused(Code.QUERY, "\ud800"), "QUERY: ?"),
    ],
)
def test_an_error_is_text_behind_its_code(error: errors.RedwireError, text: str) -> None:
    assert encode_error(error).decode() == text
    assert json.loads(encode_stream_error(error)) == {"code": error.code, "message": text}

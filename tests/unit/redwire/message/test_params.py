"""Typed values, against the golden vectors that every driver shares."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.errors import Code, RequestInvalid, TooLarge
from redwire.message.params import (
    BinaryRows,
    Json,
    Param,
    ParamQuery,
    Timestamp,
    Uuid,
    Vector,
    decode_binary_rows,
    decode_param_query,
    encode_binary_result,
)

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "redwire-params.json").read_text())
HEX = {value["name"]: value["redwire_hex"] for value in GOLDEN["values"]}

VALUES: dict[str, Param] = {
    "null": None,
    "bool_true": True,
    "bool_false": False,
    "int_min": -(1 << 63),
    "int_max": (1 << 63) - 1,
    "int_42": 42,
    "float_nan": math.nan,
    "float_pos_inf": math.inf,
    "float_neg_inf": -math.inf,
    "float_subnormal_min": 5e-324,
    "text_unicode": "héllo",
    "text_x": "x",
    "bytes_empty": b"",
    "bytes_deadbeef": b"\xde\xad\xbe\xef",
    "bytes_256": bytes(range(256)),
    "json_nested": Json('{"a":null,"z":[1,{"deep":[true,false]}]}'),
    "timestamp_zero": Timestamp(0),
    "timestamp_max": Timestamp((1 << 63) - 1),
    "uuid_001122": Uuid(bytes.fromhex("00112233445566778899aabbccddeeff")),
    "vector_empty": Vector(()),
    "vector_three": Vector((1.0, 2.0, -0.5)),
    "vector_128": Vector(tuple(float(n) for n in range(128))),
}


def query_bytes(*params: str, tail: str = "") -> bytes:
    """SELECT 1 with encoded parameters, in hex."""
    sql = b"SELECT 1"
    head = struct.pack("<I", len(sql)) + sql + struct.pack("<I", len(params))
    return head + bytes.fromhex("".join(params) + tail)


def test_every_golden_value_is_tried() -> None:
    assert VALUES.keys() == HEX.keys()


@pytest.mark.parametrize("name", VALUES)
def test_a_value_and_its_golden_bytes_are_the_same_both_ways(name: str) -> None:
    data = query_bytes(HEX[name])
    assert ParamQuery("SELECT 1", (VALUES[name],)).encode() == data
    (decoded,) = decode_param_query(memoryview(data)).params
    assert type(decoded) is type(VALUES[name])
    assert repr(decoded) == repr(VALUES[name])


def test_every_nan_leaves_as_the_canonical_one() -> None:
    (strange,) = struct.unpack("<d", bytes.fromhex("010000000000f8ff"))
    assert ParamQuery("SELECT 1", (strange,)).encode() == query_bytes(HEX["float_nan"])
    assert encode_binary_result([], [(strange,)])[6:] == bytes.fromhex("02000000000000f87f")


@pytest.mark.parametrize("golden", GOLDEN["queries"], ids=lambda golden: golden["name"])
def test_a_golden_query_is_the_same_both_ways(golden: dict[str, object]) -> None:
    names = golden["params"]
    assert isinstance(names, list)
    query = ParamQuery(str(golden["sql"]), tuple(VALUES[name] for name in names))
    data = bytes.fromhex(str(golden["redwire_hex"]))
    assert query.encode() == data
    assert decode_param_query(data) == query


@pytest.mark.parametrize("name", VALUES)
def test_a_query_that_is_cut_anywhere_or_goes_on_is_refused(name: str) -> None:
    data = query_bytes(HEX[name])
    for end in range(len(data)):
        with pytest.raises(RequestInvalid, match="QueryWithParams"):
            decode_param_query(data[:end])
    with pytest.raises(RequestInvalid, match="trailer"):
        decode_param_query(data + b"\0")


def test_a_commit_policy_rides_behind_the_values() -> None:
    data = query_bytes("00", tail="52515031 08000000 6d616a6f72697479")
    query = ParamQuery("SELECT 1", (None,), "majority")
    assert query.encode() == data
    assert decode_param_query(data) == query
    assert decode_param_query(query_bytes(tail="52515031 00000000")).policy == ""


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (query_bytes("0a"), "parameter tag 0x0a is unknown"),
        (query_bytes("0102"), "bool is 2, not 0 or 1"),
        (query_bytes("0402000000c328"), "text is not UTF-8"),
        (query_bytes("04ffffffff"), "text takes 4294967295 bytes"),
        (query_bytes("05ffffffff"), "bytes takes 4294967295 bytes"),
        (query_bytes("06ffffffff"), "vector length is 4294967295 with 0 bytes left"),
        (query_bytes("0600000040"), "vector length is 1073741824"),
        (query_bytes("07020000007b7b"), "JSON cannot be read"),
        (query_bytes("0700000000"), "JSON cannot be read"),
        (query_bytes("0708000000" + b"[1] true".hex()), "JSON cannot be read"),
        (query_bytes(tail="52515032 00000000"), "trailer is not RQP1"),
        (query_bytes(tail="5251"), "trailer is not RQP1"),
        (query_bytes(tail="52515031 05000000 61"), "commit policy takes 5 bytes"),
        (query_bytes(tail="52515031 01000000 6162"), "1 bytes follow"),
        (b"\1\0\0\0\xff\0\0\0\0", "SQL is not UTF-8"),
        (struct.pack("<II", 0, 0xFFFF_FFFF), "parameter count is 4294967295 with 0 bytes left"),
        (struct.pack("<II", 0, 65_537) + bytes(65_537), "parameter count is 65537"),
        (struct.pack("<II", 0, 3) + bytes(2), "parameter count is 3 with 2 bytes left"),
    ],
)
def test_a_query_that_cannot_be_is_refused_by_its_field(data: bytes, what: str) -> None:
    with pytest.raises(RequestInvalid, match=what):
        decode_param_query(data)


def test_65536_values_pass() -> None:
    assert len(decode_param_query(struct.pack("<II", 0, 65_536) + bytes(65_536)).params) == 65_536


def test_json_nested_without_end_is_refused_in_words() -> None:
    text = b"[" * 100_000
    with pytest.raises(RequestInvalid, match="JSON cannot be read"):
        decode_param_query(struct.pack("<II", 0, 1) + b"\7" + struct.pack("<I", len(text)) + text)


PARAMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.builds(Vector, st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(tuple)),
    st.builds(Timestamp, st.integers(-(1 << 63), (1 << 63) - 1)),
    st.builds(Uuid, st.binary(min_size=16, max_size=16)),
)


@given(st.text(max_size=12), st.lists(PARAMS, max_size=6), st.none() | st.text(max_size=8))
def test_any_query_survives_the_wire(sql: str, params: list[Param], policy: str | None) -> None:
    query = ParamQuery(sql, tuple(params), policy)
    assert decode_param_query(query.encode()) == query


# the older kinds


def rows_bytes(columns: list[str], count: int, values: str, collection: str = "c") -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value.encode())) + value.encode()

    names = b"".join(map(text, columns))
    return (
        text(collection)
        + struct.pack("<H", len(columns))
        + names
        + struct.pack("<I", count)
        + bytes.fromhex(values)
    )


def test_binary_rows_become_json_documents() -> None:
    values = (
        "00 01ffffffffffffffff 02000000000000f83f 0303000000c3a9 22 0401 05ffffffffffffffff"
        "0400 00 02000000000000f87f 02000000000000f07f 02000000000000f0ff 0100000000 00000000"
    )
    data = rows_bytes(["a", "b", "c", "d", "e", "f"], 2, values)
    decoded = decode_binary_rows(memoryview(data))
    assert decoded.collection == "c"
    assert [json.loads(document) for document in decoded.documents] == [
        {"a": None, "b": -1, "c": 1.5, "d": 'é"', "e": True, "f": (1 << 64) - 1},
        {
            "a": False,
            "b": None,
            "c": {"$float": "NaN"},
            "d": {"$float": "Infinity"},
            "e": {"$float": "-Infinity"},
            "f": 0,
        },
    ]
    for end in range(len(data)):
        with pytest.raises(RequestInvalid, match="BulkInsertBinary"):
            decode_binary_rows(data[:end])
    with pytest.raises(RequestInvalid, match="1 bytes follow"):
        decode_binary_rows(data + b"\0")


def test_binary_rows_may_be_none_and_may_be_empty() -> None:
    assert decode_binary_rows(rows_bytes(["a"], 0, "")) == BinaryRows("c", ())
    assert decode_binary_rows(rows_bytes([], 2, "")) == BinaryRows("c", (b"{}", b"{}"))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (rows_bytes(["a", "a"], 1, "0000"), "column names repeat"),
        (rows_bytes(["a"], 1, "06"), "value tag 0x06 is unknown"),
        (rows_bytes(["a"], 1, "0402"), "bool is 2"),
        (rows_bytes(["a"], 10_000, "00"), "value tag takes 1 bytes"),
    ],
)
def test_binary_rows_that_cannot_be_are_refused_by_their_field(data: bytes, what: str) -> None:
    with pytest.raises(RequestInvalid, match=what):
        decode_binary_rows(data)


@pytest.mark.parametrize("columns", [[], ["a"]])
def test_more_than_ten_thousand_rows_are_refused_before_they_are_read(columns: list[str]) -> None:
    with pytest.raises(TooLarge) as refused:
        decode_binary_rows(rows_bytes(columns, 0xFFFF_FFFF, ""))
    assert refused.value.code is Code.BATCH_TOO_LARGE


def test_a_binary_result_has_columns_then_rows() -> None:
    rows = [(None, -1, 1.5, "é"), (True, (1 << 63), math.nan, b"raw")]
    assert encode_binary_result(["a", "b", "c", "d"], rows) == bytes.fromhex(
        "0400 010061 010062 010063 010064 02000000"
        "00 01ffffffffffffffff 02000000000000f83f 0302000000c3a9"
        "0401 050000000000000080 02000000000000f87f 00"
    )
    assert encode_binary_result([], []) == bytes(6)

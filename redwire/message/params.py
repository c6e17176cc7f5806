"""Bodies of typed values: QueryWithParams (28), BulkInsertBinary (06) and the answer to QueryBinary (07).

QueryWithParams, layout `redwire-query-with-params-v1`:

    u32 SQL length, SQL, u32 values, the values, and nothing or a trailer: "RQP1", u32 length, commit policy

The two older kinds know fewer types, with tags of their own. All are drivers' kinds: what is wrong with one
is answered in words, so everything here raises `RequestInvalid`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence

import msgspec

from redwire.errors import BodyInvalid, Code, RequestInvalid, TooLarge
from redwire.message.cursor import Cursor, bytes32, str16, str32
from redwire.message.driver import json_float
from redwire.record import RECORDS_MAX, REQUEST_BYTES_MAX

PARAMS_MAX = 65_536
"""RedDB's limit, which its drivers keep to."""
POLICY_MAGIC = b"RQP1"
_PARAM_BYTES_MIN = 1
"""Null is its tag alone."""
_FLOAT_BYTES = 4
"""Each of a vector's."""
_CANONICAL_NAN = bytes.fromhex("000000000000f87f")
_I64, _F64, _U64 = struct.Struct("<q"), struct.Struct("<d"), struct.Struct("<Q")


class Vector(msgspec.Struct, frozen=True):
    """32-bit floats."""

    values: tuple[float, ...]


class Json(msgspec.Struct, frozen=True):
    """A JSON text, as it came."""

    text: str


class Timestamp(msgspec.Struct, frozen=True):
    """A point in time, counted since 1970: in seconds by most drivers, in nanoseconds by the JS client."""

    count: int


class Uuid(msgspec.Struct, frozen=True):
    """16 bytes."""

    raw: bytes


Param = None | bool | int | float | str | bytes | Vector | Json | Timestamp | Uuid


class ParamQuery(msgspec.Struct, frozen=True):
    """QueryWithParams. `policy` None: no trailer, so the cluster's default."""

    sql: str
    params: tuple[Param, ...]
    policy: str | None = None

    def encode(self) -> bytes:
        """This request's bytes."""
        parts = [str32(self.sql), len(self.params).to_bytes(4, "little"), *map(_encode_param, self.params)]
        if self.policy is not None:
            parts += (POLICY_MAGIC, str32(self.policy))
        return b"".join(parts)


def decode_param_query(payload: bytes | memoryview) -> ParamQuery:
    """The query in `payload`. Raises `RequestInvalid`."""
    try:
        return _param_query(Cursor(payload, "QueryWithParams"))
    except BodyInvalid as error:
        raise RequestInvalid(error.message) from error


def _param_query(cursor: Cursor) -> ParamQuery:
    sql = cursor.str32("SQL")
    count = cursor.count32("parameter count", _PARAM_BYTES_MIN, PARAMS_MAX)
    params = tuple(_decode_param(cursor) for _ in range(count))
    policy = None
    if cursor.left:
        if cursor.take(min(len(POLICY_MAGIC), cursor.left), "trailer") != POLICY_MAGIC:
            raise cursor.invalid("trailer", f"is not {POLICY_MAGIC.decode()}")
        policy = cursor.str32("commit policy")
    cursor.end()
    return ParamQuery(sql, params, policy)


class BinaryRows(msgspec.Struct, frozen=True):
    """BulkInsertBinary. `documents` are JSON objects, one for each row."""

    collection: str
    documents: tuple[bytes, ...]


def decode_binary_rows(payload: bytes | memoryview) -> BinaryRows:
    """The rows in `payload`: str16 collection, u16 columns, their str16 names, u32 rows, values row by row.

    NaN and infinities become `{"$float": …}`. Raises `RequestInvalid`; `TooLarge` above 10,000 rows.
    """
    try:
        return _binary_rows(Cursor(payload, "BulkInsertBinary"))
    except BodyInvalid as error:
        raise RequestInvalid(error.message) from error


def _binary_rows(cursor: Cursor) -> BinaryRows:
    collection = cursor.str16("collection")
    names = [cursor.str16("column name") for _ in range(cursor.u16("column count"))]
    if len(set(names)) != len(names):
        raise cursor.invalid("column names", "repeat")
    rows = cursor.u32("row count")
    if rows > RECORDS_MAX:
        raise TooLarge("rows in one request", rows, RECORDS_MAX, code=Code.BATCH_TOO_LARGE)
    documents: list[bytes] = []
    size = 0
    for _ in range(rows):
        documents.append(msgspec.json.encode({name: _decode_legacy(cursor) for name in names}))
        size += len(documents[-1])  # each repeats the names: a small frame can announce gigabytes
        if size > REQUEST_BYTES_MAX:
            raise TooLarge("bytes of the rows as JSON", size, REQUEST_BYTES_MAX)
    cursor.end()
    return BinaryRows(collection, tuple(documents))


LegacyValue = None | bool | int | float | str | bytes


def encode_binary_result(columns: Sequence[str], rows: Sequence[Sequence[LegacyValue]]) -> bytes:
    """The Result of a QueryBinary: u16 columns, their str16 names, u32 rows, values row by row.

    Bytes, which this layout has no tag for, leave as null.
    """
    parts = [len(columns).to_bytes(2, "little"), *map(str16, columns), len(rows).to_bytes(4, "little")]
    parts += (_encode_legacy(value) for row in rows for value in row)
    return b"".join(parts)


def _bool(cursor: Cursor) -> bool:
    return cursor.flag("bool")


def _i64(cursor: Cursor) -> int:
    return int(cursor.unpack(_I64, "integer")[0])


def _u64(cursor: Cursor) -> int:
    return int(cursor.unpack(_U64, "integer")[0])


def _f64(cursor: Cursor) -> float:
    return float(cursor.unpack(_F64, "float")[0])


def _text(cursor: Cursor) -> str:
    return cursor.str32("text")


def _vector(cursor: Cursor) -> Vector:
    count = cursor.count32("vector length", _FLOAT_BYTES)
    return Vector(cursor.unpack(struct.Struct(f"<{count}f"), "vector"))


def _json(cursor: Cursor) -> Json:
    text = cursor.str32("JSON")
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise cursor.invalid("JSON", f"cannot be read: {error}") from error
    return Json(text)


_PARAM_READERS: tuple[Callable[[Cursor], Param], ...] = (
    lambda cursor: None,
    _bool,
    _i64,
    _f64,
    _text,
    lambda cursor: cursor.bytes32("bytes"),
    _vector,
    _json,
    lambda cursor: Timestamp(_i64(cursor)),
    lambda cursor: Uuid(bytes(cursor.take(16, "UUID"))),
)
_NULL, _BOOL, _INT, _FLOAT, _TEXT, _BYTES, _VECTOR, _JSON, _TIMESTAMP, _UUID = (
    bytes((tag,)) for tag in range(10)
)


def _decode_param(cursor: Cursor) -> Param:
    tag = cursor.u8("parameter tag")
    if tag >= len(_PARAM_READERS):
        raise cursor.invalid("parameter tag", f"{tag:#04x} is unknown")
    return _PARAM_READERS[tag](cursor)


def _encode_param(value: Param) -> bytes:
    match value:
        case None:
            return _NULL
        case bool():
            return _BOOL + bytes((value,))
        case int():
            return _INT + _I64.pack(value)
        case float():
            return _FLOAT + _pack_float(value)
        case str():
            return _TEXT + str32(value)
        case bytes():
            return _BYTES + bytes32(value)
        case Vector(values):
            return _VECTOR + struct.pack(f"<I{len(values)}f", len(values), *values)
        case Json(text):
            return _JSON + str32(text)
        case Timestamp(count):
            return _TIMESTAMP + _I64.pack(count)
        case Uuid(raw):
            assert len(raw) == 16
            return _UUID + raw


def _pack_float(value: float) -> bytes:
    return _CANONICAL_NAN if math.isnan(value) else _F64.pack(value)


_LEGACY_READERS: tuple[Callable[[Cursor], object], ...] = (
    lambda cursor: None,
    _i64,
    lambda cursor: json_float(_f64(cursor)),
    _text,
    _bool,
    _u64,
)


def _decode_legacy(cursor: Cursor) -> object:
    tag = cursor.u8("value tag")
    if tag >= len(_LEGACY_READERS):
        raise cursor.invalid("value tag", f"{tag:#04x} is unknown")
    return _LEGACY_READERS[tag](cursor)


def _encode_legacy(value: LegacyValue) -> bytes:
    match value:
        case None | bytes():
            return b"\x00"
        case bool():
            return b"\x04" + bytes((value,))
        case int():
            return b"\x01" + _I64.pack(value) if value < 1 << 63 else b"\x05" + _U64.pack(value)
        case float():
            return b"\x02" + _pack_float(value)
        case str():
            return b"\x03" + str32(value)

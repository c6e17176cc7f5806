"""Bodies of the kinds that RedDB's drivers speak: Query, Get, Delete, BulkInsert, and their JSON answers.

A driver's request that is wrong inside its frame is answered with an Error frame and the connection lives, so
everything here raises `RequestInvalid`. Keys that we do not know are ignored, and documents are opaque: what
stands between their braces (`{"$int": "…"}`, `$uint`, `$decimal`) is stored and returned byte for byte.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from redwire.errors import Code, RedwireError, RequestInvalid, TooLarge
from redwire.record import RECORDS_MAX

TARGET_BYTES_MAX = 16 << 10
"""Far above any body that names a collection and an id: a larger one would only be taken apart in vain."""
COMMAS_FREE = 1_000_000
"""What an array may hold before its elements are counted first: at most so many, some 100 bytes each."""
NUMBER_MAX = 1 << 53
"""Drivers read JSON numbers as doubles; above this an id leaves as text, a value as `{"$int": text}`."""

SqlValue = None | bool | int | float | str | bytes


class Target(msgspec.Struct, frozen=True):
    """What a Get or a Delete speaks of."""

    collection: str
    id: str


def decode_target(payload: bytes | memoryview) -> Target:
    """The body of a Get (19) or Delete (1A). Raises `RequestInvalid`, or `TooLarge`."""
    if len(payload) > TARGET_BYTES_MAX:
        raise TooLarge("bytes of the body", len(payload), TARGET_BYTES_MAX)
    fields = _fields(payload, _decode_raw_object)
    return Target(_text(fields, "collection"), _text(fields, "id"))


def decode_sql(payload: bytes | memoryview) -> str:
    """The body of a Query (01) or QueryBinary (07). Raises `RequestInvalid`."""
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as error:
        raise RequestInvalid(f"the query is not UTF-8 at byte {error.start}") from error


class BulkInsert(msgspec.Struct, frozen=True):
    """A BulkInsert (04), its rows not looked at yet.

    `single`: one row, answered with `id`. `atomic`: all rows or none, answered with a count and, on failure,
    with `encode_batch_error`; an `idempotency_key` implies it.
    """

    collection: str
    rows: tuple[msgspec.Raw, ...]
    single: bool
    atomic: bool
    idempotency_key: str | None

    def documents(self) -> list[bytes]:
        """The rows as JSON objects. Raises `RequestInvalid`, which names the row, or `TooLarge`."""
        if len(self.rows) > RECORDS_MAX:
            raise TooLarge("rows in one request", len(self.rows), RECORDS_MAX, code=Code.BATCH_TOO_LARGE)
        return [_document(row, index, in_fields=self.atomic) for index, row in enumerate(self.rows)]


def decode_bulk_insert(payload: bytes | memoryview) -> BulkInsert:
    """The body of a BulkInsert, its rows unopened. Raises `RequestInvalid`, or `TooLarge`."""
    fields = _fields(payload, lambda body: msgspec.structs.asdict(_decode_bulk(body)))
    collection = _text(fields, "collection")
    key = _text(fields, "idempotency_key") if _given(fields, "idempotency_key") else None
    batch = _json(fields["batch"], "`batch`") if _given(fields, "batch") else False
    if not isinstance(batch, bool):
        raise RequestInvalid("`batch` must be true or false")
    single = _given(fields, "payload")
    if single == _given(fields, "payloads"):
        raise RequestInvalid("give `payload`, an object, or `payloads`, an array of objects")
    rows = (fields["payload"],) if single else _rows(fields["payloads"])
    return BulkInsert(collection, rows, single, batch or key is not None, key)


def encode_inserted(ids: Sequence[str], *, single: bool) -> bytes:
    """BulkOk of an insert row by row: `id` for `payload`, `ids` for `payloads`."""
    numbers = [_id(text) for text in ids]
    answer = {"affected": len(ids), "id": numbers[0]} if single else {"affected": len(ids), "ids": numbers}
    return msgspec.json.encode(answer)


def encode_batch_ok(count: int) -> bytes:
    """BulkOk of an atomic insert."""
    return msgspec.json.encode({"ok": True, "count": count})


def encode_count(count: int) -> bytes:
    """BulkOk of a BulkInsertBinary: the raw count."""
    return count.to_bytes(8, "little")


class BatchError(StrEnum):
    """Why an atomic insert was refused as it stands."""

    ROW_PARSE_FAILURE = "RowParseFailure"
    ROW_SCHEMA_REJECTED = "RowSchemaRejected"
    BATCH_TOO_LARGE = "BatchTooLarge"


def encode_batch_error(error: RequestInvalid, *, code: BatchError | None = None) -> bytes:
    """The Error of an atomic insert, which is JSON. Without `code` it follows from `error`."""
    if code is None:
        too_large = error.code is Code.BATCH_TOO_LARGE
        code = BatchError.BATCH_TOO_LARGE if too_large else BatchError.ROW_PARSE_FAILURE
    answer: dict[str, object] = {"ok": False, "code": code, "error": error.message}
    if error.record is not None:
        answer["row_index"] = error.record
    return msgspec.json.encode(answer)


def encode_got(document: bytes | None) -> bytes:
    """Result of a Get; None means that there is no such document."""
    entity = None if document is None else msgspec.Raw(document)
    return msgspec.json.encode({"ok": True, "found": document is not None, "entity": entity})


def encode_deleted(affected: int) -> bytes:
    """DeleteOk."""
    return msgspec.json.encode({"affected": affected})


def encode_query_result(
    statement: str, affected: int, columns: Sequence[str] = (), rows: Sequence[Sequence[SqlValue]] = ()
) -> bytes:
    """Result of a Query: the summary, and `columns` and `rows`, as objects, for whoever looks for them."""
    objects = [_row(columns, row) for row in rows]
    answer = {"ok": True, "statement": statement, "affected": affected, "columns": columns, "rows": objects}
    return msgspec.json.encode(answer)


def encode_param_result(
    statement: str, affected: int, columns: Sequence[str] = (), rows: Sequence[Sequence[SqlValue]] = ()
) -> bytes:
    """Result of a QueryWithParams: the summary, a `result` envelope around records, and `rows` as in a Query.

    The drivers for Go, Java, PHP and C++ find a document by a statement with parameters, and then look for
    `rows`; those that know the envelope look into it.
    """
    objects = [msgspec.Raw(msgspec.json.encode(_row(columns, row))) for row in rows]
    result = {"columns": columns, "records": [{"values": values} for values in objects]}
    answer = {"ok": True, "statement": statement, "affected": affected, "rows": objects, "result": result}
    return msgspec.json.encode(answer)


def encode_error(error: RedwireError) -> bytes:
    """An Error (03): `CODE: message`, with the hint."""
    text, code = str(error), f"{error.code}: "
    return (text if text.startswith(code) else code + text).encode(errors="replace")


def encode_stream_error(error: RedwireError) -> bytes:
    """A StreamError (2C): the code, and what an Error says."""
    return msgspec.json.encode({"code": error.code, "message": encode_error(error).decode()})


def _row(columns: Sequence[str], values: Sequence[SqlValue]) -> dict[str, object]:
    return dict(zip(columns, map(_json_value, values), strict=True))


def _json_value(value: SqlValue) -> object:
    """A value as JSON can hold it; what it cannot hold leaves in the notation that drivers send it in."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, float):
        return json_float(value)
    if isinstance(value, int) and not -NUMBER_MAX <= value <= NUMBER_MAX:
        return {"$int": str(value)}
    return value


def json_float(value: float) -> float | dict[str, str]:
    """A float as JSON can hold it: NaN and infinities as `{"$float": …}`."""
    if math.isfinite(value):
        return value
    return {"$float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}


def _id(text: str) -> int | str:
    if text.isascii() and text.isdigit() and len(text) <= 16:
        number = int(text)
        if number <= NUMBER_MAX and str(number) == text:
            return number
    return text


_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON."""
_decode_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_raw_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


_NULL = msgspec.Raw(b"null")


class _Bulk(msgspec.Struct):
    """The keys of a BulkInsert that mean something; a million others are skipped without being made."""

    collection: msgspec.Raw = _NULL
    idempotency_key: msgspec.Raw = _NULL
    batch: msgspec.Raw = _NULL
    payload: msgspec.Raw = _NULL
    payloads: msgspec.Raw = _NULL


class _BatchRow(msgspec.Struct):
    fields: msgspec.Raw


_decode_bulk = msgspec.json.Decoder(_Bulk).decode
_decode_batch_row = msgspec.json.Decoder(_BatchRow).decode


def _fields(
    payload: bytes | memoryview, decode: Callable[[bytes | memoryview], dict[str, msgspec.Raw]]
) -> dict[str, msgspec.Raw]:
    try:
        return decode(payload)
    except _NOT_JSON as error:
        raise RequestInvalid(f"the body is not a JSON object: {error}") from error


def _rows(raw: msgspec.Raw) -> tuple[msgspec.Raw, ...]:
    data = bytes(raw)
    if data.count(b",") > COMMAS_FREE and _has_more_elements(data, RECORDS_MAX):
        raise TooLarge("rows in one request", RECORDS_MAX + 1, RECORDS_MAX, code=Code.BATCH_TOO_LARGE)
    try:
        return tuple(_decode_raw_array(raw))
    except _NOT_JSON as error:
        raise RequestInvalid("`payloads` must be an array of objects") from error


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{},]', re.DOTALL)


def _has_more_elements(array: bytes, limit: int) -> bool:
    """Whether the JSON array has more than `limit` elements. Looks no further than the one that says so."""
    depth = elements = 0
    for match in _TOKEN.finditer(array):
        token = match[0]
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
        elif token == b"," and depth == 1:
            elements += 1
            if elements >= limit:
                return True
    return False


def _given(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return name in fields and bytes(fields[name]) != b"null"


def _json(raw: msgspec.Raw, what: str) -> object:
    try:
        value: object = msgspec.json.decode(raw)
    except _NOT_JSON as error:
        raise RequestInvalid(f"{what} cannot be read: {error}") from error
    return value


def _text(fields: dict[str, msgspec.Raw], name: str) -> str:
    value = _json(fields[name], f"`{name}`") if name in fields else None
    if not isinstance(value, str) or not value:
        raise RequestInvalid(f"`{name}` must be a string that is not empty")
    return value


def _document(row: msgspec.Raw, index: int, *, in_fields: bool) -> bytes:
    """The document of one row, under `fields` in an atomic insert. PHP sends an empty one as `[]`."""
    if in_fields:
        try:
            row = _decode_batch_row(row).fields
        except _NOT_JSON as error:
            raise RequestInvalid('a row of a batch is {"fields": {…}}', index) from error
    document = bytes(row).strip(b" \t\r\n")
    if document[:1] == b"[" and document[1:-1].strip(b" \t\r\n") == b"":
        return b"{}"
    if document[:1] != b"{":
        raise RequestInvalid("the payload is not a JSON object", index)
    return document

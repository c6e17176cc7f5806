"""Rows of a driver's insert: the id that a document brings along, the request to log, its outcome in words.

A document is named by its own field `id`, or without one by `rid`: a text that is not empty, or a whole
number, also in the exact notation `{"$int": "…"}` or `{"$uint": "…"}`. A number names by its digits, so 42
and "42" are one document. A document with neither, or with null in them, gets the LSN of its record. Any
other value is refused: to store it under a made-up id would hide the document from whoever looks for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from cluster.logical import generated_id
from redwire.errors import RequestInvalid
from redwire.message.client import RecordStatus
from redwire.record import Key, Op, Record, check_collection, encode_record, encode_write, not_json

CONFLICTS_LISTED_MAX = 20
"""Rows that one Error names; the others are counted. It is read by people: with short ids it fills a screen,
and with the longest ones it has 43 KB.
"""

Results = Sequence[tuple[RecordStatus, int]]
"""Status and version of each record of a request."""


class Insert(msgspec.Struct, frozen=True):
    """A WRITE request that inserts rows. `ids` are the rows' own, "" where one is to be generated."""

    ids: tuple[str, ...]
    request: bytes


def encode_insert(
    collection: str, documents: Sequence[bytes], key: Key | None = None, *, atomic: bool = False
) -> Insert:
    """The request that inserts `documents`, at least one, each a JSON object.

    Raises `RequestInvalid`, which names the row, or `TooLarge`.
    """
    check_collection(collection)
    ids = tuple(_own_id(document, row) for row, document in enumerate(documents))
    records = [
        _record(collection, ident, document, row)
        for row, (ident, document) in enumerate(zip(ids, documents, strict=True))
    ]
    return Insert(ids, encode_write(records, key, atomic=atomic))


def final_ids(ids: Sequence[str], results: Results) -> list[str]:
    """The ids of rows that were all applied."""
    return [ident or generated_id(version) for ident, (_, version) in zip(ids, results, strict=True)]


def conflict_of_one(collection: str, ident: str, version: int) -> str:
    """Why a single insert changed nothing."""
    return f"CONFLICT: {_conflict(collection, ident, version)}"


def conflict_of_many(collection: str, ids: Sequence[str], results: Results) -> str:
    """Which rows of an insert row by row changed nothing. At least one did."""
    rows = [
        (row, version) for row, (status, version) in enumerate(results) if status is not RecordStatus.APPLIED
    ]
    named = [
        f"row {row}: {_conflict(collection, ids[row], version)}"
        for row, version in rows[:CONFLICTS_LISTED_MAX]
    ]
    if len(rows) > len(named):
        named.append(f"and {len(rows) - len(named)} more")
    written = len(results) - len(rows)
    head = f"CONFLICT: {len(rows)} of {len(results)} rows were not written, the other {written} were"
    return f"{head}; {'; '.join(named)}"


def conflict_of_batch(results: Results) -> RequestInvalid | None:
    """The row that failed an atomic insert, and why; None when all were applied.

    It follows from the results alone, so that a replay is told the same.
    """
    for row, (status, version) in enumerate(results):
        if status not in (RecordStatus.APPLIED, RecordStatus.ABORTED):
            what = f"a document with this id already exists, at version {version}" if version else _TAKEN
            return RequestInvalid(f"{what}; no row was written", row)
    return None


_TAKEN = (
    "the collection cannot begin: another name differs only in case, or there are as many as there may be"
)


def _conflict(collection: str, ident: str, version: int) -> str:
    if not version:
        return _TAKEN
    what = repr(ident) if ident else "the id that was generated"
    return f"{what} already exists in {collection}, at version {version}"


class _Named(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"null")
    rid: msgspec.Raw = msgspec.Raw(b"null")


_decode_named = msgspec.json.Decoder(_Named).decode
_decode_exact = msgspec.json.Decoder(dict[str, str]).decode
_decode_text = msgspec.json.Decoder(str).decode
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_EXACT = ("$int", "$uint")
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _own_id(document: bytes, row: int) -> str:
    """The id that the document names itself by, "" for none. What else it holds is not looked at."""
    try:
        named = _decode_named(document)
        for field, raw in (("id", named.id), ("rid", named.rid)):
            token = bytes(raw).strip().decode()
            if token != "null":
                return _id_text(token, field, row)
    except _NOT_JSON as error:
        raise not_json(error, document, row) from error
    return ""


def _id_text(token: str, field: str, row: int) -> str:
    text = token if _WHOLE.match(token) else ""
    if token.startswith('"'):
        text = _decode_text(token)
    elif token.startswith("{"):
        try:
            exact = _decode_exact(token)
        except msgspec.ValidationError:
            exact = {}
        values = [value for name, value in exact.items() if name in _EXACT and _WHOLE.match(value)]
        text = values[0] if len(exact) == len(values) == 1 else ""
    if not text:
        hint = "leave it out to have one generated"
        raise RequestInvalid(f"`{field}` must be a text that is not empty or a whole number", row, hint=hint)
    return text


def _record(collection: str, ident: str, document: bytes, row: int) -> bytes:
    try:
        return encode_record(Record(Op.INSERT, collection, ident, document))
    except RequestInvalid as error:
        raise error.at(row) from error

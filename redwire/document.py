"""Documents as an application holds them: a JSON object by its id, and how one becomes a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from redwire.arguments import require_number, require_rows, require_text
from redwire.errors import RequestInvalid, TooLarge
from redwire.position import Token
from redwire.record import (
    DOC_BYTES_MAX,
    ID_BYTES_MAX,
    IF_VERSION,
    RECORD_HEADER,
    RECORDS_MAX,
    Op,
    Record,
    check_collection,
)
from redwire.record import encode_record as encode_checked

PIECE_BYTES_SOFT = 4 << 20
"""A bulk write is cut into requests of about this size, with a key and a place in the log for each: so much
is sent again when a connection is lost, and others wait for the apply of so much.
"""

Json = Mapping[str, Any] | bytes
"""A document: a mapping, or a JSON object as UTF-8 bytes, which are stored as they are.

In a mapping, what JSON has no word for is written as msgspec does it and reads back as that: dates, UUIDs and
decimals as text, sets as arrays, whole-number keys as text; and a mapping of any make, or a subclass of
`str`, `int` or `float`, at any depth, as an object, text or number.
"""
_IN_RAW = "its JSON, as it was written, is in `raw`"

Row = Json | tuple[str, Json]
"""A document with its id, or without one: the cluster then makes it."""


def _plain(value: object) -> object:
    """What is written for `value`, which msgspec does not know: for a mapping of another make a dict, for a
    text or number of a subclass a plain one, of the same value whatever that prints.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_encode_json = msgspec.json.Encoder(enc_hook=_plain).encode


class Document(msgspec.Struct, frozen=True):
    """A document as a node had it. `raw` is its JSON as it was written; `version` is the LSN that wrote it.

    `token` makes later reads see at least what this one saw.
    """

    id: str
    version: int
    raw: bytes
    token: Token

    @property
    def value(self) -> dict[str, Any]:
        """The document, decoded now. Raises `RequestInvalid` for what Python has no room for: a number as
        1e999, or so many objects in each other as it has stack for. JSON bounds neither. `raw` has it.
        """
        try:
            value: dict[str, Any] = msgspec.json.decode(self.raw)
        except msgspec.ValidationError as error:
            text = f"the document {self.id[:64]!r} holds a number that cannot be read here: {error}"
            raise RequestInvalid(text, hint=_IN_RAW) from error
        except RecursionError as error:
            text = f"the document {self.id[:64]!r} is too deep to be read here: {error}"
            raise RequestInvalid(text, hint=_IN_RAW) from error
        return value


def encode_record(
    op: Op, collection: str, ident: str, document: Json | None, version: int | None = None
) -> bytes:
    """The bytes of one record; `document` is a mapping, the JSON of one in UTF-8, or None for a DELETE.

    Every rule is checked as by `record.encode_record`; what msgspec has just written is not parsed again.
    Raises `RequestInvalid`, which knows no place of the record.
    """
    require_text("collection", collection)
    require_text("id", ident)
    if version is not None:
        require_number("if_version", version)
    name = _collection_bytes(collection)
    if document is None and op is Op.DELETE or isinstance(document, bytes):
        try:
            return encode_checked(Record(op, collection, ident, document or b"", version))
        except RequestInvalid as error:
            raise error.at(None) from error  # of which request it is to be a part is not known here
    data = _document_bytes(document)
    try:
        key = ident.encode()
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"the id is not UTF-8 at character {error.start}") from error
    if len(key) > ID_BYTES_MAX or b"\0" in key or (not key and op is not Op.INSERT):
        raise RequestInvalid(f"an id has 1 to {ID_BYTES_MAX} bytes of UTF-8 and no NUL; got {ident[:64]!r}")
    flags = 0 if version is None else IF_VERSION
    return RECORD_HEADER.pack(op, flags, len(name), len(key), len(data), version or 0) + name + key + data


def encode_rows(op: Op, collection: str, rows: Iterable[Row]) -> tuple[list[bytes], list[str]]:
    """The records of rows, and their ids ("" where the cluster is to make one). Raises `RequestInvalid`."""
    require_rows(rows)
    encoded, ids = [], []
    for number, row in enumerate(rows):
        try:
            ident, document = _row(row)
            encoded.append(encode_record(op, collection, ident, document))
        except RequestInvalid as error:
            raise error.at(number) from error
        ids.append(ident)
    return encoded, ids


def _row(row: Row) -> tuple[str, Json]:
    if not isinstance(row, tuple):
        return "", row
    if len(row) != 2:
        raise RequestInvalid(f"a row is a document, or an id and a document, not a tuple of {len(row)}")
    return row


def cut(encoded: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """The pieces (start, end) in which encoded records go out, each within the limits of one request."""
    start = size = 0
    for at, record in enumerate(encoded):
        size += len(record)
        if at > start and (size > PIECE_BYTES_SOFT or at - start == RECORDS_MAX):
            yield start, at
            start, size = at, len(record)
    if encoded:
        yield start, len(encoded)


def _document_bytes(document: object) -> bytes:
    if not isinstance(document, dict) and not isinstance(document, Mapping):  # of a dict that is soon known
        raise RequestInvalid(f"a document is a mapping or the bytes of one, not {type(document).__name__}")
    try:
        data = _encode_json(document)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise RequestInvalid(f"the document cannot be written as JSON: {error}") from error
    if len(data) > DOC_BYTES_MAX:
        raise TooLarge("document bytes", len(data), DOC_BYTES_MAX)
    if b"null" in data:  # what msgspec writes for a number that JSON does not have
        plain = msgspec.to_builtins(document, str_keys=True, enc_hook=_looked_into)
        for place, number in _not_finite(plain, ""):
            raise RequestInvalid(f"the document holds {number} at {place}", hint="JSON has no such number")
    return data


def _looked_into(value: object) -> object:
    """As `_plain`; for a `msgspec.Raw`, the one thing that is JSON already, nothing: it holds no number to
    look for.
    """
    return None if isinstance(value, msgspec.Raw) else _plain(value)


def _not_finite(value: object, place: str) -> Iterator[tuple[str, float]]:
    """Each NaN or infinity in `value`, and where it stands, such as `.readings[2].celsius`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, f"{place}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, value


@lru_cache(maxsize=256)
def _collection_bytes(name: str) -> bytes:
    check_collection(name)
    return name.encode()

"""Requests and their records, as they stand in a batch body, in the log, and in a client's Write frame.

A *request* is what one caller asked for at once. It takes one LSN per record, never spans two batches and
applies as one (R1). Its bytes are the same from the client to every node's disk: nobody re-encodes a document
on the way.

    offset size
    0      4    length of the whole request, this field included
    4      1    kind: WRITE 1, TERM_START 2, CONFIG 3, ACCOUNT 4, ADMIT 5 or CLOSE 6
    5      1    flags: bit 0 ATOMIC (all records or none); only a WRITE may carry it
    6      2    records, which is also the number of LSNs taken (1 for every kind but WRITE)
    8      24   client id, zero when the request carries no key (always zero but for WRITE)
    32     8    sequence of the request within its client, from 1; zero without a key
    40     8    oldest sequence that the client has not resolved yet, this one at most; zero without a key
    48          WRITE: the records; otherwise: one CBOR body

A record:

    offset size
    0      1    operation: PUT 1, INSERT 2 or DELETE 3
    1      1    flags: bit 0 IF_VERSION (only if the document has the version wanted); not on an INSERT
    2      1    length of the collection's name
    3      1    0
    4      2    length of the id; 0, for the record's LSN in decimal, in an INSERT only
    6      4    length of the document, 0 in a DELETE
    10     8    version wanted: an LSN, or 0 where the document must not exist; 0 without IF_VERSION
    18          collection, id and document, a JSON object, all UTF-8

All numbers are little-endian.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from enum import IntEnum

import msgspec

from redwire.body import U63_MAX
from redwire.errors import Code, RequestInvalid, TooLarge

COLLECTION = re.compile(r"(?!\.)(?!(?i:sqlite_))[A-Za-z0-9._-]{1,64}\Z")
COLLECTION_RULE = "1 to 64 of A-Z a-z 0-9 . _ -, not starting with a dot or sqlite_"
"""`COLLECTION` in words: SQLite keeps names that begin like its own for itself."""
ID_BYTES_MAX = 512
"""An address or a path fits, and several on one of SQLite's pages of 4 KiB, which every look-up goes through.
"""
DOC_BYTES_MAX = 8 << 20
"""Half a frame: a page of a scan, one such document and a mebibyte beside it, fits one."""
REQUEST_BYTES_MAX = 15 << 20
"""Below the 16 MiB frame by enough for every envelope around it."""
RECORDS_MAX = 10_000
"""A request is applied in one piece, at some 15 µs a record: others wait 0.15 s for it at most."""
OPEN_MAX = 4_096
"""Sequences from a client's oldest unresolved one on (R9). A client with more in flight has lost count, not
patience.
"""
CLIENT_BYTES = 24
"""The LSN at which the client's id was issued, its owner, chance, and a seal that tells whose it is, as
`cluster/client_ids.py` lays them out.
"""
NO_CLIENT = bytes(CLIENT_BYTES)

REQUEST_HEADER = struct.Struct(f"<IBBH{CLIENT_BYTES}sQQ")
RECORD_HEADER = struct.Struct("<BBBxHIQ")


class RequestKind(IntEnum):
    """What a request asks for."""

    WRITE = 1
    TERM_START = 2
    CONFIG = 3
    ACCOUNT = 4
    ADMIT = 5
    CLOSE = 6


class Op(IntEnum):
    """What a record does to its document."""

    PUT = 1
    INSERT = 2
    DELETE = 3


ATOMIC = 0x01
IF_VERSION = 0x01
"""Record flag: apply only when the document's version is the one wanted; wanted 0 means "does not exist"."""


class Key(msgspec.Struct, frozen=True):
    """The idempotency key of a request (R9). `oldest` promises that lower sequences are never asked for
    again. Keys of one request may differ in it, and in what a subclass knows: their texts are the same.
    """

    client: bytes
    sequence: int
    oldest: int

    def __str__(self) -> str:
        return f"{self.client.hex()}-{self.sequence}"

    @staticmethod
    def parse(text: str) -> Key:
        """The key that `str` printed, to be asked about; it promises nothing. Raises `RequestInvalid`."""
        match = _KEY_TEXT.match(text)
        if match is None:
            raise RequestInvalid(f"{text[:80]!r} is no key", hint="pass the key of the error unchanged")
        return Key(bytes.fromhex(match[1]), int(match[2]), 1)


class Record(msgspec.Struct, frozen=True):
    """One change to one document.

    `id` may be empty in an INSERT only: the id is then the record's LSN in decimal. `doc` is a JSON object in
    UTF-8, empty in a DELETE. `version` is None for an unconditional record, else the LSN that the document
    must have (0: it must not exist).
    """

    op: Op
    collection: str
    id: str
    doc: bytes = b""
    version: int | None = None


class Request(msgspec.Struct, frozen=True):
    """A decoded WRITE request."""

    key: Key | None
    atomic: bool
    records: tuple[Record, ...]


class RequestHead(msgspec.Struct, frozen=True):
    """What is known of a request in a batch without opening its records. `data` is the whole request."""

    kind: RequestKind
    atomic: bool
    count: int
    key: Key | None
    data: memoryview


def check_collection(name: str, record: int | None = None) -> None:
    """Raises `RequestInvalid` for a name that no collection can have. `record` is the place of the one record
    that names it, None where the whole request does.
    """
    if not COLLECTION.match(name):
        raise RequestInvalid(f"collection name {name[:80]!r} is not allowed", record, hint=COLLECTION_RULE)


def encode_record(record: Record) -> bytes:
    """The bytes of one record. Raises `RequestInvalid`."""
    collection, ident = record.collection.encode(), record.id.encode("utf-8", "surrogatepass")
    flags = 0 if record.version is None else IF_VERSION
    header = RECORD_HEADER.pack(
        record.op,
        flags,
        min(len(collection), 255),
        min(len(ident), 65_535),
        len(record.doc),
        record.version or 0,
    )
    data = header + collection + ident + record.doc
    _checked_record(memoryview(data), 0, 0)
    return data


def encode_write(records: list[bytes], key: Key | None = None, *, atomic: bool = False) -> bytes:
    """A WRITE request around encoded records. Raises `RequestInvalid` or `TooLarge`."""
    if not 1 <= len(records) <= RECORDS_MAX:
        raise TooLarge("records in one request", len(records), RECORDS_MAX, code=Code.BATCH_TOO_LARGE)
    length = REQUEST_HEADER.size + sum(map(len, records))
    if length > REQUEST_BYTES_MAX:
        raise TooLarge("request bytes", length, REQUEST_BYTES_MAX)
    client, sequence, oldest = (key.client, key.sequence, key.oldest) if key else (NO_CLIENT, 0, 0)
    header = REQUEST_HEADER.pack(
        length, RequestKind.WRITE, ATOMIC * atomic, len(records), client, sequence, oldest
    )
    return header + b"".join(records)


def encode_system(kind: RequestKind, body: bytes) -> bytes:
    """A request of any kind but WRITE, around its CBOR body."""
    assert kind is not RequestKind.WRITE
    return REQUEST_HEADER.pack(REQUEST_HEADER.size + len(body), kind, 0, 1, NO_CLIENT, 0, 0) + body


def check_write(data: memoryview) -> RequestHead:
    """Check a WRITE request that came from a client, to the last byte, before it is logged.

    `data` is exactly one request. Every rule that apply relies on is checked here: lengths, names, UTF-8,
    JSON objects, flags. Raises `RequestInvalid` (names the record) or `TooLarge`.
    """
    if len(data) > REQUEST_BYTES_MAX:
        raise TooLarge("request bytes", len(data), REQUEST_BYTES_MAX)
    if len(data) < REQUEST_HEADER.size:
        raise RequestInvalid(
            f"the request has {len(data)} bytes, its header alone takes {REQUEST_HEADER.size}"
        )
    length, kind, flags, count, client, sequence, oldest = REQUEST_HEADER.unpack_from(data)
    if length != len(data) or kind != RequestKind.WRITE or flags & ~ATOMIC:
        raise RequestInvalid(
            f"the request says length {length}, kind {kind}, flags {flags}; it has {len(data)} bytes"
        )
    if count > RECORDS_MAX:
        raise TooLarge("records in one request", count, RECORDS_MAX, code=Code.BATCH_TOO_LARGE)
    if count == 0:
        raise RequestInvalid("the request has no record")
    keyless = client == NO_CLIENT
    if keyless and (sequence or oldest) or not keyless and not 1 <= oldest <= sequence <= U63_MAX:
        raise RequestInvalid(f"sequence {sequence} and oldest unresolved {oldest} do not make a key")
    offset = REQUEST_HEADER.size
    for index in range(count):
        offset = _checked_record(data, offset, index)
    if offset != length:
        raise RequestInvalid(f"{length - offset} bytes follow the last record")
    key = None if client == NO_CLIENT else Key(client, sequence, oldest)
    return RequestHead(RequestKind.WRITE, bool(flags), count, key, data)


def request_heads(body: memoryview) -> Iterator[RequestHead]:
    """The requests of a batch body, in order. Raises `RequestInvalid` for bytes that no primary wrote."""
    offset, end = 0, len(body)
    while offset < end:
        if end - offset < REQUEST_HEADER.size:
            raise RequestInvalid(f"{end - offset} stray bytes at offset {offset} of a batch body")
        length, kind, flags, count, client, sequence, oldest = REQUEST_HEADER.unpack_from(body, offset)
        if (
            not REQUEST_HEADER.size <= length <= end - offset
            or flags & ~ATOMIC
            or kind not in _KINDS
            or not count
        ):
            raise RequestInvalid(f"request of kind {kind}, flags {flags}, length {length} at offset {offset}")
        key = None if client == NO_CLIENT else Key(client, sequence, oldest)
        yield RequestHead(_KINDS[kind], bool(flags), count, key, body[offset : offset + length])
        offset += length


def records(data: memoryview) -> Iterator[tuple[int, int, bytes, bytes, bytes, int]]:
    """The records of one checked WRITE request as (op, flags, collection, id, doc, version wanted), raw
    bytes.

    The hot path of apply: nothing is validated again and no object is made beyond the tuple.
    """
    unpack, offset = RECORD_HEADER.unpack_from, REQUEST_HEADER.size
    for _ in range(REQUEST_HEADER.unpack_from(data)[3]):
        op, flags, collection_len, id_len, doc_len, version = unpack(data, offset)
        offset += RECORD_HEADER.size
        id_at = offset + collection_len
        doc_at = id_at + id_len
        end = doc_at + doc_len
        yield (
            op,
            flags,
            bytes(data[offset:id_at]),
            bytes(data[id_at:doc_at]),
            bytes(data[doc_at:end]),
            version,
        )
        offset = end


def decode_write(data: memoryview) -> Request:
    """A WRITE request as objects, for tests and tools; apply uses `records`. Raises as `check_write`."""
    head = check_write(data)
    decoded = tuple(
        Record(Op(op), collection.decode(), ident.decode(), doc, version if flags & IF_VERSION else None)
        for op, flags, collection, ident, doc, version in records(data)
    )
    return Request(head.key, head.atomic, decoded)


_KEY_TEXT = re.compile(rf"([0-9a-f]{{{2 * len(NO_CLIENT)}}})-([1-9][0-9]{{0,18}})\Z")
_KINDS = {int(kind): kind for kind in RequestKind}
_skip_json = msgspec.json.Decoder(msgspec.Raw).decode
_COLLECTION_BYTES = re.compile(COLLECTION.pattern.encode())
_CUT_OFF = "Input data was truncated"
_HALF = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u|\\?\Z)")
"""The first half of a surrogate pair, and something else than the second one behind it."""
_DOCUMENT_HINT = 'a document is a JSON object, such as {"name": "lamp"}'


def _checked_record(data: memoryview, offset: int, index: int) -> int:
    """Check the record at `offset`; the offset behind it. `index` is its place in the request, for errors."""
    if len(data) - offset < RECORD_HEADER.size:
        raise RequestInvalid("the request ends inside a record header", index)
    op, flags, collection_len, id_len, doc_len, version = RECORD_HEADER.unpack_from(data, offset)
    offset += RECORD_HEADER.size
    if op not in (Op.PUT, Op.INSERT, Op.DELETE) or flags & ~IF_VERSION or data[offset - 15]:
        raise RequestInvalid(f"unknown operation {op} or flags {flags}", index)
    if version and not flags or op == Op.INSERT and flags:
        raise RequestInvalid("a version without its flag, or on an insert", index)
    if doc_len > DOC_BYTES_MAX:
        raise TooLarge("document bytes", doc_len, DOC_BYTES_MAX, record=index)
    if len(data) - offset < collection_len + id_len + doc_len:
        raise RequestInvalid("the request ends inside a record", index)
    collection = bytes(data[offset : offset + collection_len])
    if not _COLLECTION_BYTES.match(collection):
        check_collection(collection.decode(errors="replace"), index)
    offset += collection_len
    if id_len > ID_BYTES_MAX or id_len == 0 and op != Op.INSERT:
        raise RequestInvalid(f"an id has 1 to {ID_BYTES_MAX} bytes of UTF-8; this one has {id_len}", index)
    _check_utf8(data[offset : offset + id_len], "id", index)
    offset += id_len
    _check_document(data[offset : offset + doc_len], op, index)
    return int(offset + doc_len)


def _check_utf8(data: memoryview, what: str, index: int) -> str:
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise RequestInvalid(f"the {what} is not UTF-8 at byte {error.start}", index) from error
    if "\0" in text:
        raise RequestInvalid(f"the {what} holds a NUL", index)
    return text


def _check_document(doc: memoryview, op: int, index: int) -> None:
    if op == Op.DELETE:
        if len(doc):
            raise RequestInvalid("a delete carries no document", index)
        return
    text = _check_utf8(doc, "document", index).lstrip(" \t\r\n")
    if not text:
        raise RequestInvalid("the document is empty", index, hint=_DOCUMENT_HINT)
    try:
        _skip_json(doc)
    except (msgspec.DecodeError, RecursionError) as error:
        raise not_json(error, doc, index) from error
    if text[0] != "{":
        raise RequestInvalid("the document is not a JSON object", index, hint=_DOCUMENT_HINT)


def not_json(error: Exception, doc: bytes | memoryview, index: int) -> RequestInvalid:
    """The refusal of record `index`, whose document msgspec could not read. Its `error` may begin by saying
    the same, or speak of input that was cut off: which it cannot know, nor is it so behind half a character.
    Of objects for which the stack has no room nobody here knows more than that.
    """
    if isinstance(error, RecursionError):
        return RequestInvalid(f"the document is too deep to be read here: {error}", index)
    why = str(error).removeprefix("JSON is malformed: ")
    if why == _CUT_OFF:
        why = "half a surrogate pair stands alone" if _HALF.search(doc) else "it ends in the middle"
    return RequestInvalid(f"the document is not JSON: {why}", index, hint=_DOCUMENT_HINT)

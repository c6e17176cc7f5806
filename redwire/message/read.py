"""Bodies of reads between our own clients and a node, kinds 42 to 45 (docs/PROTOCOL.md, section 4)."""

from __future__ import annotations

import struct
from typing import Self

import msgspec

from redwire.message.cursor import Cursor, bytes32, str8, str16
from redwire.position import TOKEN_BYTES, Token

SCAN_LIMIT_MAX = 1_000
"""Documents of a kilobyte then fill `SCAN_BYTES_MAX`; smaller ones are bounded by this."""
SCAN_BYTES_MAX = 1 << 20
"""Document bytes in one Scanned beyond the first document: a page stays far below a frame."""

_READ = struct.Struct("<BI")
_HAS_TOKEN = 0x01


class Fetch(msgspec.Struct, frozen=True):
    """Fetch (42): one document. With a token the node waits up to `wait_ms` until it has applied so much."""

    collection: str
    id: str
    token: Token | None = None
    wait_ms: int = 0

    def encode(self) -> bytes:
        """This request's bytes."""
        return _encode_read(self.token, self.wait_ms) + str8(self.collection) + str16(self.id)

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Self:
        """The request in `payload`. Raises `BodyInvalid`."""
        cursor = Cursor(payload, "Fetch")
        token, wait_ms = _decode_read(cursor)
        fetch = cls(cursor.str8("collection"), cursor.str16("id"), token, wait_ms)
        cursor.end()
        return fetch


_FETCHED = struct.Struct("<BQQQ")


class Fetched(msgspec.Struct, frozen=True):
    """Fetched (43). Not found: `version` 0 and `document` empty. `term` and `applied` make the next token."""

    found: bool
    version: int
    term: int
    applied: int
    document: bytes = b""

    def encode(self) -> bytes:
        """This answer's bytes."""
        assert self.found or not (self.version or self.document)
        return _FETCHED.pack(self.found, self.version, self.term, self.applied) + self.document

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Self:
        """The answer in `payload`. Raises `BodyInvalid`."""
        cursor = Cursor(payload, "Fetched")
        found, version, term, applied = cursor.unpack(_FETCHED, "header")
        document = bytes(cursor.rest())
        if found > 1 or (not found and (version or document)):
            raise cursor.invalid(
                "found", f"is {found} with version {version} and {len(document)} document bytes"
            )
        return cls(found == 1, version, term, applied, document)


class Scan(msgspec.Struct, frozen=True):
    """Scan (44): documents in UTF-8 byte order of their ids, those above `after` ("" = from the first)."""

    collection: str
    after: str = ""
    limit: int = SCAN_LIMIT_MAX
    token: Token | None = None
    wait_ms: int = 0

    def encode(self) -> bytes:
        """This request's bytes."""
        assert 1 <= self.limit <= SCAN_LIMIT_MAX
        limit = self.limit.to_bytes(2, "little")
        return _encode_read(self.token, self.wait_ms) + str8(self.collection) + str16(self.after) + limit

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Self:
        """The request in `payload`. Raises `BodyInvalid`."""
        cursor = Cursor(payload, "Scan")
        token, wait_ms = _decode_read(cursor)
        collection, after, limit = cursor.str8("collection"), cursor.str16("after"), cursor.u16("limit")
        if not 1 <= limit <= SCAN_LIMIT_MAX:
            raise cursor.invalid("limit", f"is {limit}, not 1 to {SCAN_LIMIT_MAX}")
        cursor.end()
        return cls(collection, after, limit, token, wait_ms)


class ScannedRow(msgspec.Struct, frozen=True):
    """A stored document as a read returns it; `document` is a JSON object in UTF-8, as it was written."""

    id: str
    version: int
    document: bytes


_SCANNED = struct.Struct("<QQ")
_VERSION = struct.Struct("<Q")
_ROW_BYTES_MIN = 2 + 8 + 4


class Scanned(msgspec.Struct, frozen=True):
    """Scanned (45): one page. `more`: documents remain above the last id of the page."""

    term: int
    applied: int
    more: bool
    rows: tuple[ScannedRow, ...]

    def encode(self) -> bytes:
        """This answer's bytes."""
        assert len(self.rows) <= SCAN_LIMIT_MAX
        parts = [
            _SCANNED.pack(self.term, self.applied),
            bytes((self.more,)),
            len(self.rows).to_bytes(2, "little"),
        ]
        for row in self.rows:
            parts += (str16(row.id), _VERSION.pack(row.version), bytes32(row.document))
        return b"".join(parts)

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Self:
        """The answer in `payload`. Raises `BodyInvalid`."""
        cursor = Cursor(payload, "Scanned")
        term, applied = cursor.unpack(_SCANNED, "header")
        more, count = cursor.flag("more"), cursor.count16("row count", _ROW_BYTES_MIN, SCAN_LIMIT_MAX)
        rows = tuple(
            ScannedRow(cursor.str16("id"), cursor.unpack(_VERSION, "version")[0], cursor.bytes32("document"))
            for _ in range(count)
        )
        cursor.end()
        return cls(term, applied, more, rows)


def _encode_read(token: Token | None, wait_ms: int) -> bytes:
    head = _READ.pack(0 if token is None else _HAS_TOKEN, min(wait_ms, 0xFFFF_FFFF))
    return head if token is None else head + token.to_bytes()


def _decode_read(cursor: Cursor) -> tuple[Token | None, int]:
    flags, wait_ms = cursor.unpack(_READ, "flags and wait")
    if flags & ~_HAS_TOKEN:
        raise cursor.invalid("flags", f"are {flags:#04x}: unknown")
    token = Token.from_bytes(bytes(cursor.take(TOKEN_BYTES, "token"))) if flags else None
    return token, wait_ms

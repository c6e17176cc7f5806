"""Requests made by hand, whatever is in them: our own encoders would refuse to make most of them."""

from __future__ import annotations

import json
import struct

from redwire.record import NO_CLIENT, RECORD_HEADER, REQUEST_HEADER

PUT, INSERT, DELETE = 1, 2, 3
NOBODY = NO_CLIENT


def record(
    collection: bytes = b"bad",
    ident: bytes = b"x",
    doc: bytes = b"{}",
    *,
    op: int = PUT,
    flags: int = 0,
    version: int = 0,
    lengths: tuple[int, int, int] | None = None,
) -> bytes:
    """One record, whatever is in it; `lengths` are what it says instead of the truth."""
    sizes = lengths or (len(collection), len(ident), len(doc))
    return RECORD_HEADER.pack(op, flags, *sizes, version) + collection + ident + doc


def request(
    *records: bytes,
    count: int | None = None,
    length: int = 0,
    kind: int = 1,
    flags: int = 0,
    key: tuple[bytes, int, int] = (NOBODY, 0, 0),
) -> bytes:
    """One request; it says `length` bytes more than it has."""
    body = b"".join(records)
    said = len(records) if count is None else count
    return REQUEST_HEADER.pack(REQUEST_HEADER.size + len(body) + length, kind, flags, said, *key) + body


def write(asked: bytes, *, policy: bytes = b"", said: int | None = None, attempt: int = 1) -> bytes:
    """The body of a Write around a request."""
    return struct.pack("<IHB", 5000, attempt, len(policy) if said is None else said) + policy + asked


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def in_time(change: bytes) -> bytes:
    """A change of settings or accounts whose caller has five seconds left."""
    return struct.pack("<I", 5_000) + change

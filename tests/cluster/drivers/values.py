"""Parameters and rows as bytes, the way that RedDB's drivers make and read them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any


def sized(tag: int, data: bytes) -> bytes:
    return struct.pack("<BI", tag, len(data)) + data


def text(value: str) -> bytes:
    """A parameter of tag 04."""
    return sized(4, value.encode())


def short(value: str) -> bytes:
    return struct.pack("<H", len(value.encode())) + value.encode()


def params(sql: str, *values: bytes, trailer: bytes = b"") -> bytes:
    """The body of a QueryWithParams."""
    head = struct.pack("<I", len(sql.encode())) + sql.encode() + struct.pack("<I", len(values))
    return b"".join([head, *values, trailer])


def unpacked(body: bytes) -> list[dict[str, Any]]:
    """The rows of a binary Result."""
    at = 0

    def take(layout: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from(layout, body, at)
        at += struct.calcsize(layout)
        return value

    def words(length: int) -> str:
        nonlocal at
        at += length
        return body[at - length : at].decode()

    readers: dict[int, Callable[[], Any]] = {
        0: lambda: None,
        1: lambda: take("<q"),
        2: lambda: take("<d"),
        3: lambda: words(take("<I")),
        4: lambda: bool(take("B")),
        5: lambda: take("<Q"),
    }
    columns = [words(take("<H")) for _ in range(take("<H"))]
    rows = [{column: readers[take("B")]() for column in columns} for _ in range(take("<I"))]
    assert at == len(body)
    return rows

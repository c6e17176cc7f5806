"""Reading and writing the length-prefixed texts and fixed fields of our binary bodies.

A `Cursor` reads one body from front to back. Every read is checked against the bytes that are there, so a
length that lies is found before anything is allocated for it.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

from redwire.errors import BodyInvalid, RequestInvalid, TooLarge

_U8 = struct.Struct("<B")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
TEXT8_BYTES_MAX, TEXT16_BYTES_MAX = 0xFF, 0xFFFF
"""What an 8-bit length can count, and a 16-bit one."""


class Cursor:
    """A position in one body. `what` names the body in errors; each read names its field."""

    __slots__ = ("_data", "_what", "offset")

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self._data = memoryview(data)
        self._what = what
        self.offset = 0

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self.offset

    def unpack(self, layout: struct.Struct, field: str) -> tuple[Any, ...]:
        """The numbers of `layout`, which stand next."""
        at = self._advance(layout.size, field)
        return layout.unpack_from(self._data, at)

    def u8(self, field: str) -> int:
        """One byte."""
        return self._data[self._advance(1, field)]

    def u16(self, field: str) -> int:
        """A 16-bit number."""
        return int(self.unpack(_U16, field)[0])

    def u32(self, field: str) -> int:
        """A 32-bit number."""
        return int(self.unpack(_U32, field)[0])

    def count16(self, field: str, bytes_each: int, count_max: int = 0xFFFF) -> int:
        """A 16-bit number of things that follow, each of `bytes_each` bytes or more. Raises `BodyInvalid`
        when what is left is too short for them, and for more than `count_max`.
        """
        return self._counted(self.u16(field), field, bytes_each, count_max)

    def count32(self, field: str, bytes_each: int, count_max: int = 0xFFFF_FFFF) -> int:
        """As `count16`, of 32 bits."""
        return self._counted(self.u32(field), field, bytes_each, count_max)

    def flag(self, field: str) -> bool:
        """One byte that is 0 or 1."""
        value = self.u8(field)
        if value > 1:
            raise self.invalid(field, f"is {value}, not 0 or 1")
        return value == 1

    def take(self, size: int, field: str) -> memoryview:
        """The next `size` bytes, as a view into the body."""
        at = self._advance(size, field)
        return self._data[at : at + size]

    def text(self, size: int, field: str) -> str:
        """The next `size` bytes as UTF-8."""
        view = self.take(size, field)
        try:
            return str(view, "utf-8")
        except UnicodeDecodeError as error:
            raise self.invalid(field, f"is not UTF-8 from its byte {error.start}") from error

    def str8(self, field: str) -> str:
        """A text behind its 8-bit length in bytes."""
        return self.text(self.u8(field), field)

    def str16(self, field: str) -> str:
        """A text behind its 16-bit length in bytes."""
        return self.text(self.u16(field), field)

    def str32(self, field: str) -> str:
        """A text behind its 32-bit length in bytes."""
        return self.text(self.u32(field), field)

    def bytes32(self, field: str) -> bytes:
        """Bytes behind their 32-bit length."""
        return bytes(self.take(self.u32(field), field))

    def rest(self) -> memoryview:
        """All that is left."""
        return self.take(self.left, "rest")

    def end(self) -> None:
        """Nothing may follow. Raises `BodyInvalid` otherwise."""
        if self.left:
            raise BodyInvalid(f"{self._what}: {self.left} bytes follow the last field, at byte {self.offset}")

    def invalid(self, field: str, problem: str) -> BodyInvalid:
        """The error for a field that was read but cannot be."""
        return BodyInvalid(f"{self._what}: {field} {problem} (before byte {self.offset})")

    def _counted(self, count: int, field: str, bytes_each: int, count_max: int) -> int:
        if count * bytes_each > self.left:
            raise self.invalid(field, f"is {count} with {self.left} bytes left")
        if count > count_max:
            raise self.invalid(field, f"is {count}, at most {count_max} are possible")
        return count

    def _advance(self, size: int, field: str) -> int:
        at = self.offset
        if size > len(self._data) - at:
            raise BodyInvalid(f"{self._what}: {field} takes {size} bytes at byte {at}, {self.left} are left")
        self.offset = at + size
        return at


@lru_cache(maxsize=256)
def str8(text: str) -> bytes:
    """`text` behind its 8-bit length. Raises `RequestInvalid` for what cannot be sent.

    Names of nodes, regions, collections and policies, again and again the same.
    """
    data = _utf8(text, TEXT8_BYTES_MAX)
    return _U8.pack(len(data)) + data


def str16(text: str) -> bytes:
    """`text` behind its 16-bit length. Raises `RequestInvalid` for what cannot be sent."""
    data = _utf8(text, TEXT16_BYTES_MAX)
    return _U16.pack(len(data)) + data


def str32(text: str) -> bytes:
    """`text` behind its 32-bit length. Raises `RequestInvalid` for what cannot be sent."""
    return bytes32(_utf8(text, 0xFFFF_FFFF))


def bytes32(data: bytes) -> bytes:
    """`data` behind its 32-bit length."""
    return _U32.pack(len(data)) + data


def _utf8(text: str, bytes_max: int) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"a text that UTF-8 cannot carry, from its character {error.start}") from error
    if len(data) > bytes_max:
        raise TooLarge("bytes of a text", len(data), bytes_max)
    return data

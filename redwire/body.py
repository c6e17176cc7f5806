"""CBOR bodies: the one way in and out.

A body is at most 64 KiB of RFC 8949 with definite lengths, text keys and no tags, floats or duplicate keys,
and it matches a closed schema. A decoder that builds objects first and asks later turns 16 MiB of empty
arrays into a gigabyte, so every head is checked here, against the bytes that are there, before cbor2 runs.
"""

from __future__ import annotations

from typing import Annotated, Self, TypeVar

import cbor2
import msgspec

from redwire.errors import BodyInvalid, RequestInvalid, TooLarge

BODY_BYTES_MAX = 64 << 10
"""The settings of 64 members fit. cbor2 makes 70 bytes of one: 5 MB, where a frame of 16 MiB would become 1.2
GB.
"""
DEPTH_MAX = 8
"""Arrays and maps inside each other; no schema of ours needs more than four."""
ITEMS_MAX = 4_096
"""Values and keys in all: a report with a thousand terms has some three thousand."""

U63_MAX = (1 << 63) - 1
"""What an integer of SQLite holds, and of every language that drivers are written in."""
U63 = Annotated[int, msgspec.Meta(ge=0, le=U63_MAX)]
"""A position, count or size."""
U32 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
TERM_MAX = (1 << 29) - 2
"""With one above it an epoch, `term << 24`, stays below 2^53 (R12); with a new term a second: 17 years."""
TermNumber = Annotated[int, msgspec.Meta(ge=0, le=TERM_MAX)]
Name = Annotated[str, msgspec.Meta(max_length=64)]
"""A node, region, cluster or user name; its characters are the configuration's business."""
Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes24 = Annotated[bytes, msgspec.Meta(min_length=24, max_length=24)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class ClosedStruct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every CBOR body derives from. A field with a default may be absent on the wire."""

    def encode(self) -> bytes:
        """This body's bytes."""
        return encode(self)

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Self:
        """The body of this type in `data`. Raises `BodyInvalid`."""
        return decode(data, cls)


AnyStruct = TypeVar("AnyStruct", bound=ClosedStruct)


def encode(struct: ClosedStruct) -> bytes:
    """The bytes of `struct`: equal values give equal bytes.

    Raises `TooLarge` over 64 KiB, and `RequestInvalid` for a text that UTF-8 cannot carry.
    """
    try:
        data = cbor2.dumps(msgspec.to_builtins(struct, builtin_types=(bytes,)))
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"a text that UTF-8 cannot carry, from its character {error.start}") from error
    if len(data) > BODY_BYTES_MAX:
        raise TooLarge(f"bytes of a {type(struct).__name__} body", len(data), BODY_BYTES_MAX)
    return data


def decode(data: bytes | memoryview, schema: type[AnyStruct]) -> AnyStruct:
    """The body of type `schema` (a `ClosedStruct`, or a tagged union of them) in `data`.

    Raises `BodyInvalid`, which names the byte or the path that is wrong; then nothing was built.
    """
    raw = bytes(data) if len(data) <= BODY_BYTES_MAX else b""
    if not raw:
        raise BodyInvalid(f"a body has 1 to {BODY_BYTES_MAX} bytes of CBOR; this one has {len(data)}")
    walker = _Walker(raw)
    walker.item(depth=0)
    if walker.offset != len(raw):
        raise BodyInvalid(f"{len(raw) - walker.offset} bytes follow the CBOR body at byte {walker.offset}")
    try:
        return msgspec.convert(cbor2.loads(raw), schema, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        name = getattr(schema, "__name__", "union")
        raise BodyInvalid(f"not a {name} body: {error}") from error


_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)
_FALSE, _TRUE, _NULL = 0xF4, 0xF5, 0xF6


class _Walker:
    """Checks the items of a body by their heads; of the content it keeps only the keys of the maps around."""

    __slots__ = ("_data", "_items", "offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._items = 0
        self.offset = 0

    def item(self, depth: int) -> None:
        """Step over one item that stands inside `depth` containers."""
        at = self.offset
        major, value = self._head()
        if major in (_BYTES, _TEXT):
            self._string(major, value, at)
        elif major in (_ARRAY, _MAP):
            self._container(major, value, depth, at)

    def _container(self, major: int, count: int, depth: int, at: int) -> None:
        if depth == DEPTH_MAX:
            raise BodyInvalid(f"more than {DEPTH_MAX} containers inside each other at byte {at}")
        least = count * 2 if major == _MAP else count
        if least > len(self._data) - self.offset:
            raise BodyInvalid(
                f"{count} entries announced at byte {at}, {len(self._data) - self.offset} bytes follow"
            )
        keys = set()
        for _ in range(count):
            if major == _MAP:
                key_at = self.offset
                key = self._key()
                if key in keys:
                    raise BodyInvalid(f"key {key[:64]!r} stands twice in one map, again at byte {key_at}")
                keys.add(key)
            self.item(depth + 1)

    def _key(self) -> str:
        at = self.offset
        major, length = self._head()
        if major != _TEXT:
            raise BodyInvalid(f"a map key is not text at byte {at}")
        return self._string(major, length, at)

    def _string(self, major: int, length: int, at: int) -> str:
        """Step over a byte or text string; the text. Its length is checked before anything is copied."""
        start, end = self.offset, self.offset + length
        if end > len(self._data):
            raise BodyInvalid(
                f"a string of {length} bytes announced at byte {at}, {len(self._data) - start} follow"
            )
        self.offset = end
        if major == _BYTES:
            return ""
        try:
            return self._data[start:end].decode()
        except UnicodeDecodeError as error:
            raise BodyInvalid(f"text that is not UTF-8 at byte {start + error.start}") from error

    def _head(self) -> tuple[int, int]:
        """Major type and argument of the next item; constants come back as (7, initial byte)."""
        at = self.offset
        self._items += 1
        if self._items > ITEMS_MAX:
            raise BodyInvalid(f"more than {ITEMS_MAX} items at byte {at}")
        if at >= len(self._data):
            raise BodyInvalid(f"the body ends at byte {at}, where an item must begin")
        initial = self._data[at]
        major, info = initial >> 5, initial & 0x1F
        if major > _MAP:
            if initial not in (_FALSE, _TRUE, _NULL):
                raise BodyInvalid(f"a tag, float or unassigned value ({initial:#04x}) at byte {at}")
            self.offset = at + 1
            return major, initial
        if info < 24:
            self.offset = at + 1
            return major, info
        if info > 27:
            raise BodyInvalid(f"an indefinite or reserved length ({initial:#04x}) at byte {at}")
        end = at + 1 + (1 << (info - 24))
        if end > len(self._data):
            raise BodyInvalid(f"the body ends inside the head at byte {at}")
        self.offset = end
        return major, int.from_bytes(self._data[at + 1 : end], "big")

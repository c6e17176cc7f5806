"""The cursor: every read is checked against the bytes that are there."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from redwire.errors import BodyInvalid, RequestInvalid, TooLarge
from redwire.message.cursor import Cursor, bytes32, str8, str16, str32


def test_fields_are_read_in_order_to_the_end() -> None:
    data = (
        b"\x07"
        + b"\x01\x02"
        + b"\x01\x00\x00\x00"
        + str8("é")
        + str16("ab")
        + str32("")
        + bytes32(b"xy")
        + b"\x01zz"
    )
    cursor = Cursor(memoryview(data), "T")
    assert cursor.u8("a") == 7
    assert cursor.u16("b") == 0x0201
    assert cursor.u32("c") == 1
    assert (cursor.str8("d"), cursor.str16("e"), cursor.str32("f")) == ("é", "ab", "")
    assert cursor.bytes32("g") == b"xy"
    assert cursor.flag("h") is True
    assert cursor.left == 2
    assert bytes(cursor.rest()) == b"zz"
    cursor.end()


@pytest.mark.parametrize(
    ("data", "read", "what"),
    [
        (b"", lambda cursor: cursor.u8("a"), "T: a takes 1 bytes at byte 0, 0 are left"),
        (b"\1", lambda cursor: cursor.u16("a"), "T: a takes 2 bytes at byte 0, 1 are left"),
        (b"\3ab", lambda cursor: cursor.str8("a"), "T: a takes 3 bytes at byte 1, 2 are left"),
        (
            b"\xff\xff\xff\xffab",
            lambda cursor: cursor.bytes32("a"),
            "a takes 4294967295 bytes at byte 4, 2 are left",
        ),
        (b"\3a\xffb", lambda cursor: cursor.str8("a"), "a is not UTF-8 from its byte 1"),
        (b"\2", lambda cursor: cursor.flag("a"), "a is 2, not 0 or 1"),
        (b"\2\0abc", lambda cursor: cursor.count16("a", 2), "T: a is 2 with 3 bytes left"),
        (b"\xff\xff\xff\xff", lambda cursor: cursor.count32("a", 1), "a is 4294967295 with 0 bytes left"),
        (b"\3\0abc", lambda cursor: cursor.count16("a", 1, 2), "T: a is 3, at most 2 are possible"),
        (b"ab", lambda cursor: cursor.end(), "T: 2 bytes follow the last field, at byte 0"),
        (
            b"ab",
            lambda cursor: cursor.unpack(struct.Struct("<I"), "a"),
            "a takes 4 bytes at byte 0, 2 are left",
        ),
    ],
)
def test_what_is_not_there_is_refused_by_name_and_place(
    data: bytes, read: Callable[[Cursor], object], what: str
) -> None:
    with pytest.raises(BodyInvalid, match=what):
        read(Cursor(data, "T"))


def test_of_what_there_is_room_for_there_may_be_as_many_as_possible() -> None:
    assert Cursor(b"\2\0abcd", "T").count16("a", 2, 2) == 2
    assert Cursor(b"\0\0\0\0", "T").count32("a", 9, 0) == 0


def test_a_text_that_cannot_be_sent_is_the_callers_error() -> None:
    assert str8("a" * 255)[0] == 255
    assert str16("a" * 65_535)[:2] == b"\xff\xff"
    with pytest.raises(TooLarge, match="256, at most 255"):
        str8("a" * 256)
    with pytest.raises(TooLarge, match="65536, at most 65535"):
        str16("é" * 32_768)
    with pytest.raises(RequestInvalid, match="UTF-8 cannot carry, from its character 1"):
        str32("a\ud800")

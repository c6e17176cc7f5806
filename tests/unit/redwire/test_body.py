"""CBOR bodies: what the walker refuses before anything is built, and what the schema refuses after."""

from __future__ import annotations

import tracemalloc
from typing import Annotated

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire import body
from redwire.errors import BodyInvalid, RequestInvalid, TooLarge


class Point(body.ClosedStruct, frozen=True):
    x: Annotated[int, msgspec.Meta(ge=0)]
    name: str = ""
    raw: bytes = b""
    tags: tuple[str, ...] = ()
    on: bool | None = None


class Deep(body.ClosedStruct, frozen=True):
    inner: list[object]


TABLE = [
    (Point(1), "a5 61 78 01 646e616d65 60 63726177 40 6474616773 80 626f6e f6"),
    (
        Point(500, "é", b"\x00\xff", ("a", "b"), True),
        "a5 61 78 1901f4 646e616d65 62c3a9 63726177 4200ff 6474616773 82 6161 6162 626f6e f5",
    ),
]


@pytest.mark.parametrize(("value", "text"), TABLE)
def test_a_body_and_its_bytes_are_the_same_both_ways(value: Point, text: str) -> None:
    data = bytes.fromhex(text)
    assert body.encode(value) == value.encode() == data
    assert body.decode(data, Point) == Point.decode(memoryview(data)) == value


@pytest.mark.parametrize(("value", "text"), TABLE)
def test_a_body_that_is_cut_anywhere_or_goes_on_is_refused(value: Point, text: str) -> None:
    data = bytes.fromhex(text)
    for end in range(len(data)):
        with pytest.raises(BodyInvalid):
            body.decode(data[:end], Point)
    with pytest.raises(BodyInvalid, match=f"1 bytes follow the CBOR body at byte {len(data)}"):
        body.decode(data + b"\x00", Point)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "1 to 65536 bytes"),
        ("9f 01 ff", "indefinite or reserved length .0x9f. at byte 0"),
        ("bf 61 78 01 ff", "indefinite or reserved length .0xbf. at byte 0"),
        ("a1 61 78 5f 41 00 ff", "indefinite or reserved length .0x5f. at byte 3"),
        ("a1 61 78 1c", "indefinite or reserved length .0x1c. at byte 3"),
        ("a1 61 78 c0 60", "tag, float or unassigned value .0xc0. at byte 3"),
        ("a1 61 78 fb 3ff0000000000000", "tag, float or unassigned value .0xfb. at byte 3"),
        ("a1 61 78 f7", "tag, float or unassigned value .0xf7. at byte 3"),
        ("a1 61 78 f8 14", "tag, float or unassigned value .0xf8. at byte 3"),
        ("ff", "tag, float or unassigned value .0xff. at byte 0"),
        ("a2 61 78 01 61 78 02", "key 'x' stands twice in one map, again at byte 4"),
        ("a2 61 78 01 78 01 78 02", "key 'x' stands twice in one map, again at byte 4"),
        ("a1 01 02", "map key is not text at byte 1"),
        ("a1 41 78 02", "map key is not text at byte 1"),
        ("a1 61 78 19 01", "ends inside the head at byte 3"),
        ("a1 61 78", "1 entries announced at byte 0, 2 bytes follow|the body ends at byte 3"),
        ("a2 61 78 01", "2 entries announced at byte 0, 3 bytes follow"),
        ("a1 61 78 82 01", "2 entries announced at byte 3, 1 bytes follow"),
        ("a1 61 78 81", "1 entries announced at byte 3, 0 bytes follow"),
        ("a1 61 78 44 00", "4 bytes announced at byte 3, 1 follow"),
        ("a1 64 6e 61", "4 bytes announced at byte 1, 2 follow"),
        ("a1 61 78 7b ffffffffffffffff", "18446744073709551615 bytes announced at byte 3, 0 follow"),
        ("9b ffffffffffffffff", "18446744073709551615 entries announced at byte 0"),
        ("bb ffffffffffffffff", "18446744073709551615 entries announced at byte 0"),
        ("9a 7fffffff 80", "2147483647 entries announced at byte 0"),
        ("a1 61 78 62 c3 28", "not UTF-8 at byte 4"),
        ("a1 62 ff fe 01", "not UTF-8 at byte 2"),
        ("80", "not a Point body: Expected `object`, got `array`"),
        ("a1 61 78 20", "Expected `int` >= 0 - at `[$].x`"),
        ("a1 61 78 61 31", "Expected `int`, got `str` - at `[$].x`"),
        ("a1 61 78 f5", "Expected `int`, got `bool` - at `[$].x`"),
        ("a2 61 78 01 63 726177 61 61", "Expected `bytes`, got `str` - at `[$].raw`"),
        ("a2 61 78 01 61 79 01", "unknown field `y`"),
        ("a1 646e616d65 60", "missing required field `x`"),
        ("a2 61 78 01 6474616773 81 01", r"Expected `str`, got `int` - at `[$].tags\[0\]`"),
    ],
)
def test_what_a_body_may_not_be_is_refused_by_name_and_place(text: str, what: str) -> None:
    with pytest.raises(BodyInvalid, match=what):
        body.decode(bytes.fromhex(text), Point)


def test_eight_containers_inside_each_other_pass_and_nine_do_not() -> None:
    def nested(depth: int) -> bytes:
        value: list[object] = []
        for _ in range(depth - 2):
            value = [value]
        return cbor2.dumps({"inner": value})

    assert body.decode(nested(8), Deep)
    with pytest.raises(BodyInvalid, match="more than 8 containers inside each other at byte 14"):
        body.decode(nested(9), Deep)


def test_4096_items_pass_and_one_more_does_not() -> None:
    def flat(items: int) -> bytes:
        return cbor2.dumps({"inner": [0] * (items - 3)})

    assert len(body.decode(flat(4_096), Deep).inner) == 4_093
    with pytest.raises(BodyInvalid, match="more than 4096 items"):
        body.decode(flat(4_097), Deep)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80" * 65_536,
        b"\x81" * 65_536,
        b"\x99\xff\xf0" + b"\x80" * 65_520,
        b"\x99\x80\x00" + b"\x80" * 0x8000,
        b"\xa1\x65inner\x99\xf0\x00" + b"\x80" * 0xF000,
        b"\xa1" * 65_536,
        b"\x80" * (16 << 20),
    ],
    ids=["empty", "nested", "lying", "wide", "wide in a map", "maps", "16 MiB"],
)
def test_a_bomb_is_refused_before_it_is_built(bomb: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(BodyInvalid):
        body.decode(bomb, Deep)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400_000


def test_a_body_over_64_kib_is_refused_on_both_sides() -> None:
    full = Point(1, raw=bytes(body.BODY_BYTES_MAX - 30))
    assert body.decode(body.encode(full), Point) == full
    with pytest.raises(TooLarge, match="bytes of a Point body: 65575, at most 65536"):
        body.encode(Point(1, raw=bytes(body.BODY_BYTES_MAX + 10)))
    with pytest.raises(BodyInvalid, match="this one has 65537"):
        body.decode(bytes(65_537), Point)


@given(st.binary(max_size=64))
def test_whatever_the_bytes_only_body_invalid_comes_out(data: bytes) -> None:
    try:
        point = body.decode(data, Point)
    except BodyInvalid:
        return
    assert body.decode(body.encode(point), Point) == point


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(PLAIN, max_size=6))
def test_the_walker_lets_all_plain_values_pass(values: list[object]) -> None:
    data = cbor2.dumps({"inner": values})
    try:
        assert body.decode(data, Deep).inner == values
    except BodyInvalid as error:
        assert "containers inside each other" in error.message


def test_a_text_that_is_no_unicode_is_not_encoded() -> None:
    with pytest.raises(RequestInvalid, match="UTF-8 cannot carry, from its character 1"):
        body.encode(Point(1, name="a\udcff"))

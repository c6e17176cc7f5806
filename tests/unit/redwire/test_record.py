"""Requests and records: what a client may send, to the last byte."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire import record as layout
from redwire.errors import Code, RequestInvalid, TooLarge
from redwire.record import (
    ATOMIC,
    CLIENT_BYTES,
    DOC_BYTES_MAX,
    ID_BYTES_MAX,
    NO_CLIENT,
    RECORD_HEADER,
    REQUEST_HEADER,
    Key,
    Op,
    Record,
    Request,
    RequestKind,
    check_write,
    decode_write,
    encode_record,
    encode_system,
    encode_write,
    request_heads,
)

CLIENT = bytes(range(24))
PUT = Record(Op.PUT, "c", "k", b'{"a":1}')

TABLE = [
    (
        Request(None, False, (PUT,)),
        "4b000000" "01" "00" "0100" + "00" * 40
        + "01" "00" "01" "00" "0100" "07000000" + "00" * 8 + "63" "6b" "7b2261223a317d",
    ),
    (
        Request(Key(CLIENT, 7, 5), True, (Record(Op.DELETE, "c", "k", b"", 9),)),
        "44000000" "01" "01" "0100" + CLIENT.hex() + "0700000000000000" "0500000000000000"
        "03" "01" "01" "00" "0100" "00000000" "0900000000000000" "63" "6b",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "data"), TABLE)
def test_requests_have_these_bytes(request_, data):
    encoded = encode_write([encode_record(r) for r in request_.records], request_.key, atomic=request_.atomic)
    assert encoded.hex() == data
    assert decode_write(memoryview(encoded)) == request_


RECORDS = st.builds(
    Record,
    st.sampled_from((Op.PUT, Op.DELETE)),
    st.from_regex(r"\A[A-Zb-z][A-Za-z0-9._-]{0,20}\Z"),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=40),
    st.just(b""),
    st.none() | st.integers(0, 2**63),
).map(lambda r: r if r.op is Op.DELETE else Record(r.op, r.collection, r.id, b' {"x": [1]}', r.version))


@given(st.lists(RECORDS, min_size=1, max_size=20), st.booleans())
def test_a_request_survives_its_bytes(records, atomic):
    data = memoryview(encode_write([encode_record(r) for r in records], Key(CLIENT, 3, 1), atomic=atomic))
    assert decode_write(data) == Request(Key(CLIENT, 3, 1), atomic, tuple(records))
    assert check_write(data).count == len(records)


@given(st.data())
def test_a_damaged_request_is_refused_or_is_another_valid_one(data):
    whole = encode_write(
        [encode_record(PUT), encode_record(Record(Op.INSERT, "c", "", b"{}"))], Key(CLIENT, 3, 1)
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        check_write(memoryview(bytes(damaged)))
    except RequestInvalid:
        return
    decode_write(memoryview(bytes(damaged)))


@pytest.mark.parametrize("end", range(67))
def test_a_request_that_is_cut_short_is_refused(end):
    with pytest.raises(RequestInvalid):
        check_write(memoryview(encode_write([encode_record(PUT)]))[:end])


@pytest.mark.parametrize(
    "name",
    ["", ".hidden", "a/b", "../x", "a b", "a\n", "a'b", 'a"b', "a\0b", "x" * 65, "sqlite_x", "SQLite_x", "ä"],
)
def test_a_collection_name_that_is_not_allowed_is_refused(name):
    with pytest.raises(RequestInvalid, match="collection name"):
        encode_record(Record(Op.PUT, name, "k", b"{}"))


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (Record(Op.PUT, "c", "", b"{}"), "1 to 512 bytes"),
        (Record(Op.PUT, "c", "x" * (ID_BYTES_MAX + 1), b"{}"), "1 to 512 bytes"),
        (Record(Op.PUT, "c", "a\0b", b"{}"), "NUL"),
        (Record(Op.PUT, "c", "\ud800", b"{}"), "UTF-8"),
        (Record(Op.PUT, "c", "k", b"[1]"), "not a JSON object"),
        (
            Record(Op.PUT, "c", "k", b'{"a": '),
            "the document is not JSON: it ends in the middle; a document is",
        ),
        (Record(Op.PUT, "c", "k", rb'{"a":"\ud83d'), "it ends in the middle"),
        (Record(Op.PUT, "c", "k", rb'{"a":"\\ud83d", "b": '), "it ends in the middle"),
        (Record(Op.PUT, "c", "k", rb'{"a":"\ud83d"}'), "not JSON: half a surrogate pair stands alone"),
        (Record(Op.PUT, "c", "k", rb'{"a":"\\\uD800"}'), "not JSON: half a surrogate pair stands alone"),
        (Record(Op.PUT, "c", "k", rb'{"a":"\ud83d\n"}'), "not JSON: half a surrogate pair stands alone"),
        (Record(Op.PUT, "c", "k", b'{"a":"\\ud83d\\'), "it ends in the middle"),
        (
            Record(Op.PUT, "c", "k", b""),
            'the document is empty; a document is a JSON object, such as {"name"',
        ),
        (Record(Op.PUT, "c", "k", b" \n"), "the document is empty; a document is a JSON object"),
        (Record(Op.PUT, "c", "k", b"lamp"), r"the document is not JSON: invalid character \(byte 0\)"),
        (Record(Op.PUT, "c", "k", b'{"a":"\xff"}'), "not UTF-8"),
        (Record(Op.PUT, "c", "k", b"[" * 100_000), "the document is too deep to be read here"),
        (Record(Op.DELETE, "c", "k", b"{}"), "carries no document"),
        (Record(Op.INSERT, "c", "k", b"{}", 3), "on an insert"),
    ],
)
def test_a_record_that_cannot_be_is_refused(record, text):
    with pytest.raises(RequestInvalid, match=text):
        encode_record(record)


def test_limits_are_refused_with_their_numbers():
    with pytest.raises(TooLarge) as caught:
        encode_record(Record(Op.PUT, "c", "k", b"{" + b" " * DOC_BYTES_MAX + b"}"))
    assert caught.value.facts == {"record": 0, "size": DOC_BYTES_MAX + 2, "limit": DOC_BYTES_MAX}
    with pytest.raises(TooLarge) as caught:
        encode_write([encode_record(PUT)] * 10_001)
    assert caught.value.code is Code.BATCH_TOO_LARGE
    half = encode_record(Record(Op.PUT, "c", "k", b"{" + b" " * (DOC_BYTES_MAX - 2) + b"}"))
    with pytest.raises(TooLarge, match="request bytes"):
        encode_write([half, half])
    with pytest.raises(TooLarge, match="request bytes"):
        check_write(memoryview(bytes(16 << 20)))


def _patched(offset: int, data: bytes, *, key: Key | None = None) -> memoryview:
    whole = bytearray(encode_write([encode_record(PUT)], key))
    whole[offset : offset + len(data)] = data
    return memoryview(bytes(whole))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (_patched(4, b"\x02"), "kind 2"),
        (_patched(5, b"\x02"), "flags 2"),
        (_patched(0, b"\xff"), "says length"),
        (_patched(6, b"\x00"), "no record"),
        (_patched(6, b"\x02"), "inside a record header"),
        (_patched(32, b"\x01"), "do not make a key"),
        (_patched(40, b"\x09", key=Key(CLIENT, 3, 1)), "do not make a key"),
        (_patched(39, b"\x80", key=Key(CLIENT, 3, 1)), "do not make a key"),
        (_patched(48, b"\x09"), "unknown operation 9"),
        (_patched(49, b"\x02"), "flags 2"),
        (_patched(51, b"\x01"), "unknown operation"),
        (_patched(58, b"\x01"), "version without its flag"),
        (_patched(54, b"\xff"), "inside a record"),
        (memoryview(encode_write([encode_record(PUT)]))[:10], "its header alone"),
    ],
)
def test_headers_are_checked(data, text):
    with pytest.raises(RequestInvalid, match=text):
        check_write(data)


def test_more_records_than_a_request_holds_are_refused_before_they_are_read():
    with pytest.raises(TooLarge, match="records in one request"):
        check_write(_patched(6, (10_001).to_bytes(2, "little")))


def test_bytes_behind_the_last_record_are_refused():
    data = bytearray(encode_write([encode_record(PUT)])) + b"x"
    data[:4] = len(data).to_bytes(4, "little")
    with pytest.raises(RequestInvalid, match="1 bytes follow"):
        check_write(memoryview(bytes(data)))


def test_the_requests_of_a_batch_body_come_in_order():
    body = encode_system(RequestKind.TERM_START, b"x") + encode_write(
        [encode_record(PUT)] * 3, Key(CLIENT, 3, 1), atomic=True
    )
    first, second = request_heads(memoryview(body))
    assert (first.kind, first.count, first.key) == (RequestKind.TERM_START, 1, None)
    assert (second.kind, second.count, second.key, second.atomic) == (
        RequestKind.WRITE,
        3,
        Key(CLIENT, 3, 1),
        True,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        bytes(REQUEST_HEADER.size),
        REQUEST_HEADER.pack(48, 99, 0, 1, NO_CLIENT, 0, 0),
        REQUEST_HEADER.pack(48, 1, 0x80, 1, NO_CLIENT, 0, 0),
        REQUEST_HEADER.pack(49, 1, 0, 1, NO_CLIENT, 0, 0),
        REQUEST_HEADER.pack(48, 1, ATOMIC, 0, NO_CLIENT, 0, 0),
    ],
)
def test_a_batch_body_that_no_primary_wrote_is_refused(body):
    with pytest.raises(RequestInvalid):
        list(request_heads(memoryview(body)))


def test_layouts_have_their_documented_sizes():
    assert (REQUEST_HEADER.size, RECORD_HEADER.size) == (48, 18)


@pytest.mark.parametrize("member", [*RequestKind, *Op])
def test_the_specification_has_the_number_of_each_kind_and_operation(member: RequestKind | Op) -> None:
    assert layout.__doc__ is not None
    assert re.search(rf"\b{member.name} {member.value}\b", layout.__doc__)


def test_a_key_is_a_text_that_can_be_asked_about_later() -> None:
    text = str(Key(b"\x01" * CLIENT_BYTES, 7, 3))
    assert text == "01" * CLIENT_BYTES + "-7"
    assert Key.parse(text) == Key(b"\x01" * CLIENT_BYTES, 7, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "01-7",
        "01" * CLIENT_BYTES,
        "01" * CLIENT_BYTES + "-0",
        "zz" * CLIENT_BYTES + "-1",
        "01" * CLIENT_BYTES + "-1 ",
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid, match="is no key"):
        Key.parse(text)

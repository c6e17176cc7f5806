"""Fetch and Scan, and their answers."""

from __future__ import annotations

import pytest

from redwire.errors import BodyInvalid, RequestInvalid
from redwire.message.read import Fetch, Fetched, Scan, Scanned, ScannedRow
from redwire.position import ClusterId, Lsn, Term, Token

TOKEN = Token(ClusterId("0a" * 16), Term(3), Lsn(42))
TOKEN_HEX = "0a" * 16 + "0300000000000000 2a00000000000000"

TABLE: list[tuple[Fetch | Fetched | Scan | Scanned, str]] = [
    (Fetch("c", "id"), "00 00000000 0163 0200 6964"),
    (Fetch("c", "é", TOKEN, 250), f"01 fa000000 {TOKEN_HEX} 0163 0200 c3a9"),
    (Fetched(False, 0, 3, 42), "00 0000000000000000 0300000000000000 2a00000000000000"),
    (Fetched(True, 7, 3, 42, b"{}"), "01 0700000000000000 0300000000000000 2a00000000000000 7b7d"),
    (Scan("c"), "00 00000000 0163 0000 e803"),
    (Scan("c", "k", 1, TOKEN, 1), f"01 01000000 {TOKEN_HEX} 0163 0100 6b 0100"),
    (Scanned(3, 42, False, ()), "0300000000000000 2a00000000000000 00 0000"),
    (
        Scanned(3, 42, True, (ScannedRow("a", 1, b"{}"), ScannedRow("b", 2, b'{"x":1}'))),
        "0300000000000000 2a00000000000000 01 0200"
        "0100 61 0100000000000000 02000000 7b7d 0100 62 0200000000000000 07000000 7b2278223a317d",
    ),
]
IDS = [f"{type(value).__name__}-{index}" for index, (value, _) in enumerate(TABLE)]


@pytest.mark.parametrize(("value", "text"), TABLE, ids=IDS)
def test_a_body_and_its_bytes_are_the_same_both_ways(
    value: Fetch | Fetched | Scan | Scanned, text: str
) -> None:
    data = bytes.fromhex(text)
    assert value.encode() == data
    assert type(value).decode(data) == type(value).decode(memoryview(data)) == value


@pytest.mark.parametrize(("value", "text"), TABLE, ids=IDS)
def test_a_body_that_is_cut_anywhere_or_goes_on_is_refused(
    value: Fetch | Fetched | Scan | Scanned, text: str
) -> None:
    data = bytes.fromhex(text)
    ends_anywhere = isinstance(value, Fetched) and value.found
    for end in range(25 if ends_anywhere else len(data)):
        with pytest.raises(BodyInvalid, match=type(value).__name__):
            type(value).decode(data[:end])
    if not ends_anywhere:
        with pytest.raises(BodyInvalid, match=type(value).__name__):
            type(value).decode(data + b"\0")


@pytest.mark.parametrize(
    ("kind", "text", "what"),
    [
        (Fetch, "02 00000000 0163 0100 61", "flags are 0x02: unknown"),
        (Fetch, "00 00000000 01ff 0100 61", "collection is not UTF-8"),
        (Fetched, "02" + "00" * 24, "found is 2"),
        (Fetched, "00 0100000000000000" + "00" * 16, "found is 0 with version 1"),
        (Fetched, "00" * 25 + "7b7d", "found is 0 with version 0 and 2 document bytes"),
        (Scan, "00 00000000 0163 0000 0000", "limit is 0, not 1 to 1000"),
        (Scan, "00 00000000 0163 0000 e903", "limit is 1001, not 1 to 1000"),
        (Scanned, "00" * 16 + "02 0000", "more is 2"),
        (Scanned, "00" * 16 + "00 ffff", "row count is 65535 with 0 bytes left"),
        (Scanned, "00" * 16 + "00 e903" + "00" * 14 * 1001, "row count is 1001"),
        (Scanned, "00" * 16 + "00 0100 0000 0000000000000000 ffffffff", "document takes 4294967295 bytes"),
    ],
)
def test_a_body_that_cannot_be_is_refused_by_its_field(
    kind: type[Fetch | Fetched | Scan | Scanned], text: str, what: str
) -> None:
    with pytest.raises(BodyInvalid, match=what):
        kind.decode(bytes.fromhex(text))


def test_names_that_no_frame_can_carry_are_the_callers_error() -> None:
    with pytest.raises(RequestInvalid):
        Fetch("c" * 256, "id").encode()
    with pytest.raises(RequestInvalid):
        Fetch("c", "i" * 65_536).encode()
    with pytest.raises(RequestInvalid):
        Scan("c", "\ud800").encode()

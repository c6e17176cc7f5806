"""Addresses: what is one, and what is on this machine alone."""

from __future__ import annotations

import pytest

from cluster.address import Address, Whereabouts


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("localhost:1", Address("localhost", 1), True),
        ("127.0.0.1:5050", Address("127.0.0.1", 5050), True),
        ("[::1]:65535", Address("::1", 65_535), True),
        ("0.0.0.0:5050", Address("0.0.0.0", 5050), False),
        ("[::]:5050", Address("::", 5050), False),
        ("127.example.net:1", Address("127.example.net", 1), False),
    ],
)
def test_an_address_reads_as_it_prints(text: str, address: Address, loopback: bool) -> None:
    assert Address.parse(text) == address
    assert str(address) == text
    assert address.is_loopback is loopback


@pytest.mark.parametrize(
    "text", ["", "h", "h:", ":1", "h:0", "h:65536", "h:1x", "h:-1", "h:²", "::1:5", "[h]:1", "a b:1", "[]:1",
             "h:99999999999999999999", "user@h:1", "a/b:1", "a\0b:1", "a\nb:1", "a\u2028b:1"]
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Address.parse(text)


def test_a_member_is_dialled_where_it_is_known_and_in_turns_where_it_says_it_is() -> None:
    known, new = Address("old", 1), Address("new", 2)
    member = Whereabouts(known)
    member.missed()
    assert member.place == known, "there is nowhere else"
    member.told("new:2")
    assert member.place == known, "which may be right yet"
    places = []
    for _ in range(4):
        member.missed()
        places.append(member.place)
    assert places == [new, known, new, known]
    member.missed()
    member.told("newer:3")
    member.missed()
    assert member.place == known
    member.missed()
    assert member.place == Address("newer", 3)


@pytest.mark.parametrize("said", ["", "nowhere", "h:0", "old:1"])
def test_a_member_that_says_nothing_new_is_dialled_where_it_is_known(said: str) -> None:
    member = Whereabouts(Address("old", 1))
    member.told(said)
    member.missed()
    assert member.place == Address("old", 1)

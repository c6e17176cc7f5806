"""Addresses: what is one, and what is on this machine alone."""

from __future__ import annotations

import pytest

from cluster.address import Address


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

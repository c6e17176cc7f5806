"""What a TLS client says first."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.client_hello import RECORD_BYTES_MAX, protocols, whole


def hello(*offered: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What OpenSSL says when it offers these."""
    context = ssl.create_default_context()
    context.maximum_version = version
    if offered:
        context.set_alpn_protocols([*offered])
    said = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost").do_handshake()
    return said.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("offered", [(), ("redwire/1",), ("h2", "redwire/1"), ("http/1.1",)])
def test_the_protocols_that_a_client_offers_are_read(
    offered: tuple[str, ...], version: ssl.TLSVersion
) -> None:
    assert protocols(hello(*offered, version=version)) == tuple(name.encode() for name in offered)


def test_of_half_a_record_nothing_is_known_and_more_is_waited_for() -> None:
    said = hello("redwire/1")
    for size in range(len(said)):
        assert not whole(said[:size])
        assert protocols(said[:size]) is None
    assert whole(said) and whole(said + b"more")


@pytest.mark.parametrize(
    "said",
    [
        b"\xfe",
        b"GET / HTTP/1.1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\x16\x03\x01" + (RECORD_BYTES_MAX + 1).to_bytes(2, "big"),
        b"\x16\x03\x01\x00\x01\x02",
        b"\x16\x03\x01\x00\x00",
    ],
)
def test_what_can_be_no_client_hello_is_not_waited_for(said: bytes) -> None:
    assert whole(said)
    assert protocols(said) is None


def test_a_hello_that_goes_on_in_another_record_says_nothing_yet() -> None:
    said = hello("redwire/1")
    body, half = said[5:], len(said) // 2
    first = said[:3] + half.to_bytes(2, "big") + body[:half]
    assert whole(first) and protocols(first) is None


def test_without_extensions_nothing_is_offered() -> None:
    body = bytes(34) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    assert protocols(b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message) == ()


@given(st.binary(max_size=200), st.integers(0, 400))
def test_nothing_that_is_sent_is_an_error(noise: bytes, at: int) -> None:
    said = bytearray(hello("redwire/1"))
    said[at : at + len(noise)] = noise
    for each in (noise, bytes(said)):
        whole(each)
        protocols(each)

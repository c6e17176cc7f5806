"""Framing that cannot be: each gets one Error that says why, and only its own connection ends."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from redwire.body import BODY_BYTES_MAX
from redwire.frame import COMPRESSED, FRAME_BYTES_MAX, HEADER, MORE_FRAMES, Kind, encode_frame
from redwire.handshake import PREFACE, TLS_ONLY
from tests.cluster.handmade import in_time

ROOM_BYTES = 48 << 20
"""What a hostile frame may cost for a moment: its own 16 MiB twice, and some slack."""


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, length: int | None = None) -> bytes:
    return HEADER.pack(16 + len(payload) if length is None else length, kind, flags, 0, 7) + payload


@pytest.mark.parametrize(
    "first", [b"\x00\x01", b"GET / HTTP/1.1\r\n\r\n", b"\xff\x01", b"\xfe\x02", b"\xfe\xff"]
)
def test_whoever_does_not_begin_like_a_client_is_left_without_a_word(site: Any, first: bytes) -> None:
    with site.tls() as wire:
        wire.send(first, encode_frame(Kind.HELLO, site.hello_body(), 1))
        assert wire.last_words() == []


@pytest.mark.parametrize(
    "first", [b"\xfe\x01" + bytes(14), b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)), b"\x16\x03\x01"]
)
def test_plain_bytes_on_the_tls_port_end_that_connection_only(site: Any, first: bytes) -> None:
    with site.tcp() as wire:
        wire.send(first)
        wire.sock.settimeout(0.3 if len(first) == 3 else 10)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            said = wire.sock.recv(1000)
            assert said == TLS_ONLY if first[0] == 0xFE else len(said) <= 7, "a TLS alert at most"


BROKEN: dict[str, tuple[bytes, str]] = {
    "a length of 0": (frame(Kind.PING, length=0), "length 0 is not"),
    "a length below the header": (frame(Kind.PING, length=15), "length 15 is not"),
    "a length above the limit": (frame(Kind.PING, length=FRAME_BYTES_MAX + 1), "16777217 is not"),
    "the longest length": (b"\xff\xff\xff\xff" + bytes(12), "4294967295 is not"),
    "MORE_FRAMES": (frame(Kind.PING, flags=MORE_FRAMES), "MORE_FRAMES"),
    "an unknown flag": (frame(Kind.PING, flags=0x80), "unknown flag bits"),
    "a compressed ping": (frame(Kind.PING, flags=COMPRESSED), "never may"),
    "what is no zstd": (frame(Kind.GET, bytes(range(64)), flags=COMPRESSED), "not zstd"),
    "an unknown kind with an unknown flag": (frame(0x99, flags=0x10), "unknown flag bits"),
}


@pytest.mark.parametrize(("broken", "why"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("who", [None, "us-1"])
def test_broken_framing_is_told_why_and_closed(site: Any, who: str | None, broken: bytes, why: str) -> None:
    with site.login(who) as wire:
        wire.send(broken)
        *_, last = wire.last_words()
        assert last.kind == Kind.ERROR
        assert why in last.payload.decode()


def test_who_sends_more_than_a_frame_may_hold_reads_why_behind_it(site: Any) -> None:
    """A driver sends all of it before it reads anything."""
    size = FRAME_BYTES_MAX + (4 << 20)
    with site.login() as wire:
        wire.sock.settimeout(10)
        wire.sock.sendall(frame(Kind.BULK_INSERT, bytes(size), length=size + 16))
        (last,) = wire.last_words()
        assert last.kind == Kind.ERROR and b"20971536 is not" in last.payload


def _declared(size: int) -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(size))


def _undeclared(size: int) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(size))


BOMBS: dict[str, Callable[[], bytes]] = {
    "256 MiB that say so": lambda: _declared(256 << 20),
    "256 MiB that do not": lambda: _undeclared(256 << 20),
    "a size that is a lie": lambda: _lying(1 << 20, 40 << 20),
    "many frames of 16 MiB": lambda: _declared(16 << 20) * 8,
    "a window of 1 GiB": lambda: b"\x28\xb5\x2f\xfd\x00\xa0" + bytes(64),
}


def _lying(says: int, holds: int) -> bytes:
    """A zstd frame whose header announces another size than it has."""
    honest = _declared(holds)
    return honest.replace(struct.pack("<I", holds), struct.pack("<I", says), 1)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_zstd_bomb_costs_one_frame_at_most(site: Any, bomb: Callable[[], bytes]) -> None:
    payload = bomb()
    with site.login() as wire:
        before = site.rest_bytes()
        site.forget_peak()
        wire.send(frame(Kind.QUERY, payload, flags=COMPRESSED))
        (last,) = wire.last_words()
        assert last.kind == Kind.ERROR and b"QUERY (0x01)" in last.payload
        assert site.peak_bytes() < before + ROOM_BYTES


def test_a_frame_cut_short_by_the_end_is_nothing(site: Any) -> None:
    for size in range(1, 40, 3):
        with site.login() as wire:
            wire.send(frame(Kind.GET, b'{"collection":"good","id":"doc-1"}')[:size])


def test_a_length_costs_memory_only_as_its_bytes_come(site: Any) -> None:
    wires = [site.login() for _ in range(40)]
    before = site.rest_bytes()
    for wire in wires:
        wire.send(frame(Kind.WRITE, length=FRAME_BYTES_MAX), bytes(1000))
    site.check()
    assert site.rss_bytes() < before + (16 << 20)
    for wire in wires:
        wire.close()


@pytest.mark.parametrize("kind", [0x00, 0x32, 0x3F, 0x49, 0x51, 0x5F, 0x6A, 0x99, 0xFF])
def test_an_unknown_kind_gets_an_error_and_the_connection_lives(site: Any, kind: int) -> None:
    with site.login() as wire:
        assert f"0x{kind:02x}" in str(wire.error(kind, b"whatever"))
        assert wire.ask(Kind.PING).kind == Kind.PONG


def test_bytes_one_by_one_are_a_request_like_any(site: Any) -> None:
    with site.tls() as wire:
        hello = PREFACE + encode_frame(Kind.HELLO, site.hello_body(), 1)
        for at in range(len(hello)):
            wire.send(hello[at : at + 1])
        assert wire.frame().kind == Kind.HELLO_ACK
        wire.send_frame(Kind.AUTH_RESPONSE)
        assert wire.frame().kind == Kind.AUTH_OK


CBOR_KINDS = [
    ("ops", Kind.OPEN),
    ("ops", Kind.ACCOUNT),
    ("ops", Kind.ACCOUNTS_REQUEST),
    ("us-1", Kind.PEER_HELLO),
    ("us-1", Kind.FOLLOW),
    ("us-1", Kind.SNAPSHOT_FETCH),
    ("us-1", Kind.FAILURE),
]
CBOR: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "1 to 65536 bytes"),
    "a key twice": (b"\xa2\x61x\x01\x61x\x02", "'x' stands twice"),
    "a map without end": (b"\xbf\x61x\x01\xff", "indefinite"),
    "a text without end": (b"\xa1\x66client\x7f\x61a\xff", "indefinite"),
    "a tag": (b"\xa1\x61x\xc0\x60", "tag"),
    "a bignum": (b"\xa1\x61x\xc2\x41\x01", "tag"),
    "a float": (b"\xa1\x61x\xfb" + bytes(8), "float"),
    "undefined": (b"\xa1\x61x\xf7", "unassigned"),
    "a number as key": (b"\xa1\x01\x02", "not text"),
    "text that is no UTF-8": (b"\xa1\x61x\x62\xc3\x28", "not UTF-8"),
    "bytes behind it": (b"\xa0\x00", "1 bytes follow"),
    "a map in a map, 9 times": (b"\xa1\x61x" * 9 + b"\x01", "more than 8 containers"),
    "65,536 lists in each other": (b"\x81" * 65_536, "more than 8 containers"),
    "65,535 empty lists": (b"\x99\xff\xfc" + b"\x80" * 65_533, "announced|more than 4096 items"),
    "2^64 entries": (b"\xbb" + b"\xff" * 8, "18446744073709551615 entries"),
    "2^63 bytes": (b"\xa1\x61x\x5b\x7f" + b"\xff" * 7, "9223372036854775807 bytes"),
    "one byte too many": (b"\xa1\x61x\x59\xff\xfb" + bytes(65_531), "(this one|payload) has 655(37|41)"),
    "16 MiB of empty lists": (b"\x80" * ((16 << 20) - 16), "(1 to|at most) 65536"),
    "no map": (b"\x80", "not a .* body"),
    "a map of nothing known": (b"\xa1\x61x\x01", "not a .* body"),
}


def _carrying(kind: Kind, body: bytes) -> bytes:
    """A payload of `kind` with `body` where its CBOR stands, cut to what fits where it is as long as one."""
    if kind is not Kind.ACCOUNT:
        return body
    longest = len(body) in (BODY_BYTES_MAX, FRAME_BYTES_MAX - HEADER.size)
    return in_time(body[:-4] if longest else body)


@pytest.mark.parametrize(("body", "why"), CBOR.values(), ids=CBOR)
def test_cbor_that_may_not_be_is_refused_by_every_kind_that_carries_it(
    site: Any, body: bytes, why: str
) -> None:
    with site.nothing_written():
        before = site.rest_bytes()
        site.forget_peak()
        for who, kind in CBOR_KINDS:
            with site.login(who) as wire:
                wire.send(frame(kind, _carrying(kind, body)))
                (last,) = wire.last_words()
                assert re.search(why, str(site.failure(last))), f"{kind!r}: {site.failure(last)}"
        assert site.peak_bytes() < before + ROOM_BYTES


@pytest.mark.parametrize(("who", "kind"), CBOR_KINDS)
def test_a_cbor_bomb_in_a_zstd_bomb_costs_one_frame_at_most(site: Any, who: str, kind: Kind) -> None:
    bomb = zstandard.ZstdCompressor().compress(b"\x80" * FRAME_BYTES_MAX)
    assert len(bomb) < 2_000
    with site.login(who) as wire:
        before = site.rest_bytes()
        site.forget_peak()
        for _ in range(20):
            wire.send(frame(kind, bomb, flags=COMPRESSED))
        (last,) = wire.last_words()
        told = f"this one has {FRAME_BYTES_MAX}" if who == "us-1" else "declares more than 65536 bytes"
        assert told in str(site.failure(last))
        assert site.peak_bytes() < before + ROOM_BYTES

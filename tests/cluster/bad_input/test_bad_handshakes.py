"""Handshakes that stop, lie or jump ahead: refused with a reason, bounded in time and number."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from redwire.frame import FRAME_BYTES_UNAUTHENTICATED, HEADER, Kind, encode_frame
from redwire.handshake import PREFACE

DEADLINE_S = 10.0
STRANGERS_MAX = 256


def hello(body: dict[str, object], correlation: int = 1) -> bytes:
    return PREFACE + encode_frame(Kind.HELLO, json.dumps(body).encode(), correlation)


def hello_for(method: str) -> bytes:
    return hello({"versions": [1], "auth_methods": [method]})


BAD_HELLOS: dict[str, tuple[bytes, str]] = {
    "no version in common": (hello({"versions": [2, 0], "auth_methods": ["anonymous"]}), "no common version"),
    "no version at all": (hello({"versions": [], "auth_methods": ["anonymous"]}), "no common version"),
    "no method in common": (hello({"versions": [1], "auth_methods": ["oauth-jwt"]}), "no common authent"),
    "a method in capitals": (hello({"versions": [1], "auth_methods": ["ANONYMOUS"]}), "no common authent"),
    "a certificate that was not shown": (hello_for("certificate"), "no common authentication"),
    "versions of another type": (hello({"versions": "1", "auth_methods": []}), "Hello body"),
    "no methods": (hello({"versions": [1]}), "Hello body"),
    "a hundred versions": (hello({"versions": [1] * 100, "auth_methods": []}), "Hello body"),
    "a list": (PREFACE + encode_frame(Kind.HELLO, b"[]", 1), "Hello body"),
    "nothing": (PREFACE + encode_frame(Kind.HELLO, b"", 1), "Hello body"),
    "no UTF-8": (PREFACE + encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":["\xff"]}', 1), "Hello"),
    "brackets without end": (PREFACE + encode_frame(Kind.HELLO, b"[" * 8000, 1), "Hello body"),
    "two frames at once": (hello_for("anonymous") + encode_frame(Kind.AUTH_RESPONSE), "more than one frame"),
    "one frame and a half": (hello_for("anonymous") + b"\x10", "more than one frame"),
}


@pytest.mark.parametrize(("data", "why"), BAD_HELLOS.values(), ids=BAD_HELLOS)
def test_a_bad_hello_is_refused_with_the_reason(site: Any, data: bytes, why: str) -> None:
    with site.tls() as wire:
        wire.send(data)
        (answer,) = wire.last_words()
        assert answer.kind == Kind.AUTH_FAIL
        assert why in json.loads(answer.payload)["reason"]


@pytest.mark.parametrize("length", [FRAME_BYTES_UNAUTHENTICATED + 1, 1 << 20, 0, 0xFFFF_FFFF])
def test_a_stranger_may_send_small_frames_only(site: Any, length: int) -> None:
    with site.tls() as wire:
        wire.send(PREFACE, HEADER.pack(length, Kind.HELLO, 0, 0, 1))
        (answer,) = wire.last_words()
        assert answer.kind == Kind.ERROR and str(length).encode() in answer.payload


def test_nothing_is_compressed_before_authentication(site: Any) -> None:
    with site.tls() as wire:
        wire.send(PREFACE, HEADER.pack(20, Kind.GET, 1, 0, 1), bytes(4))
        (answer,) = wire.last_words()
        assert answer.kind == Kind.ERROR and b"COMPRESSED before authentication" in answer.payload


EARLY = [kind for kind in Kind if kind not in (Kind.HELLO, Kind.AUTH_RESPONSE)]


@pytest.mark.parametrize("kind", [*EARLY, 0x99], ids=str)
def test_a_command_before_authentication_ends_the_handshake(site: Any, kind: int) -> None:
    body = b'{"collection":"good","id":"doc-1"}'
    with site.tls("ops") as wire:  # its certificate alone opens nothing
        wire.send(PREFACE, encode_frame(kind, body, 1))
        (answer,) = wire.last_words()
        assert answer.kind == Kind.AUTH_FAIL and "state HELLO" in json.loads(answer.payload)["reason"]
    with site.tls() as wire:
        wire.send(hello_for("scram-sha-256"))
        assert wire.frame().kind == Kind.HELLO_ACK
        wire.send_frame(kind, body)
        (answer,) = wire.last_words()
        assert answer.kind == Kind.AUTH_FAIL


NO_CREDENTIALS: dict[str, tuple[str, list[bytes]]] = {
    "an unknown token": ("bearer", [b'{"token":"rw_nobody"}']),
    "no token": ("bearer", [b"{}"]),
    "a token that is no text": ("bearer", [b'{"token":7}']),
    "an endless token": ("bearer", [json.dumps({"token": "x" * 5000}).encode()]),
    "SCRAM without a user": ("scram-sha-256", [b"n,,n=,r=abcdefgh"]),
    "SCRAM with a binding": ("scram-sha-256", [b"p=tls-unique,,n=writer,r=abcdefgh"]),
    "SCRAM with a name in SQL": ("scram-sha-256", [b"n,,n=a' OR 1=1 --,r=abcdefgh"]),
    "SCRAM that is no text": ("scram-sha-256", [b"\xff\xfe"]),
    "SCRAM as deep JSON": ("scram-sha-256", [b'{"client_first":' * 400]),
    "SCRAM with a proof at once": ("scram-sha-256", [b"c=biws,r=abcdefgh,p=AAAA"]),
    "a proof of nothing": ("scram-sha-256", [b"n,,n=writer,r=abcdefgh", b"c=biws,r=abcdefgh,p=AAAA"]),
    "an unknown user": ("scram-sha-256", [b"n,,n=nobody,r=abcdefgh", b"c=biws,r=abcdefgh,p=AAAA"]),
    "a proof that is no base64": ("scram-sha-256", [b"n,,n=writer,r=abcdefgh", b"c=biws,r=abcdefgh,p=!"]),
    "an empty proof": ("scram-sha-256", [b"n,,n=writer,r=abcdefgh", b""]),
}


@pytest.mark.parametrize(("method", "messages"), NO_CREDENTIALS.values(), ids=NO_CREDENTIALS)
def test_wrong_credentials_open_nothing(site: Any, method: str, messages: list[bytes]) -> None:
    with site.tls() as wire:
        wire.send(hello_for(method))
        assert wire.frame().kind == Kind.HELLO_ACK
        for message in messages:
            wire.send_frame(Kind.AUTH_RESPONSE, message)
            answer = wire.frame()
        assert answer.kind == Kind.AUTH_FAIL
        assert wire.last_words() == []


def test_an_unknown_user_and_a_known_one_are_challenged_alike(site: Any) -> None:
    challenges = []
    for user in (b"nobody", b"nobody", b"somebody"):
        with site.tls() as wire:
            wire.send(hello_for("scram-sha-256"))
            assert wire.frame().kind == Kind.HELLO_ACK
            wire.send_frame(Kind.AUTH_RESPONSE, b"n,,n=" + user + b",r=abcdefgh")
            challenges.append(dict(part.split("=", 1) for part in wire.frame().payload.decode().split(",")))
    once, again, other = challenges
    assert once["s"] == again["s"] != other["s"]
    assert once["i"] == other["i"]
    assert once["r"] != again["r"]


STOPS: dict[str, Callable[[Any], Any]] = {
    "before TLS": lambda site: site.tcp(),
    "inside TLS's first record": lambda site: _said(site.tcp(), b"\x16\x03\x01\x02\x00\x01"),
    "after TLS": lambda site: site.tls(),
    "after TLS with a certificate": lambda site: site.tls("us-1"),
    "after one byte": lambda site: _said(site.tls(), PREFACE[:1]),
    "inside Hello": lambda site: _said(site.tls(), hello_for("anonymous")[:30]),
    "after HelloAck": lambda site: _said(site.tls(), hello_for("anonymous")),
    "inside SCRAM": lambda site: _said(site.tls(), hello_for("scram-sha-256")),
}


def _said(wire: Any, data: bytes) -> Any:
    wire.send(data)
    return wire


def _ends(wire: Any, within_s: float) -> bool:
    """Whether the node ends the connection, without another word, in that time."""
    try:
        return wire.frame(within_s) is None
    except TimeoutError:
        return False


def test_half_a_handshake_is_over_after_ten_seconds_wherever_it_stops(site: Any) -> None:
    started = time.monotonic()
    wires = [stop(site) for stop in STOPS.values() for _ in range(8)]
    dripping = site.tls()  # a byte a second does not buy time
    data = hello_for("anonymous")
    while (elapsed := time.monotonic() - started) < DEADLINE_S - 1.5:
        dripping.send(data[int(elapsed) : int(elapsed) + 1])
        site.check()
        if _ends(dripping, 1):
            break
    for wire in [*wires, dripping]:
        left_s = DEADLINE_S + 2 - (time.monotonic() - started)
        while (frame := wire.frame(left_s)) is not None:
            assert frame.kind in (Kind.HELLO_ACK, Kind.AUTH_REQUEST)
        assert time.monotonic() - started > DEADLINE_S - 1, "ended before its time"
        wire.close()


def test_a_crowd_of_strangers_keeps_neither_members_nor_patient_clients_out(site: Any) -> None:
    crowd = []
    for _ in range(STRANGERS_MAX + 40):
        crowd.append(socket.create_connection(site.address))
    deadline = time.monotonic() + 8
    while (turned_away := sum(_closed(one) for one in crowd)) < 40 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert turned_away == 40, "the cap holds, and nobody inside it is thrown out at once"
    deadline = time.monotonic() + 8
    for who in ("us-1", "ops"):  # they come again, as members and clients do
        while True:
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError, AssertionError), site.login(who):
                break
            time.sleep(0.2)
    gone = sum(_closed(one) for one in crowd)
    assert 40 < gone <= 60, "one stranger who has waited long went for each newcomer, no more"
    for one in crowd:
        one.close()


def _closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True

"""A client's side: what it says, which answers it takes, and what it makes of an early end."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from redwire.errors import AuthenticationFailed, FrameInvalid, ProtocolError
from redwire.frame import Frame, FrameDecoder, Kind, encode_frame
from redwire.handshake import Anonymous, Bearer, Certificate, Credentials, Password
from redwire.scram import salted_password
from tests.handshakes import a_client, said


@pytest.mark.parametrize(
    ("credentials", "hint"),
    [
        (Anonymous(), "the URI names nobody: add user:password@"),
        (Certificate(), "the certificate names nobody whom the cluster knows: add user:password@"),
        (Bearer("t"), ""),
    ],
)
def test_a_refused_method_says_what_the_uri_lacks(credentials: Credentials, hint: str) -> None:
    client = a_client(credentials)
    body = b'{"reason": "no common authentication method: we accept scram-sha-256"}'
    with pytest.raises(AuthenticationFailed) as refused:
        client.receive_data(encode_frame(Kind.AUTH_FAIL, body, 1))
    assert refused.value.hint.startswith(hint) and bool(refused.value.hint) == bool(hint)


def hello_ack(**changes: object) -> bytes:
    ack = {"auth": "scram-sha-256", "features": 1, "server": "x", "version": 1} | changes
    return encode_frame(Kind.HELLO_ACK, json.dumps(ack).encode(), 1)


def auth_ok(**changes: object) -> bytes:
    ok: dict[str, Any] = {"features": 1, "role": "write", "session_id": "s", "username": "ann"} | changes
    return encode_frame(Kind.AUTH_OK, json.dumps(ok).encode(), 2)


def test_a_client_numbers_its_frames_from_one() -> None:
    client = a_client(Password("ann", "pencil"))
    data = b"".join(client.data_to_send())
    assert data.startswith(b"\xfe\x01")
    (hello,) = FrameDecoder().receive_data(data[2:])
    assert (hello.kind, hello.correlation) == (Kind.HELLO, 1)
    assert json.loads(hello.payload) == {
        "versions": [1],
        "auth_methods": ["scram-sha-256"],
        "features": 0,
        "client_name": "test",
    }
    assert client.receive_data(hello_ack()) == []
    assert said(client) == [Frame(Kind.AUTH_RESPONSE, 0, 0, 2, b"n,,n=ann,r=abc")]
    assert client.receive_data(encode_frame(Kind.AUTH_REQUEST, b"r=abcx,s=AAAA,i=4096", 2)) == []
    assert client.challenge is not None
    assert client.data_to_send() == []
    client.provide_salted_password(salted_password("pencil", client.challenge))
    assert client.challenge is None
    (final,) = said(client)
    assert (final.kind, final.correlation) == (Kind.AUTH_RESPONSE, 3)


SCRAM = Password("ann", "pencil")
REQUEST = encode_frame(Kind.AUTH_REQUEST, b"r=abcx,s=AAAA,i=4096", 2)


@pytest.mark.parametrize(
    ("credentials", "data", "error", "says"),
    [
        (SCRAM, auth_ok(), ProtocolError, r"server sent AUTH_OK \(0x14\) in state HELLO"),
        (SCRAM, hello_ack() + auth_ok(), ProtocolError, r"AUTH_OK \(0x14\) in state SCRAM_FIRST"),
        (SCRAM, hello_ack() + REQUEST + auth_ok(), ProtocolError, r"AUTH_OK \(0x14\) in state SALTING"),
        (SCRAM, hello_ack() + REQUEST + REQUEST, ProtocolError, r"AUTH_REQUEST \(0x12\) in state SALTING"),
        (SCRAM, hello_ack() + hello_ack(), ProtocolError, "in state SCRAM_FIRST"),
        (
            SCRAM,
            hello_ack(auth="bearer"),
            AuthenticationFailed,
            "server demanded 'bearer', we offered 'scram-sha-256'",
        ),
        (SCRAM, hello_ack(version=2), ProtocolError, "server chose version 2, we speak 1"),
        (SCRAM, hello_ack(auth=""), ProtocolError, "HelloAck body"),
        (SCRAM, encode_frame(Kind.HELLO_ACK, b"{}"), ProtocolError, "HelloAck body"),
        (
            SCRAM,
            encode_frame(Kind.AUTH_FAIL, b'{"reason":"busy"}'),
            AuthenticationFailed,
            "server refused: busy",
        ),
        (
            SCRAM,
            hello_ack() + encode_frame(Kind.AUTH_FAIL, b"no"),
            AuthenticationFailed,
            "server refused: no",
        ),
        (SCRAM, encode_frame(Kind.ERROR, b"PROTOCOL: x\xff"), ProtocolError, "server answered: PROTOCOL: x"),
        (SCRAM, encode_frame(Kind.BYE), ProtocolError, r"server sent BYE \(0x16\) in state HELLO"),
        (SCRAM, bytes(16), FrameInvalid, "frame length 0"),
        (Anonymous(), hello_ack(auth="anonymous") + REQUEST, ProtocolError, "in state CREDENTIALS"),
        (Anonymous(), hello_ack(auth="anonymous") + auth_ok(session_id=""), ProtocolError, "AuthOk body"),
        (
            Anonymous(),
            hello_ack(auth="anonymous") + encode_frame(Kind.AUTH_OK, b""),
            ProtocolError,
            "AuthOk body",
        ),
        (
            Anonymous(),
            hello_ack(auth="anonymous") + struct.pack("<IBBHQ", 16, Kind.NOTICE, 1, 0, 0),
            ProtocolError,
            "COMPRESSED before authentication",
        ),
    ],
)
def test_a_client_takes_no_step_that_is_not_in_its_table(
    credentials: Credentials, data: bytes, error: type[Exception], says: str
) -> None:
    client = a_client(credentials)
    with pytest.raises(error, match=says):
        client.receive_data(data)
    assert client.established is None


@pytest.mark.parametrize(
    ("v", "says"),
    [(None, "signature is missing"), (base64.b64encode(bytes(32)).decode(), "signature did not verify")],
)
def test_a_client_with_a_password_believes_no_server_without_proof(v: str | None, says: str) -> None:
    client = a_client(SCRAM)
    client.receive_data(hello_ack() + REQUEST)
    assert client.challenge is not None
    client.provide_salted_password(salted_password("pencil", client.challenge))
    with pytest.raises(AuthenticationFailed, match=says):
        client.receive_data(auth_ok(v=v))
    assert client.established is None


def test_frames_right_behind_auth_ok_are_not_lost() -> None:
    client = a_client(Anonymous())
    pushed = encode_frame(Kind.TOPOLOGY, b"\x00" * 20_000, 0)
    frames = client.receive_data(hello_ack(auth="anonymous") + auth_ok(topology="***") + pushed + pushed[:5])
    assert frames == [Frame(Kind.TOPOLOGY, 0, 0, 0, bytes(20_000))]
    assert client.established is not None
    assert (client.established.hello_topology, client.established.topology) == (None, None)
    assert client.receive_data(pushed[5:]) == frames


def test_a_topology_of_any_size_fits_into_auth_ok() -> None:
    client = a_client(Anonymous())
    blob = bytes(50_000)
    client.receive_data(hello_ack(auth="anonymous") + auth_ok(topology=base64.b64encode(blob).decode()))
    assert client.established is not None
    assert client.established.topology == blob


def test_a_connection_that_ends_before_the_first_answer_hints_at_the_certificate() -> None:
    with pytest.raises(AuthenticationFailed, match="TLS 1.3") as caught:
        a_client(Certificate()).receive_eof()
    assert caught.value.retry


def test_a_connection_that_ends_later_in_the_handshake_names_the_state() -> None:
    client = a_client(Anonymous())
    client.receive_data(hello_ack(auth="anonymous"))
    with pytest.raises(ProtocolError, match="in state CREDENTIALS"):
        client.receive_eof()


def test_an_impossible_user_name_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(AuthenticationFailed, match="user name"):
        a_client(Password("a,b", "x"))

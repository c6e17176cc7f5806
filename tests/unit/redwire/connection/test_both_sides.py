"""Handshakes of both sides: who is let in, as whom, and who is refused with which reason."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path

import pytest

from redwire.connection import ConnectionState, ServerConnection
from redwire.errors import AuthenticationFailed, Code, ProtocolError, Refused
from redwire.frame import Frame, Kind, encode_frame
from redwire.handshake import (
    Anonymous,
    Attempt,
    Bearer,
    Certificate,
    Credentials,
    Method,
    Password,
    Principal,
)
from redwire.scram import Verifier, make_verifier
from tests.handshakes import (
    ANN,
    NOBODY,
    NODE,
    FakeAuthenticator,
    a_client,
    a_server,
    a_server_after,
    said,
    talk,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "redwire-scram.json"

NO_METHOD = "no common authentication method: we accept scram-sha-256, bearer, anonymous"

METHODS: list[tuple[Credentials, Principal | None, Principal]] = [
    (Anonymous(), None, NOBODY),
    (Bearer("right"), None, ANN),
    (Password("ann", "pencil"), None, ANN),
    (Certificate(), NODE, NODE),
    (Password("ann", "pencil"), NODE, ANN),
]


@pytest.mark.parametrize(("credentials", "certificate", "principal"), METHODS)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_both_sides_come_to_an_agreement(
    credentials: Credentials, certificate: Principal | None, principal: Principal, step: int
) -> None:
    client, server = a_client(credentials), a_server(certificate=certificate)
    talk(client, server, step=step)
    assert (client.state, server.state) == (ConnectionState.OPEN, ConnectionState.OPEN)
    assert server.principal == principal
    assert not server.closing
    assert client.established is not None
    assert client.established.session_id == server.session_id == "s-1"
    assert (client.established.username, client.established.role) == (principal.name, principal.role)
    assert (client.established.features, client.established.server) == (1, "redwire/test")


@pytest.mark.parametrize(
    ("credentials", "certificate", "hello_topology", "topology"),
    [
        (Anonymous(), None, b"primary", None),
        (Password("ann", "pencil"), None, b"primary", b"full"),
        (Certificate(), NODE, b"full", b"full"),
    ],
)
def test_the_full_topology_goes_to_those_who_may_read_it(
    credentials: Credentials, certificate: Principal | None, hello_topology: bytes, topology: bytes | None
) -> None:
    client = a_client(credentials)
    talk(client, a_server(certificate=certificate))
    assert client.established is not None
    assert (client.established.hello_topology, client.established.topology) == (hello_topology, topology)


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        (Bearer("wrong"), "server refused: the token is not known: it was revoked"),
        (Password("ann", "wrong"), "server refused: wrong user or password"),
        (Password("bob", "pencil"), "server refused: wrong user or password"),
        (Certificate(), "server refused: no common authentication method"),
    ],
)
def test_wrong_credentials_are_refused_with_a_reason(credentials: Credentials, reason: str) -> None:
    client, server = a_client(credentials), a_server()
    with pytest.raises(AuthenticationFailed, match=reason):
        talk(client, server)
    assert server.closing
    assert server.principal is None
    assert client.established is None
    assert server.receive_data(b"anything") == []
    assert server.data_to_send() == []


@pytest.mark.parametrize(
    ("credentials", "attempt"),
    [
        (Bearer("right"), Attempt(Method.BEARER)),
        (Password("ann", "pencil"), Attempt(Method.SCRAM, "ann")),
        (
            Bearer("wrong"),
            Attempt(Method.BEARER, "", "the token is not known: it was revoked, or is another cluster's"),
        ),
        (Password("bob", "pencil"), Attempt(Method.SCRAM, "bob", "wrong user or password")),
        (Certificate(), Attempt(None, "", NO_METHOD)),
    ],
)
def test_how_a_client_tries_is_known_whether_it_is_let_in_or_not(
    credentials: Credentials, attempt: Attempt
) -> None:
    server = a_server()
    assert server.attempt == Attempt()
    with contextlib.suppress(AuthenticationFailed):
        talk(a_client(credentials), server)
    assert server.attempt == attempt


def test_an_anonymous_client_is_refused_where_there_is_none() -> None:
    with pytest.raises(AuthenticationFailed, match="this node takes nobody without a name"):
        talk(a_client(Anonymous()), a_server(FakeAuthenticator(nobody=None)))


UNJOINED = "this node has not joined its cluster yet"


@pytest.mark.parametrize(
    ("credentials", "method"),
    [
        (Password("ann", "pencil"), Method.SCRAM),
        (Password("bob", "wrong"), Method.SCRAM),
        (Bearer("right"), Method.BEARER),
        (Bearer("wrong"), Method.BEARER),
        (Certificate(), None),
    ],
)
def test_a_node_without_users_says_so_to_all_of_them_alike_before_they_prove_anything(
    credentials: Credentials, method: Method | None
) -> None:
    server = a_server(FakeAuthenticator(waits=f"{UNJOINED}; try another host"))
    with pytest.raises(Refused) as caught:
        talk(a_client(credentials), server)
    assert caught.value.code is Code.NOT_READY and caught.value.retry
    assert caught.value.message == f"NOT_READY: {UNJOINED}" and caught.value.hint == "try another host"
    assert server.attempt == Attempt(method, "", f"NOT_READY: {UNJOINED}; try another host")


@pytest.mark.parametrize("certificate", [None, NODE])
def test_a_node_without_users_lets_in_whoever_needs_no_account(certificate: Principal | None) -> None:
    credentials: Credentials = Certificate() if certificate else Anonymous()
    server = a_server(FakeAuthenticator(waits=UNJOINED), certificate)
    talk(a_client(credentials), server)
    assert server.principal == (certificate or NOBODY)


def test_an_unknown_user_is_challenged_like_a_known_one() -> None:
    first = [
        a_server_after(
            encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":["scram-sha-256"]}', 1),
            encode_frame(Kind.AUTH_RESPONSE, f"n,,n={user},r=abc".encode(), 2),
        )[1]
        for user in ("ann", "bob", "bob", "eve")
    ]
    kinds = {(frame.kind, frame.correlation) for frames in first for frame in frames}
    assert kinds == {(Kind.AUTH_REQUEST, 2)}
    salts = [frames[0].payload.split(b",")[1] for frames in first]
    assert salts[1] == salts[2]
    assert len(set(salts)) == 3


def test_the_recorded_driver_is_let_in_and_every_answer_echoes_its_id() -> None:
    messages = json.loads(GOLDEN.read_text())["exchanges"][0]["messages"]
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")

    class Recorded(FakeAuthenticator):
        def verifier(self, user: str) -> tuple[Verifier, Principal] | None:
            return make_verifier("pencil", salt, 4096), ANN

    server = ServerConnection(
        Recorded(), nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", session_id="s", server="redwire/test"
    )
    server.receive_data(
        b"\xfe\x01"
        + encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":["scram-sha-256","bearer"]}', 1)
    )
    (ack,) = said(server)
    assert (ack.kind, ack.correlation, ack.stream) == (Kind.HELLO_ACK, 1, 0)
    assert json.loads(ack.payload) == {
        "auth": "scram-sha-256",
        "features": 1,
        "server": "redwire/test",
        "topology": base64.b64encode(b"primary").decode(),
        "version": 1,
    }
    server.receive_data(encode_frame(Kind.AUTH_RESPONSE, messages[0]["payload"].encode(), 2))
    assert said(server) == [Frame(Kind.AUTH_REQUEST, 0, 0, 2, messages[1]["payload"].encode())]
    server.receive_data(encode_frame(Kind.AUTH_RESPONSE, messages[2]["payload"].encode(), 3))
    (ok,) = said(server)
    assert (ok.kind, ok.correlation) == (Kind.AUTH_OK, 3)
    assert json.loads(ok.payload)["v"] == json.loads(messages[3]["payload"])["v"]
    assert json.loads(ok.payload)["session_id"] == "s"


def test_an_end_between_frames_is_clean_and_one_inside_is_not() -> None:
    client = a_client(Anonymous())
    talk(client, a_server())
    client.receive_eof()
    assert client.receive_data(encode_frame(Kind.PING)[:10]) == []
    with pytest.raises(ProtocolError, match="inside a frame, after 10 bytes"):
        client.receive_eof()

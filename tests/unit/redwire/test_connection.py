from __future__ import annotations

import base64
import contextlib
import json
import struct
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from redwire.connection import ClientConnection, ConnectionState, ServerConnection
from redwire.errors import AuthenticationFailed, Code, FrameInvalid, ProtocolError, Refused
from redwire.frame import (
    FRAME_BYTES_MAX,
    FRAME_BYTES_UNAUTHENTICATED,
    HEADER_BYTES,
    Frame,
    FrameDecoder,
    Kind,
    encode_frame,
    encode_header,
    expanded,
)
from redwire.handshake import (
    Anonymous,
    Attempt,
    Bearer,
    Certificate,
    Credentials,
    Method,
    Password,
    Principal,
    PrincipalKind,
    Role,
)
from redwire.scram import Verifier, make_verifier, salted_password

ANN = Principal(PrincipalKind.USER, "ann", Role.WRITE, topology_read=True)
NOBODY = Principal(PrincipalKind.ANONYMOUS, "anonymous", Role.READ, topology_read=False)
NODE = Principal(PrincipalKind.NODE, "eu-1", Role.REPLICATOR, topology_read=True)
PENCIL = make_verifier("pencil", bytes(16), 4096)
GOLDEN = Path(__file__).parents[2] / "golden" / "redwire-scram.json"

NO_METHOD = "no common authentication method: we accept scram-sha-256, bearer, anonymous"

HELLO = b'{"versions":[1],"auth_methods":["anonymous"],"features":0}'


@dataclass
class FakeAuthenticator:
    available: list[str] = field(default_factory=lambda: ["scram-sha-256", "bearer", "anonymous"])
    nobody: Principal | None = NOBODY
    waits: str = ""

    def unready(self) -> str:
        return self.waits

    def methods(self, certificate: Principal | None) -> Sequence[str]:
        return [*self.available, "certificate"] if certificate else self.available

    def anonymous(self) -> Principal | None:
        return self.nobody

    def bearer(self, token: str) -> Principal | None:
        return ANN if token == "right" else None

    def verifier(self, user: str) -> tuple[Verifier, Principal] | None:
        return (PENCIL, ANN) if user == "ann" else None

    def fake_secret(self) -> bytes:
        return b"secret"

    def topology(self, principal: Principal | None) -> bytes:
        return b"full" if principal and principal.topology_read else b"primary"


def a_server(
    authenticator: FakeAuthenticator | None = None, certificate: Principal | None = None
) -> ServerConnection:
    return ServerConnection(
        authenticator or FakeAuthenticator(),
        nonce="xyz",
        session_id="s-1",
        server="redwire/test",
        certificate=certificate,
    )


def a_client(credentials: Credentials) -> ClientConnection:
    return ClientConnection(credentials, nonce="abc", client_name="test")


def said(connection: ServerConnection | ClientConnection) -> list[Frame]:
    """What a connection wants to send, as frames."""
    return FrameDecoder().receive_data(b"".join(connection.data_to_send()).removeprefix(b"\xfe\x01"))


def talk(client: ClientConnection, server: ServerConnection, *, step: int = 1 << 20) -> None:
    """Carry bytes to and fro, `step` at a time, until neither has anything left to say."""
    while True:
        if client.challenge is not None and isinstance(client._credentials, Password):
            client.provide_salted_password(salted_password(client._credentials.password, client.challenge))
        to_server = b"".join(client.data_to_send())
        for at in range(0, len(to_server), step):
            assert server.receive_data(to_server[at : at + step]) == []
        to_client = b"".join(server.data_to_send())
        for at in range(0, len(to_client), step):
            assert client.receive_data(to_client[at : at + step]) == []
        if not to_server and not to_client:
            return


def an_open_server() -> ServerConnection:
    server = a_server()
    talk(a_client(Anonymous()), server)
    assert server.state is ConnectionState.OPEN
    return server


def a_server_after(*frames: bytes) -> tuple[ServerConnection, list[Frame]]:
    """A server that was sent the preface and these frames, and what it said to the last of them."""
    server = a_server()
    server.receive_data(b"\xfe\x01")
    for frame in frames:
        server.data_to_send()
        assert server.receive_data(frame) == []
    return server, said(server)


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


@pytest.mark.parametrize(
    "data", [b"G", b"GET / HTTP/1.1\r\n", b"\x15\x03\x01", b"\x00", b"\xfe\x02", b"\xfe\xff"]
)
@pytest.mark.parametrize("step", [1, 100])
def test_whoever_does_not_begin_like_a_client_gets_no_frame(data: bytes, step: int) -> None:
    server = a_server()
    for at in range(0, len(data), step):
        assert server.receive_data(data[at : at + step]) == []
    assert server.closing
    assert server.data_to_send() == []


@pytest.mark.parametrize("step", [1, 100])
def test_whoever_begins_with_tls_is_told_so_in_its_own_words(step: int) -> None:
    server, data = a_server(), b"\x16\x03\x01\x02\x00"
    for at in range(0, len(data), step):
        assert server.receive_data(data[at : at + step]) == []
    assert server.closing
    assert server.data_to_send() == [bytes.fromhex("15030100020246")]


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


def test_minor_version_zero_is_taken() -> None:
    server = a_server()
    server.receive_data(b"\xfe\x00" + encode_frame(Kind.HELLO, HELLO, 1))
    assert [frame.kind for frame in said(server)] == [Kind.HELLO_ACK]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (encode_frame(Kind.HELLO, b"{", 9), "Hello body: "),
        (encode_frame(Kind.HELLO, b"\xff", 9), "Hello body: "),
        (
            encode_frame(Kind.HELLO, b'{"versions":[],"auth_methods":["anonymous"]}', 9),
            "no common version: []",
        ),
        (
            encode_frame(Kind.HELLO, b'{"versions":[2],"auth_methods":["anonymous"]}', 9),
            "no common version: [2]",
        ),
        (
            encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":[]}', 9),
            "no common authentication method",
        ),
        (
            encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":["oauth-jwt","certificate"]}', 9),
            "no common authentication method: we accept scram-sha-256, bearer, anonymous",
        ),
        (encode_frame(Kind.QUERY, b"SELECT 1", 9), "QUERY (0x01) frame in state HELLO"),
        (encode_frame(Kind.AUTH_RESPONSE, b"", 9), "AUTH_RESPONSE (0x13) frame in state HELLO"),
        (encode_frame(Kind.PING, b"", 9), "PING (0x17) frame in state HELLO"),
        (encode_frame(0x99, b"", 9), "0x99 frame in state HELLO"),
        (encode_frame(Kind.HELLO, HELLO, 9) * 2, "more than one frame before authentication"),
        (encode_frame(Kind.HELLO, HELLO, 9) + b"\x10", "more than one frame before authentication"),
    ],
)
def test_a_bad_hello_is_refused_with_its_reason_and_id(frame: bytes, reason: str) -> None:
    server, answers = a_server_after(frame)
    assert [(answer.kind, answer.correlation) for answer in answers] == [(Kind.AUTH_FAIL, 9)]
    assert json.loads(answers[0].payload)["reason"].startswith(reason)
    assert server.closing


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (encode_frame(Kind.WRITE, b"", 2), "WRITE (0x40) frame in state CREDENTIALS"),
        (encode_frame(Kind.HELLO, HELLO, 2), "HELLO (0x10) frame in state CREDENTIALS"),
        (encode_frame(Kind.AUTH_OK, b"{}", 2), "AUTH_OK (0x14) frame in state CREDENTIALS"),
        (encode_frame(Kind.AUTH_RESPONSE, b"", 2) + encode_frame(Kind.GET, b"", 3), "more than one frame"),
    ],
)
def test_a_command_before_authentication_ends_it(frame: bytes, reason: str) -> None:
    server, answers = a_server_after(encode_frame(Kind.HELLO, HELLO, 1), frame)
    assert [(answer.kind, answer.correlation) for answer in answers] == [(Kind.AUTH_FAIL, 2)]
    assert json.loads(answers[0].payload)["reason"].startswith(reason)
    assert server.closing
    assert server.principal is None


def test_a_bearer_body_that_is_none_is_refused() -> None:
    _, answers = a_server_after(
        encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":["bearer"]}', 1),
        encode_frame(Kind.AUTH_RESPONSE, b"right", 2),
    )
    assert json.loads(answers[0].payload)["reason"].startswith("BearerBody body: ")


LIMIT = FRAME_BYTES_UNAUTHENTICATED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack("<I", LIMIT + 1), b"PROTOCOL: frame length 8193 is not between 16 and 8192"),
        (struct.pack("<I", 0), b"PROTOCOL: frame length 0 is not between 16 and 8192"),
        (struct.pack("<IBBHQ", 16, Kind.HELLO, 2, 0, 0), b"PROTOCOL: HELLO (0x10) frame carries MORE_FRAMES"),
        (
            struct.pack("<IBBHQ", 16, Kind.QUERY, 1, 0, 0),
            b"PROTOCOL: QUERY (0x01) frame carries COMPRESSED before",
        ),
    ],
)
def test_broken_framing_before_authentication_gets_one_error_and_the_end(data: bytes, reason: bytes) -> None:
    server, answers = a_server_after(data)
    assert [answer.kind for answer in answers] == [Kind.ERROR]
    assert answers[0].payload.startswith(reason)
    assert server.closing
    server.receive_eof()


def test_frames_of_the_largest_handshake_size_pass() -> None:
    padding = b" " * (LIMIT - HEADER_BYTES - len(HELLO))
    _, answers = a_server_after(encode_frame(Kind.HELLO, HELLO + padding, 1))
    assert [answer.kind for answer in answers] == [Kind.HELLO_ACK]


def test_after_authentication_every_frame_is_passed_up_as_it_came() -> None:
    server = an_open_server()
    frames = [
        Frame(Kind.QUERY, 0, 0, 4, b"x" * (1 << 20)),
        Frame(Kind.HELLO, 0, 0, 5, HELLO),
        Frame(Kind.RESULT, 0, 0, 6, b""),
        Frame(0x99, 0, 3, 7, b"?"),
    ]
    data = b"".join(
        encode_header(frame.kind, len(frame.payload), frame.correlation, frame.stream) + frame.payload
        for frame in frames
    )
    assert server.receive_data(data) == frames
    payload = zstandard.ZstdCompressor().compress(b"SELECT 1")
    data = struct.pack("<IBBHQ", HEADER_BYTES + len(payload), Kind.QUERY, 1, 0, 8) + payload
    assert server.receive_data(data) == [Frame(Kind.QUERY, 1, 0, 8, payload)]
    assert server.data_to_send() == []


def test_what_was_compressed_is_held_as_it_came_until_its_turn() -> None:
    """Fifty frames of 16 MiB fit into one read."""
    server = an_open_server()
    payload = zstandard.ZstdCompressor().compress(bytes(FRAME_BYTES_MAX))
    data = struct.pack("<IBBHQ", HEADER_BYTES + len(payload), Kind.QUERY, 1, 0, 8) + payload
    tracemalloc.start()
    frames = server.receive_data(data * 8)
    assert [len(expanded(frame).payload) for frame in frames] == [FRAME_BYTES_MAX] * 8
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * FRAME_BYTES_MAX


def test_broken_framing_after_authentication_gets_one_error_and_the_end() -> None:
    server = an_open_server()
    assert server.receive_data(bytes(16)) == []
    assert said(server) == [
        Frame(Kind.ERROR, 0, 0, 0, b"PROTOCOL: frame length 0 is not between 16 and 16777216")
    ]
    assert server.closing
    assert server.receive_data(encode_frame(Kind.PING)) == []
    server.receive_eof()


def test_answers_leave_in_order() -> None:
    server, large = an_open_server(), bytes(100_000)
    server.send(Kind.PONG, correlation=4)
    server.send(Kind.RESULT, large, 5)
    assert server.data_to_send() == [encode_frame(Kind.PONG, b"", 4), encode_frame(Kind.RESULT, large, 5)]


def test_a_session_may_close_and_still_say_goodbye() -> None:
    server = an_open_server()
    server.send(Kind.BYE, correlation=4)
    server.close()
    assert server.closing
    assert [frame.kind for frame in said(server)] == [Kind.BYE]


def test_a_shell_can_refuse_a_handshake_that_takes_too_long() -> None:
    server, _ = a_server_after(encode_frame(Kind.HELLO, HELLO, 1))
    server.refuse("too slow")
    assert [json.loads(frame.payload) for frame in said(server)] == [{"reason": "too slow"}]
    assert server.closing
    silent = a_server()
    silent.refuse("too slow")
    assert silent.closing
    assert silent.data_to_send() == []


@pytest.mark.parametrize("connection", ["server", "client"])
def test_an_end_between_frames_is_clean_and_one_inside_is_not(connection: str) -> None:
    client, server = a_client(Anonymous()), a_server()
    talk(client, server)
    side = {"server": server, "client": client}[connection]
    side.receive_eof()
    assert side.receive_data(encode_frame(Kind.PING)[:10]) == []
    with pytest.raises(ProtocolError, match="inside a frame, after 10 bytes"):
        side.receive_eof()


def test_an_end_in_the_middle_of_the_servers_handshake_is_only_an_end() -> None:
    server, _ = a_server_after(encode_frame(Kind.HELLO, HELLO, 1))
    server.receive_eof()
    assert server.principal is None


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


FRAMES = st.builds(
    encode_frame,
    st.sampled_from([Kind.HELLO, Kind.AUTH_RESPONSE, Kind.QUERY]),
    st.sampled_from([b'{"versions":[1],"auth_methods":["scram-sha-256"]}', b"n,,n=ann,r=abc", b"{}"])
    | st.binary(max_size=60),
)


@given(st.lists(FRAMES | st.binary(max_size=60), max_size=6))
def test_no_bytes_make_a_server_raise_or_authenticate(pieces: list[bytes]) -> None:
    server = a_server(FakeAuthenticator(available=["scram-sha-256", "bearer"]))
    server.receive_data(b"\xfe\x01")
    for piece in pieces:
        assert server.receive_data(piece) == []
    assert server.principal is None

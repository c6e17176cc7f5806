"""Both sides of a handshake in memory, and what one says to the other, made for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from redwire.connection import ClientConnection, ConnectionState, ServerConnection
from redwire.frame import Frame, FrameDecoder
from redwire.handshake import Anonymous, Credentials, Password, Principal, PrincipalKind, Role
from redwire.scram import Verifier, make_verifier, salted_password

ANN = Principal(PrincipalKind.USER, "ann", Role.WRITE, topology_read=True)
NOBODY = Principal(PrincipalKind.ANONYMOUS, "anonymous", Role.READ, topology_read=False)
NODE = Principal(PrincipalKind.NODE, "eu-1", Role.REPLICATOR, topology_read=True)
PENCIL = make_verifier("pencil", bytes(16), 4096)

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

"""Dialling: from an address to an authenticated connection with a server."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable

import anyio
import anyio.to_thread
import msgspec

from redwire.connection import ClientConnection
from redwire.errors import AuthenticationFailed, ChannelClosed, ConnectFailed
from redwire.frame import Frame
from redwire.handshake import (
    HANDSHAKE_S,
    TLS_ONLY,
    WRONG_TRANSPORT,
    Credentials,
    Established,
    Password,
)
from redwire.scram import salted_password
from redwire.stream import Channel, address, connect


class Dialled(msgspec.Struct, frozen=True):
    """An open connection, to be read with `receive`."""

    channel: Channel
    connection: ClientConnection
    established: Established
    early: list[Frame]

    async def receive(self) -> list[Frame]:
        """The next frames, at least one unless bytes of a partial one came. Raises `ChannelClosed`,
        `ProtocolError`.
        """
        if self.early:
            early = list(self.early)
            self.early.clear()
            return early
        data = await self.channel.receive()
        if not data:
            self.connection.receive_eof()
            raise ChannelClosed(f"{self.channel.name} closed the connection")
        return self.connection.receive_data(data)


async def dial(
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    credentials: Credentials,
    *,
    server_hostname: str | None = None,
    client_name: str,
    taken: Callable[[], None] = lambda: None,
) -> Dialled:
    """Connect and authenticate within `HANDSHAKE_S`. `taken` is called once the host there takes the
    connection.

    Raises `ConnectFailed` when nobody answers there or in time, or as if TLS were meant where it is not, or
    the reverse; `AuthenticationFailed` when the server refuses us, `Refused` when it knows no users yet.
    """
    addr, is_taken = address(host, port), False

    def took() -> None:
        nonlocal is_taken
        is_taken = True
        taken()

    try:
        with anyio.fail_after(HANDSHAKE_S):
            channel = await connect(host, port, context, server_hostname=server_hostname, taken=took)
            try:
                return await _authenticate(channel, credentials, client_name)
            except BaseException:
                channel.close()
                raise
    except TimeoutError as error:
        if not is_taken:
            text = f"{addr} did not take the connection within {HANDSHAKE_S:g} s"
            raise ConnectFailed(text, retry=True, addr=addr) from error
        text = f"{addr} took the connection, and did not finish the handshake within {HANDSHAKE_S:g} s"
        raise ConnectFailed(text, retry=True, addr=addr, hint=stuck_hint(addr)) from error


def stuck_hint(addr: str) -> str:
    """What to do about a host that takes connections, and nobody behind it goes on."""
    host = addr.rpartition(":")[0].strip("[]")
    return (
        "its process may be stopped; if it runs, see whether packets of full size arrive: "
        f"ping -M do -s 1472 {host}, and lower the MTU if they do not"
    )


async def _authenticate(channel: Channel, credentials: Credentials, client_name: str) -> Dialled:
    connection = ClientConnection(credentials, nonce=secrets.token_urlsafe(18), client_name=client_name)
    early: list[Frame] = []
    while connection.established is None:
        channel.write(*connection.data_to_send())
        data = await channel.receive()
        if not data:
            connection.receive_eof()
            raise AuthenticationFailed("the server closed the connection")
        if channel.ssl_object is None and data.startswith((TLS_ONLY, WRONG_TRANSPORT[:2])):
            hint = "write reds:// instead of red://, with ca=… and who you are"
            name = channel.name
            raise ConnectFailed(f"{name} speaks TLS only", retry=False, addr=name, hint=hint)
        early = connection.receive_data(data)
        if connection.challenge is not None:
            assert isinstance(credentials, Password)
            salted = await anyio.to_thread.run_sync(
                salted_password, credentials.password, connection.challenge
            )
            connection.provide_salted_password(salted)
    return Dialled(channel, connection, connection.established, early)

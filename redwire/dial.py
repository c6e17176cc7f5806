"""Dialling: from an address to an authenticated connection with a server."""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from redwire.connection import ClientConnection
from redwire.errors import AuthenticationFailed, ChannelClosed, ConnectFailed, RedwireError
from redwire.frame import Frame
from redwire.handshake import (
    HANDSHAKE_S,
    TLS_ONLY,
    WRONG_TRANSPORT,
    Credentials,
    Established,
    Password,
)
from redwire.lookup import Found
from redwire.reach import address, beside, find, reach
from redwire.scram import salted_password
from redwire.stream import Channel, secure

NEXT_WAY_S = 1.0
"""How long one address may take over a handshake before the next one is tried beside it, and for how long
that may let us wait to be taken: as `search.STAGGER_S`.
"""

_salted_password = lru_cache(maxsize=256)(salted_password)
"""The salt is the cluster's, and the same until the password changes: hundreds of clients who come back at
once, as when a primary was lost, need not pay for the slow step again (RFC 5802, section 3).
"""


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
    """Connect and authenticate within `HANDSHAKE_S`, at whichever address of the host lets us in. `taken` is
    called once the host at one of them takes the connection.

    Raises `ConnectFailed` when nobody answers there or in time, or as if TLS were meant where it is not, or
    the reverse; `AuthenticationFailed` when the server refuses us, `Refused` when it knows no users yet.
    """
    addr, is_taken = address(host, port), False

    def took() -> None:
        nonlocal is_taken
        is_taken = True
        taken()

    async def shake_hands(sock: socket.socket) -> Dialled:
        took()
        channel = await secure(sock, addr, context, server_hostname or host)
        try:
            return await _authenticate(channel, credentials, client_name)
        except BaseException:
            channel.close()
            raise

    try:
        with anyio.fail_after(HANDSHAKE_S):
            return await _Ways(await find(host, port), addr, shake_hands).through()
    except TimeoutError as error:
        if not is_taken:
            text = f"{addr} did not take the connection within {HANDSHAKE_S:g} s"
            raise ConnectFailed(text, retry=True, addr=addr) from error
        text = f"{addr} took the connection, and did not finish the handshake within {HANDSHAKE_S:g} s"
        raise ConnectFailed(text, retry=True, addr=addr, hint=stuck_hint(addr)) from error


class _Ways:
    """The addresses `found` of the host `name`, tried until behind one of them `shake_hands` succeeds. TCP
    alone does not tell: a process that is stopped, or another service, takes connections, too.
    """

    def __init__(
        self, found: Found, name: str, shake_hands: Callable[[socket.socket], Awaitable[Dialled]]
    ) -> None:
        self._left = found
        self._name = name
        self._shake_hands = shake_hands
        self._dialled: Dialled | None = None
        self._failures: list[RedwireError] = []

    async def through(self) -> Dialled:
        """Where hands were shaken first. When that has failed everywhere, what another try may help is
        raised, if there is any, else the first failure.
        """
        try:
            sock: socket.socket | None = await reach(self._left, self._name)
            async with anyio.create_task_group() as tasks:
                while sock is not None:
                    self._left = beside(self._left, sock)
                    over = anyio.Event()
                    tasks.start_soon(self._try, sock, over, tasks.cancel_scope)
                    with anyio.move_on_after(NEXT_WAY_S):
                        await over.wait()
                    sock = await self._next()
            if self._dialled is None:
                await anyio.lowlevel.checkpoint_if_cancelled()  # a group may end without a word of that
                raise next((each for each in self._failures if each.retry), self._failures[0])
            return self._dialled
        except BaseException:
            if self._dialled is not None:
                self._dialled.channel.close()
            raise
        finally:
            self._failures.clear()  # each holds this by its frames

    async def _next(self) -> socket.socket | None:
        """A connection to one of the addresses that are left, where one of them takes it soon."""
        if self._left:
            with suppress(ConnectFailed), anyio.move_on_after(NEXT_WAY_S):
                return await reach(self._left, self._name)
        return None

    async def _try(self, sock: socket.socket, over: anyio.Event, race: anyio.CancelScope) -> None:
        try:
            dialled = await self._shake_hands(sock)
            if self._dialled is None:
                self._dialled = dialled
                race.cancel()
            else:
                dialled.channel.close()
        except RedwireError as error:
            self._failures.append(error)
        finally:
            over.set()


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
                _salted_password, credentials.password, connection.challenge
            )
            connection.provide_salted_password(salted)
    return Dialled(channel, connection, connection.established, early)

"""Dialling: from an address to an authenticated connection with a server."""

from __future__ import annotations

import math
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache

import anyio
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
            patience_s = math.inf
            async with anyio.create_task_group() as tasks:
                while self._left:
                    is_taken, over = anyio.Event(), anyio.Event()
                    tasks.start_soon(self._try, patience_s, is_taken, over, tasks.cancel_scope)
                    await is_taken.wait()
                    patience_s = NEXT_WAY_S
                    with anyio.move_on_after(NEXT_WAY_S):
                        await over.wait()
            if self._dialled is None:
                raise next((each for each in self._failures if each.retry), self._failures[0])
            return self._dialled
        except BaseException:
            if self._dialled is not None:
                self._dialled.channel.close()
            raise
        finally:
            self._failures.clear()  # each holds this by its frames

    async def _try(
        self, patience_s: float, is_taken: anyio.Event, over: anyio.Event, race: anyio.CancelScope
    ) -> None:
        """At the addresses that are left, of which one must take the connection within `patience_s`."""
        try:
            with anyio.move_on_after(patience_s) as waiting:
                sock = await reach(self._left, self._name)
                waiting.deadline = math.inf
                self._left = beside(self._left, sock)
                is_taken.set()
                dialled = await self._shake_hands(sock)
                if self._dialled is None:
                    self._dialled = dialled
                    race.cancel()
                else:
                    dialled.channel.close()
        except RedwireError as error:
            if is_taken.is_set() or patience_s == math.inf:
                self._failures.append(error)
        finally:
            if not is_taken.is_set():
                self._left = ()
                is_taken.set()
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

"""A byte stream over TCP or TLS: what is read comes as it comes, and what is written never waits.

Anything may hold a `Channel` and write to it from synchronous code. What is written in one pass of the event
loop leaves together, in one send. Here and in `redwire.reach` the exceptions of sockets and ssl become ours.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from itertools import chain

import anyio
import anyio.lowlevel

from redwire.errors import AuthenticationFailed, ChannelClosed, ConnectFailed
from redwire.handshake import PREFACE, TLS_ONLY, WRONG_TRANSPORT
from redwire.pipe import Asks, Pipe
from redwire.reach import address, find, reach, why

RECEIVE_BYTES_MAX = 64 << 10
"""Four of TLS's records: one wake-up for many small frames."""
SEND_BYTES_MAX = 256 << 10
"""One send encrypts no more than this without giving way, some 0.2 ms."""
UNSENT_BYTES_MAX = 256 << 10
"""How much the operating system may hold that has not left yet: an urgent write waits behind all of it."""
BUFFERED_BYTES_MAX = 64 << 20
"""Four of the largest frames: beyond it the other side has stopped reading, and the channel is closed."""
LAST_WORD_S = 1.0
"""How long a last word may take to leave, three times around the earth: who has not read it by then reads
nothing.
"""
QUIET_S = 30
"""Silence after which the operating system looks whether the other side is there. Who has vanished costs a
node no place for ever, and what stands between keeps the way open: the strictest forget it after minutes.
"""
ASK_EVERY_S = 10
ASKED_MAX = 3
"""So often it asks again before the connection is over, a minute after the last word. Bytes that nobody
acknowledges are sent again for a quarter of an hour first (tcp(7), tcp_retries2): TCP_USER_TIMEOUT, which is
shorter, also ends a client that is there and takes nothing for so long.
"""


class Channel:
    """One open connection.

    The chunks of one `write` leave together, in order, with nothing between them; urgent writes overtake the
    others. After a failure writes are dropped in silence, and waiting raises `ChannelClosed`, which says why.
    """

    def __init__(self, pipe: Pipe, name: str, *, buffered_bytes_max: int = BUFFERED_BYTES_MAX) -> None:
        """Owns `pipe` from now on. `name` is what errors call the other side."""
        self.name = name
        self._pipe = pipe
        self._buffered_bytes_max = buffered_bytes_max
        self._urgent: list[tuple[bytes, ...]] = []  # an empty deque would hold half a kilobyte
        self._bulk: list[tuple[bytes, ...]] = []
        self._sending = memoryview(b"")  # what is left of writes that no other may interrupt
        self._queued_bytes = 0
        self._due = False
        self._sent: anyio.Event | None = None  # made by those who wait for it
        self._below: tuple[int, Callable[[], None]] | None = None
        self._break_is_end = True  # until a first byte came, or we closed
        self._failure = ""
        if pipe.lost is None:  # else nothing changes any more, and it would only keep us
            pipe.on_change = self._changed

    @property
    def buffered_bytes(self) -> int:
        """Bytes that were written and have not been handed to the operating system yet."""
        pipe = self._pipe
        return self._queued_bytes + pipe.unsent_bytes if pipe.blocked else self._queued_bytes

    @property
    def ended(self) -> bool:
        """Whether nothing is sent any more."""
        return bool(self._failure)

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """For `redwire.tls.certificate_identities`; None on a plain connection."""
        return self._pipe.tls

    def write(self, *chunks: bytes, urgent: bool = False, now: bool = False) -> None:
        """Queue whole frames, whose bytes must not change until they were sent. `now`: send what is queued in
        this call, since nothing will be added to it in this pass of the loop, and others wait for it.

        Never waits and never raises: a peer that has gone must not disturb who writes to many. Overfilling
        the buffer fails the channel.
        """
        if self._failure or not chunks:
            return
        self._queued_bytes += sum(map(len, chunks))
        if self.buffered_bytes > self._buffered_bytes_max:
            self._break_is_end = False
            self._fail(f"it does not read, and over {self._buffered_bytes_max} bytes wait for it")
            return
        (self._urgent if urgent else self._bulk).append(chunks)
        if now:
            self._flush()
        else:
            self._schedule()

    async def drain_below(self, limit_bytes: int) -> None:
        """Wait until fewer than `limit_bytes` are buffered (1: until all is sent). Raises `ChannelClosed`."""
        while self.buffered_bytes >= limit_bytes and not self._failure:
            if self._sent is None:
                self._sent = anyio.Event()
            await self._sent.wait()
        if self._failure:
            raise self._closed()

    def when_below(self, limit_bytes: int, call: Callable[[], None]) -> None:
        """Call `call`, once, when fewer than `limit_bytes` are buffered, or none will ever leave. Of several
        at a time the last one counts.
        """
        self._below = limit_bytes, call

    async def let_out(self) -> None:
        """Give what is buffered `LAST_WORD_S` to leave. Raises `ChannelClosed`."""
        with anyio.move_on_after(LAST_WORD_S):
            await self.drain_below(1)

    async def hear_out(self) -> None:
        """The same, and drop what comes yet: who is in the middle of a send reads a last word behind it."""
        await self.let_out()
        await self._pipe.hear_out()

    async def receive(self) -> bytes:
        """The next bytes, `RECEIVE_BYTES_MAX` and what is left of a record at most; none at all once the
        other side has ended.

        Under TLS 1.3 a certificate that the other side refuses shows only here: as an alert, which raises
        `AuthenticationFailed`, or as an end or a reset. A connection that breaks before its first byte
        therefore reads as ended; one that breaks later raises `ChannelClosed`.
        """
        try:
            data = await self._pipe.read(RECEIVE_BYTES_MAX)
        except OSError as error:  # ssl.SSLError is one
            error.__traceback__ = None  # the pipe keeps it, and would by its frames keep itself
            self._fail(why(error))
            return self._broken(error)
        if data:
            self._break_is_end = False
        return data

    def close(self) -> None:
        """Close now; what is buffered is lost: `let_out` comes first where there is a last word."""
        self._break_is_end = False
        self._fail("it was closed on this side")

    def _schedule(self) -> None:
        """Send at the end of this pass of the loop, with whatever else is written in it."""
        if not self._due and not self._pipe.blocked:
            self._due = True
            asyncio.get_running_loop().call_soon(self._flush_later)

    def _flush_later(self) -> None:
        self._due = False
        self._flush()

    def _flush(self) -> None:
        """Hand one send to the pipe."""
        if self._failure or self._pipe.blocked or not self._queued_bytes:
            return
        piece: bytes | memoryview
        if self._queued_bytes <= SEND_BYTES_MAX and not self._sending:
            piece = self._take()
        else:
            if not self._sending:
                self._sending = memoryview(self._take())
            piece, self._sending = self._sending[:SEND_BYTES_MAX], self._sending[SEND_BYTES_MAX:]
        self._queued_bytes -= len(piece)
        self._pipe.write(piece)
        if self._sending and 2 * len(self._sending) <= memoryview(self._sending.obj).nbytes:
            self._sending = memoryview(bytes(self._sending))  # what has left is not held for the rest
        self._tell_waiters()
        if self._queued_bytes:
            self._schedule()

    def _take(self) -> bytes:
        """All urgent writes, then others until one send is full; a large one is taken whole."""
        urgent, bulk = self._urgent, self._bulk
        if self._queued_bytes <= SEND_BYTES_MAX:
            chunks = [*chain.from_iterable(urgent), *chain.from_iterable(bulk)]
            bulk.clear()
        else:
            chunks = [*chain.from_iterable(urgent)]
            size, taken = sum(map(len, chunks)), 0
            while size < SEND_BYTES_MAX and taken < len(bulk):
                chunks += bulk[taken]
                size += sum(map(len, bulk[taken]))
                taken += 1
            del bulk[:taken]
        urgent.clear()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _changed(self) -> None:
        """The pipe takes more again, or never will."""
        lost = self._pipe.lost
        if lost is not None:
            self._fail(why(lost))
            return
        self._tell_waiters()
        if self._queued_bytes:
            self._schedule()

    def _tell_waiters(self) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.set()
        if self._below is not None and (self._failure or self.buffered_bytes < self._below[0]):
            (_, call), self._below = self._below, None
            call()

    def _broken(self, error: Exception) -> bytes:
        if not self._break_is_end:
            raise self._closed() from error
        reason = self._failure
        if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
            hint = _UNTRUSTED if "unknown ca" in reason else _UNTIMELY_THERE
            text = f"{self.name} refused our certificate: {reason}"
            raise AuthenticationFailed(text, hint=hint, facts={"alert": reason}) from error
        return b""

    def _fail(self, reason: str) -> None:
        """The first reason stays. Wakes whoever waits; what had come from a peer that broke off is kept."""
        if self._failure:
            return
        self._failure = reason
        self._urgent.clear()
        self._bulk.clear()
        self._sending = memoryview(b"")
        self._queued_bytes = 0
        self._tell_waiters()
        if self._pipe.lost is None:
            self._pipe.close(ConnectionAbortedError(reason))

    def _closed(self) -> ChannelClosed:
        return ChannelClosed(f"connection to {self.name}: {self._failure}")


async def connect(
    host: str, port: int, context: ssl.SSLContext | None, *, server_hostname: str | None = None
) -> Channel:
    """Dial; the certificate must be for `server_hostname`, by default `host`. Else as `secure`."""
    name = address(host, port)
    sock = await reach(await find(host, port), name)
    return await secure(sock, name, context, server_hostname or host)


async def secure(sock: socket.socket, name: str, context: ssl.SSLContext | None, hostname: str) -> Channel:
    """The client's end of a connection to `name`; TLS unless `context` is None: then the certificate must be
    for `hostname`. Owns `sock`, also when it fails.

    Has no deadline of its own: cancel it. Raises `ConnectFailed`. Under TLS 1.3 the server judges our
    certificate only afterwards, see `Channel.receive`.
    """
    return await _opened(sock, name, lambda: Pipe(context, hostname=hostname), server_side=False)


async def incoming(listener: socket.socket) -> socket.socket:
    """The next connection that somebody opens to `listener`, which does not block. Raises `OSError`."""
    await anyio.lowlevel.checkpoint()  # a crowd at the door does not stop what goes on inside
    while True:
        with suppress(BlockingIOError):
            return listener.accept()[0]
        await anyio.wait_readable(listener)


async def accept(
    sock: socket.socket, context: ssl.SSLContext | None, *, asks: Asks = lambda hello: True
) -> Channel:
    """The server's end of a connection that a listener accepted; owns `sock`, also when it fails. `asks` says
    who is asked for a certificate, where `context` asks for any; by default all.

    Has no deadline of its own: cancel it. Raises `ConnectFailed`.
    """
    try:
        name = address(*sock.getpeername()[:2])
    except OSError:
        name = "a client that has gone"
    return await _opened(sock, name, lambda: Pipe(context, server_side=True, asks=asks), server_side=True)


async def _opened(sock: socket.socket, name: str, make: Callable[[], Pipe], *, server_side: bool) -> Channel:
    pipe: Pipe | None = None
    opened = False
    try:
        _set_options(sock)
        made = pipe = make()
        loop = asyncio.get_running_loop()
        if server_side:
            await loop.connect_accepted_socket(lambda: made, sock)
        else:
            await loop.create_connection(lambda: made, sock=sock)
        await pipe.shake_hands()
        opened = True
        return Channel(pipe, name)
    except (OSError, ValueError) as error:
        if server_side and pipe is not None and getattr(error, "reason", "") == "WRONG_VERSION_NUMBER":
            pipe.answer_plain(lambda first: TLS_ONLY if first == PREFACE[:1] else WRONG_TRANSPORT)
        raise _handshake_failed(name, error) from error
    finally:
        if not opened:
            if pipe is not None:
                pipe.close(ConnectionAbortedError())
            sock.close()


_KEEPALIVE = {"TCP_KEEPIDLE": QUIET_S, "TCP_KEEPINTVL": ASK_EVERY_S, "TCP_KEEPCNT": ASKED_MAX}
"""By what Linux calls them; elsewhere what the system thinks right."""


def _set_options(sock: socket.socket) -> None:
    sock.setblocking(False)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)


def _handshake_failed(name: str, error: Exception) -> ConnectFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        refused = ConnectFailed(
            f"the certificate of {name} is not accepted: {error.verify_message.removesuffix('.')}",
            retry=False,
            addr=name,
            hint=_OF_CERTIFICATES.get(error.verify_code, "check the CA, the host name and the dates"),
        )
        refused.facts |= {
            "certificate_of": name,
            "why": error.verify_message,
            "verify_code": error.verify_code,
        }
        return refused
    if isinstance(error, ssl.SSLError | ValueError):
        hint = _PLAIN_HINT if getattr(error, "reason", None) in _OF_PLAIN else ""
        return ConnectFailed(f"TLS handshake with {name}: {why(error)}", retry=False, addr=name, hint=hint)
    return ConnectFailed(f"TLS handshake with {name}: {why(error)}", retry=True, addr=name)


_FOREIGN = (
    "no authority that is trusted here issued it: a client names the cluster's own in its URI, ca=…/ca.pem"
)
_UNTIMELY = "check this machine's clock and the certificate's dates"
_UNTRUSTED = "no authority that the other side trusts issued it: see its ca.pem, and whose this is"
_UNTIMELY_THERE = "check its dates, and the clock of the other side"
_OF_CERTIFICATES = {
    **dict.fromkeys((18, 19, 20, 21), _FOREIGN),
    **dict.fromkeys((9, 10), _UNTIMELY),
    62: "dial a name that it has, or issue it for this one too: redwire certs issue … --host NAME",
    64: "dial an address that it has, or issue it for this one too: redwire certs issue … --host ADDRESS",
}
"""What helps, by OpenSSL's code for what is wrong (openssl-verification-options(1))."""
_OF_PLAIN = frozenset(("WRONG_VERSION_NUMBER", "TLSV1_ALERT_PROTOCOL_VERSION"))
"""What OpenSSL calls the first bytes of somebody who speaks no TLS, and the word of a node that does not."""
_PLAIN_HINT = "it may speak plain text: for a node on this machine write red:// instead of reds://"

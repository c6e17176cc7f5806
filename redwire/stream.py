"""A byte stream over TCP or TLS: what is read comes as it comes, and what is written never waits.

Anything may hold a `Channel` and write to it from synchronous code; one task per channel, `run_writer`, moves
the bytes. Here, and nowhere else, the exceptions of sockets, ssl and anyio become ours.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections import deque
from contextlib import AsyncExitStack
from itertools import chain
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from redwire.errors import AuthenticationFailed, ChannelClosed, ConnectFailed

RECEIVE_BYTES_MAX = 64 << 10
SEND_BYTES_MAX = 256 << 10
"""One send encrypts no more than this without giving way, some 0.2 ms."""
UNSENT_BYTES_MAX = 256 << 10
"""How much the operating system may hold that has not left yet: an urgent write waits behind all of it."""
BUFFERED_BYTES_MAX = 64 << 20
"""Four of the largest frames: beyond it the other side has stopped reading, and the channel is closed."""

_BROKEN = (
    OSError,  # ssl.SSLError is one
    anyio.BrokenResourceError,
    anyio.BusyResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)


class Channel:
    """One open connection.

    The chunks of one `write` leave together, in order, with nothing between them; urgent writes overtake the
    others. After a failure writes are dropped in silence, and waiting raises `ChannelClosed`, which says why.
    """

    def __init__(
        self, transport: ByteStream, name: str, *, buffered_bytes_max: int = BUFFERED_BYTES_MAX
    ) -> None:
        """Owns `transport` from now on. `name` is what errors call the other side."""
        self.name = name
        self._transport = transport
        self._ssl_object: ssl.SSLObject | None = _extra(transport, TLSAttribute.ssl_object)
        self._buffered_bytes_max = buffered_bytes_max
        self._urgent: deque[tuple[bytes, ...]] = deque()
        self._bulk: deque[tuple[bytes, ...]] = deque()
        self._buffered_bytes = 0
        self._written = anyio.Event()
        self._sent: anyio.Event | None = None  # made by those who wait for it
        self._break_is_end = True  # until a first byte came, or we closed
        self._writing = anyio.CancelScope()
        self._failure = ""

    @property
    def buffered_bytes(self) -> int:
        """Bytes that were written and have not been handed to the operating system yet."""
        return self._buffered_bytes

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """For `redwire.tls.certificate_identities`; None on a plain connection."""
        return self._ssl_object

    def write(self, *chunks: bytes, urgent: bool = False) -> None:
        """Queue whole frames, whose bytes must not change until they were sent.

        Never waits and never raises: a peer that has gone must not disturb who writes to many. Overfilling
        the buffer fails the channel.
        """
        if self._failure or not chunks:
            return
        self._buffered_bytes += sum(map(len, chunks))
        if self._buffered_bytes > self._buffered_bytes_max:
            self._break_is_end = False
            self._fail(f"it does not read, and over {self._buffered_bytes_max} bytes wait for it")
            return
        (self._urgent if urgent else self._bulk).append(chunks)
        self._written.set()

    async def run_writer(self) -> None:
        """Send what is written until the channel fails or is closed; run once, in the owner's task group.

        Never raises. A failure also ends `receive`.
        """
        with self._writing:
            while not self._failure:
                if not self._buffered_bytes:
                    self._written = anyio.Event()
                    await self._written.wait()
                data = self._take()
                for at in range(0, len(data), SEND_BYTES_MAX):
                    await self._send(data[at : at + SEND_BYTES_MAX])
        if self._failure:
            await anyio.aclose_forcefully(self._transport)

    async def flush(self) -> None:
        """Send what is buffered, where nobody runs `run_writer` yet. A failure shows in what comes next."""
        while self._buffered_bytes and not self._failure:
            await self._send(self._take())

    async def drain_below(self, limit_bytes: int) -> None:
        """Wait until fewer than `limit_bytes` are buffered (1: until all is sent). Raises `ChannelClosed`."""
        while self._buffered_bytes >= limit_bytes and not self._failure:
            if self._sent is None:
                self._sent = anyio.Event()
            await self._sent.wait()
        if self._failure:
            raise self._closed()

    async def receive(self) -> bytes:
        """The next bytes, `RECEIVE_BYTES_MAX` at most; none at all once the other side has ended.

        Under TLS 1.3 a certificate that the other side refuses shows only here: as an alert, which raises
        `AuthenticationFailed`, or as an end or a reset. A connection that breaks before its first byte
        therefore reads as ended; one that breaks later raises `ChannelClosed`.
        """
        if self._failure:
            return self._broken(None)
        try:
            data = await self._transport.receive(RECEIVE_BYTES_MAX)
        except anyio.EndOfStream:
            return b""
        except _BROKEN as error:
            self._fail(_reason(error))
            return self._broken(error)
        self._break_is_end = False
        return data if self._ssl_object is None else self._with_more_records(data, self._ssl_object)

    async def aclose(self) -> None:
        """Close now; what is buffered is lost. Wait for `drain_below(1)` first to say a last word."""
        self._break_is_end = False
        self._fail("it was closed on this side")
        await anyio.aclose_forcefully(self._transport)

    def _take(self) -> bytes:
        """All urgent writes, then others until one send is full; a large one is taken whole."""
        urgent, bulk = self._urgent, self._bulk
        if self._buffered_bytes <= SEND_BYTES_MAX:
            chunks = [*chain.from_iterable(urgent), *chain.from_iterable(bulk)]
            bulk.clear()
        else:
            chunks = [*chain.from_iterable(urgent)]
            size = sum(map(len, chunks))
            while bulk and size < SEND_BYTES_MAX:
                chunks += bulk[0]
                size += sum(map(len, bulk.popleft()))
        urgent.clear()
        return b"".join(chunks)

    async def _send(self, piece: bytes) -> None:
        try:
            await self._transport.send(piece)
        except _BROKEN as error:
            self._fail(_reason(error))
            return
        if self._failure:
            return
        self._buffered_bytes -= len(piece)
        if self._sent is not None:
            self._sent.set()
            self._sent = None

    def _with_more_records(self, data: bytes, ssl_object: ssl.SSLObject) -> bytes:
        """TLS gives one record of 16 KiB at a time; take the others that have arrived at once."""
        pieces, room = [data], RECEIVE_BYTES_MAX - len(data)
        while room > 0:
            try:
                piece = ssl_object.read(room)
            except ssl.SSLError:  # nothing more yet; a real error comes again with the next receive
                break
            if not piece:
                break
            pieces.append(piece)
            room -= len(piece)
        return data if len(pieces) == 1 else b"".join(pieces)

    def _broken(self, error: Exception | None) -> bytes:
        if not self._break_is_end:
            raise self._closed() from error
        reason = self._failure
        if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
            raise AuthenticationFailed(f"{self.name} refused our certificate: {reason}") from error
        return b""

    def _fail(self, reason: str) -> None:
        """The first reason stays. Wakes whoever waits; the writer, or `aclose`, closes the transport."""
        if self._failure:
            return
        self._failure = reason
        self._urgent.clear()
        self._bulk.clear()
        self._buffered_bytes = 0
        self._writing.cancel()
        if self._sent is not None:
            self._sent.set()

    def _closed(self) -> ChannelClosed:
        return ChannelClosed(f"connection to {self.name}: {self._failure}")


async def connect(
    host: str, port: int, context: ssl.SSLContext | None, *, server_hostname: str | None = None
) -> Channel:
    """Dial; TLS unless `context` is None. The certificate must be for `server_hostname`, by default `host`.

    Has no deadline of its own: cancel it. Raises `ConnectFailed`. Under TLS 1.3 the server judges our
    certificate only afterwards, see `Channel.receive`.
    """
    name = _address(host, port)
    try:
        stream = await anyio.connect_tcp(host, port)
    except (OSError, UnicodeError) as error:
        raise ConnectFailed(f"cannot connect to {name}: {_reason(error)}", retry=True) from error
    return await _opened(stream, name, context, server_side=False, hostname=server_hostname or host)


async def accept(stream: ByteStream, context: ssl.SSLContext | None) -> Channel:
    """The server's end of a connection that a listener accepted; owns `stream`, also when it fails.

    To be called at once: only from here on no more is read than is asked for. Has no deadline of its own:
    cancel it. Raises `ConnectFailed`.
    """
    try:
        remote = _extra(stream, SocketAttribute.remote_address) or "a client"
    except anyio.BrokenResourceError:
        remote = "a client that has gone"
    name = remote if isinstance(remote, str) else _address(*remote[:2])
    return await _opened(stream, name, context, server_side=True, hostname=None)


async def _opened(
    stream: ByteStream, name: str, context: ssl.SSLContext | None, *, server_side: bool, hostname: str | None
) -> Channel:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(anyio.aclose_forcefully, stream)
        transport: ByteStream = stream
        try:
            _set_options(stream)
            if context is not None:
                transport = await TLSStream.wrap(
                    stream,
                    server_side=server_side,
                    hostname=hostname,
                    ssl_context=context,
                    standard_compatible=False,
                )
            channel = Channel(transport, name)
        except (*_BROKEN, UnicodeError) as error:
            raise _handshake_failed(name, error) from error
        stack.pop_all()
        return channel
    raise AssertionError("an exit stack swallows nothing")


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _set_options(stream: ByteStream) -> None:
    # Until a first receive has had to wait, anyio reads an accepted connection unasked and without bound.
    pause_reading = getattr(getattr(stream, "_transport", None), "pause_reading", None)
    if pause_reading is not None:
        pause_reading()
    raw = _extra(stream, SocketAttribute.raw_socket)
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)


def _extra(stream: ByteStream, attribute: Any) -> Any:
    """What `stream` says of itself, None where it has no such thing. Raises `BrokenResourceError`.

    A reset takes the socket away from under anyio, which then asks None for its addresses, whatever was
    wanted.
    """
    try:
        return stream.extra(attribute, None)
    except (OSError, AttributeError):
        raise anyio.BrokenResourceError("the other side has reset it") from None


def _handshake_failed(name: str, error: Exception) -> ConnectFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectFailed(
            f"the certificate of {name} is not accepted: {error.verify_message}",
            retry=False,
            hint="check the CA, the host name and the dates",
        )
    if isinstance(error, ssl.SSLError | UnicodeError):
        return ConnectFailed(f"TLS handshake with {name}: {_reason(error)}", retry=False)
    return ConnectFailed(f"TLS handshake with {name}: {_reason(error)}", retry=True)


def _reason(error: BaseException) -> str:
    """What happened, in one line: the cause where anyio has wrapped it."""
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_reason(each) for each in cause.exceptions))
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or str(cause)).replace("_", " ").lower()
    if isinstance(cause, OSError) and (cause.errno or 0) > 0:
        return os.strerror(cause.errno or 0)  # asyncio puts a text of its own into the exception
    return str(cause) or "the other side closed it"

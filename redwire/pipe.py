"""One socket and the TLS over it, between the event loop's callbacks: a frame costs no task and no lock here.

What has arrived waits until it is asked for; when that is more than `AHEAD_BYTES`, the socket is not read for
the time being.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

import anyio

from redwire import client_hello
from redwire.arrivals import Arrivals
from redwire.client_hello import RECORD_BYTES_MAX

AHEAD_BYTES = 64 << 10
"""What may have arrived without anybody asking; what the loop reads at once comes on top of it."""

PIECES_MAX = 256
"""Records of one `read`, some 0.7 ms: who sends a byte in each would have the loop for 50 ms otherwise."""
HEAR_OUT_S = 5.0
"""A frame of the largest size takes no longer to come by 30 Mbit/s."""

Asks = Callable[[bytes], bool]
"""Whether a client is to be asked for its certificate, by the first record that came of it."""


class Pipe(asyncio.Protocol):
    """One end of a connection; `tls` is None on a plain one, and of a server until it has heard the client.
    To be made in the event loop that runs it.

    `blocked`: the operating system takes no more for now. `on_change` is called when it does again, and when
    the connection is over.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None,
        *,
        server_side: bool = False,
        hostname: str | None = None,
        asks: Asks = lambda hello: True,
    ) -> None:
        """`asks` is for a server whose `context` asks for a certificate. Raises `ValueError` for a host name
        that no certificate can hold.
        """
        self.blocked = False
        self.on_change: Callable[[], None] = _nothing
        self._incoming, self._outgoing = Arrivals(tls=context is not None), ssl.MemoryBIO()
        self.tls: ssl.SSLObject | None = None
        self._greeting: _Greeting | None = None  # until hands are shaken
        if context is not None and server_side:
            self._greeting = _Greeting(context, asks)
        elif context is not None:
            self.tls = context.wrap_bio(self._incoming.bio, self._outgoing, server_hostname=hostname)
        self._transport: asyncio.Transport | None = None
        self._paused = self._ended = self._closed = False
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours. It blocks us as soon as the system does not take everything at once."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's have another ancestor
        transport.set_write_buffer_limits(high=0)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._greeting is not None and self.tls is None:
            self._greeting.heard += data
        incoming = self._incoming
        incoming.write(data)
        ahead_bytes = incoming.bio.pending + len(incoming.held)
        if ahead_bytes > AHEAD_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """No more bytes will come. What we still have to say can be sent."""
        self._end(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._transport = None
        self._end(exc)
        on_change, self.on_change = self.on_change, _nothing  # a cycle would wait for the garbage collector
        on_change()

    def pause_writing(self) -> None:
        """The system takes no more."""
        self.blocked = True

    def resume_writing(self) -> None:
        """The system has taken everything."""
        self.blocked = False
        self.on_change()

    # --- what the channel calls

    @property
    def lost(self) -> Exception | None:
        """Why nothing can be sent any more; None while something can."""
        return None if self._transport is not None else self._error or BrokenPipeError(_OVER)

    @property
    def unsent_bytes(self) -> int:
        """What was written and the operating system has not taken, as it travels."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    async def shake_hands(self) -> None:
        """Agree on keys, before the first `read` and `write`. Raises `OSError`; `ssl.SSLError` is one."""
        if self._greeting is not None:
            while not (client_hello.whole(self._greeting.heard) or self._ended):
                await self._arrival()
            self.tls = self._greeting.answered(self._incoming.bio, self._outgoing)
        while self.tls is not None:
            try:
                self.tls.do_handshake()
                self._incoming.forget()
                self._greeting = None
                return
            except ssl.SSLWantReadError:
                if self._incoming.ready():
                    continue
            except _ENDS:
                raise self._error or ConnectionResetError(_OVER) from None
            finally:
                self._send()  # also the alert that tells the other side what is wrong
            await self._arrival()

    async def read(self, size: int) -> bytes:
        """What has arrived, as soon as there is anything: under TLS whole records, until they make `size`
        bytes; without, `size` bytes at most. Nothing at the end.

        Raises `OSError` when the connection broke, after everything that had come before.
        """
        incoming = self._incoming
        if incoming.crumbled:
            incoming.crumbled = False
            await asyncio.sleep(0)
        while not self._closed:
            if incoming.bio.pending or incoming.held:
                data = self._take(size)
                if self._paused and incoming.pending <= AHEAD_BYTES and self._transport is not None:
                    self._paused = False
                    self._transport.resume_reading()
                if data:
                    return data
            if self._ended:
                break
            await self._arrival()
        if self._error is not None:
            raise self._error
        return b""

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`. What the system does not take waits in memory: look at `blocked` first."""
        if self._transport is None:
            return
        if self.tls is None:
            self._transport.write(data)
            return
        try:
            self.tls.write(data)
        except ssl.SSLError as error:
            self.close(error)
        else:
            self._transport.write(self._outgoing.read())

    def answer_plain(self, answer: Callable[[bytes], bytes]) -> None:
        """Send to a client that speaks no TLS what `answer` makes of its first byte."""
        if self._transport is not None and self._greeting is not None:
            self._transport.write(answer(bytes(self._greeting.heard[:1])))

    async def hear_out(self) -> None:
        """Say that nothing more comes from here, and drop what comes until the other side ends, too, or for
        `HEAR_OUT_S`: then the connection is over. Nobody may read any more; what is written is dropped.
        """
        if self._transport is None or self._ended:
            return
        transport, self._transport = self._transport, None
        _part(transport, self.tls, self._outgoing)
        deaf = _Deaf(self)
        transport.set_protocol(deaf)
        transport.resume_reading()
        try:
            with anyio.move_on_after(HEAR_OUT_S):
                await deaf.over
        finally:
            transport.abort()

    def close(self, error: Exception) -> None:
        """End the connection now; whoever reads gets `error`. What was not sent is lost."""
        transport, self._transport = self._transport, None
        self._error, self._closed = error, True
        if transport is not None:
            if not transport.get_write_buffer_size():
                _part(transport, self.tls, self._outgoing)  # an end, where an abort alone can read as a reset
            transport.abort()
        self._wake()

    def _take(self, size: int) -> bytes:
        if self.tls is None:
            return self._incoming.bio.read(size)
        tls, incoming, pieces, told = self.tls, self._incoming, list[bytes](), 0
        try:
            # to read where nothing waits costs an exception
            while size > 0 and (incoming.bio.pending or incoming.held and incoming.ready()):
                try:
                    piece = tls.read(RECORD_BYTES_MAX)  # leaves nothing of one behind
                except ssl.SSLWantReadError:
                    incoming.found(len(pieces) - told)
                    told = len(pieces)
                    if incoming.barren:
                        raise ConnectionAbortedError(_BARREN) from None
                    continue
                if not piece:  # TLS's own word: who says it may leave the socket open until we close ours
                    self._ended = True
                    break
                pieces.append(piece)
                size -= len(piece)
                if len(pieces) == PIECES_MAX:
                    break
        except _ENDS:
            self._ended = True  # without TLS's own word: it is the frames that say where they end
        except OSError as error:  # ssl.SSLError is one
            self._ended, self._error = True, error
        incoming.found(len(pieces) - told)
        incoming.crumbled = len(pieces) == PIECES_MAX
        if self._outgoing.pending:
            self._send()  # TLS had something to say of its own
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _send(self) -> None:
        if self._outgoing.pending and self._transport is not None:
            self._transport.write(self._outgoing.read())

    def _end(self, error: Exception | None) -> None:
        self._ended = True
        self._error = self._error or error
        self._incoming.write_eof()
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    async def _arrival(self) -> None:
        """Wait until something has happened."""
        self._news = asyncio.get_running_loop().create_future()
        await self._news


class _Deaf(asyncio.Protocol):
    """Has a connection in the place of `pipe` and drops what comes, until it is `over`."""

    def __init__(self, pipe: Pipe) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pipe = pipe

    def eof_received(self) -> bool:
        """The other side ends, too."""
        self._end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._pipe.connection_lost(exc)
        self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class _Greeting:
    """What a server has `heard` of a client before TLS begins, and what it makes of it."""

    __slots__ = ("_asks", "_context", "heard")

    def __init__(self, context: ssl.SSLContext, asks: Asks) -> None:
        self.heard = bytearray()
        self._context = context
        self._asks = asks

    def answered(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """The server's end. What its context says when it is made is what counts for it."""
        context, mode = self._context, self._context.verify_mode
        try:
            if not self._asks(bytes(self.heard)):
                context.verify_mode = ssl.CERT_NONE
            return context.wrap_bio(incoming, outgoing, server_side=True)
        finally:
            context.verify_mode = mode


_ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What an end without TLS's own word is called: Python 3.11.2 has the second name for it."""
_OVER = "the other side closed it"
_BARREN = "it sends TLS messages that hold no data, and nothing else"


def _part(transport: asyncio.Transport, tls: ssl.SSLObject | None, outgoing: ssl.MemoryBIO) -> None:
    """Say that this is the end, unless that was said before."""
    # uvloop closes what is cancelled while it opens, without a word to us, and refuses everything afterwards
    with suppress(OSError, RuntimeError):
        if tls is not None:
            transport.write(_farewell(tls, outgoing))
        transport.write_eof()


def _farewell(tls: ssl.SSLObject, outgoing: ssl.MemoryBIO) -> bytes:
    """TLS's own word that this is the end, and that nobody cut the connection; none on one that broke."""
    with suppress(ssl.SSLError):  # mostly that the other side's word has not come: nobody waits for it
        tls.unwrap()
    return outgoing.read()


def _nothing() -> None:
    pass

"""One accepted connection from TLS to its last byte: who has come, and what goes to and fro.

A visit is there before anybody knows whose it is; once `principal` is known it becomes a member's session or
a client's, which read its frames and answer through it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping

import anyio
import anyio.to_thread

from cluster.audit_events import Event
from cluster.auth import Authenticator, outcome
from cluster.strangers import Stay
from redwire import __version__
from redwire.connection import ServerConnection
from redwire.errors import ChannelClosed, FrameInvalid, ProtocolError
from redwire.frame import (
    FRAME_BYTES_MAX,
    FRAME_BYTES_UNAUTHENTICATED,
    Frame,
    Kind,
    declared_bytes,
    encode_header,
    expanded,
)
from redwire.handshake import Principal
from redwire.stream import LAST_WORD_S, Channel
from redwire.tls import certificate_identities

INLINE_BYTES_MAX = 256 << 10
"""To expand so much takes the event loop 0.2 ms; more is for a thread."""
LITTLE_BYTES = 8 << 10
"""Five hundred of the smallest frames: to cut those takes a quarter of a millisecond."""
SERVER_NAME = "redwire/" + ".".join(__version__.split(".")[:2])


class Visit:
    """Owns `channel` until `close`. Cancelling `stay` ends whatever is done for it.

    `certificate` is whom TLS has proved, if anybody that this cluster knows. It is the `Wire` of a session,
    which says in `in_work_bytes` how long the payload is that it works off.
    """

    def __init__(self, channel: Channel, authenticator: Authenticator, stay: Stay) -> None:
        self.channel = channel
        self.stay = stay
        self._identity = certificate_identities(channel.ssl_object)
        self.certificate = authenticator.identify(self._identity, channel.ssl_object)
        self._connection = ServerConnection(
            authenticator,
            nonce=secrets.token_urlsafe(18),
            session_id=f"rwsess-{secrets.token_hex(8)}",
            server=SERVER_NAME,
            certificate=self.certificate,
        )
        self._hushed = False
        self.in_work_bytes = 0

    @property
    def principal(self) -> Principal | None:
        """Who has come; None until that is proved."""
        return self._connection.principal

    @property
    def peer(self) -> str:
        """The address at the other end."""
        return self.channel.name

    @property
    def buffered_bytes(self) -> int:
        """What was sent and nobody has taken yet."""
        return self.channel.buffered_bytes

    @property
    def held_bytes(self) -> int:
        """What is held of what came: of a frame that is not whole, and of the one that is worked off."""
        return self._connection.decoder.kept_bytes + self.in_work_bytes

    @property
    def gone(self) -> bool:
        """Whether nobody will ever take anything more."""
        return self.channel.ended

    def when_below(self, limit_bytes: int, call: Callable[[], None]) -> None:
        """As `Channel.when_below`."""
        self.channel.when_below(limit_bytes, call)

    async def shake_hands(self) -> Event | None:
        """Return once it is known who has come, or that nobody will: then there is no `principal`.

        The answer is the line for the audit log; None where the other side went away and was not refused.
        """
        connection = self._connection
        while connection.principal is None and not connection.closing:
            data = await self.channel.receive()
            if not data:
                break
            connection.receive_data(data)  # which has no frames for us before the next read
            self.channel.write(*connection.data_to_send())
        return outcome(self.peer, connection.attempt, connection.principal, self._identity)

    async def frames(self, before: Callable[[], Awaitable[None]] | None = None) -> list[Frame]:
        """What comes next, not `plain` yet; when that is much, `before` is waited for, and then it is read.

        Raises `ChannelClosed` at the end, and `ProtocolError` after broken framing, of which the other side
        was told.
        """
        data = await self.channel.receive()
        if not data:
            raise ChannelClosed("the client has gone")
        if before is not None and len(data) > LITTLE_BYTES:
            await before()
        frames = self._connection.receive_data(data)
        if not frames and self._connection.closing:
            self.channel.write(*self._connection.data_to_send())
            raise ProtocolError("broken framing")
        return frames

    def narrow(self, limits: Mapping[int, int]) -> None:
        """From now on payloads are at most so long by their kinds, and of other kinds none is kept."""
        self._connection.decoder.limits = limits

    async def plain(self, frame: Frame, heavy: anyio.CapacityLimiter) -> Frame:
        """The frame, expanded now that it is its turn: what may become long in a thread, of which `heavy`
        lets few run. Raises `FrameInvalid` when the other side was told.
        """
        if not frame.flags:
            return frame
        limits = self._connection.decoder.limits
        limit = FRAME_BYTES_MAX if limits is None else limits.get(frame.kind, 0)
        try:
            declared = declared_bytes(frame.payload)
            most = limit if declared is None else min(limit, declared)
            if most <= INLINE_BYTES_MAX:
                return expanded(frame, most)
            return await anyio.to_thread.run_sync(expanded, frame, limit, limiter=heavy)
        except FrameInvalid as error:
            self.send(Kind.ERROR, f"PROTOCOL: {error.message}".encode())
            raise

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        """Send one frame; Written now, since a turn of the node makes one for all of a client's writes. Never
        waits.
        """
        if not self._hushed:
            header = encode_header(kind, len(payload), correlation, stream)
            self.channel.write(header, payload, now=kind == Kind.WRITTEN)

    def hush(self) -> None:
        """The last word was said: what others still have to say is dropped."""
        self._hushed = True

    async def see_off(self) -> None:
        """After a refusal: let the other side go first, for a moment. Raises `ChannelClosed`.

        Some drivers still say Bye when they were refused. To a connection that has ended, RedDB's C++ driver
        writes that and TLS's own last word after it, and SIGPIPE takes the whole program with it.
        """
        if not self._connection.attempt.refusal:
            return
        unread_bytes = FRAME_BYTES_UNAUTHENTICATED
        with anyio.move_on_after(LAST_WORD_S):
            await self.channel.drain_below(1)
            while unread_bytes > 0 and (data := await self.channel.receive()):
                unread_bytes -= len(data)

    def close(self) -> None:
        """End the connection now."""
        self.channel.close()

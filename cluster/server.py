"""The listener: from an accepted socket to a session, within bounds.

One absolute deadline covers TLS and the handshake; who may wait for how long before that is for the `Door`.
After that a connection belongs to a member (`Source`) or to a client (`Session` for our kinds, `Drivers` for
RedDB's).
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import ssl
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.stapled import MultiListener

from cluster.audit_events import Ended
from cluster.auth import Authority, certificate_refused, outcome
from cluster.door import Door, Stay, connections_max
from cluster.drivers import Drivers
from cluster.guests import Guests
from cluster.peer_end import ChannelEnd
from cluster.service import Service
from cluster.session import Session
from cluster.source import SnapshotServer, Source
from redwire import __version__
from redwire.connection import ServerConnection
from redwire.errors import (
    ChannelClosed,
    Code,
    ConnectFailed,
    FrameInvalid,
    ProtocolError,
    RedwireError,
    Refused,
)
from redwire.frame import Frame, Kind, encode_header, expanded
from redwire.handshake import Principal, Role
from redwire.message.driver import encode_error
from redwire.position import NodeId
from redwire.stream import Channel, accept, incoming
from redwire.tls import certificate_identities

HANDSHAKE_S = 10.0
GOODBYE_S = 1.0
UNREAD_BYTES_MAX = 8 << 20
"""Answers that a client has not taken yet; beyond it nothing more is read from it."""
TURN_S = 0.002
"""What one client may have done at a time before others, and the node itself, are looked after."""
ACCEPT_AGAIN_S = 0.1
SERVER_NAME = "redwire/" + ".".join(__version__.split(".")[:2])


class Server:
    """Accepts connections for one node. `guests` are the clients that are in."""

    def __init__(
        self,
        service: Service,
        authority: Authority,
        snapshots: SnapshotServer,
        drivers: Callable[[Principal, ChannelWire], Drivers],
        context: Callable[[], ssl.SSLContext | None],
    ) -> None:
        """`context` gives the one for the next connection, None where there is no TLS."""
        self._service = service
        self._authority = authority
        self._snapshots = snapshots
        self._drivers = drivers
        self._context = context
        self._door = Door(connections_max())
        self.guests = Guests(authority.judge)

    async def serve(self, listener: MultiListener[SocketStream]) -> None:
        """Accept connections for ever. Raises `OSError` for what does not pass by itself."""
        async with asyncio.TaskGroup() as tasks:  # a connection's task in anyio's holds 2 KB more
            for each in listener.listeners:
                tasks.create_task(self._accept(each.extra(SocketAttribute.raw_socket), tasks))

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                sock = await incoming(listener)
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                await anyio.sleep(ACCEPT_AGAIN_S)
            else:
                tasks.create_task(self.handle(sock))

    async def handle(self, sock: socket.socket) -> None:
        """Serve one accepted socket to its end. Never raises for what the other side does."""
        stay = anyio.move_on_after(HANDSHAKE_S)
        if not self._door.enter(stay, anyio.current_time()):
            sock.close()
            return
        channel: Channel | None = None
        try:
            with stay:
                channel = await self._accepted(sock)
                identity = certificate_identities(channel.ssl_object)
                certificate = self._authority.identify(identity, channel.ssl_object)
                if certificate is not None and certificate.role is Role.REPLICATOR:
                    self._door.recognise(stay)
                connection = self._connection(certificate)
                frames = await self._shake_hands(channel, connection)
                event = outcome(channel.name, connection.attempt, connection.principal, identity)
                if event is not None:
                    self._service.audit.record(event)
                stay.deadline = float("inf")
                self._door.recognise(stay)
                if connection.principal is not None:
                    await self._serve(channel, connection, connection.principal, frames, stay)
            if channel is not None:
                await _let_out(channel)
        except* RedwireError:
            pass  # the peer was told, or is gone
        finally:
            self._door.leave(stay)
            if channel is not None:
                channel.close()

    async def _accepted(self, sock: socket.socket) -> Channel:
        """The channel over `sock`. A certificate that TLS refuses is written down."""
        try:
            return await accept(sock, self._context())
        except ConnectFailed as error:
            if "certificate_of" in error.facts:
                address, why = str(error.facts["certificate_of"]), f"TLS: {error.facts['why']}"
                self._service.audit.record(certificate_refused(address, why))
            raise

    def _connection(self, certificate: Principal | None) -> ServerConnection:
        nonce, session_id = secrets.token_urlsafe(18), f"rwsess-{secrets.token_hex(8)}"
        return ServerConnection(
            self._authority, nonce=nonce, session_id=session_id, server=SERVER_NAME, certificate=certificate
        )

    async def _shake_hands(self, channel: Channel, connection: ServerConnection) -> list[Frame]:
        while connection.principal is None and not connection.closing:
            data = await channel.receive()
            if not data:
                break
            frames = connection.receive_data(data)
            channel.write(*connection.data_to_send())
            if frames:
                return frames
        return []

    async def _serve(
        self,
        channel: Channel,
        connection: ServerConnection,
        principal: Principal,
        frames: list[Frame],
        stay: Stay,
    ) -> None:
        try:
            if principal.role is Role.REPLICATOR:
                await self._serve_member(channel, connection, principal, frames)
            elif self._door.crowded:
                busy = Refused(Code.BUSY, "too many clients are connected to this node", hint="try another")
                self._service.node.bulletin.counts.answered(busy.code)
                ChannelWire(channel).send(Kind.ERROR, encode_error(busy))
            else:
                await self._serve_client(channel, connection, principal, frames, stay)
        except* ProtocolError:
            await _let_out(channel)  # the reason leaves before the connection ends
            raise

    async def _serve_member(
        self, channel: Channel, connection: ServerConnection, principal: Principal, frames: list[Frame]
    ) -> None:
        end = ChannelEnd(NodeId(principal.name), channel)
        async with anyio.create_task_group() as tasks:
            source = Source(self._service.node, end, self._snapshots, tasks)
            tasks.start_soon(end.run)
            try:
                while True:
                    for frame in frames:
                        if end.dropped is not None:
                            break
                        plain = _plain(channel, frame)
                        try:
                            await source.handle(plain)
                        except RedwireError as error:
                            end.drop(error)
                    frames = await _next(channel, connection)
            finally:
                source.close()

    async def _serve_client(
        self,
        channel: Channel,
        connection: ServerConnection,
        principal: Principal,
        frames: list[Frame],
        stay: Stay,
    ) -> None:
        wire = ChannelWire(channel)
        session = Session(self._service, principal, wire)
        drivers = self._drivers(principal, wire)
        guest = self.guests.enter(principal, stay)
        counts = self._service.node.bulletin.counts
        counts.session_begun()
        try:
            await self._attend(channel, connection, session, drivers, frames)
        finally:
            counts.session_ended()
            self.guests.leave(guest)
            session.close()
            if guest.verdict is not None:
                (session if session.spoken else drivers).end(guest.verdict)
                wire.close()
                self._service.audit.record(Ended(session=session.accounts.actor, why=guest.verdict.message))

    async def _attend(
        self,
        channel: Channel,
        connection: ServerConnection,
        session: Session,
        drivers: Drivers,
        frames: list[Frame],
    ) -> None:
        """Take frames until the client says goodbye, which returns, or goes, which raises."""
        wire = ChannelWire(channel)
        while True:
            turn_ends_s = time.monotonic() + TURN_S
            for frame in frames:
                if session.crowded(frame.kind):
                    await session.uncrowded(frame.kind)
                wanted = session.wants(frame.kind) or drivers.wants(frame.kind)
                plain = _plain(channel, frame) if wanted else frame
                if session.handles(frame.kind):
                    session.handle(plain)
                elif frame.kind == Kind.BYE:
                    wire.send(Kind.BYE, b"", frame.correlation, frame.stream)
                    return
                else:
                    await drivers.handle(plain)
                if time.monotonic() > turn_ends_s:
                    await anyio.lowlevel.checkpoint()
                    turn_ends_s = time.monotonic() + TURN_S
                if channel.buffered_bytes >= UNREAD_BYTES_MAX:
                    await channel.drain_below(UNREAD_BYTES_MAX)
            frames = await _next(channel, connection)


class ChannelWire:
    """A client's channel as its session writes to it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._closed = False

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._channel.name

    def close(self) -> None:
        """The last word was said: what others still have to say is dropped."""
        self._closed = True

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        """Send one frame. Never waits."""
        if not self._closed:
            self._channel.write(encode_header(kind, len(payload), correlation, stream), payload)


async def _next(channel: Channel, connection: ServerConnection) -> list[Frame]:
    """The next frames. Raises `ChannelClosed` at the end and `ProtocolError` after broken framing."""
    data = await channel.receive()
    if not data:
        raise ChannelClosed("the client has gone")
    frames = connection.receive_data(data)
    if connection.closing:
        channel.write(*connection.data_to_send())
        raise ProtocolError("broken framing")
    return frames


def _plain(channel: Channel, frame: Frame) -> Frame:
    """The frame, expanded now that it is its turn. Raises `FrameInvalid` after the other side was told."""
    try:
        return expanded(frame) if frame.flags else frame
    except FrameInvalid as error:
        ChannelWire(channel).send(Kind.ERROR, f"PROTOCOL: {error.message}".encode())
        raise


async def _let_out(channel: Channel) -> None:
    """Give what is buffered a moment to leave."""
    with anyio.move_on_after(GOODBYE_S):
        await channel.drain_below(1)


_PASSING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED))
"""What is wrong with one connection, or gets better when others end."""

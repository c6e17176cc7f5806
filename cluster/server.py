"""The listener: from an accepted socket to a session, within bounds.

One absolute deadline covers TLS and the handshake; who may wait for how long before that is for the `Door`.
After that a `Visit` belongs to a member (`Source`) or to a client (`Session` for our kinds, `Drivers` for
RedDB's).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.stapled import MultiListener

from cluster.audit_events import Ended
from cluster.auth import Authenticator, certificate_refused
from cluster.door import Door, connections_max
from cluster.drivers import Drivers
from cluster.guests import Guests
from cluster.listening import ACCEPT_AGAIN_S, PASSING, Shortage
from cluster.peer_end import ChannelEnd
from cluster.replies import Wire
from cluster.service import Service
from cluster.session import Session
from cluster.source import SnapshotServer, Source
from cluster.unread import Unread
from cluster.visit import Visit
from redwire.errors import Code, ConnectFailed, ProtocolError, RedwireError, Refused
from redwire.frame import Kind
from redwire.handshake import HANDSHAKE_S, Principal, Role
from redwire.message.driver import encode_error
from redwire.position import NodeId
from redwire.stream import Channel, accept, incoming
from redwire.tls import may_have_certificate

TURN_S = 0.002
"""What one client may have done at a time before others, and the node itself, are looked after: fifty that
send without a pause leave each other a turn every 0.1 s.
"""


class Server:
    """Accepts connections for one node. `guests` are the clients that are in."""

    def __init__(
        self,
        service: Service,
        authenticator: Authenticator,
        snapshots: SnapshotServer,
        drivers: Callable[[Principal, Wire], Drivers],
        context: Callable[[], ssl.SSLContext | None],
    ) -> None:
        """`context` gives the one for the next connection, None where there is no TLS."""
        self._service = service
        self._authenticator = authenticator
        self._snapshots = snapshots
        self._drivers = drivers
        self._context = context
        self._door = Door(connections_max())
        self._shortage = Shortage(service.node.note)
        self.guests = Guests(authenticator.judge)

    async def serve(self, listener: MultiListener[SocketStream]) -> None:
        """Accept connections for ever. Raises an `ExceptionGroup` of the `OSError` that does not pass by
        itself.
        """
        async with asyncio.TaskGroup() as tasks:  # a connection's task in anyio's holds 2 KB more
            for each in listener.listeners:
                tasks.create_task(self._accept(each.extra(SocketAttribute.raw_socket), tasks))

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                sock = await incoming(listener)
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                self._shortage.refused(error)
                await anyio.sleep(ACCEPT_AGAIN_S)
            else:
                tasks.create_task(self.handle(sock))

    async def handle(self, sock: socket.socket) -> None:
        """Serve one accepted socket to its end. Never raises for what the other side does."""
        stay = anyio.move_on_after(HANDSHAKE_S)
        if not self._door.enter(stay, anyio.current_time()):
            if self._door.short or self._door.full:
                self._shortage.turned_away(self._door.connections)
            else:
                self._shortage.crowd(self._door.strangers)
            sock.close()
            return
        self._shortage.accepted()
        visit: Visit | None = None
        try:
            with stay:
                visit = Visit(await self._accepted(sock), self._authenticator, stay)
                if visit.certificate is not None and visit.certificate.role is Role.REPLICATOR:
                    self._door.recognise(stay)
                event = await visit.shake_hands()
                if event is not None:
                    self._service.audit.record(event)
                await visit.see_off()  # a stranger all the while
                stay.deadline = float("inf")
                self._door.recognise(stay)
                if visit.principal is not None:
                    await self._serve(visit, visit.principal)
            if visit is not None:
                await visit.channel.let_out()
        except* RedwireError:
            pass  # the peer was told, or is gone
        finally:
            self._door.leave(stay)
            if visit is not None:
                visit.close()

    async def _accepted(self, sock: socket.socket) -> Channel:
        """The channel over `sock`. A certificate that TLS refuses is written down."""
        try:
            return await accept(sock, self._context(), asks=may_have_certificate)
        except ConnectFailed as error:
            if "certificate_of" in error.facts:
                address, why = str(error.facts["certificate_of"]), f"TLS: {error.facts['why']}"
                self._service.audit.record(certificate_refused(address, why))
            raise

    async def _serve(self, visit: Visit, principal: Principal) -> None:
        try:
            if principal.role is Role.REPLICATOR:
                await self._serve_member(visit, NodeId(principal.name))
            elif self._door.crowded:
                busy = Refused(Code.BUSY, "too many clients are connected to this node", hint="try another")
                self._service.node.bulletin.counts.answered(busy.code)
                visit.send(Kind.ERROR, encode_error(busy))
            else:
                await self._serve_client(visit, principal)
        except* ProtocolError:
            await visit.channel.let_out()  # the reason leaves before the connection ends
            raise

    async def _serve_member(self, visit: Visit, member: NodeId) -> None:
        end = ChannelEnd(member, visit.channel)
        async with anyio.create_task_group() as tasks:
            source = Source(self._service.node, end, self._snapshots, tasks)
            tasks.start_soon(end.run)
            try:
                while True:
                    for frame in await visit.frames():
                        if end.dropped is not None:
                            break
                        plain = visit.plain(frame)
                        try:
                            await source.handle(plain)
                        except RedwireError as error:
                            end.drop(error)
            finally:
                source.close()

    async def _serve_client(self, visit: Visit, principal: Principal) -> None:
        session, drivers = Session(self._service, principal, visit), self._drivers(principal, visit)
        guest = self.guests.enter(principal, visit.stay)
        counts = self._service.node.bulletin.counts
        counts.session_begun()
        self._service.unread.enter(visit.channel)
        try:
            await attend(visit, session, drivers, self._service.unread)
        finally:
            counts.session_ended()
            self._service.unread.leave(visit.channel)
            self.guests.leave(guest)
            session.close()
            if guest.verdict is not None:
                (session if session.spoken else drivers).end(guest.verdict)
                visit.hush()
                self._service.audit.record(Ended(session=session.accounts.actor, why=guest.verdict.message))


async def attend(visit: Visit, session: Session, drivers: Drivers, unread: Unread) -> None:
    """Take a client's frames until it says goodbye, which returns, or goes, which raises."""
    while True:
        frames = await visit.frames()
        turn_ends_s = time.monotonic() + TURN_S
        for frame in frames:
            kind = frame.kind
            if session.crowded(kind):
                await session.uncrowded(kind)
            if frame.flags and (session.wants(kind) or drivers.wants(kind)):
                frame = visit.plain(frame)
            if session.handles(kind):
                session.handle(frame)
            elif kind == Kind.BYE:
                visit.send(Kind.BYE, b"", frame.correlation, frame.stream)
                return
            else:
                await drivers.handle(frame)
            if time.monotonic() > turn_ends_s:
                await anyio.lowlevel.checkpoint()
                turn_ends_s = time.monotonic() + TURN_S
            if limit_bytes := unread.limit_bytes(visit.channel):
                await visit.channel.drain_below(limit_bytes)

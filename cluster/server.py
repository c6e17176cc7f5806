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
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.stapled import MultiListener

from cluster.audit_events import Actor, Ended
from cluster.auth import Authenticator, certificate_refused
from cluster.door import Door, connections_max
from cluster.drivers import Drivers
from cluster.guests import Guests
from cluster.listening import ACCEPT_AGAIN_S, PASSING, Shortage
from cluster.payloads import payload_limits
from cluster.peer_end import ChannelEnd
from cluster.replies import Wire
from cluster.service import Service
from cluster.session import Session
from cluster.source import SnapshotServer, Source
from cluster.turnstile import Turn, Turnstile
from cluster.unread import SCARCE_BYTES_MAX
from cluster.visit import Visit
from redwire.errors import ChannelClosed, Code, ConnectFailed, ProtocolError, RedwireError, Refused
from redwire.frame import Kind
from redwire.handshake import HANDSHAKE_S, Principal, Role
from redwire.message.driver import encode_error
from redwire.position import NodeId
from redwire.stream import Channel, accept, incoming
from redwire.tls import may_have_certificate

TURN_S = 0.002
"""What one client may have done before others, and the node itself, are looked after, see `Turnstile`: fifty
that send without a pause leave each other a turn every 0.1 s.
"""
READ_S, FRAME_S = 20e-6, 0.5e-6
"""What a read, and each frame in it, is reckoned at before it is looked at."""
RELIEF_S = 0.5
"""Between two looks at what clients hold together; more than 200 MB do not come meanwhile."""


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
        self._door = Door(connections_max(), hosts=self._hosts)
        self._shortage = Shortage(service.node.note)
        self._turnstile = Turnstile()
        self.guests = Guests(authenticator.judge)

    async def serve(self, listener: MultiListener[SocketStream]) -> None:
        """Accept connections for ever. Raises an `ExceptionGroup` of the `OSError` that does not pass by
        itself.
        """
        async with asyncio.TaskGroup() as tasks:  # a connection's task in anyio's holds 2 KB more
            tasks.create_task(self._relieve())
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
                stay = self._let_in(sock)  # before there is a task: most of a crowd get none
                if stay is not None:
                    tasks.create_task(self._stay(sock, stay))

    async def _relieve(self) -> None:
        """End sessions where all together hold more memory than they may, and have those go on who wait."""
        while True:
            await anyio.sleep(RELIEF_S)
            unread = self._service.unread
            unread.let_begin()
            self.guests.relieve(starving=unread.starving())

    def _let_in(self, sock: socket.socket) -> anyio.CancelScope | None:
        """The stay of whoever comes by `sock`; None where it is turned away, and `sock` is closed."""
        stay, door = anyio.CancelScope(), self._door
        now_s = anyio.current_time()
        if door.enter(stay, now_s, _address(sock)):
            stay.deadline = now_s + HANDSHAKE_S
            self._shortage.accepted()
            return stay
        if door.short or door.full:
            self._shortage.turned_away(door.connections)
        else:
            self._shortage.crowd(door.strangers)
        sock.close()
        return None

    async def _stay(self, sock: socket.socket, stay: anyio.CancelScope) -> None:
        visit: Visit | None = None
        try:
            with stay:
                visit = Visit(await self._accepted(sock), self._authenticator, stay)
                if visit.certificate is not None and visit.certificate.role is Role.REPLICATOR:
                    self._door.recognise(stay, member=True)
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

    def _hosts(self) -> frozenset[str]:
        """Where the settings say that members are."""
        return frozenset(member.addr.host for member in self._service.node.storage.settings.cluster.members)

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
        broken = False
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
            broken = True  # what is cancelled in here comes out wrapped in a group, as an error
        if broken:
            await visit.channel.hear_out()  # the reason is read before the connection ends

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
                        if frame.flags:
                            frame = await visit.plain(frame, self._service.heavy)
                        try:
                            await source.handle(frame)
                        except RedwireError as error:
                            end.drop(error)
            finally:
                source.close()

    async def _serve_client(self, visit: Visit, principal: Principal) -> None:
        session, drivers = Session(self._service, principal, visit), self._drivers(principal, visit)
        visit.narrow(_limits(principal.role, session, drivers))
        guest = self.guests.enter(principal, visit.stay, visit)
        counts = self._service.node.bulletin.counts
        counts.session_begun()
        self._service.unread.enter(visit.channel)
        try:
            await attend(visit, session, drivers, self._service, Turn(self._turnstile, guest.user))
        finally:
            counts.session_ended()
            self._service.unread.leave(visit.channel)
            self.guests.leave(guest)
            if guest.verdict is not None:
                if guest.verdict.code is Code.BUSY and visit.buffered_bytes >= SCARCE_BYTES_MAX:
                    visit.close()  # it takes nothing, and what it leaves is needed now
                (session if session.spoken else drivers).end(guest.verdict)
                visit.hush()
                self._ended(session.accounts.actor, guest.verdict)
            session.close()

    def _ended(self, actor: Actor, verdict: RedwireError) -> None:
        """A session was ended. What an act has led to is for the audit log; not what anybody can cause."""
        if verdict.code is Code.BUSY:
            self._service.node.bulletin.counts.answered(verdict.code)
        else:
            self._service.audit.record(Ended(session=actor, why=verdict.message))


def _address(sock: socket.socket) -> str:
    """Where it comes from; "" where it has gone already."""
    try:
        return str(sock.getpeername()[0]) if sock.family != socket.AF_UNIX else ""
    except OSError:
        return ""


async def attend(visit: Visit, session: Session, drivers: Drivers, service: Service, turn: Turn) -> None:
    """Take a client's frames until it says goodbye, which returns, or goes, which raises. After `TURN_S` of
    work it waits for its next `turn`.
    """
    unread, worked_s = service.unread, 0.0
    while True:
        frames = await visit.frames(turn.if_crowded)
        worked_s += READ_S + FRAME_S * len(frames)
        began_s = time.monotonic()
        for frame in frames:
            kind, visit.in_work_bytes = frame.kind, len(frame.payload)
            if worked_s > TURN_S:
                await turn.come()
                worked_s, began_s = 0.0, time.monotonic()
            if session.crowded(kind):
                await session.uncrowded(kind)
            if frame.flags and (session.wants(kind) or drivers.wants(kind)):
                frame = await visit.plain(frame, service.heavy)
                visit.in_work_bytes = len(frame.payload)
                if session.crowded(kind):  # by others that were expanded meanwhile
                    await session.uncrowded(kind)
            if session.handles(kind):
                session.handle(frame)
            elif kind == Kind.BYE:
                visit.send(Kind.BYE, b"", frame.correlation, frame.stream)
                return
            else:
                await drivers.handle(frame)
            now_s = time.monotonic()
            worked_s += min(now_s - began_s, TURN_S)  # it may have waited
            began_s = now_s
            if limit_bytes := unread.limit_bytes(visit.channel):
                await visit.channel.drain_below(limit_bytes)
            if visit.gone:
                raise ChannelClosed("the client has gone")
        visit.in_work_bytes = 0


_OF_ROLES: dict[Role, dict[int, int]] = {}


def _limits(role: Role, session: Session, drivers: Drivers) -> dict[int, int]:
    """How long payloads may be that a client of this role sends; the same for all of them."""
    if role not in _OF_ROLES:
        _OF_ROLES[role] = payload_limits((session.wants, drivers.wants))
    return _OF_ROLES[role]

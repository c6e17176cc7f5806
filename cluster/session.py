"""One client's session after authentication: our own kinds, 0x40 to 0x5F (docs/PROTOCOL.md, section 4).

A table says for each kind which role it takes and what handles it. Handlers do not wait: writes go to the
node's inbox, reads to the reader's threads, and the answers come back by callback, in any order, under their
correlation.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import ClassVar

import anyio

from cluster.audit_events import Actor
from cluster.auth import forbidden, token_of
from cluster.bell import Bell
from cluster.client_ids import CHANCE_BYTES, ClientIds
from cluster.replies import Replies, Wire
from cluster.service import Service
from cluster.session_accounts import SessionAccounts
from cluster.session_reads import SessionReads
from cluster.session_resolve import SessionResolve
from cluster.session_settings import SessionSettings
from cluster.session_writes import SessionWrites
from redwire.body import decode, encode
from redwire.errors import ProtocolError, RedwireError, Refused
from redwire.frame import Frame, Kind
from redwire.handshake import Principal, Role
from redwire.message.client import Open, Opened
from redwire.record import NO_CLIENT

STILL_HERE_S = 2.0
"""A node says so often that it lives while it does not read a session whose next write has no room: that
session's pings wait behind it, and our client gives up who is silent for 8 s.
"""


class Session:
    """What one authenticated client may do, and its answers on their way.

    `spoken` says whether it has used any of our own kinds: then it understands a Failure.
    """

    def __init__(self, service: Service, principal: Principal, wire: Wire) -> None:
        self.principal = principal
        self._service = service
        self._answered = Bell()
        self.spoken = False
        self._replies = replies = Replies(service, principal, wire)
        actor = Actor(wire.peer, principal.name, token_of(principal))
        self._clients = ClientIds(principal, lambda: service.secret)
        self.writes = SessionWrites(service, replies, self._clients)
        self.reads = SessionReads(service, replies, self._answered.ring)
        self.settings = SessionSettings(service, principal, actor, replies)
        self.accounts = SessionAccounts(service, actor, replies)
        self.keys = SessionResolve(service, principal, replies, self._clients)
        self._subscribed = False

    def handles(self, kind: int) -> bool:
        """Whether `kind` is one of ours."""
        return kind in self._HANDLERS

    def wants(self, kind: int) -> bool:
        """Whether a payload of this kind will be looked at: others are refused unread."""
        return kind in self._HANDLERS and self.principal.may(self._HANDLERS[kind][0])

    def handle(self, frame: Frame) -> None:
        """Take one frame; its answer follows by itself. Raises `ProtocolError` when the session must end."""
        role, handler = self._HANDLERS[frame.kind]
        self.spoken = True
        try:
            if not self.principal.may(role):
                raise self._forbidden(frame.kind, role)
            handler(self, frame)
        except ProtocolError as error:
            self._replies.fail(frame.correlation, error)
            raise
        except RedwireError as error:
            self._replies.fail(frame.correlation, error)

    def crowded(self, kind: int) -> bool:
        """Whether a frame of `kind` should wait: reads or writes of this session, or writes of all, leave no
        room.
        """
        if kind in _READING:
            return self.reads.crowded
        return kind in _PROPOSING and self._service.node.inbox.crowded(self.writes)

    async def uncrowded(self, kind: int) -> None:
        """Wait until `kind` is not `crowded`."""
        while self.crowded(kind):
            if kind in _READING:
                await self._answered.wait()
            else:
                with anyio.move_on_after(STILL_HERE_S) as waits:
                    await self._service.node.inbox.uncrowded(self.writes)
                if waits.cancelled_caught:
                    self._replies.send(Kind.PONG, b"")

    def end(self, why: RedwireError) -> None:
        """Say why the session ends; `close` it then."""
        self._replies.fail(0, why)

    def close(self) -> None:
        """The connection is gone. Writes under way go on; nobody hears of them here."""
        self._replies.hang_up()
        if self._subscribed:
            self._service.announcer.unlisten(self._push_topology)

    # --- the session itself

    def _open(self, frame: Frame) -> None:
        asked = decode(frame.payload, Open)
        if not self._service.joined:
            raise self._service.unjoined(self.principal)
        if asked.subscribe and not self._subscribed:
            self._subscribed = True
            self._service.announcer.listen(self._push_topology)
        opened: Opened = self._service.opened(self._client_id(), self.principal)
        self._replies.send(Kind.OPENED, encode(opened), frame.correlation)

    def _client_id(self) -> bytes:
        """The one of this session, however often it opens."""
        if not self._service.issues_ids:
            return NO_CLIENT
        ids = self._clients
        return ids.issued or ids.issue(self._service.applied, secrets.token_bytes(CHANCE_BYTES))

    def _topology(self, frame: Frame) -> None:
        self._replies.send(Kind.TOPOLOGY, self._service.announcer.body(self.principal), frame.correlation)

    def _push_topology(self) -> None:
        self._replies.send(Kind.TOPOLOGY, self._service.announcer.body(self.principal))

    def _status(self, frame: Frame) -> None:
        document = self._service.desk.document_for(self.principal)
        self._replies.send(Kind.STATUS, document.encode(), frame.correlation)

    def _forbidden(self, kind: int, role: Role) -> Refused:
        """The principal's role does not allow this kind; who tries to administer is written down."""
        error = forbidden(self.principal, kind, role)
        if role is Role.ADMIN:
            self.accounts.refused(Kind(kind), error.message)
        return error

    _HANDLERS: ClassVar[Mapping[int, tuple[Role, Callable[[Session, Frame], None]]]] = {
        Kind.WRITE: (Role.WRITE, lambda session, frame: session.writes.write(frame)),
        Kind.FETCH: (Role.READ, lambda session, frame: session.reads.fetch(frame)),
        Kind.SCAN: (Role.READ, lambda session, frame: session.reads.scan(frame)),
        Kind.OPEN: (Role.READ, _open),
        Kind.RESOLVE: (Role.WRITE, lambda session, frame: session.keys.resolve(frame)),
        Kind.TOPOLOGY_REQUEST: (Role.READ, _topology),
        Kind.STATUS_REQUEST: (Role.READ, _status),
        Kind.ACCOUNT: (Role.ADMIN, lambda session, frame: session.accounts.change(frame)),
        Kind.ACCOUNTS_REQUEST: (Role.ADMIN, lambda session, frame: session.accounts.show(frame)),
        Kind.SETTINGS_REQUEST: (Role.READ, lambda session, frame: session.settings.show(frame)),
        Kind.CHANGE_SETTINGS: (Role.ADMIN, lambda session, frame: session.settings.change(frame)),
    }


_READING = frozenset((Kind.FETCH, Kind.SCAN))
_PROPOSING = frozenset((Kind.WRITE, Kind.RESOLVE, Kind.ACCOUNT))
"""What goes through the bounded part of the node's queue."""

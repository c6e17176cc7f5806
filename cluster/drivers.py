"""RedDB's drivers: one reply per request, in request order (docs/PROTOCOL.md, section 3).

A driver reads the next frame as the answer to what it asked last, so each request is answered completely
before the next one is looked at, in less than the 30 s after which a driver gives up. What is wrong with a
request is told in an Error (`CODE: message`), and the connection lives. There are no streams: who opens one
is told so in a StreamError, and the StreamCancel that drivers send on top of it, and for which they read no
answer, gets none.

An absent collection is an empty one: nothing is found in it, and deleting from it affects nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from cluster.auth import forbidden
from cluster.awaited import Awaited
from cluster.driver_queries import ANSWER_S, Answer, DriverQueries
from cluster.driver_writes import DriverWrites
from cluster.guests import user_of
from cluster.replies import Wire
from cluster.service import Service
from cluster.unread import EACH_BYTES_MAX
from redwire.errors import Code, NotConfirmed, RedwireError, Refused, TooLarge
from redwire.frame import PAYLOAD_BYTES_MAX, SERVER_ONLY, Frame, Kind, kind_name
from redwire.handshake import Principal, Role
from redwire.message.driver import decode_target, encode_error, encode_got, encode_stream_error
from redwire.message.read import Fetch, Fetched, Scanned

ROOM_S = 4.0
"""For room in memory; what is left of a driver's 30 s is for the answer."""


class Drivers:
    """The driver kinds of one client's session."""

    def __init__(self, service: Service, principal: Principal, wire: Wire) -> None:
        self._service = service
        self._principal = principal
        self._wire = wire
        self._under_way: Frame | None = None
        self.queries = DriverQueries(service, principal)
        self.writes = DriverWrites(service, principal)

    def wants(self, kind: int) -> bool:
        """Whether a payload of this kind will be looked at: others are refused unread."""
        return kind in self._HANDLERS and self._principal.may(self._HANDLERS[kind][0])

    async def handle(self, frame: Frame) -> None:
        """Answer one frame before the next is looked at. Cancelled, it is for `end` to answer."""
        if frame.kind == Kind.STREAM_CANCEL:
            return
        self._under_way = frame
        try:
            kind, payload = await self._handler(frame.kind)(self, frame.payload)
            if len(payload) > PAYLOAD_BYTES_MAX:
                raise TooLarge("bytes of the answer", len(payload), PAYLOAD_BYTES_MAX)
        except RedwireError as error:
            if frame.kind == Kind.OPEN_STREAM:
                kind, payload = Kind.STREAM_ERROR, encode_stream_error(error)
            else:
                kind, payload = Kind.ERROR, encode_error(error)[:PAYLOAD_BYTES_MAX]
            self._service.node.bulletin.counts.answered(error.code)
        self._wire.send(kind, payload, frame.correlation, frame.stream)
        self._service.unread.wrote(len(payload))
        self._under_way = None

    def end(self, why: RedwireError) -> None:
        """Say why the session ends, as the answer to what is under way: a write may be logged by now."""
        frame = self._under_way
        if frame is None:
            self._wire.send(Kind.ERROR, encode_error(why))
            return
        if self._HANDLERS[frame.kind][0] is Role.WRITE:
            text = f"{why.message} while this request was under way: it may or may not be written"
            why = NotConfirmed(text, hint="read it back later")
        self._wire.send(Kind.ERROR, encode_error(why), frame.correlation, frame.stream)

    def _handler(self, kind: int) -> Callable[[Drivers, bytes], Awaitable[Answer]]:
        """What answers `kind`. Raises `Refused` for one that is not served, or not to this principal."""
        if kind not in self._HANDLERS:
            raise _not_served(kind)
        role, handler = self._HANDLERS[kind]
        if not self._principal.may(role):
            raise forbidden(self._principal, kind, role)
        return handler

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        """Inside, an answer is promised, see `Unread`. Raises `Refused` where there is no room for long."""
        unread, over, granted = self._service.unread, False, self._service.unread.has_room(EACH_BYTES_MAX)
        room = Awaited[bool]()

        def enter() -> None:
            nonlocal granted
            if not over:
                granted = True
                unread.promise(EACH_BYTES_MAX)
                room.settle(True)

        if granted:
            unread.promise(EACH_BYTES_MAX)
        else:
            unread.when_room(user_of(self._principal), enter)
        try:
            if not granted and await room.wait(ROOM_S) is None:
                text = f"no memory for an answer within {ROOM_S:g} s: others do not take theirs"
                raise Refused(Code.BUSY, text, hint="try again, or another node")
            yield
        finally:
            over = True
            if granted:
                unread.promise(-EACH_BYTES_MAX)

    async def _ping(self, payload: bytes) -> Answer:
        return Kind.PONG, b""

    async def _bulk_insert_binary(self, payload: bytes) -> Answer:
        return await self.writes.bulk_insert_binary(payload)

    async def _query(self, kind: Kind, payload: bytes) -> Answer:
        """Statements wait for each other, too, and keep no room meanwhile: two are run at a time."""
        async with self._room():
            pass
        return await self.queries.answer(kind, payload)

    async def _get(self, payload: bytes) -> Answer:
        target = decode_target(payload)
        answer = Awaited[Fetched | Scanned | RedwireError]()
        asked, reads = Fetch(target.collection, target.id), self._service.reads
        async with self._room():
            reads.when_fresh(asked, lambda _: reads.read(asked, answer.settle))  # without a token: at once
            got = await answer.wait(ANSWER_S)
        match got:
            case Fetched(found=found, document=document):
                return Kind.RESULT, encode_got(document if found else None)
            case RedwireError() as error:
                raise error
            case _:
                raise Refused(Code.TIMEOUT, f"the read was not answered within {ANSWER_S:g} s")

    _HANDLERS: ClassVar[Mapping[int, tuple[Role, Callable[[Drivers, bytes], Awaitable[Answer]]]]] = {
        Kind.PING: (Role.READ, _ping),
        Kind.GET: (Role.READ, _get),
        Kind.QUERY: (Role.READ, lambda session, payload: session._query(Kind.QUERY, payload)),
        Kind.QUERY_BINARY: (Role.READ, lambda session, payload: session._query(Kind.QUERY_BINARY, payload)),
        Kind.QUERY_WITH_PARAMS: (
            Role.READ,
            lambda session, payload: session._query(Kind.QUERY_WITH_PARAMS, payload),
        ),
        Kind.BULK_INSERT: (Role.WRITE, lambda session, payload: session.writes.bulk_insert(payload)),
        Kind.BULK_INSERT_BINARY: (Role.WRITE, _bulk_insert_binary),
        Kind.BULK_INSERT_PREVALIDATED: (Role.WRITE, _bulk_insert_binary),
        Kind.DELETE: (Role.WRITE, lambda session, payload: session.writes.delete(payload)),
    }


_MEMBERS_ONLY = range(Kind.PEER_HELLO, Kind.CLUSTER_STATUS + 1)


def _not_served(kind: int) -> Refused:
    if kind in _MEMBERS_ONLY:
        text, hint = f"{kind_name(kind)} is for members of the cluster", "they come by a node's certificate"
        return Refused(Code.FORBIDDEN, text, hint=hint)
    what = "is server-only" if kind in SERVER_ONLY else "is not served in a session"
    return Refused(Code.UNSUPPORTED, f"{kind_name(kind)} {what}")

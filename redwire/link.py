"""One connection to a node: requests go out at any time, answers come back in any order by correlation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from copy import copy
from itertools import count
from typing import Protocol

import anyio

from redwire.body import decode, encode
from redwire.clock import clock_ms
from redwire.dial import Dialled
from redwire.errors import LONELY, ChannelClosed, Code, ProtocolError, RedwireError
from redwire.frame import Frame, Kind, encode_header
from redwire.grace import Limit
from redwire.handshake import Role
from redwire.leadership import Lonely
from redwire.message.client import Open, Opened, Outcome, TopologyNotice, WrittenEntry, decode_written
from redwire.message.failure import Failure
from redwire.node_role import NodeRole
from redwire.position import Term

TICK_S = 1.0
"""Silence is counted in these: a finer clock would wake a thousand idle links for nothing."""
PING_AFTER_TICKS = 2
"""Three pings have had no answer when a link is given up."""
DEAD_AFTER_TICKS = 8
"""So many silent seconds with a request in flight: the node, or the way to it, is gone without a word."""
STUCK_BYTES = 64 << 10
"""More than this waits to be sent only where the kernel takes no more: less may leave towards nobody."""
CROWDED_BYTES = 16 << 20
"""Unsent bytes from which on requests wait; a quarter of what the channel holds at most."""
OPEN_S = 10.0
"""As long as the handshake, for one more round trip: against a node that lets in and then says nothing."""

Until = Callable[[], float]
"""How long an answer is waited for, by the monotonic clock; looked at anew when that time has come."""


def _for_ever() -> float:
    return math.inf


class Call(Protocol):
    """Somebody who waits for an answer. Each call gets one of these, once, from the event loop."""

    def written(self, block: bytes, entry: WrittenEntry) -> None:
        """The answer is an entry of a Written."""

    def answered(self, frame: Frame) -> None:
        """The answer is this frame."""

    def failed(self, error: RedwireError) -> None:
        """The answer is an error."""

    def lost(self, error: RedwireError) -> None:
        """The connection ended before the answer."""


class Owner(Protocol):
    """Who keeps the links of a client, and hears what they learn."""

    async def dial(self, addr: str) -> Dialled:
        """An authenticated connection to `addr`."""

    def opened(self, link: Link, rtt_us: int) -> None:
        """The node said who it is, and which topology it knows; it may say so again, with another role."""

    def learned(self, blob: bytes) -> None:
        """A node sent a topology."""

    def lonely(self, link: Link) -> None:
        """The node answered with one of `LONELY`: it may be cut off."""

    def denied(self, link: Link) -> None:
        """The node refused a request because it does not lead."""

    def ended(self, link: Link, error: RedwireError) -> None:
        """The link is over; its calls were told."""


class Link:
    """A connection that is being made, is open, or has ended for good.

    `opened` is None until the node said who it is. `leads` is whether it says that it is the primary, in
    `term`; `lonely` is since when it says that it lacks others, None if it never did or committed something
    since. `settled` is set once the link is open or has ended.
    """

    def __init__(self, addr: str, owner: Owner, client_name: str) -> None:
        self.addr = addr
        self.opened: Opened | None = None
        self.failure: RedwireError | None = None
        self.leads = False
        self.lonely: Lonely | None = None
        self.settled = anyio.Event()
        self._owner = owner
        self._client_name = client_name
        self._dialled: Dialled | None = None
        self._calls: dict[int, Call] = {}
        self._correlations = count(1)
        self._heard = False

    def __repr__(self) -> str:
        state = "open" if self.usable else "dialling" if self.failure is None else "ended"
        return f"<Link {self.addr} {state}, {len(self._calls)} in flight>"

    @property
    def usable(self) -> bool:
        """Whether requests can be sent now."""
        return self.opened is not None and self.failure is None

    @property
    def term(self) -> Term:
        """The term in which the node leads or follows, as it said last."""
        return Term(self.opened.term if self.opened is not None else 0)

    @property
    def role(self) -> Role | None:
        """As what the node let us in; None until it did."""
        return None if self._dialled is None else self._dialled.established.role

    @property
    def crowded(self) -> bool:
        """Whether so much waits to be sent that more should wait with its sender."""
        return self._dialled is not None and self._dialled.channel.buffered_bytes >= CROWDED_BYTES

    async def drained(self) -> None:
        """Wait until the link is not crowded any more. Raises `ChannelClosed`."""
        assert self._dialled is not None
        await self._dialled.channel.drain_below(CROWDED_BYTES)

    def send(self, kind: Kind, body: bytes, call: Call, *, now: bool = True) -> None:
        """Send one request on a usable link: `now` if no other is under way, else with those that come in
        this pass of the loop, at its end. Never waits; `call` hears of the answer, or of the end.
        """
        assert self._dialled is not None
        correlation, alone = next(self._correlations), not self._calls
        self._calls[correlation] = call
        self._dialled.channel.write(encode_header(kind, len(body), correlation), body, now=now and alone)

    async def ask(self, kind: Kind, body: bytes, until: Until = _for_ever) -> Answer:
        """Send one request and wait for its answer. Cancel it, or let `until` pass: a late answer is dropped.

        Raises what the server answered, and `ChannelClosed` when the connection ended before it did, whatever
        for. Where the link had ended before, nothing was sent, and a copy of `failure` is raised. Raises
        `TimeoutError` when `until` has passed.
        """
        return await self._answer(kind, body, _Reply(), until)

    async def open(self) -> None:
        """Ask the node who it is and whether it leads; at first, and whenever that may have changed.

        The answer counts when it comes, before anything else that the node says, and also when this was
        cancelled meanwhile.
        """
        body = encode(Open(self._client_name, subscribe=True))
        payload(await self._answer(Kind.OPEN, body, _OpenReply(self._opened)), Kind.OPENED)

    async def _answer(self, kind: Kind, body: bytes, reply: _Reply, until: Until = _for_ever) -> Answer:
        if self.failure is not None:
            raise copy(self.failure) from self.failure.__cause__
        self.send(kind, body, reply)
        while reply.answer is None:
            left_s = until() - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            with Limit(left_s):
                await reply.event.wait()
        if isinstance(reply.answer, RedwireError):
            raise reply.answer
        return reply.answer

    def _opened(self, frame: Frame, rtt_us: int) -> None:
        self.opened = decode(payload(frame, Kind.OPENED), Opened)
        self.leads = self.opened.role == NodeRole.PRIMARY
        self._owner.opened(self, rtt_us)
        self.settled.set()

    async def run(self) -> None:
        """Dial, open and serve the link until it ends. Run once, in the owner's task group; never raises."""
        error: RedwireError = _client_closed(self.addr)
        try:
            self._dialled = await self._owner.dial(self.addr)
            error = await self._serve(self._dialled)
        except RedwireError as caught:
            error = caught
        finally:
            self._end(error)

    async def _serve(self, dialled: Dialled) -> RedwireError:
        """Move bytes until the connection ends; why it did."""
        error: RedwireError = _client_closed(self.addr)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._introduce)
            tasks.start_soon(self._watch, dialled)
            try:
                await self._read(dialled)
            except RedwireError as caught:
                error = caught
            finally:
                self.failure = error
                dialled.channel.close()
                tasks.cancel_scope.cancel()
        return error

    async def _introduce(self) -> None:
        try:
            with anyio.fail_after(OPEN_S):
                await self.open()
        except TimeoutError:
            self._give_up("it does not answer to Open")
        except RedwireError as error:
            if self.failure is None:
                self.failure = error
                self._give_up(error.message)

    async def _watch(self, dialled: Dialled) -> None:
        """Find out when the other side has gone without a word. It is there as long as it takes what we send,
        which for a large document on a slow line may be all that it does for a long while.
        """
        silent = unsent = 0
        while True:
            await anyio.sleep(TICK_S)
            before, unsent = unsent, dialled.channel.buffered_bytes
            taken = before > max(unsent, STUCK_BYTES)
            silent = 0 if self._heard or taken or not self._calls else silent + 1
            self._heard = False
            if silent == DEAD_AFTER_TICKS:
                self._give_up(f"it has been silent for {DEAD_AFTER_TICKS * TICK_S:g} s")
            elif silent and silent % PING_AFTER_TICKS == 0:
                dialled.channel.write(encode_header(Kind.PING, 0, 0))

    def _give_up(self, reason: str) -> None:
        """Close the channel, which ends `_read`."""
        assert self._dialled is not None
        self.failure = self.failure or ChannelClosed(f"connection to {self.addr}: {reason}")
        self._dialled.channel.close()

    async def _read(self, dialled: Dialled) -> None:
        """Take frames until the connection ends, which raises."""
        frames = dialled.early
        while True:
            for frame in frames:
                self._take(frame)
            try:
                data = await dialled.channel.receive()
            except ChannelClosed:
                if self.failure is not None:
                    raise self.failure from None
                raise
            if not data:
                dialled.connection.receive_eof()
                raise ChannelClosed(f"connection to {self.addr}: the node closed it")
            self._heard = True
            frames = dialled.connection.receive_data(data)

    def _take(self, frame: Frame) -> None:
        if frame.kind == Kind.WRITTEN:
            block, entries = decode_written(frame.payload)
            pop = self._calls.pop
            if self.lonely is not None and any(entry.outcome is Outcome.COMMITTED for entry in entries):
                self.lonely = None
            for entry in entries:
                call = pop(entry.correlation, None)
                if call is not None:
                    call.written(block, entry)
            return
        if frame.kind == Kind.TOPOLOGY:
            self._owner.learned(TopologyNotice.decode(frame.payload).blob)
        call = self._calls.pop(frame.correlation, None)
        if frame.kind == Kind.FAILURE:
            failure = decode(frame.payload, Failure)
            if failure.topology:
                self._owner.learned(failure.topology)
            if failure.code is Code.NOT_PRIMARY:
                self._owner.denied(self)
            elif failure.code in LONELY:
                now_ms = clock_ms()
                self.lonely = Lonely(now_ms if self.lonely is None else self.lonely.since_ms, now_ms)
                self._owner.lonely(self)
            if call is not None:
                call.failed(failure.to_error())
            elif not frame.correlation:  # it speaks of the connection, and is its last word
                raise failure.to_error()
        elif frame.kind == Kind.ERROR:
            text = frame.payload[:1024].decode("utf-8", "replace")
            error = ProtocolError(f"{self.addr} answered: {text}")
            if call is None:  # it speaks of the connection, and is its last word
                raise error
            call.failed(error)
        elif call is not None:
            call.answered(frame)

    def _end(self, error: RedwireError) -> None:
        self.failure = error = self.failure or error
        self.leads = False
        calls, self._calls = self._calls, {}
        with ExitStack() as told:  # everybody is, whatever a callback raises; that is raised then
            told.callback(self._owner.ended, self, error)
            told.callback(self.settled.set)
            for call in reversed(calls.values()):
                told.callback(call.lost, error)


Answer = Frame | tuple[bytes, WrittenEntry]
"""What a request is answered with: a frame of its own, or the block and one entry of a Written."""


def _client_closed(addr: str) -> ChannelClosed:
    return ChannelClosed(f"connection to {addr}: the client was closed", retry=False)


def payload(answer: Answer, kind: Kind) -> bytes:
    """The body of an answer that must be of `kind`. Raises `ProtocolError`."""
    if isinstance(answer, Frame) and answer.kind == kind:
        return answer.payload
    raise _otherwise(kind)


def entry_of(answer: Answer) -> tuple[bytes, WrittenEntry]:
    """The block and the entry of an answer that must be one of a Written. Raises `ProtocolError`."""
    if isinstance(answer, Frame):
        raise _otherwise(Kind.WRITTEN)
    return answer


def _otherwise(kind: Kind) -> ProtocolError:
    return ProtocolError(f"the server answered with something else than {kind.name}")


class _Reply:
    """A call that one task waits for."""

    def __init__(self) -> None:
        self.answer: Answer | RedwireError | None = None
        self.event = anyio.Event()

    def written(self, block: bytes, entry: WrittenEntry) -> None:
        self._set((block, entry))

    def answered(self, frame: Frame) -> None:
        self._set(frame)

    def failed(self, error: RedwireError) -> None:
        self._set(error)

    def lost(self, error: RedwireError) -> None:
        retry = error.retry or not isinstance(error, ChannelClosed)
        closed = ChannelClosed(error.message, hint=error.hint, retry=retry)
        closed.__cause__ = error
        self._set(closed)

    def _set(self, answer: Answer | RedwireError) -> None:
        self.answer = answer
        self.event.set()


class _OpenReply(_Reply):
    """A call that waits for an Opened, which `opened` takes with how long it took, in microseconds."""

    def __init__(self, opened: Callable[[Frame, int], None]) -> None:
        super().__init__()
        self._opened = opened
        self._began_s = time.monotonic()

    def answered(self, frame: Frame) -> None:
        try:
            self._opened(frame, int((time.monotonic() - self._began_s) * 1e6))
        except RedwireError as error:
            self.lost(error)
            raise
        super().answered(frame)

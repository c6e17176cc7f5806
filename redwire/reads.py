"""The reads of one client: from the node that the mode asks for, from another one when that fails."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from redwire import uri
from redwire.arguments import require_text
from redwire.clock import clock_ms
from redwire.errors import RedwireError, RequestInvalid
from redwire.frame import Kind
from redwire.grace import Limit
from redwire.inquiry import Inquiry, Patience, refusal, silence_within
from redwire.link import Answer, Link, payload
from redwire.message.read import Fetch, Fetched, Scan, Scanned
from redwire.pool import Pool
from redwire.routing import Primary, ReadMode
from redwire.search import STAGGER_S

if TYPE_CHECKING:
    import random

Send = Callable[[Link, Patience], Awaitable[Answer]]
"""Asks one node. Raises as `Link.ask`."""

PAUSE_FIRST_S = 0.02
"""A round trip within a region: who is behind by less has caught up then."""
PAUSE_MAX_S = 0.5
"""A read costs a node little: one that is back is found within half a second."""


class Reads:
    """Fetches and scans over the links of `pool`."""

    def __init__(self, pool: Pool, chance: random.Random) -> None:
        self._pool = pool
        self._chance = chance
        self._under_way: dict[Inquiry, None] = {}  # in their order
        self._answered_s: dict[str, float] = {}  # by address, when it answered a read last

    @property
    def trouble(self) -> str:
        """Why one of them was not answered yet; "" if nothing is known to be wrong."""
        troubles = (inquiry.trouble for inquiry in self._under_way)
        return next((error.message for error in troubles if error is not None), "")

    async def fetch(self, asked: Fetch, mode: ReadMode, timeout_s: float) -> Fetched:
        """One document. Raises `TokenLost`, `Refused`, `RequestInvalid`, `DeadlineExceeded`."""
        answer = await self._read(Kind.FETCH, asked, mode, timeout_s)
        return Fetched.decode(payload(answer, Kind.FETCHED))

    async def scan(self, asked: Scan, mode: ReadMode, timeout_s: float) -> Scanned:
        """One page. Raises as `fetch`."""
        answer = await self._read(Kind.SCAN, asked, mode, timeout_s)
        return Scanned.decode(payload(answer, Kind.SCANNED))

    async def _read(self, kind: Kind, asked: Fetch | Scan, mode: ReadMode, timeout_s: float) -> Answer:
        def body(wait_ms: int) -> bytes:
            return replace(asked, wait_ms=wait_ms).encode()

        return await self.ask(kind, body, mode, timeout_s, waits=asked.token is not None)

    async def ask(
        self,
        kind: Kind,
        body: Callable[[int], bytes],
        mode: ReadMode,
        timeout_s: float,
        *,
        waits: bool,
    ) -> Answer:
        """The answer of a node that `mode` allows to a request without effect, which may be sent again.

        `body` makes the request from how long the node may wait for the token, in ms. If the node `waits` for
        something its answer does not tell how far it is. One that is behind the token, or fails, is followed
        by the next one, in the end by the primary unless `mode` is a region.
        """
        inquiry = Inquiry(mode, time.monotonic() + timeout_s, silence_within(timeout_s))

        async def send(link: Link, patience: Patience) -> Answer:
            began_s = time.monotonic()

            def until() -> float:
                return max(began_s, self._answered_s.get(link.addr, 0.0)) + patience.silence_s

            answer = await link.ask(kind, body(patience.wait_ms), until)
            self._answered_s[link.addr] = now_s = time.monotonic()
            if not waits:
                self._pool.router.observed(link.addr, int((now_s - began_s) * 1e6), clock_ms())
            return answer

        self._under_way[inquiry] = None
        try:
            with Limit(timeout_s):
                return await self._pursue(inquiry, send)
        finally:
            del self._under_way[inquiry]
        if inquiry.held_up:
            self._silent(inquiry)
        raise inquiry.overdue(timeout_s, self._pool.trouble, self._pool.hint) from inquiry.trouble

    async def _pursue(self, inquiry: Inquiry, send: Send) -> Answer:
        """Go round the nodes until one answers. Has no deadline: cancel it."""
        pause_s = PAUSE_FIRST_S
        while (answer := await self._round(inquiry, send)) is None:
            await anyio.sleep(pause_s * (0.5 + 0.5 * self._chance.random()))
            pause_s = min(2 * pause_s, PAUSE_MAX_S)
        return answer

    async def _round(self, inquiry: Inquiry, send: Send) -> Answer | None:
        """Ask each node that the mode allows, the best first; None when nobody had an answer."""
        if isinstance(inquiry.mode, Primary):
            inquiry.phase = self._pool.phase
            answer = await self._try(await self._pool.leader(), inquiry, send, alone=True)
            if answer is None:
                self._pool.look_around()  # it may be cut off, and another one lead
            return answer
        addrs = self._pool.router.read_candidates(inquiry.mode, clock_ms())
        if not addrs:
            refused = refusal(inquiry.mode, self._pool.router.topology)
            if refused is not None:
                raise refused
            self._pool.look_around()
        for place, addr in enumerate(addrs):
            inquiry.phase = "connect"
            link, reach_s = self._pool.link(addr), min(STAGGER_S, inquiry.silence_s)
            with anyio.move_on_after(reach_s):
                await link.settled.wait()
            if link.usable:
                answer = await self._try(link, inquiry, send, alone=place == len(addrs) - 1)
                if answer is not None:
                    return answer
            elif link.failure is not None:
                inquiry.unheard(link.failure)
            else:
                self._pool.router.failed(addr, clock_ms(), int(reach_s * 1000))
            if isinstance(inquiry.mode, Primary):
                return None
        return None

    async def _try(self, link: Link, inquiry: Inquiry, send: Send, *, alone: bool) -> Answer | None:
        """Ask one node. Raises what no other node would answer differently."""
        rtt_s = self._pool.router.rtt_us(link.addr) / 1e6
        patience = inquiry.ask(link.addr, time.monotonic(), alone=alone, rtt_s=rtt_s)
        try:
            answer = await send(link, patience)
            inquiry.answered()
            return answer
        except TimeoutError:
            self._silent(inquiry)
        except RedwireError as error:
            if inquiry.failed(error, alone=alone):
                raise
        return None

    def _silent(self, inquiry: Inquiry) -> None:
        """The node that was asked had its time."""
        addr, held_ms = inquiry.silent(time.monotonic())
        self._pool.router.failed(addr, clock_ms(), held_ms)


def read_mode(read: ReadMode | str) -> ReadMode:
    """What a call's `read` asks for: a mode, or one in the words of the URI. Raises `RequestInvalid`."""
    if isinstance(read, ReadMode):
        return read
    require_text("read", read)
    mode = uri.read_mode(read)
    if mode is None:
        raise RequestInvalid(f"read: unknown read mode {read[:64]!r}", hint=uri.read_mode_hint(read))
    return mode

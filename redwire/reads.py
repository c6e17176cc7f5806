"""The reads of one client: from the node that the mode asks for, from another one when that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from redwire import uri
from redwire.arguments import require_text
from redwire.clock import clock_ms
from redwire.errors import (
    ELSEWHERE_HINT,
    ChannelClosed,
    Code,
    DeadlineExceeded,
    NotConfirmed,
    RedwireError,
    Refused,
    RequestInvalid,
)
from redwire.frame import Kind
from redwire.link import Answer, Link, payload
from redwire.message.read import Fetch, Fetched, Scan, Scanned
from redwire.pool import Pool
from redwire.position import Token
from redwire.routing import InRegion, Primary, ReadMode
from redwire.search import STAGGER_S

if TYPE_CHECKING:
    import random

WAIT_SHARE = 0.9
"""Of the remaining time, what a node may wait for a token when no other node may answer instead: the rest
carries its answer, or its refusal, back.
"""
WAIT_ELSEWHERE_MS = 250
"""What a replica may wait for a token before the primary, which has it for certain, is asked: one that keeps
up has it within a round trip between regions.
"""
ANSWER_S = 2.0
"""How long a node may keep a read before the next one is asked instead: one that is well answers sooner from
anywhere on earth, also where it waits `WAIT_ELSEWHERE_MS` for a token.
"""
PAUSE_FIRST_S = 0.02
"""A round trip within a region: who is behind by less has caught up then."""
PAUSE_MAX_S = 0.5
"""A read costs a node little: one that is back is found within half a second."""


class Reads:
    """Fetches and scans over the links of `pool`.

    `trouble` is why the last node that was asked did not answer as it should; "" once one has.
    """

    def __init__(self, pool: Pool, chance: random.Random) -> None:
        self.trouble = ""
        self._pool = pool
        self._chance = chance

    async def fetch(self, asked: Fetch, mode: ReadMode, timeout_s: float) -> Fetched:
        """One document. Raises `TokenLost`, `Refused`, `RequestInvalid`, `DeadlineExceeded`."""

        def body(wait_ms: int) -> bytes:
            return Fetch(asked.collection, asked.id, asked.token, wait_ms).encode()

        answer = await self.ask(Kind.FETCH, body, mode, asked.token, timeout_s)
        return Fetched.decode(payload(answer, Kind.FETCHED))

    async def scan(self, asked: Scan, mode: ReadMode, timeout_s: float) -> Scanned:
        """One page. Raises as `fetch`."""

        def body(wait_ms: int) -> bytes:
            return Scan(asked.collection, asked.after, asked.limit, asked.token, wait_ms).encode()

        answer = await self.ask(Kind.SCAN, body, mode, asked.token, timeout_s)
        return Scanned.decode(payload(answer, Kind.SCANNED))

    async def ask(
        self,
        kind: Kind,
        body: Callable[[int], bytes],
        mode: ReadMode,
        token: Token | None,
        timeout_s: float,
    ) -> Answer:
        """The answer of a node that `mode` allows to a request without effect, which may be sent again.

        `body` makes the request from how long the node may wait for the token, in ms. A node that is behind
        the token, or fails, is followed by the next one, in the end by the primary unless `mode` is a region.
        """
        attempt = _Attempt(kind, body, mode, token, time.monotonic() + timeout_s)
        with anyio.move_on_after(timeout_s):
            pause_s = PAUSE_FIRST_S
            while True:
                answer = await self._round(attempt)
                if answer is not None:
                    self.trouble = ""
                    return answer
                self.trouble = attempt.trouble.message if attempt.trouble is not None else ""
                await anyio.sleep(pause_s * (0.5 + 0.5 * self._chance.random()))
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
        raise self._overdue(attempt, timeout_s) from attempt.trouble

    def _overdue(self, attempt: _Attempt, timeout_s: float) -> RedwireError:
        """What to tell of a request whose deadline has come."""
        trouble = attempt.trouble
        if trouble is not None and (trouble.code is Code.STALE or isinstance(trouble, NotConfirmed)):
            return trouble  # it says more than that the last try was cut short
        if attempt.waits_for is not None:
            self._silent(attempt, attempt.waits_for)
            trouble = attempt.trouble
        why = trouble.message if trouble is not None else self._pool.trouble
        what = "no answer" if attempt.sent else "nobody could be asked"
        text = f"{what} within {timeout_s:g} s, in phase {attempt.phase}" + (f": {why}" if why else "")
        hint = ELSEWHERE_HINT if attempt.sent and isinstance(attempt.mode, Primary) else ""
        return DeadlineExceeded(text, phase=attempt.phase, hint=hint, sent=attempt.sent)

    def _silent(self, attempt: _Attempt, link: Link) -> None:
        """The node was asked and said nothing in the time that it had."""
        attempt.waits_for = None
        seconds = time.monotonic() - attempt.asked_s
        attempt.trouble = ChannelClosed(f"{link.addr} did not answer within {seconds:.1f} s")
        self._pool.router.failed(link.addr, clock_ms())

    async def _round(self, attempt: _Attempt) -> Answer | None:
        """Ask each node that the mode allows, the best first; None when nobody had an answer."""
        if isinstance(attempt.mode, Primary):
            attempt.phase = self._pool.phase
            answer = await self._try(await self._pool.leader(), attempt, alone=True)
            if answer is None:
                self._pool.look_around()  # it may be cut off, and another one lead
            return answer
        addrs = self._pool.router.read_candidates(attempt.mode, clock_ms())
        if not addrs:
            self._survey(attempt.mode)
        for place, addr in enumerate(addrs):
            attempt.phase = "connect"
            link = self._pool.link(addr)
            with anyio.move_on_after(STAGGER_S):
                await link.settled.wait()
            if link.usable:
                answer = await self._try(link, attempt, alone=place == len(addrs) - 1)
                if answer is not None:
                    return answer
            elif link.failure is not None:
                attempt.trouble = link.failure
            if isinstance(attempt.mode, Primary):
                return None
        return None

    async def _try(self, link: Link, attempt: _Attempt, *, alone: bool) -> Answer | None:
        """Ask one node. Raises what no other node would answer differently."""
        attempt.phase = "answer"
        began_s = time.monotonic()
        left_s = attempt.end_s - began_s
        wait_ms = int(left_s * WAIT_SHARE * 1000) if alone else min(WAIT_ELSEWHERE_MS, int(left_s * 1000))
        patience_s = left_s if alone else min(left_s, ANSWER_S)
        sent, attempt.sent = attempt.sent, True
        attempt.waits_for, attempt.asked_s = link, began_s
        try:
            with anyio.move_on_after(patience_s):
                answer = await link.ask(attempt.kind, attempt.body(max(wait_ms, 0)))
                attempt.waits_for = None
                if attempt.token is None:
                    self._pool.router.observed(link.addr, int((time.monotonic() - began_s) * 1e6), clock_ms())
                return answer
            self._silent(attempt, link)
        except RedwireError as error:
            attempt.trouble, attempt.waits_for = error, None
            if isinstance(error, Refused):
                attempt.sent = sent  # it certainly did nothing
            if error.code is Code.STALE:
                if not isinstance(attempt.mode, InRegion):
                    attempt.mode = Primary()
            elif not error.retry and (alone or error.code is not Code.DAMAGED):
                raise
        return None

    def _survey(self, mode: ReadMode) -> None:
        """No node is known that `mode` allows: meet them all, unless the cluster has said who there is."""
        shape = self._pool.router.topology
        if isinstance(mode, InRegion) and shape is not None and shape.replicas:
            known = sorted({shape.primary.region, *(replica.region for replica in shape.replicas)} - {""})
            facts = {"missing": [mode.name], "lacking": 1}
            text = f"no node of region {mode.name!r} is in the topology"
            hint = f"the regions are {', '.join(known)}"
            if mode.name in known:
                text = f"no node of region {mode.name!r} is among the hosts of the URI"
                hint = "discovery=off stays with these: leave it out, or name a host of that region"
            raise Refused(Code.MISSING_REGIONS, text, hint=hint, facts=facts)
        self._pool.look_around()


def read_mode(read: ReadMode | str) -> ReadMode:
    """What a call's `read` asks for: a mode, or one in the words of the URI. Raises `RequestInvalid`."""
    if isinstance(read, ReadMode):
        return read
    require_text("read", read)
    mode = uri.read_mode(read)
    if mode is None:
        raise RequestInvalid(f"read: unknown read mode {read[:64]!r}", hint=uri.read_mode_hint(read))
    return mode


@dataclass(slots=True, eq=False)
class _Attempt:
    """One request under way; what follows `end_s` is for the error that may end it."""

    kind: Kind
    body: Callable[[int], bytes]
    mode: ReadMode
    token: Token | None
    end_s: float
    phase: str = "select"
    sent: bool = False
    trouble: RedwireError | None = None
    waits_for: Link | None = None
    """Whom it was sent to, at `asked_s`, while there is no answer."""
    asked_s: float = 0.0

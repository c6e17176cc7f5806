"""Many clients in one event loop that connect at once: a few at a time, in the order in which they came.

A handshake takes some 4 ms of the program's time. Where a thousand are begun together, as when a primary was
lost, each takes as long as all of them do, and none is over within `HANDSHAKE_S`: nobody would ever get in.
But one with the other side of the earth takes five round trips, and hardly anything of us: of few at a time
most would come too late.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

HANDSHAKES_MIN = 32
"""At one address: over within half a second each, also where one takes 10 ms, and with that the loop has time
for what else it does. From the other side of the earth so many get in within two seconds.
"""
HANDSHAKES_MAX = 128
"""Where each takes `QUICK_S`, fifty get in each second; where each takes 4 ms of the program, and as many are
at two more addresses, all are over within two seconds.
"""
QUICK_S = 2.5
"""A handshake that is over by then makes room for one more; one that is not, or fails, as where a node lets
no more strangers in, for one less. Five round trips around the earth, and a quarter of `HANDSHAKE_S`.
"""


class Crowd:
    """Who is about to shake hands with one address."""

    def __init__(self) -> None:
        self._room = anyio.CapacityLimiter(HANDSHAKES_MIN)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """To be held by a task during its handshake."""
        async with self._room:
            began_s, quick = time.monotonic(), False
            try:
                yield
                quick = time.monotonic() - began_s <= QUICK_S
            finally:
                self._resize(1 if quick else -1)

    def _resize(self, by: int) -> None:
        size = int(self._room.total_tokens) + by
        self._room.total_tokens = min(max(HANDSHAKES_MIN, size), HANDSHAKES_MAX)


_AT = RunVar[WeakValueDictionary[str, Crowd]]("redwire_handshakes")


def turn_at(addr: str) -> AbstractAsyncContextManager[None]:
    """`Crowd.turn` at `addr`. An address where nobody goes on holds up no other one."""
    try:
        crowds = _AT.get()
    except LookupError:
        crowds = WeakValueDictionary()
        _AT.set(crowds)
    crowd = crowds.get(addr)
    if crowd is None:
        crowd = crowds[addr] = Crowd()
    return crowd.turn()

"""Many clients in one event loop that connect at once: a few at a time, in the order in which they came.

A handshake takes some 4 ms of the program's time. Where a thousand are begun together, as when a primary was
lost, each takes as long as all of them do, and none is over within `HANDSHAKE_S`: nobody would ever get in.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

HANDSHAKES_MAX = 32
"""At one address: over within half a second each, also where one takes 10 ms, and with that the loop has time
for what else it does. From the other side of the earth so many get in within a second.
"""

_AT = RunVar[WeakValueDictionary[str, anyio.Semaphore]]("redwire_handshakes")


def turn_at(addr: str) -> anyio.Semaphore:
    """To be held during a handshake with `addr`. An address where nobody goes on holds up no other one."""
    try:
        turns = _AT.get()
    except LookupError:
        turns = WeakValueDictionary()
        _AT.set(turns)
    turn = turns.get(addr)
    if turn is None:
        turn = turns[addr] = anyio.Semaphore(HANDSHAKES_MAX)
    return turn

"""Deadlines in an event loop that its program, or the machine, may hold up.

What is due by then is told before anything is read: an answer that came in time would be called none, and the
node that gave it blamed. So a deadline that is told late waits for what has arrived.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType

import anyio

LATE_S = 0.1
"""No loop that is merely busy is behind by so much."""
GRACE_S = 0.1
"""To take what waits in the sockets. It makes nobody late who was not late before."""


class Limit:
    """As `anyio.move_on_after(seconds)`; where the loop is late by `LATE_S` then, `GRACE_S` later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scope = anyio.CancelScope()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> anyio.CancelScope:
        if self._seconds < math.inf:
            loop = asyncio.get_running_loop()
            due_s = loop.time() + self._seconds
            self._timer = loop.call_at(due_s, self._due, loop, due_s)
        return self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._timer is not None:
            self._timer.cancel()
        return self._scope.__exit__(kind, error, traceback)

    def _due(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        if loop.time() - due_s < LATE_S:
            self._scope.cancel()
        else:
            self._timer = loop.call_later(GRACE_S, self._scope.cancel)

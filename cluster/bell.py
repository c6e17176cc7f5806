"""Two ways to wait for something to happen, which cost next to nothing while nobody waits.

For the event loop's thread only. A bell rings several times a commit: what waits for it is the loop's own
future.
"""

from __future__ import annotations

import asyncio

import anyio


class Bell:
    """Many ring it, one waits for it, and a ring before the wait is not lost: it ends one wait at once."""

    def __init__(self) -> None:
        self._rung = False
        self._waiting: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake whoever waits, or the next to wait."""
        self._rung = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self) -> None:
        """Wait for a ring; all rings so far are one."""
        if not self._rung:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        self._rung = False


class Broadcast:
    """It wakes any number who wait for the next time that something moves on. Ask for the fact first."""

    def __init__(self) -> None:
        self._next: anyio.Event | None = None

    def wake(self) -> None:
        """Wake everybody who waits now."""
        if self._next is not None:
            self._next.set()
            self._next = None

    async def wait(self) -> None:
        """Wait for the next time."""
        if self._next is None:
            self._next = anyio.Event()
        await self._next.wait()

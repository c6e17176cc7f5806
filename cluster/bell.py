"""A bell: many ring it, one waits for it, and a ring before the wait is not lost."""

from __future__ import annotations

import anyio


class Bell:
    """Ring from the event loop's thread only. `wait` returns once for all rings so far."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        """Wake whoever waits, or the next to wait."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for a ring."""
        if not self._event.is_set():
            await self._event.wait()
        self._event = anyio.Event()

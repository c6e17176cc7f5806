"""A value that a callback brings later and that one task waits for."""

from __future__ import annotations

from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class Awaited(Generic[T]):
    """Empty until `settle`. For the event loop's thread only."""

    def __init__(self) -> None:
        self._values: list[T] = []
        self._settled = anyio.Event()

    def settle(self, value: T) -> None:
        """Bring the value, once. Nobody has to wait for it any more."""
        assert not self._values
        self._values.append(value)
        self._settled.set()

    async def wait(self, timeout_s: float) -> T | None:
        """The value, or None when `timeout_s` went by without it."""
        with anyio.move_on_after(timeout_s):
            await self._settled.wait()
        return self._values[0] if self._values else None

"""An event loop whose time passes only when nothing is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

STEPS_MAX = 200_000
"""Passes of the loop at one moment: beyond it something runs in a circle."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order in which they fall due. `now_s` begins at `BEGIN_S` and never waits."""

    BEGIN_S = 1_000.0

    def __init__(self) -> None:
        super().__init__()
        self.now_s = self.BEGIN_S
        self._steps = 0
        self._selector = self

    def time(self) -> float:
        """The moment, in seconds."""
        return self.now_s

    def select(self, timeout: float | None) -> Sequence[object]:
        """As the loop's selector: there are no files to wait for, so time leaps to what is due next."""
        if timeout is None:
            raise RuntimeError("nothing is due any more: everybody waits for somebody else")
        if timeout <= 0:
            self._steps += 1
            if self._steps > STEPS_MAX:
                raise RuntimeError(f"{STEPS_MAX} passes of the loop, and no time has passed")
            return ()
        self._steps = 0
        scheduled = self._scheduled  # type: ignore[attr-defined]
        self.now_s = max(self.now_s + timeout, scheduled[0]._when if scheduled else 0.0)
        return ()

    def _process_events(self, events: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""

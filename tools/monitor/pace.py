"""How often the screen is drawn: at once after a quiet time, and never more than so often."""

from __future__ import annotations

DRAW_MS = 250
"""Four times a second: more is not read, and costs."""


class Pace:
    """Says when a drawing that is wanted may happen. `draws` counts those that did."""

    def __init__(self) -> None:
        self.draws = 0
        self._planned = False
        self._last_ms: int | None = None

    def wanted(self, now_ms: int) -> int | None:
        """In how many milliseconds to draw; None when that is planned already."""
        if self._planned:
            return None
        self._planned = True
        return 0 if self._last_ms is None else max(0, self._last_ms + DRAW_MS - now_ms)

    def drew(self, now_ms: int) -> None:
        """It was drawn."""
        self.draws += 1
        self._planned = False
        self._last_ms = now_ms

    def quiet(self, now_ms: int, for_ms: int) -> bool:
        """Whether nothing was drawn for so long and nothing is planned."""
        return not self._planned and (self._last_ms is None or now_ms - self._last_ms >= for_ms)

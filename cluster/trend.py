"""When a number that moves will reach another one, judged by how it moved of late."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

POINTS_MAX = 64
"""A slope takes no more; what is told more often replaces the last point."""


@dataclass(slots=True, eq=False)
class Trend:
    """A number over the last `window_ms`, as it was told; times are milliseconds of one monotonic clock.

    When it gets where is not foreseen before it was told over `least_ms`.
    """

    window_ms: int
    least_ms: int = 0
    _points: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=POINTS_MAX))

    def note(self, value: int, now_ms: int) -> None:
        """The number is `value` now."""
        points = self._points
        while points and now_ms - points[0][0] > self.window_ms:
            points.popleft()
        if len(points) > 1 and (points[-1][0] - points[-2][0]) * (POINTS_MAX - 2) < self.window_ms:
            points.pop()  # told more often than there is room for
        points.append((now_ms, value))

    @property
    def per_second(self) -> int:
        """How fast it rises; below 0 when it falls, 0 when it was told only once, or over less than
        `least_ms`.
        """
        if not self._points:
            return 0
        (first_ms, first), (last_ms, last) = self._points[0], self._points[-1]
        passed_ms = last_ms - first_ms
        return (last - first) * 1_000 // passed_ms if passed_ms >= max(1, self.least_ms) else 0

    def reaches_ms(self, target: int) -> int | None:
        """How long until the number is `target` at this pace: 0 when it is there, None when it stands still
        or moves the other way, or was told only once, or over less than `least_ms`.
        """
        if not self._points:
            return None
        (first_ms, first), (last_ms, last) = self._points[0], self._points[-1]
        if last == target:
            return 0
        moved, left, passed_ms = last - first, target - last, last_ms - first_ms
        if passed_ms <= 0 or passed_ms < self.least_ms or moved * left <= 0:
            return None
        return left * passed_ms // moved

"""When a number that moves will reach another one, judged by how it moved of late."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

POINTS_MAX = 64
"""A slope takes no more; what is told more often replaces the last point."""
QUARTERS = 4
"""What comes once lies in one of them, or on the border of two: the others tell what goes on."""


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
    def span_ms(self) -> int | None:
        """How far back it looks; None while that is less than `least_ms`."""
        span_ms = self._points[-1][0] - self._points[0][0] if self._points else 0
        return span_ms if span_ms >= max(1, self.least_ms) else None

    @property
    def per_second(self) -> int:
        """How fast it rises; below 0 when it falls, 0 when it was told only once, or over less than
        `least_ms`.
        """
        span_ms = self.span_ms
        return 0 if span_ms is None else self._moved * 1_000 // span_ms

    def reaches_ms(self, target: int) -> int | None:
        """How long until the number is `target` at this pace: 0 when it is there, None when it stands still
        or moves the other way, or was told only once, or over less than `least_ms`.
        """
        if not self._points:
            return None
        left, span_ms = target - self._points[-1][1], self.span_ms
        if left == 0:
            return 0
        return None if span_ms is None or self._moved * left <= 0 else left * span_ms // self._moved

    def steadily_reaches_ms(self, target: int) -> int | None:
        """As `reaches_ms`, by the pace of the second slowest quarter of the look back: what came in one or
        two of them only is not taken to come again.
        """
        if not self._points or self._points[-1][1] == target:
            return self.reaches_ms(target)
        left = target - self._points[-1][1]
        moving = [(passed_ms, moved) for passed_ms, moved in self._quarters() if moved * left > 0]
        if self.span_ms is None or len(moving) < QUARTERS - 1:
            return None
        passed_ms, moved = sorted(moving, key=lambda each: abs(each[1]) / each[0], reverse=True)[QUARTERS - 2]
        return left * passed_ms // moved

    @property
    def _moved(self) -> int:
        """By how much it rose in the look back."""
        return self._points[-1][1] - self._points[0][1]

    def _quarters(self) -> Iterator[tuple[int, int]]:
        """How long each takes, and by how much the number rose in it."""
        points = [*self._points]
        (first_ms, _), (last_ms, _) = points[0], points[-1]
        ends = [first_ms + (last_ms - first_ms) * number // QUARTERS for number in range(QUARTERS + 1)]
        nearest = [
            min((abs(at_ms - end_ms), (at_ms, value)) for at_ms, value in points)[1] for end_ms in ends
        ]
        for (early_ms, early), (late_ms, late) in pairwise(nearest):
            if late_ms > early_ms:
                yield late_ms - early_ms, late - early


SIGHT = 12
"""An hour tells half a day: of what is further ahead than so many look backs, chance would decide."""


class Forecast(NamedTuple):
    """In how long, None for not as far as can be seen; and by how far a look back, None while it is too early
    to say anything.
    """

    in_ms: int | None = None
    over_ms: int | None = None


@dataclass(slots=True, eq=False)
class Horizon:
    """When a number gets where, by several looks back: a short one notices soon what has begun, a long one
    sees what is slow, and what comes and goes.
    """

    trends: tuple[Trend, ...]

    def note(self, value: int, now_ms: int) -> None:
        """The number is `value` now."""
        for trend in self.trends:
            trend.note(value, now_ms)

    def reaches(self, target: int) -> Forecast:
        """The soonest that any of them foresees, none further ahead than `SIGHT` times its own look back."""
        looks = [(trend, trend.span_ms) for trend in self.trends]
        found = [(trend.steadily_reaches_ms(target), span_ms) for trend, span_ms in looks if span_ms]
        seen = [(in_ms, over) for in_ms, over in found if in_ms is not None and in_ms <= SIGHT * over]
        if seen:
            return Forecast(*min(seen))
        return Forecast(None, max((over for _, over in found), default=None))

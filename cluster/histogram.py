"""How long something took, counted since the process began: percentiles of any period come from it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

import msgspec

BOUNDS_US = (
    *(500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
    *(1_000_000, 2_500_000, 5_000_000, 10_000_000),
)
"""From a fast disk's sync to the default policy timeout; each bound belongs to the bucket below it."""


class Buckets(msgspec.Struct, frozen=True):
    """One moment of a histogram: a count for each of `BOUNDS_US`, and one for what is above."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS_US) + 1)
    sum_us: int = 0


@dataclass(slots=True, eq=False)
class Histogram:
    """Counts durations. One thread writes; to a reader on another the last may lack in the sum."""

    _counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_US) + 1))
    _sum_us: int = 0

    def note(self, took_us: int) -> None:
        """Something took so long."""
        self._counts[bisect_left(BOUNDS_US, took_us)] += 1
        self._sum_us += took_us

    def status(self) -> Buckets:
        """A frozen snapshot."""
        return Buckets(tuple(self._counts), self._sum_us)

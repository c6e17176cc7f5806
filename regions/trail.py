"""When a rising number passed each of its values, in bounded memory: the clock behind every lag in
milliseconds.

The past is kept in buckets of (start time, value and size at their end). A new bucket opens `BUCKET_MS` after
the last one did; when there are too many, neighbours are merged as long as the merged span stays a small
share of its age. So the recent past is known to `BUCKET_MS`, an older one to a fraction of its age, and no
time is too long. Answers err towards the earlier: a lag is never made smaller than it is.
"""

from __future__ import annotations

from bisect import bisect_right

from redwire.position import Lsn

BUCKET_MS = 50
"""Below the round trip between regions, so that the error drowns in what is measured."""
BUCKETS_MAX = 256
"""Room for days at a small share of their age, each bucket being three numbers."""
SHARE = 8
"""A merged span is at most this part of its age, and twice as much where that makes no room: after years."""


class Trail:
    """A number that only rises (the head, the watermark), with the time at which it passed each value.

    Times are milliseconds of one monotonic clock.
    """

    def __init__(self, base: Lsn, now_ms: int) -> None:
        self.base = base
        self.value = base
        self.size = 0
        self._since_ms = now_ms
        self._starts: list[int] = []
        self._ends: list[Lsn] = []
        self._sizes: list[int] = []

    def rise(self, value: Lsn, now_ms: int, size: int = 0) -> None:
        """Note that the number is `value` now, and that the way there took `size` bytes; nothing if it did
        not rise.
        """
        if value <= self.value:
            return
        self.value = value
        self.size += size
        if self._starts and now_ms - self._starts[-1] < BUCKET_MS:
            self._ends[-1] = value
            self._sizes[-1] = self.size
            return
        self._starts.append(now_ms)
        self._ends.append(value)
        self._sizes.append(self.size)
        if len(self._starts) > BUCKETS_MAX:
            self._merge(SHARE)

    def reaches(self, position: Lsn) -> bool:
        """Whether memory goes back to when the number was `position`."""
        return position >= self.base

    def passed_ms(self, position: Lsn) -> int | None:
        """When the number rose above `position`; None if it has not. Before memory: when memory begins."""
        if position >= self.value:
            return None
        if position < self.base:
            return self._since_ms
        return self._starts[bisect_right(self._ends, position)]

    def size_above(self, position: Lsn) -> int | None:
        """About how many bytes lie above `position`; None when memory does not go back to it."""
        if position >= self.value:
            return 0
        if position < self.base:
            return None
        at = bisect_right(self._ends, position)
        first, size = (self._ends[at - 1], self._sizes[at - 1]) if at else (self.base, 0)
        inside = (self._sizes[at] - size) * (position - first) // (self._ends[at] - first)
        return self.size - size - inside

    def _merge(self, share: int) -> None:
        starts, ends, sizes, now_ms = self._starts, self._ends, self._sizes, self._starts[-1]
        kept = 0
        for index in range(1, len(starts)):
            after = starts[index + 1] if index + 1 < len(starts) else now_ms
            if (after - starts[kept]) * share > now_ms - after:
                kept += 1
                starts[kept] = starts[index]
            ends[kept], sizes[kept] = ends[index], sizes[index]
        for column in (starts, ends, sizes):
            del column[kept + 1 :]
        if kept >= BUCKETS_MAX // 2 and share > 1:
            self._merge(share // 2)

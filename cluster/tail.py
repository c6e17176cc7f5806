"""The youngest batches of the log, in memory, so that followers and apply need no file while they keep up.

It always holds what is not yet durable, because only memory has it; beyond that it holds as much as fits.
"""

from __future__ import annotations

from bisect import bisect_right

from redwire.batch import Batch
from redwire.position import Lsn

TAIL_BYTES_MAX = 16 << 20
"""A second of a very busy primary; a follower further behind reads the log's files."""
BATCH_BYTES = 400
"""What a batch takes beside its data, by tracemalloc: more than the data where single writes make them."""


class Tail:
    """Consecutive batches in LSN order. One thread uses it."""

    def __init__(self, bytes_max: int = TAIL_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._batches: list[Batch | None] = []  # None: let go of, the slot is reclaimed later
        self._lasts: list[Lsn] = []
        self._start = 0
        self._bytes = 0

    def append(self, batch: Batch, durable: Lsn) -> None:
        """Take the batch that continues the log; let go of old ones that are durable and do not fit."""
        assert not self._lasts or batch.first == self._lasts[-1] + 1
        self._batches.append(batch)
        self._lasts.append(batch.last)
        self._bytes += _size(batch)
        while self._bytes > self._bytes_max and self._lasts[self._start] <= durable:
            self._bytes -= _size(self._at(self._start))
            self._batches[self._start] = None
            self._start += 1
        if self._start > 1024 and self._start * 2 > len(self._batches):
            self._forget(self._start)

    def after(self, lsn: Lsn, bytes_max: int, through: Lsn) -> list[Batch] | None:
        """Batches from `lsn` + 1 on, up to `through` and about `bytes_max`; at least one if there is one.

        None when the first of them is not here any more. Empty when there is nothing after `lsn` up to
        `through`.
        """
        if lsn >= through:
            return []
        index = max(self._start, bisect_right(self._lasts, lsn))
        if index >= len(self._batches) or self._at(index).first != lsn + 1:
            return None
        taken: list[Batch] = []
        size = 0
        while index < len(self._batches) and self._lasts[index] <= through:
            batch = self._at(index)
            size += len(batch.data)
            if taken and size > bytes_max:
                break
            taken.append(batch)
            index += 1
        return taken

    def clear(self) -> None:
        """Forget everything: the log was cut or replaced."""
        self._forget(len(self._batches))
        self._bytes = 0

    def _at(self, index: int) -> Batch:
        batch = self._batches[index]
        assert batch is not None
        return batch

    def _forget(self, count: int) -> None:
        del self._batches[:count], self._lasts[:count]
        self._start = 0


def _size(batch: Batch) -> int:
    return len(batch.data) + BATCH_BYTES

"""The log at one moment, for readers: what it covers, and the batches in it, from any thread.

A view never changes. The writer makes a new one after each sync, so a reader sees what was durable when it
looked. Files may go away or be cut under an old view; `Wal.read` tells that from damage and looks again.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import msgspec

from cluster.errors import DiskFailed, LogCorrupt, LogPruned
from cluster.files import is_lost
from cluster.segment import Mark, Segment, Walk, Window
from redwire.batch import Batch
from redwire.position import Lsn, Position, Reign


class LogView(msgspec.Struct, frozen=True):
    """The durable log: after `base` up to `end`, in `segments`.

    `history` differs between two views if bytes of the earlier one may be gone from the later one other than
    by pruning.
    """

    segments: tuple[Segment, ...]
    base: Position
    end: Position
    history: int = 0

    def read(self, after: Lsn, bytes_max: int, through: Lsn) -> list[Batch]:
        """Whole batches from LSN `after` + 1 on, none beyond `through`; see `Wal.read`."""
        self._check_kept(after)
        found: list[Batch] = []
        for _, batch in self._batches(after):
            bytes_max -= len(batch.data)
            if batch.last > through or (found and bytes_max < 0):
                break
            found.append(batch)
            if bytes_max <= 0 or batch.last == through:
                break  # what follows was not asked for: it is not even looked at
        return found

    def position_at(self, lsn: Lsn) -> Position | None:
        """The position whose batch ends at `lsn`; None if no kept batch does. `base` and `end` count."""
        if lsn == self.base.lsn:
            return self.base
        if not self.base.lsn < lsn <= self.end.lsn:
            return None
        if lsn == self.end.lsn:
            return self.end
        for segment in self.segments:
            if segment.previous.lsn == lsn:
                return segment.previous
        found = self._batch_with(lsn)
        return found[1].position if found and found[1].last == lsn else None

    def last_reign(self) -> Reign | None:
        """The reign that wrote the last kept batch; None when none is kept."""
        found = self._batch_with(self.end.lsn) if self.end != self.base else None
        return found[1].reign if found else None

    def offset_behind(self, lsn: Lsn) -> tuple[int, int]:
        """(segment index, offset) of the end of the batch that ends at `lsn`, which may be `base`'s."""
        if lsn == self.base.lsn:
            return 0, self.segments[0].begin
        found = self._batch_with(lsn)
        assert found is not None and found[1].last == lsn, f"no batch ends at LSN {lsn}"
        return self._index(lsn), found[0]

    def _check_kept(self, after: Lsn) -> None:
        if after < self.base.lsn:
            raise LogPruned(after, self.base)

    def _index(self, lsn: Lsn) -> int:
        return bisect.bisect_right(self.segments, lsn, key=lambda segment: segment.first) - 1

    def _last(self, index: int) -> Lsn:
        """The last LSN in the segment at `index`."""
        later = index + 1
        return self.segments[later].previous.lsn if later < len(self.segments) else self.end.lsn

    def _batch_with(self, lsn: Lsn) -> tuple[int, Batch] | None:
        """The batch that holds `lsn`, and the offset behind it."""
        return next((found for found in self._walk(self._index(lsn), lsn) if found[1].last >= lsn), None)

    def _batches(self, after: Lsn) -> Iterator[tuple[int, Batch]]:
        """The durable batches from `after` + 1 on. Raises `ValueError` when no batch begins there."""
        while after < self.end.lsn:
            index = self._index(Lsn(after + 1))
            last = self._last(index)
            for offset, batch in self._walk(index, Lsn(after + 1)):
                if batch.last <= after:
                    continue
                if batch.first != after + 1:
                    raise ValueError(f"no batch begins at LSN {after + 1}, {batch} holds it")
                yield offset, batch
                after = batch.last
                if after == last:
                    break

    def _walk(self, index: int, lsn: Lsn) -> Iterator[tuple[int, Batch]]:
        """The durable batches of one segment, from at or below `lsn` on, with the offset behind each."""
        segment, last = self.segments[index], self._last(index)
        offset, reached = segment.offset_before(lsn), lsn
        try:
            with Window(segment.path) as window:
                walk = Walk(segment, window, offset)
                for entry in walk:
                    offset = walk.offset
                    if not isinstance(entry, Mark):
                        yield offset, entry
                        reached = Lsn(entry.last + 1)
                        if entry.last >= last:
                            return
        except OSError as error:
            if not is_lost(error):
                raise DiskFailed(segment.path, str(error)) from error
            raise LogCorrupt(segment.path, offset, reached, f"cannot be read: {error}") from error
        raise LogCorrupt(segment.path, walk.offset, reached, walk.why or "zeros where a batch was")

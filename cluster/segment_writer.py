"""Writes segments: allocates them ahead, begins them, fills them group by group, cuts and removes them.

The first error of a write, sync or removal is kept in `failed` and raised again by every later call: after
it, what the disk holds is unknown until the log is opened again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cluster.errors import DiskFailed, DiskFull
from cluster.files import translated
from cluster.log_room import SEGMENT_PARTS, segment_size
from cluster.segment import MARK_BYTES, Mark, Place, Segment, clear_tail, create_file, encode_header
from redwire.batch import Batch
from redwire.position import Position, TermList

_SPARES = ("spare", "spare-next")
"""Two names: the larger one is there before the smaller one goes."""
_AT_ONCE = "spare-at-once"
PAUSE_S = 1.0
"""Between two tries to allocate a segment: space is made by a person or by retention."""


class _Spare(msgspec.Struct, frozen=True):
    """A segment allocated ahead, still without header and final name."""

    path: Path
    fd: int
    size: int


class SegmentWriter:
    """The one writer in `place`. It holds the descriptor of the last segment and of the spare one. `short`:
    the last try to allocate the next segment found no space.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.failed: DiskFailed | None = None
        self.short = False
        self._again_s = 0.0
        self._fd = -1
        self._spare: _Spare | None = None

    @property
    def spare_bytes(self) -> int:
        """The size of the segment that is allocated ahead, 0 if none is."""
        spare = self._spare
        return spare.size if spare else 0

    @property
    def prepared(self) -> bool:
        """Whether a whole segment is allocated ahead, of a log that can still be written."""
        return self.spare_bytes >= self.place.segment_bytes and self.failed is None

    def check(self) -> None:
        """Raise `DiskFailed` if an earlier call failed, or `close` was called."""
        if self.failed is not None:
            raise self.failed

    def resume(self, segment: Segment) -> None:
        """Go on writing into `segment`, which exists. Raises `OSError`."""
        self._use(os.open(segment.path, os.O_RDWR | os.O_CLOEXEC))

    def prepare(self, now_s: float) -> bool:
        """Allocate the next segment, where it is not `prepared`, or a larger one where space was little and
        is more now; False when there is no space for a whole one. After a try that failed there is none for
        `PAUSE_S`.

        Raises `DiskFailed`.
        """
        self.check()
        before, whole = self._spare, self.place.segment_bytes
        if self.short and now_s < self._again_s:
            return False
        size, least = self._next_size(), whole // SEGMENT_PARTS
        if before is not None and size <= before.size:
            return False
        spare = self._tried(size)
        if spare is None and before is None and size > least:
            spare = self._tried(least)  # a quota may leave less than is free
        self.short = spare is None  # first: who sees neither a spare segment nor this waits for one
        if spare is None:
            self._again_s = now_s + PAUSE_S
            return False
        self._spare = spare
        if before is not None:
            self._drop(before)
        return spare.size >= whole

    def begin(self, batch: Batch, previous: Position, terms: TermList) -> Segment:
        """A new last segment, large enough for `batch`, which continues `previous`.

        Its header is durable before the file has its name. Raises `DiskFull` (nothing changed) or
        `DiskFailed`.
        """
        self.check()
        header = encode_header(self.place, batch.reign.term, previous, terms)
        need = len(header) + len(batch.data) + 2 * MARK_BYTES
        spare = self._spare
        if spare is not None and need <= spare.size:
            self._spare = None
        else:
            spare = self._allocate(_AT_ONCE, self._next_size(need))
        self._use(spare.fd)
        path = self.place.path(batch.reign.term, batch.first)
        calls = self.place.calls
        try:
            calls.write_all(spare.fd, [header], 0)
            calls.fsync(spare.fd)
            os.replace(spare.path, path)
            calls.sync_folder(self.place.folder)
        except OSError as error:
            raise self._fail(path, error) from error
        return Segment(path, self.place, previous, terms, len(header), spare.size)

    def write(self, segment: Segment, batches: Sequence[Batch], mark: Mark) -> None:
        """Write one group into the last segment and sync it. Raises `DiskFailed`."""
        self.check()
        offset = segment.end
        buffers = [segment.encode_mark(offset, mark), *[batch.data for batch in batches]]
        try:
            end = self.place.calls.write_all(self._fd, buffers, offset)
            self.place.calls.fdatasync(self._fd)
        except OSError as error:
            raise self._fail(segment.path, error) from error
        offset += MARK_BYTES
        for batch in batches:
            segment.note(batch, offset)
            offset += len(batch.data)
        assert offset == end <= segment.size, f"group ends at {end}, expected {offset} of {segment.size}"
        segment.end = end

    def clear(self, segment: Segment) -> None:
        """Make `segment`, with zeros behind its end, the last one. Raises `DiskFailed`."""
        try:
            clear_tail(self.place, segment)
            self.resume(segment)
        except OSError as error:
            raise self._fail(segment.path, error) from error

    def remove(self, *segments: Segment) -> None:
        """Remove files in this order, each durably before the next: a crash leaves no gap.

        Raises `DiskFailed`.
        """
        for segment in segments:
            try:
                segment.path.unlink()
                self.place.calls.sync_folder(self.place.folder)
            except OSError as error:
                raise self._fail(segment.path, error) from error

    def close(self) -> None:
        """Let go of all descriptors and of the spare segment. Nothing is written; later calls raise.

        Raises `DiskFailed` where the spare one cannot be removed.
        """
        self._use(-1)
        spare, self._spare = self._spare, None
        self.failed = self.failed or DiskFailed(self.place.folder, "the log is closed")
        if spare is not None:
            self._drop(spare)

    @staticmethod
    def _drop(spare: _Spare) -> None:
        os.close(spare.fd)
        with translated(spare.path):
            spare.path.unlink(missing_ok=True)

    def _next_size(self, need: int = 0) -> int:
        """How large the next segment is to be, by what is free; 0 where that is too little."""
        free = self.place.calls.free_bytes(self.place.folder)
        return segment_size(self.place.segment_bytes, free, need)

    def _tried(self, size: int) -> _Spare | None:
        """A spare segment, beside the one that there is; None without space for it. Raises `DiskFailed`."""
        taken = self._spare is not None and self._spare.path.name == _SPARES[0]
        try:
            return self._allocate(_SPARES[taken], size)
        except DiskFull:
            return None

    def _allocate(self, name: str, size: int) -> _Spare:
        """Raises `DiskFull`, of a size of 0 without a try: one that fails fills the volume for a moment, and
        whatever else is on it finds no space. Raises `DiskFailed`.
        """
        path = self.place.folder / name
        if not size:
            raise DiskFull(path, "for the next segment of the log")
        try:
            with translated(path):
                return _Spare(path, create_file(self.place, path, size), size)
        except DiskFailed as error:
            self.failed = error
            raise

    def _use(self, fd: int) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def _fail(self, path: Path, error: OSError) -> DiskFailed:
        self.failed = DiskFailed(path, str(error))
        return self.failed


def forget_leftovers(place: Place) -> None:
    """Remove what an earlier process had allocated ahead. Raises `OSError`."""
    for name in (*_SPARES, _AT_ONCE):
        (place.folder / name).unlink(missing_ok=True)

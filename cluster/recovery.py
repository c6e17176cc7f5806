"""Opening a log: verify every byte of it, tell an interrupted write from damage, and cut the former.

What may be cut is decided by what this node itself proved. A group is written only after the one before it
was synced, and its mark says so: bad bytes at or below a later mark's `durable`, at or below the position
that a later segment continues, or at or below the applied LSN were once on disk and whole. That is damage,
and the node refuses to serve. Everything else behind the last good batch is a write that the crash
interrupted: no ack covered it, so it is cut, even if later batches in it are whole.

A watermark in a batch or a mark proves nothing of what comes behind it: it counts as far as a mark, written
later, calls it durable. One that was known from elsewhere does: a node saves it only once its own disk has
that record. Where the log ends below it, acks were given for what is gone. Such a node would still say what
it knows committed, and end the reign of a primary whose log is sound but not comparable with its own.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from cluster.errors import DiskFailed, FormatNewer, LogCorrupt
from cluster.files import is_lost
from cluster.log_view import LogView
from cluster.segment import (
    Mark,
    Place,
    Segment,
    Walk,
    Window,
    clear_tail,
    decode_header,
    later_marks,
    require_file,
)
from redwire.batch import HEADER_BYTES_MAX, MAGIC, Batch, batch_size, follows, parse_batch
from redwire.errors import BatchInvalid
from redwire.position import Lsn, Position, TermList

_WINDOW_BYTES = 1 << 20
"""A full batch at one read."""


class Recovery(msgspec.Struct, frozen=True):
    """What a log held when it was opened.

    `base` is the oldest position that readers can continue from, `end` the last batch, `terms` the list up to
    it. `watermark` is the highest one known to any source, `announced` the highest in a batch header of this
    very log. `time_ms` is the time of the last batch, 0 when the log holds none. `cut_bytes` were removed
    behind the end, 0 after a clean stop; `cut_from` is then the LSN that they began with.
    """

    base: Position
    end: Position
    terms: TermList
    watermark: Lsn
    announced: Lsn
    time_ms: int = 0
    cut_bytes: int = 0
    cut_from: Lsn | None = None


def recover(
    place: Place, base: Position, base_terms: TermList, applied: Lsn, watermark: Lsn
) -> tuple[list[Segment], Recovery]:
    """Verify the log in `place.folder` and make its end durable.

    `base` and `base_terms` are where its generation began. `applied` is an LSN that this disk is known to
    have held, as is `watermark`, which was saved beside the log. Raises `LogCorrupt`, `FormatNewer`, or
    `DiskFailed` for a file that may not be read, and then changed nothing; `OSError` when the disk fails.
    """
    return _looked_through(place, base, base_terms, applied, watermark).finish()


def verify(place: Place, base: Position, base_terms: TermList, applied: Lsn, watermark: Lsn) -> LogView:
    """The log in `place.folder`, once it was looked through as `recover` does it. Changes nothing. Raises
    what `recover` does.
    """
    opening = _looked_through(place, base, base_terms, applied, watermark)
    return LogView(tuple(opening.segments), opening.base, opening.end)


def _looked_through(
    place: Place, base: Position, base_terms: TermList, applied: Lsn, watermark: Lsn
) -> _Opening:
    opening = _Opening(place, base, base_terms, watermark)
    for path in place.paths():
        opening.visit(path)
    if opening.end.lsn < applied:
        opening.refuse(f"state holds LSN {applied}, the log ends before it")
    if opening.end.lsn < watermark:
        opening.refuse(f"LSN {watermark} was here and is known committed, the log ends before it")
    if opening.end.lsn < opening.proved:
        opening.refuse(f"the log was durable up to LSN {opening.proved}")
    return opening


class _Opening:
    """The log as far as it was read. A segment's bad tail is judged once it is known what comes after."""

    def __init__(self, place: Place, base: Position, terms: TermList, watermark: Lsn) -> None:
        self.place = place
        self.base = self.end = base
        self.terms = terms
        self.watermark = watermark
        self.announced = Lsn(0)
        self.time_ms = 0
        self.segments: list[Segment] = []
        self.replaced: list[Path] = []
        self.used = 0
        self.proved = base.lsn
        self.stopped = (place.folder, 0, "the log ends here")

    def visit(self, path: Path) -> None:
        """Read the segment at `path`, which comes after all those read so far."""
        try:
            require_file(path)
            with Window(path, _WINDOW_BYTES) as window:
                segment = decode_header(self.place, path, window)
                if isinstance(segment, str):
                    raise LogCorrupt(path, 0, Lsn(self.end.lsn + 1), segment)
                self._join(segment)
                self._read(segment, window)
        except OSError as error:
            if not is_lost(error):
                raise DiskFailed(path, str(error)) from error
            at = self.segments[-1].end if self.segments and self.segments[-1].path == path else 0
            raise LogCorrupt(path, at, Lsn(self.end.lsn + 1), f"cannot be read: {error}") from error

    def refuse(self, why: str) -> None:
        """Raise `LogCorrupt` for the place where reading stopped."""
        path, offset, what = self.stopped
        raise LogCorrupt(path, offset, Lsn(self.end.lsn + 1), f"{what}; {why}")

    def finish(self) -> tuple[list[Segment], Recovery]:
        """Cut what was interrupted, and sync: what was read may have been in memory only."""
        cut_bytes = 0
        if self.segments:
            last = self.segments[-1]
            cut_bytes = self.used - last.end
            if cut_bytes:
                clear_tail(self.place, last)
            else:
                _sync(self.place, last.path)
            for path in self.replaced:
                path.unlink()
            self.place.calls.sync_folder(self.place.folder)
        cut_from = Lsn(self.end.lsn + 1) if cut_bytes else None
        found = Recovery(
            self.base, self.end, self.terms, self.watermark, self.announced, self.time_ms, cut_bytes, cut_from
        )
        return self.segments, found

    def _join(self, segment: Segment) -> None:
        """Check that `segment` continues what was read: its header alone proves that this was durable."""
        if not self.segments:
            if segment.previous.lsn < self.base.lsn:
                raise LogCorrupt(segment.path, 0, segment.first, f"the log begins only after {self.base}")
            if segment.previous.lsn > self.base.lsn:  # what was before is pruned
                self.base = self.end = segment.previous
                self.terms = segment.terms
        if segment.previous.lsn > self.end.lsn:
            self.refuse(f"{segment.path.name} continues {segment.previous}")
        if segment.previous != self.end:
            raise LogCorrupt(
                segment.path, 0, segment.first, f"continues {segment.previous}, the log is at {self.end}"
            )
        if self.segments and self.segments[-1].empty:
            self.replaced.append(self.segments.pop().path)
        self.segments.append(segment)

    def _read(self, segment: Segment, window: Window) -> None:
        walk = Walk(segment, window, segment.begin)
        why = ""
        for entry in walk:
            if isinstance(entry, Mark):
                self._believe(entry)
            elif follows(entry, self.end):
                self._take(segment, entry, walk.offset - len(entry.data))
            else:
                why = f"the batch {entry} does not continue {self.end}"
                break
            segment.end = walk.offset
        why = why or walk.why
        self.stopped = (segment.path, segment.end, why or "the log ends here")
        if why:
            _refuse_newer(segment, window, self.end)
        marks, self.used = later_marks(segment, window, segment.end)
        for mark in marks:
            self._believe(mark)

    def _take(self, segment: Segment, batch: Batch, offset: int) -> None:
        segment.note(batch, offset)
        self.end = batch.position
        self.time_ms = batch.time_ms
        self.terms = self.terms.extended(batch.reign.term, batch.first, batch.chain)
        if batch.watermark > self.announced:
            self.announced = batch.watermark
            self.watermark = max(self.watermark, batch.watermark)

    def _believe(self, mark: Mark) -> None:
        self.proved = max(self.proved, mark.durable)
        self.watermark = max(self.watermark, mark.watermark)


def _refuse_newer(segment: Segment, window: Window, end: Position) -> None:
    """Raise `FormatNewer` if the batch behind `segment.end` was written by a newer version.

    The chain covers format and flags: where it holds once both are set back to what we know, the two fields
    themselves are damaged and no newer version was here.
    """
    head = window.at(segment.end, HEADER_BYTES_MAX)
    flags = int.from_bytes(head[4:6], "little")
    if head[:3] != MAGIC[:3] or not head[3:4].isdigit() or (head[:4] == MAGIC and not flags):
        return
    known = MAGIC + b"\0\0" + head[6:].ljust(HEADER_BYTES_MAX, b"\0")
    try:
        size = batch_size(memoryview(known))
        batch = parse_batch(known[:6] + window.at(segment.end + 6, size - 6))
    except BatchInvalid:
        pass
    else:
        if follows(batch, end):
            return
    what = f"the batch at byte {segment.end} has format {head[3:4].decode()} and flags {flags:#06x}"
    raise FormatNewer(segment.path, what)


def _sync(place: Place, path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        place.calls.fsync(fd)
    finally:
        os.close(fd)

"""The write-ahead log: whole batches, appended in groups, one write and one sync a group.

One thread writes (`append`, `note_watermark`, `prepare`, `keep_tail`, `cut`, `prune`, `restart`,
`remove_generation`, `close`); `read`, `position_at`, `last_reign`, `room`, `base`, `end` and `status` may be
used by any thread at any time. An error of a write or sync is final: every later call that would write raises
the same `DiskFailed`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from cluster.diverged import keep_tail
from cluster.errors import CutRefused, LogCorrupt
from cluster.files import SYSCALLS, Syscalls, translated
from cluster.log_room import NO_SPACE, SEGMENT_REST, LogRoom
from cluster.log_view import LogView
from cluster.recovery import Recovery, recover
from cluster.retention import Extent
from cluster.segment import MARK_BYTES, SEGMENT_BYTES, Mark, Place, Segment, header_bytes
from cluster.segment_writer import SegmentWriter, forget_leftovers
from redwire.batch import Batch, follows
from redwire.position import Incarnation, Lsn, Position, Reign, TermList

T = TypeVar("T")


class WalStatus(msgspec.Struct, frozen=True):
    """One moment of a log that begins behind `base`; `bytes` are allocated on disk, the spare segment
    included.
    """

    segments: tuple[Extent, ...]
    bytes: int
    base: Position


class Wal:
    """The log of one node in one generation. Made by `open`; its owner calls `close`."""

    def __init__(self, place: Place, segments: Sequence[Segment], found: Recovery) -> None:
        self.terms = found.terms
        self.watermark = found.watermark
        self._announced = found.announced
        self._view = LogView(tuple(segments), found.base, found.end)
        self._writer = SegmentWriter(place)
        if segments:
            self._writer.resume(segments[-1])

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        incarnation: Incarnation,
        generation: int,
        base: Position,
        base_terms: TermList,
        applied: Lsn,
        watermark: Lsn,
        segment_bytes: int = SEGMENT_BYTES,
        calls: Syscalls = SYSCALLS,
    ) -> tuple[Wal, Recovery]:
        """Open generation `generation` of the log in `folder`, made if missing; recovery is part of it.

        `base` and `base_terms` say where the generation began, `applied` is an LSN that this disk once held
        (the applied LSN), `watermark` the highest one known from elsewhere. After it every byte up to `end`
        was verified and is durable. Other generations' folders are not touched: see `generations`. Raises
        `LogCorrupt`, `FormatNewer` (both before anything is changed), `DiskFull` or `DiskFailed`.
        """
        place = Place(folder, incarnation, generation, segment_bytes, calls)
        with translated(place.folder):
            calls.make_folder(place.folder)
            forget_leftovers(place)
            segments, found = recover(place, base, base_terms, applied, watermark)
            return cls(place, segments, found), found

    @property
    def end(self) -> Position:
        """The end of the durable log."""
        return self._view.end

    @property
    def base(self) -> Position:
        """The oldest position that `read` can continue from."""
        return self._view.base

    @property
    def room(self) -> LogRoom:
        """Bytes of batches (count `MARK_BYTES` for each) that surely fit without a new allocation, and those
        of one batch that will, once the next segment is allocated; none of these where that found no space,
        and nothing at all once what is left then is less than `SEGMENT_REST`: that is for the node itself.

        They fit whatever their sizes as long as none exceeds a segment: all into the current segment, or all
        that do not fit there into the spare one.
        """
        segments, writer = self._view.segments, self._writer
        current = segments[-1].room_bytes if segments and not segments[-1].empty else 0
        spare_bytes, short = writer.spare_bytes, writer.short
        framing = header_bytes(self.terms) + 2 * MARK_BYTES
        sure = max(current, spare_bytes - framing)
        if short and not spare_bytes:
            return LogRoom(sure, 0) if sure >= writer.place.segment_bytes // SEGMENT_REST else NO_SPACE
        return LogRoom(sure, max(current, (spare_bytes or writer.place.segment_bytes) - framing))

    def append(self, batches: Sequence[Batch], watermark: Lsn) -> None:
        """Write `batches`, which continue `end`, and sync; when it returns they are durable and readable.

        `watermark` is the highest one known; the group's mark keeps it. Raises `DiskFull` when a new segment
        cannot be allocated: `end` then tells what was written, and the rest may be appended later. Raises
        `DiskFailed`.
        """
        self._writer.check()
        self.watermark = max(self.watermark, watermark)
        end = self.end
        for batch in batches:
            assert follows(batch, end), f"{batch} does not continue {end}"
            end = batch.position
        rest = list(batches)
        while rest:
            segment = self._segment_for(rest[0])
            group = _fitting(rest, segment.room_bytes)
            self._write(segment, group)
            del rest[: len(group)]

    def note_watermark(self, watermark: Lsn) -> bool:
        """Write and sync a mark alone, so that `watermark` and the end's durability are known after a crash.

        False, with nothing written, when no segment has room for it: `watermark` is then kept elsewhere or
        with the next batch. Raises `DiskFailed`.
        """
        self._writer.check()
        self.watermark = max(self.watermark, watermark)
        segments = self._view.segments
        if not segments or segments[-1].size - segments[-1].end < 2 * MARK_BYTES:
            return False
        self._write(segments[-1], [])
        return True

    def prepare(self, now_s: float = inf, changed: Callable[[], None] = lambda: None) -> bool:
        """Allocate the next segment, if that is not done yet; False when there is no space for a whole one.
        Where there is little it is smaller. What failed is not tried again before `PAUSE_S` has passed.
        `changed` is called when there is another `room` now.

        Raises `DiskFailed` for every other error.
        """
        if self._writer.prepared:
            return True
        before = self.room
        ready = self._writer.prepare(now_s)
        if self.room != before:
            changed()
        return ready

    def read(self, after: Lsn, bytes_max: int, through: Lsn) -> list[Batch]:
        """The durable batches from LSN `after` + 1 on, whole, none that ends beyond `through`.

        At most `bytes_max` bytes, but at least one batch if there is one. A batch must begin at `after` + 1
        (`ValueError` otherwise). Each batch's CRC is checked. Raises `LogPruned` when `after` is below
        `base`, `LogCorrupt`, and `DiskFailed` where only the way to the bytes is barred.
        """
        return _found(lambda: self._view, lambda view: view.read(after, bytes_max, through))

    def position_at(self, lsn: Lsn) -> Position | None:
        """The position of the kept batch that ends at `lsn`; None if there is none. `base` and `end` count.

        Raises `LogCorrupt`.
        """
        return _found(lambda: self._view, lambda view: view.position_at(lsn))

    def last_reign(self) -> Reign | None:
        """The reign that wrote the last durable batch; None where a snapshot was the last thing that came.

        Raises `LogCorrupt`.
        """
        return _found(lambda: self._view, lambda view: view.last_reign())

    def keep_tail(self, after: Position, diverged_dir: Path, reason: str) -> Path:
        """Copy all batches behind `after` to `diverged_dir`, see `diverged.keep_tail`; the log stays."""
        assert self.position_at(after.lsn) == after and after.lsn < self.end.lsn, f"no tail behind {after}"
        return keep_tail(self._view, after, diverged_dir, reason, self._writer.place.calls)

    def cut(self, to: Position, diverged_dir: Path, reason: str = "") -> Path:
        """Move all batches behind `to`, a position below `end`, to `diverged_dir`; the path of the copy (R4).

        The copy is durable before the first byte goes. Raises `CutRefused` when a batch header in this log
        says that records behind `to` are committed (R5), `DiskFull` (no copy, nothing cut), `DiskFailed`,
        `LogCorrupt`.
        """
        self._writer.check()
        if to.lsn < self._announced:
            raise CutRefused(to, self._announced)
        copy = self.keep_tail(to, diverged_dir, reason)
        view = self._view
        index, offset = view.offset_behind(to.lsn)
        kept, gone = view.segments[: index + 1], view.segments[index + 1 :]
        self.terms = self.terms.cut(to.lsn)
        self._view = LogView(kept, view.base, to, view.history + 1)
        self._writer.remove(*reversed(gone))
        kept[-1].forget(offset, to.lsn)
        self._writer.clear(kept[-1])
        return copy

    def prune(self, through: Lsn) -> Position:
        """Remove the oldest segments as far as all they hold is at or below `through`; the new `base`.

        The last segment stays. Readers that are behind get `LogPruned`. Raises `DiskFailed`.
        """
        self._writer.check()
        view = self._view
        gone = 0
        while gone + 1 < len(view.segments) and view.segments[gone + 1].previous.lsn <= through:
            gone += 1
        if gone:
            self._view = replace(view, segments=view.segments[gone:], base=view.segments[gone].previous)
        self._writer.remove(*view.segments[:gone])
        return self.base

    def restart(self, base: Position, terms: TermList, generation: int) -> None:
        """Go on with an empty log that begins after `base`, in a new generation. The old one's files stay.
        In `generation` already, it goes on as it is.

        It counts only once meta.cbor names the new generation; then `remove_generation` takes the old one.
        What an earlier attempt left in the new generation's folder is removed. Raises `DiskFull` (the old log
        is still in use) or `DiskFailed`.
        """
        self._writer.check()
        if generation == self._writer.place.generation:
            return
        place = _other_place(self._writer.place, generation)
        with translated(place.folder):
            if place.folder.exists():
                shutil.rmtree(place.folder)
            place.calls.make_folder(place.folder)
        self._writer.close()
        self._writer = SegmentWriter(place)
        self.terms = terms
        self.watermark, self._announced = base.lsn, Lsn(0)  # what was known before may be of another history
        self._view = LogView((), base, base, self._view.history + 1)

    def remove_generation(self, generation: int) -> None:
        """Remove all files of `generation`, which is not the one in use. Raises `DiskFailed`."""
        place = _other_place(self._writer.place, generation)
        with translated(place.folder):
            shutil.rmtree(place.folder)
            place.calls.sync_folder(place.root)

    def status(self) -> WalStatus:
        """A frozen snapshot; may be called from any thread."""
        view, writer = self._view, self._writer
        lasts = [segment.previous.lsn for segment in view.segments[1:]] + [view.end.lsn]
        extents = tuple(Extent(s.first, last, s.size) for s, last in zip(view.segments, lasts, strict=False))
        return WalStatus(
            segments=extents,
            bytes=sum(extent.size_bytes for extent in extents) + writer.spare_bytes,
            base=view.base,
        )

    def close(self) -> None:
        """Write a last mark, by which later damage can be told from an interrupted write, and let go.

        After a failure, or where no mark fits, nothing is written. Raises `DiskFailed`.
        """
        segments = self._view.segments
        try:
            if not self._writer.failed and segments and segments[-1].size - segments[-1].end >= MARK_BYTES:
                self._write(segments[-1], [])
        finally:
            self._writer.close()

    def _segment_for(self, batch: Batch) -> Segment:
        """The segment that takes `batch` next, begun if need be."""
        view = self._view
        last = view.segments[-1] if view.segments else None
        if last and not last.empty and len(batch.data) <= last.room_bytes:
            return last
        segment = self._writer.begin(batch, view.end, self.terms)
        kept = view.segments
        if last and last.empty:
            kept = kept[:-1]
            if last.path != segment.path:
                self._writer.remove(last)
        self._view = replace(view, segments=(*kept, segment))
        return segment

    def _write(self, segment: Segment, batches: list[Batch]) -> None:
        view = self._view
        self._writer.write(segment, batches, Mark(view.end.lsn, self.watermark))
        for batch in batches:
            self.terms = self.terms.extended(batch.reign.term, batch.first, batch.chain)
            self._announced = max(self._announced, batch.watermark)
        if batches:
            self._view = replace(view, end=batches[-1].position)


def _found(now: Callable[[], LogView], find: Callable[[LogView], T]) -> T:
    """What `find` finds in the log's files as they are `now`, asked again where these were taken away as it
    read: what it met there was no damage. Raises as `find`.
    """
    while True:
        view = now()
        try:
            return find(view)
        except LogCorrupt:
            current = now()
            if (current.history, current.base) == (view.history, view.base):
                raise


def _other_place(place: Place, generation: int) -> Place:
    assert generation != place.generation, f"generation {generation} is in use"
    return replace(place, generation=generation)


def generations(folder: Path) -> list[int]:
    """The generations of a log on disk: more than one after a crash between an install and its clean-up."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _fitting(batches: list[Batch], room_bytes: int) -> list[Batch]:
    """The batches, from the first on, that fit together; at least one."""
    for index, batch in enumerate(batches):
        room_bytes -= len(batch.data)
        if room_bytes < 0:
            assert index, "a segment was begun too small for its first batch"
            return batches[:index]
    return batches[:]


def make_room(folder: Path, incarnation: Incarnation, generation: int) -> None:
    """Remove what a process before has allocated ahead: the state, which is opened first, may need the
    space. Raises `DiskFailed`.
    """
    place = Place(folder, incarnation, generation, SEGMENT_BYTES, SYSCALLS)
    with translated(place.folder):
        forget_leftovers(place)

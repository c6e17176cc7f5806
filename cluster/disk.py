"""The disk thread: everything that waits for the log or meta.cbor happens here, in the order asked for.

The event loop hands work over and never waits; results come back through `post`. All appends that wait when
the thread looks become one group: one write, one sync, one `on_durable`. A meta save or a cut between two
appends divides them.

A full disk stops the queue, not the process: the thread tries again every second, and `room` is 0 meanwhile.
A failed write or sync ends everything: `fail` is posted once, and nothing is acknowledged any more.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import msgspec

from cluster.ahead import Ahead
from cluster.errors import DiskFailed, DiskFull, NodeError
from cluster.histogram import Buckets, Histogram
from cluster.log_room import NO_SPACE, LogRoom
from cluster.meta import Meta
from cluster.meta import save as save_meta_file
from cluster.segment import MARK_BYTES
from cluster.threads import Post
from cluster.wal import Wal, WalStatus
from redwire.batch import Batch
from redwire.position import Lsn, Position

T = TypeVar("T")
RETRY_S = 1.0
"""Between two tries on a full disk: space is made by a person or by retention, and neither is quicker."""
_TIMINGS = 1_024
"""Group durations kept for the percentiles: a p99 rests on ten of them."""


class DiskState(Enum):
    """What the disk takes now; DAMAGED: it takes the log, and the state on it is not as it was written."""

    WORKING = "working"
    FULL = "full"
    DAMAGED = "damaged"
    FAILED = "failed"
    STOPPED = "stopped"


class DiskStatus(msgspec.Struct, frozen=True):
    """One moment of the disk thread. Times are of whole groups, write and sync; None before the first.

    `syncs` counts the same times, and `logged_bytes` what went into the log, since the thread began.
    """

    state: DiskState
    room_bytes: int
    group_p50_us: int | None
    group_p99_us: int | None
    syncs: Buckets
    logged_bytes: int
    wal: WalStatus


class Disk:
    """The one owner of `wal` and meta.cbor while it runs; `start` begins, `stop` ends it.

    `meta` is what meta.cbor held last. `post` carries every callback to the event loop: `on_durable(last
    LSN)` after each group, the `done` of each job, `fail(error)` at most once. A full disk is tried again
    every `retry_s` seconds. `ahead` has the next segment allocated.
    """

    def __init__(
        self,
        wal: Wal,
        data_dir: Path,
        meta: Meta,
        post: Post,
        fail: Callable[[NodeError], object],
        on_durable: Callable[[Lsn], object],
        retry_s: float = RETRY_S,
    ) -> None:
        self.wal = wal
        self.meta = meta
        self.state = DiskState.WORKING
        self._data_dir = data_dir
        self._post = post
        self._fail = fail
        self._on_durable = on_durable
        self.ahead = Ahead(wal, post, retry_s)
        self._load = _Load()
        self._asked = _Asked()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)

    def start(self) -> None:
        """Begin to work; what was asked for before waits in the queue."""
        self._thread.start()

    def append(self, batch: Batch, watermark: Lsn) -> None:
        """Log `batch`, which continues all that was asked for before; `on_durable` follows.

        `watermark` is the highest one known. Never refused: ask `room` before the batch is made (R2).
        """
        self._load.queued_bytes += len(batch.data) + MARK_BYTES
        self._asked.put(_Append(batch, watermark))

    def note_watermark(self, watermark: Lsn) -> None:
        """Put `watermark` on disk although no batch carries it: into the log, or else into meta.cbor."""
        self._asked.put(_Job(lambda: self.wal.note_watermark(watermark) or self._save(self.meta), None))

    def save_meta(self, meta: Meta, done: Callable[[Meta], object] | None = None) -> None:
        """Replace meta.cbor; `done` gets what was saved, whose watermark is at least the log's."""
        self._asked.put(_Job(lambda: self._save(meta), done))

    def cut(self, to: Position, done: Callable[[Path], object], reason: str = "") -> None:
        """Move the log behind `to` into `diverged/`; `done` gets the path of the copy. See `Wal.cut`."""
        diverged = self._data_dir / "diverged"
        self._asked.put(_Job(lambda: self.wal.cut(to, diverged, reason), done))

    def call(self, work: Callable[[], T], done: Callable[[T], object] | None = None) -> None:
        """Run `work` in its turn on the disk thread; `done` gets its result.

        `work` returns its outcome as a value. An exception from it is the end, as a failed write is; only
        after `DiskFull` is it run again, so up to there it must have changed nothing.
        """
        self._asked.put(_Job(work, done))

    def relieve(self, work: Callable[[], T], done: Callable[[T], object] | None = None) -> None:
        """As `call`, but also while other work waits for space: for what frees some, or measures it.

        It may overtake what was asked for before, never a part of it, and must not need space itself.
        """
        self._asked.relief.put(_Job(work, done))
        self._asked.put(_Job(partial(self._asked.relieve, self._post), None))

    def room(self, framing_bytes: int = 0) -> LogRoom:
        """Bytes of batches that may still be appended and will surely fit; count `MARK_BYTES` for each batch.
        And what one batch may have to fit once those before it are written. Both without `framing_bytes`.

        Nothing of both while the disk is full or failed.
        """
        if self.state is not DiskState.WORKING:
            return NO_SPACE
        waiting = self._load.waiting_bytes  # before the log's room: what moves between the two counts twice
        return self.wal.room.behind(waiting, framing_bytes)

    def stop(self) -> None:
        """Finish what was asked for, and close the log with a last mark; ask for nothing afterwards.

        If the disk is full and work waits for it, `fail` gets `DiskFull` instead: that work is lost.
        """
        self._stopping.set()
        self._asked.put(_Job(self._close, None))
        self._asked.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait until the thread has ended, if it ever began; False if it has not in time. It blocks: not for
        the event loop.
        """
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of batches that were asked for and are not durable yet."""
        return self._load.waiting_bytes

    def status(self) -> DiskStatus:
        """A frozen snapshot; may be called from any thread."""
        p50, p99 = self._load.percentiles()
        spent = self.state is DiskState.WORKING and self.wal.room.full
        return DiskStatus(
            state=DiskState.FULL if spent else self.state,
            room_bytes=self.room().sure_bytes,
            group_p50_us=p50,
            group_p99_us=p99,
            syncs=self._load.syncs.status(),
            logged_bytes=self._load.settled_bytes,
            wal=self.wal.status(),
        )

    def _run(self) -> None:
        error: NodeError = DiskFailed(self._data_dir, "the disk thread ended by an error of its own")
        try:
            while self._turn():
                pass
        except NodeError as failure:
            error = failure
        finally:
            if self.state is not DiskState.STOPPED:
                self.state = DiskState.FAILED
                self._post(self._fail, error)

    def _turn(self) -> bool:
        """Do everything that waits now, or prepare a segment while nothing does; False at the end."""
        try:
            work = deque([self._asked.get(timeout=None if self.ahead.prepare() else self.ahead.retry_s)])
        except Empty:
            return True
        while not self._asked.empty():
            work.append(self._asked.get_nowait())
        group: list[_Append] = []
        for item in work:
            if isinstance(item, _Append):
                group.append(item)
                continue
            self._log(group)
            group = []
            if item is None:
                return False
            result = self._with_space(item.work)
            if item.done is not None:
                self._post(item.done, result)
        self._log(group)
        return True

    def _log(self, group: list[_Append]) -> None:
        """Append what is in `group`, as one write and sync if one segment takes it."""
        if not group:
            return
        batches, watermark = [item.batch for item in group], max(item.watermark for item in group)
        self._with_space(lambda: self._append_rest(batches, watermark))

    def _append_rest(self, batches: list[Batch], watermark: Lsn) -> None:
        """Append what of `batches` the log lacks; what was written is told even if the disk is full then."""
        before = self.wal.end.lsn
        begun = time.perf_counter_ns()
        try:
            self.wal.append([batch for batch in batches if batch.last > before], watermark)
        finally:
            if self.wal.end.lsn > before:
                written = [batch for batch in batches if before < batch.last <= self.wal.end.lsn]
                self._load.settled_bytes += _size(written)  # first: whoever is told looks for room
                self._load.note((time.perf_counter_ns() - begun) // 1_000)
                self._post(self._on_durable, self.wal.end.lsn)

    def _with_space(self, work: Callable[[], T]) -> T:
        """The result of `work`, tried again and again while the disk is full."""
        while True:
            try:
                result = work()
            except DiskFull:
                self.state = DiskState.FULL
                if self._stopping.wait(self.ahead.retry_s):
                    raise
                self._asked.relieve(self._post)
            else:
                if self.state is DiskState.FULL:
                    self.state = DiskState.WORKING
                return result

    def _save(self, meta: Meta) -> Meta:
        saved = msgspec.structs.replace(meta, watermark=max(meta.watermark, self.wal.watermark))
        save_meta_file(self._data_dir, saved)
        self.meta = saved
        return saved

    def _close(self) -> None:
        self.wal.close()
        self.state = DiskState.STOPPED


class _Append(msgspec.Struct, frozen=True):
    batch: Batch
    watermark: Lsn


class _Job(msgspec.Struct, frozen=True):
    work: Callable[[], Any]
    done: Callable[[Any], object] | None


class _Asked(SimpleQueue["_Append | _Job | None"]):
    """What the thread is to do, in order; None ends it. `relief` is what need not wait for its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.relief: SimpleQueue[_Job] = SimpleQueue()

    def relieve(self, post: Post) -> None:
        """Do what frees space, as far as nobody who waited for that has done it."""
        while not self.relief.empty():
            job = self.relief.get_nowait()
            result = job.work()
            if job.done is not None:
                post(job.done, result)


def _size(batches: Sequence[Batch]) -> int:
    return sum([len(batch.data) + MARK_BYTES for batch in batches])


class _Load:
    """What passes through the thread. Each counter has one writing thread, so none needs a lock."""

    def __init__(self) -> None:
        self.queued_bytes = 0
        self.settled_bytes = 0
        self._groups = 0
        self.syncs = Histogram()
        self._took_us = array("Q", bytes(8 * _TIMINGS))

    @property
    def waiting_bytes(self) -> int:
        """Bytes asked for and not yet in the log."""
        settled = self.settled_bytes
        return self.queued_bytes - settled

    def note(self, took_us: int) -> None:
        """Count one group."""
        self._took_us[self._groups % _TIMINGS] = took_us
        self.syncs.note(took_us)
        self._groups += 1

    def percentiles(self) -> tuple[int, int] | tuple[None, None]:
        """The median and the 99th percentile of the last groups, in microseconds; None before the first."""
        took = sorted(self._took_us[: min(self._groups, _TIMINGS)])
        return (took[len(took) // 2], took[len(took) * 99 // 100]) if took else (None, None)

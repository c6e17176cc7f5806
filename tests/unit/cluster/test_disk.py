"""The disk thread: group commit, order, a full disk that passes, a failed one that does not."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from cluster.disk import Disk, DiskState
from cluster.errors import DiskFailed, DiskFull, NodeError
from cluster.files import SYSCALLS, Syscalls
from cluster.log_room import SEGMENT_REST, LogRoom
from cluster.meta import Meta, load
from cluster.segment import MARK_BYTES
from cluster.wal import Wal
from redwire.batch import Batch, make_batch
from redwire.position import EMPTY, Incarnation, Lsn, NodeId, Position, Reign, Term, TermList

META = Meta(node=NodeId("eu-1"), incarnation=Incarnation("ab" * 16))
SEGMENT = 1 << 14


def run_of(end: Position, number: int, size: int = 100) -> list[Batch]:
    made: list[Batch] = []
    for _ in range(number):
        made.append(make_batch(Reign(Term(1), NodeId("eu-1")), end, [bytes(size)], 1, 1, Lsn(0)))
        end = made[-1].position
    return made


class Loop:
    """Stands for the event loop: callbacks wait in a queue until the test lets them run."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = SimpleQueue()
        self.durable: list[int] = []
        self.failed: list[NodeError] = []
        self.done: list[object] = []

    def post(self, callback: Callable[..., object], /, *args: object) -> None:
        self.queue.put((callback, args))

    def run_until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            callback, args = self.queue.get(timeout=20)
            callback(*args)


class Gate:
    """An fdatasync that counts, and waits while the gate is closed."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.count = 0

    def __call__(self, fd: int) -> None:
        self.count += 1
        self.entered.set()
        assert self.open.wait(20)
        os.fdatasync(fd)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def disk_with(tmp_path: Path, loop: Loop) -> Iterator[Callable[..., Disk]]:
    started: list[Disk] = []

    def make(calls: Syscalls = SYSCALLS, **how: float) -> Disk:
        wal, _ = Wal.open(
            tmp_path / "wal",
            incarnation=META.incarnation,
            generation=1,
            base=EMPTY,
            base_terms=TermList(),
            applied=Lsn(0),
            watermark=Lsn(0),
            segment_bytes=SEGMENT,
            calls=calls,
        )
        disk = Disk(wal, tmp_path, META, loop.post, loop.failed.append, loop.durable.append, **how)
        disk.start()
        started.append(disk)
        return disk

    yield make
    for disk in started:
        disk.stop()
        assert disk.join(20)


def reopened(tmp_path: Path) -> Wal:
    return Wal.open(
        tmp_path / "wal",
        incarnation=META.incarnation,
        generation=1,
        base=EMPTY,
        base_terms=TermList(),
        applied=Lsn(0),
        watermark=Lsn(0),
        segment_bytes=SEGMENT,
    )[0]


def test_everything_that_waits_is_one_group_with_one_sync(loop: Loop, disk_with: Callable[..., Disk]) -> None:
    gate = Gate()
    disk = disk_with(replace(SYSCALLS, fdatasync=gate))
    first, *rest = run_of(EMPTY, 41)
    gate.open.clear()
    disk.append(first, Lsn(0))
    assert gate.entered.wait(20)
    for batch in rest:
        disk.append(batch, Lsn(0))
    gate.open.set()
    loop.run_until(lambda: loop.durable[-1:] == [41])
    assert loop.durable == [1, 41]
    assert gate.count == 2
    status = disk.status()
    assert (status.state, disk.waiting_bytes) == (DiskState.WORKING, 0)
    assert 0 < status.group_p50_us <= status.group_p99_us
    assert sum(status.syncs.counts) == 2 and status.syncs.sum_us >= status.group_p99_us
    assert status.logged_bytes == sum(len(batch.data) + MARK_BYTES for batch in (first, *rest))


def test_nothing_is_acknowledged_before_its_own_sync(loop: Loop, disk_with: Callable[..., Disk]) -> None:
    gate = Gate()
    disk = disk_with(replace(SYSCALLS, fdatasync=gate))
    gate.open.clear()
    disk.append(run_of(EMPTY, 1)[0], Lsn(0))
    assert gate.entered.wait(20)
    assert loop.queue.empty()
    assert disk.wal.end == EMPTY
    gate.open.set()
    loop.run_until(lambda: loop.durable == [1])


def test_appends_saves_cuts_and_calls_keep_their_order(
    tmp_path: Path, loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    gate = Gate()
    disk = disk_with(replace(SYSCALLS, fdatasync=gate))
    batches = run_of(EMPTY, 6)
    gate.open.clear()
    disk.append(batches[0], Lsn(0))
    assert gate.entered.wait(20)
    seen: list[object] = []

    def ends() -> tuple[int, int]:
        meta = load(tmp_path)
        return disk.wal.end.lsn, meta.term if meta else 0

    disk.call(ends, seen.append)
    disk.append(batches[1], Lsn(0))
    disk.append(batches[2], Lsn(0))
    disk.save_meta(msgspec.structs.replace(META, term=Term(5)), lambda meta: seen.append(meta.term))
    disk.call(ends, seen.append)
    disk.cut(batches[1].position, lambda path: seen.append(path.parent.name), "a test")
    disk.append(make_batch(Reign(Term(2), NodeId("us-1")), batches[1].position, [b"x"], 1, 1, Lsn(0)), Lsn(2))
    disk.call(ends, seen.append)
    gate.open.set()
    loop.run_until(lambda: len(seen) == 5)
    assert seen == [(1, 0), 5, (3, 5), "diverged", (3, 5)]
    assert loop.durable == [1, 3, 3]


def test_a_saved_meta_knows_at_least_the_log_s_watermark(
    tmp_path: Path, loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    disk = disk_with()
    disk.append(run_of(EMPTY, 1)[0], Lsn(7))
    disk.save_meta(META, loop.done.append)
    loop.run_until(lambda: len(loop.done) == 1)
    assert loop.done == [load(tmp_path)] == [msgspec.structs.replace(META, watermark=Lsn(7))]
    assert disk.meta.watermark == 7


def test_an_idle_watermark_goes_to_the_log_or_without_one_to_meta(
    tmp_path: Path, loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    disk = disk_with()
    disk.note_watermark(Lsn(3))
    disk.append(run_of(EMPTY, 1)[0], Lsn(3))
    disk.note_watermark(Lsn(9))
    disk.call(lambda: None, loop.done.append)
    loop.run_until(lambda: len(loop.done) == 1)
    meta = load(tmp_path)
    assert meta is not None and meta.watermark == 3
    disk.stop()
    assert disk.join(20)
    wal = reopened(tmp_path)
    assert wal.watermark == 9
    wal.close()


def test_a_failed_sync_ends_all_acks_and_is_told_once(loop: Loop, disk_with: Callable[..., Disk]) -> None:
    broken: list[bool] = []

    def fdatasync(fd: int) -> None:
        if broken:
            broken.clear()  # the kernel tells an error once, the next sync would succeed
            raise OSError(errno.EIO, "I/O error")
        os.fdatasync(fd)

    disk = disk_with(replace(SYSCALLS, fdatasync=fdatasync))
    batches = run_of(EMPTY, 4)
    disk.append(batches[0], Lsn(0))
    loop.run_until(lambda: loop.durable == [1])
    broken.append(True)
    disk.append(batches[1], Lsn(0))
    loop.run_until(lambda: bool(loop.failed))
    for batch in batches[2:]:
        disk.append(batch, Lsn(0))
    disk.save_meta(META, loop.done.append)
    disk.stop()
    assert disk.join(20)
    assert loop.queue.empty()
    assert [type(error) for error in loop.failed] == [DiskFailed]
    assert (loop.durable, loop.done) == ([1], [])
    assert (disk.state, disk.room().sure_bytes) == (DiskState.FAILED, 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_our_own_on_the_thread_ends_the_node_too(
    loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    disk = disk_with()
    disk.append(run_of(EMPTY, 2)[1], Lsn(0))  # continues nothing
    loop.run_until(lambda: bool(loop.failed))
    assert disk.room().sure_bytes == 0


class Budget:
    """A disk with so many bytes."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, fd: int, offset: int, size: int) -> None:
        if size > self.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.free -= size
        os.posix_fallocate(fd, offset, size)


def test_a_full_disk_has_no_room_and_goes_on_by_itself_when_there_is_space(
    loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    space = Budget(SEGMENT)
    disk = disk_with(replace(SYSCALLS, allocate=space), retry_s=0.01)
    batches = run_of(EMPTY, 60, 400)
    for batch in batches:
        disk.append(batch, Lsn(0))
    loop.run_until(lambda: bool(loop.durable))
    while disk.state is not DiskState.FULL:
        assert not loop.failed
    fitting = disk.wal.end.lsn
    assert 0 < fitting < 60
    assert loop.durable[-1] <= fitting
    assert disk.room().sure_bytes == 0
    assert len(disk.wal.read(Lsn(0), 1 << 20, Lsn(60))) == fitting
    space.free = 1 << 20
    loop.run_until(lambda: loop.durable[-1] == 60)
    assert fitting in loop.durable
    disk.call(lambda: None, loop.done.append)
    loop.run_until(lambda: len(loop.done) == 1)
    assert disk.state is DiskState.WORKING
    assert disk.room().sure_bytes > 0
    assert loop.failed == []


def test_a_disk_that_stays_full_does_not_keep_the_process(loop: Loop, disk_with: Callable[..., Disk]) -> None:
    disk = disk_with(replace(SYSCALLS, allocate=Budget(0)))
    disk.append(run_of(EMPTY, 1)[0], Lsn(0))
    disk.stop()
    loop.run_until(lambda: bool(loop.failed))
    assert isinstance(loop.failed[0], DiskFull)
    assert loop.done == []


def test_what_frees_space_is_done_while_other_work_waits_for_some(
    loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    disk = disk_with(replace(SYSCALLS, allocate=Budget(0)))
    disk.append(run_of(EMPTY, 1)[0], Lsn(0))
    disk.relieve(lambda: "freed", loop.done.append)
    loop.run_until(lambda: bool(loop.done))
    assert (loop.done, loop.durable, disk.state) == (["freed"], [], DiskState.FULL)
    disk.relieve(lambda: "more", loop.done.append)
    loop.run_until(lambda: len(loop.done) == 2)


def test_what_frees_space_is_done_once_and_at_once_where_there_is_some(
    loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    disk = disk_with()
    for number in range(3):
        disk.relieve(lambda number=number: number, loop.done.append)
    disk.call(lambda: "last", loop.done.append)
    loop.run_until(lambda: "last" in loop.done)
    assert loop.done == [0, 1, 2, "last"]


def test_room_counts_what_is_queued(loop: Loop, disk_with: Callable[..., Disk]) -> None:
    gate = Gate()
    disk = disk_with(replace(SYSCALLS, fdatasync=gate))
    batches = run_of(EMPTY, 3)
    disk.append(batches[0], Lsn(0))
    loop.run_until(lambda: loop.durable == [1])
    disk.call(lambda: None, loop.done.append)
    loop.run_until(lambda: len(loop.done) == 1)
    before = disk.room().sure_bytes
    gate.open.clear()
    gate.entered.clear()
    disk.append(batches[1], Lsn(0))
    disk.append(batches[2], Lsn(0))
    assert gate.entered.wait(20)
    size = len(batches[1].data) + MARK_BYTES
    assert disk.room().sure_bytes <= before - 2 * size
    gate.open.set()
    loop.run_until(lambda: loop.durable[-1] == 3)


def test_who_waits_for_room_hears_of_the_next_segment(loop: Loop, disk_with: Callable[..., Disk]) -> None:
    """What fits into no room of the moment fits later, and `later` promised it."""
    gate = Gate()
    disk = disk_with(replace(SYSCALLS, fdatasync=gate), retry_s=0.01)
    rooms: list[LogRoom] = []
    disk.ahead.on_room = lambda: rooms.append(disk.room())
    disk.call(lambda: None, loop.done.append)
    loop.run_until(lambda: bool(loop.done))
    first, second, third = run_of(EMPTY, 3, 9_000)
    gate.open.clear()
    for batch in (first, second):
        disk.append(batch, Lsn(0))
    assert disk.room().sure_bytes < len(third.data) + MARK_BYTES <= disk.room().later_bytes
    rooms.clear()
    gate.open.set()
    loop.run_until(lambda: bool(rooms))
    assert disk.room().sure_bytes >= len(third.data) + MARK_BYTES


def test_without_space_for_the_next_segment_nothing_comes_later(
    loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    space = Budget(SEGMENT)
    disk = disk_with(replace(SYSCALLS, allocate=space), retry_s=0.01)
    rooms: list[LogRoom] = []
    disk.ahead.on_room = lambda: rooms.append(disk.room())
    disk.append(run_of(EMPTY, 1, 9_000)[0], Lsn(0))
    loop.run_until(lambda: rooms[-1:] == [(disk.room().sure_bytes, 0)])
    assert disk.room().sure_bytes > 5_000
    space.free = SEGMENT
    loop.run_until(lambda: rooms[-1][1] > 9_000)
    assert disk.room().later_bytes == disk.room().sure_bytes > 9_000


def test_the_rest_of_a_segment_that_no_other_follows_is_a_full_disk(
    loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    space = Budget(SEGMENT)
    disk = disk_with(replace(SYSCALLS, allocate=space), retry_s=0.01)
    disk.ahead.on_room = lambda: None
    [batch] = run_of(EMPTY, 1, SEGMENT - 400)
    disk.append(batch, Lsn(0))
    loop.run_until(lambda: loop.durable == [1])
    while disk.status().state is not DiskState.FULL:
        assert not loop.failed
    assert 0 < SEGMENT - disk.wal._view.segments[-1].end < 2 * SEGMENT // SEGMENT_REST
    assert disk.room() == (0, 0) and disk.status().room_bytes == 0
    disk.note_watermark(Lsn(1))
    space.free = SEGMENT
    loop.run_until(lambda: disk.status().state is DiskState.WORKING)
    assert disk.room().later_bytes > 0


def test_a_stop_finishes_what_was_asked_for_and_marks_the_end(
    tmp_path: Path, loop: Loop, disk_with: Callable[..., Disk]
) -> None:
    disk = disk_with()
    for batch in run_of(EMPTY, 30):
        disk.append(batch, Lsn(4))
    disk.stop()
    assert disk.join(20)
    loop.run_until(lambda: loop.durable[-1:] == [30])
    assert (disk.state, disk.room().sure_bytes, loop.failed) == (DiskState.STOPPED, 0, [])
    wal = reopened(tmp_path)
    assert (wal.end.lsn, wal.watermark) == (30, 4)
    wal.close()


def test_room_never_promises_what_does_not_fit(loop: Loop, disk_with: Callable[..., Disk]) -> None:
    """Admit by `room` alone on a disk without further space: every admitted batch is logged."""
    space = Budget(3 * SEGMENT)
    disk = disk_with(replace(SYSCALLS, allocate=space))
    end, admitted, refused = EMPTY, 0, 0
    sizes: list[Any] = [50, 3_000, 800, 9_000, 200, 5_000]
    while refused < 30:
        size = sizes[(admitted + refused) % len(sizes)]
        [batch] = run_of(end, 1, size)
        if len(batch.data) + MARK_BYTES <= disk.room().sure_bytes:
            disk.append(batch, Lsn(0))
            end, admitted = batch.position, admitted + 1
        else:
            refused += 1
            loop.done.clear()
            disk.call(lambda: None, loop.done.append)
            loop.run_until(lambda: bool(loop.done))
    assert admitted > 10
    loop.run_until(lambda: loop.durable[-1] == end.lsn)
    assert disk.state is DiskState.WORKING

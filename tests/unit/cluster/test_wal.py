"""The log: append, cut, prune, a disk in trouble, and the whole of it against a list of batches."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cluster.errors import CutRefused, DiskFailed, DiskFull, LogPruned
from cluster.files import SYSCALLS, Syscalls
from cluster.log_room import KEPT_FREE_BYTES, SEGMENT_PARTS
from cluster.recovery import Recovery
from cluster.segment import MARK_BYTES, MARK_MAGIC
from cluster.segment_writer import PAUSE_S
from cluster.wal import Wal, generations
from redwire.batch import Batch
from redwire.position import EMPTY, Lsn, Position, Term, TermEntry, TermList
from tests.log_files import (
    BIG,
    SEGMENT,
    batch_after,
    began,
    crash,
    everything,
    flip,
    opened,
    place_of,
    read,
    run_of,
    segments,
    two_groups,
)

# --- the plain life of a log ---


def test_a_new_log_is_empty(tmp_path: Path) -> None:
    wal, found = opened(tmp_path)
    assert found == Recovery(EMPTY, EMPTY, TermList(), Lsn(0), Lsn(0))
    assert (wal.end, wal.base, everything(wal)) == (EMPTY, EMPTY, [])
    assert wal.position_at(Lsn(0)) == EMPTY
    assert not wal.note_watermark(Lsn(9))
    wal.close()
    assert segments(tmp_path) == []


@pytest.mark.parametrize("end_it", [Wal.close, crash])
def test_what_was_appended_is_there_after_a_restart(tmp_path: Path, end_it: Callable[[Wal], None]) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 3, count=2) + run_of(run_of(EMPTY, 3, count=2)[-1].position, 2, term=4)
    wal.append(written[:2], Lsn(1))
    wal.append(written[2:], Lsn(5))
    assert everything(wal) == [batch.data for batch in written]
    end_it(wal)
    wal, found = opened(tmp_path)
    assert (found.end, found.watermark, found.cut_bytes) == (written[-1].position, 5, 0)
    assert found.terms == wal.terms == began(written[0], written[3])
    assert everything(wal) == [batch.data for batch in written]
    more = run_of(wal.end, 2, term=4)
    wal.append(more, Lsn(8))
    assert everything(wal) == [batch.data for batch in written + more]
    wal.close()


def test_a_spare_segment_that_is_no_file_any_more_is_a_failure_of_the_disk_at_the_end(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    wal.append(run_of(EMPTY, 1), Lsn(0))
    assert wal.prepare()
    (spare,) = (tmp_path / "wal").rglob("spare")
    spare.unlink()
    spare.mkdir()
    with pytest.raises(DiskFailed, match="spare"):
        wal.close()


def test_files_are_private(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    wal.append(run_of(EMPTY, 1), Lsn(0))
    wal.close()
    for path in (tmp_path / "wal").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_a_group_is_one_write_and_one_sync(tmp_path: Path) -> None:
    calls: list[str] = []

    def pwritev(fd: int, buffers: Sequence[bytes], offset: int) -> int:
        calls.append("write")
        return os.pwritev(fd, buffers, offset)

    def fdatasync(fd: int) -> None:
        calls.append("sync")

    wal, _ = opened(tmp_path, calls=replace(SYSCALLS, pwritev=pwritev, fdatasync=fdatasync))
    wal.append(run_of(EMPTY, 1), Lsn(0))
    calls.clear()
    wal.append(run_of(wal.end, 50), Lsn(0))
    assert calls == ["write", "sync"]
    wal.close()


def test_more_batches_than_one_vectored_write_takes_and_short_writes_arrive_whole(tmp_path: Path) -> None:
    def miserly(fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return os.pwritev(fd, [b"".join(buffers)[:1_000]], offset)

    wal, _ = opened(tmp_path, segment_bytes=1 << 20, calls=replace(SYSCALLS, pwritev=miserly))
    written = run_of(EMPTY, 1_500)
    wal.append(written, Lsn(0))
    crash(wal)
    wal, found = opened(tmp_path)
    assert found.end.lsn == 1_500
    assert everything(wal) == [batch.data for batch in written]
    wal.close()


def test_a_batch_that_does_not_continue_the_log_is_our_own_mistake(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    first, second = run_of(EMPTY, 2)
    with pytest.raises(AssertionError):
        wal.append([second], Lsn(0))
    wal.append([first], Lsn(0))
    with pytest.raises(AssertionError):
        wal.append([first], Lsn(0))
    wal.close()


def test_a_batch_larger_than_a_segment_gets_one_of_its_size(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    small = batch_after(EMPTY)
    large = batch_after(small.position, size=3 * SEGMENT)
    after = batch_after(large.position)
    wal.append([small, large, after], Lsn(0))
    assert [extent.first for extent in wal.status().segments] == [1, 2, 3]
    wal.close()
    wal, found = opened(tmp_path)
    assert found.end == after.position
    assert everything(wal) == [small.data, large.data, after.data]
    wal.close()


class Failing:
    """A sync that fails once `broken` is set."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self, fd: int) -> None:
        if self.broken:
            self.broken = False  # the kernel reports an error once
            raise OSError(errno.EIO, "I/O error")
        os.fdatasync(fd)


def test_a_failed_sync_is_final_though_the_next_one_would_succeed(tmp_path: Path) -> None:
    sync = Failing()
    wal, _ = opened(tmp_path, calls=replace(SYSCALLS, fdatasync=sync))
    wal.append(run_of(EMPTY, 2), Lsn(0))
    end = wal.end
    sync.broken = True
    with pytest.raises(DiskFailed):
        wal.append(run_of(end, 1), Lsn(0))
    assert wal.end == end
    assert len(everything(wal)) == 2
    writes: list[Callable[[], object]] = [
        lambda: wal.append(run_of(end, 1), Lsn(0)),
        lambda: wal.note_watermark(Lsn(1)),
        wal.prepare,
        lambda: wal.cut(EMPTY, tmp_path / "diverged"),
        lambda: wal.prune(Lsn(1)),
        lambda: wal.restart(EMPTY, TermList(), 2),
    ]
    for write in writes:
        with pytest.raises(DiskFailed):
            write()
    wal.close()


def test_a_failed_write_is_final(tmp_path: Path) -> None:
    def pwritev(fd: int, buffers: Sequence[bytes], offset: int) -> int:
        if buffers[0].startswith(MARK_MAGIC):
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.pwritev(fd, buffers, offset)

    wal, _ = opened(tmp_path, calls=replace(SYSCALLS, pwritev=pwritev))
    with pytest.raises(DiskFailed):
        wal.append(run_of(EMPTY, 1), Lsn(0))
    wal.close()


class Budget:
    """A disk with so many bytes."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, fd: int, offset: int, size: int) -> None:
        if size > self.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.free -= size
        os.posix_fallocate(fd, offset, size)


def test_a_full_disk_shows_as_no_room_and_passes_by_itself(tmp_path: Path) -> None:
    disk = Budget(2 * SEGMENT)
    wal, _ = opened(tmp_path, calls=replace(SYSCALLS, allocate=disk))
    assert wal.room.sure_bytes == 0
    assert wal.prepare() and wal.prepare()
    assert SEGMENT - 300 < wal.room.sure_bytes < SEGMENT
    while wal.room.sure_bytes >= 500:
        before, batch = wal.room.sure_bytes, batch_after(wal.end, size=400)
        wal.append([batch], Lsn(0))
        assert wal.prepare() == (
            disk.free > 0 or wal.status().bytes == 2 * SEGMENT and len(segments(tmp_path)) == 1
        )
        assert wal.room.sure_bytes >= before - len(batch.data) - MARK_BYTES or disk.free == 0
    end = wal.end
    many = run_of(end, 20, size=400)
    with pytest.raises(DiskFull):
        wal.append(many, Lsn(0))
    assert not wal.prepare()
    reached = wal.end.lsn - end.lsn
    assert everything(wal)[-1] is not None and len(everything(wal)) == wal.end.lsn
    disk.free = SEGMENT
    wal.append(many[reached:], Lsn(0))
    assert wal.end == many[-1].position
    wal.close()
    assert opened(tmp_path)[1].end == many[-1].position


class Volume:
    """A volume with so many bytes: `statvfs` and `allocate` of it, and the sizes that were tried."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.tried: list[int] = []
        self.refuses = False

    def statvfs(self, folder: Path) -> Any:
        return SimpleNamespace(f_bavail=self.free, f_frsize=1, f_blocks=1)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        self.tried.append(size)
        if self.refuses:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.free -= size
        os.posix_fallocate(fd, offset, size)


def on(volume: Volume, tmp_path: Path) -> Wal:
    calls = replace(SYSCALLS, allocate=volume.allocate, statvfs=volume.statvfs)
    return opened(tmp_path, calls=calls)[0]


def test_little_space_makes_small_segments_and_the_last_of_it_is_left_alone(tmp_path: Path) -> None:
    volume = Volume(KEPT_FREE_BYTES + SEGMENT + SEGMENT // 4)
    wal = on(volume, tmp_path)
    while wal.prepare() or wal.room.sure_bytes > 400:
        wal.append([batch_after(wal.end, size=300)], Lsn(0))
    assert volume.tried == [SEGMENT, SEGMENT // 4]
    assert (volume.free, wal.room.later_bytes) == (KEPT_FREE_BYTES, 0)
    with pytest.raises(DiskFull):
        wal.append([batch_after(wal.end, size=400)], Lsn(0))
    assert volume.tried == [SEGMENT, SEGMENT // 4], "nothing was tried in vain"
    wal.close()


def test_a_small_segment_ahead_gives_way_to_a_whole_one_once_there_is_space(tmp_path: Path) -> None:
    volume = Volume(KEPT_FREE_BYTES + SEGMENT // 4)
    wal = on(volume, tmp_path)
    assert not wal.prepare() and not wal.prepare()
    assert wal.room.sure_bytes == wal.room.later_bytes < SEGMENT // 4
    volume.free = BIG
    assert wal.prepare()
    assert SEGMENT // 2 < wal.room.sure_bytes < SEGMENT
    assert [path.stat().st_size for path in (tmp_path / "wal").rglob("spare*")] == [SEGMENT]
    wal.append(run_of(EMPTY, 3, size=5_000), Lsn(0))
    assert volume.tried == [SEGMENT // 4, SEGMENT]
    wal.close()
    assert list((tmp_path / "wal").rglob("spare*")) == []


def test_a_batch_larger_than_the_small_segment_ahead_gets_one_of_its_own(tmp_path: Path) -> None:
    volume = Volume(KEPT_FREE_BYTES + SEGMENT // 4)
    wal = on(volume, tmp_path)
    wal.prepare()
    large = batch_after(wal.end, size=SEGMENT // 2)
    with pytest.raises(DiskFull):
        wal.append([large], Lsn(0))
    volume.free = KEPT_FREE_BYTES + SEGMENT
    wal.append([large], Lsn(0))
    assert everything(wal) == [large.data]
    wal.close()


def test_what_failed_is_not_tried_again_at_once(tmp_path: Path) -> None:
    """The volume says that there is space, and there is none for us: a quota, or no inode."""
    volume = Volume(BIG)
    volume.refuses = True
    wal = on(volume, tmp_path)
    assert not wal.prepare(now_s=10.0)
    assert volume.tried == [SEGMENT, SEGMENT // SEGMENT_PARTS]
    assert not wal.prepare(now_s=10.0 + PAUSE_S - 0.1)
    assert len(volume.tried) == 2
    volume.refuses = False
    assert wal.prepare(now_s=10.0 + PAUSE_S)
    wal.close()


def test_a_volume_that_does_not_say_what_is_free_gets_whole_segments(tmp_path: Path) -> None:
    volume = Volume(BIG)
    silent = replace(SYSCALLS, statvfs=lambda folder: SimpleNamespace(f_bavail=0, f_frsize=1, f_blocks=0))
    wal = opened(tmp_path, calls=replace(silent, allocate=volume.allocate))[0]
    assert wal.prepare() and volume.tried == [SEGMENT]
    wal.close()


def test_what_room_promises_fits_without_any_allocation(tmp_path: Path) -> None:
    disk = Budget(BIG)
    wal, _ = opened(tmp_path, calls=replace(SYSCALLS, allocate=disk))
    for size in (30, 700, 5_000, 1_000, 9_000, 12_000):
        wal.prepare()
        disk.free = 0
        promised = wal.room.sure_bytes
        assert promised > 0
        while len((batch := batch_after(wal.end, size=size)).data) + MARK_BYTES <= promised:
            wal.append([batch], Lsn(0))
            promised -= len(batch.data) + MARK_BYTES
        disk.free = BIG
    wal.close()


def test_without_space_for_zeros_a_torn_segment_is_shorter_and_the_log_goes_on(tmp_path: Path) -> None:
    path, written, begin = two_groups(tmp_path)
    flip(path, begin + MARK_BYTES + 80)
    disk = Budget(0)
    wal, found = opened(tmp_path, calls=replace(SYSCALLS, allocate=disk))
    assert found.end == written[1].position
    assert wal.room.sure_bytes == 0
    disk.free = BIG
    wal.append(written[2:], Lsn(0))
    wal.close()
    wal, found = opened(tmp_path)
    assert everything(wal) == [batch.data for batch in written]
    wal.close()


# --- cutting ---


def test_a_cut_keeps_the_tail_with_its_story_and_the_log_goes_on_elsewhere(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 120, size=400)
    wal.append(written, Lsn(0))
    count = len(segments(tmp_path))
    assert count >= 3
    to = written[9].position
    copy = wal.cut(to, tmp_path / "diverged", "a newer reign wrote other records")
    assert copy.name == f"{1:020d}-{11:020d}-1.log"
    assert copy.read_bytes() == b"".join(batch.data for batch in written[10:])
    story = json.loads(copy.with_suffix(".json").read_bytes())
    assert story["from"] == {"term": 1, "lsn": 10, "chain": to.chain.hex()}
    assert (story["to"]["lsn"], story["reason"]) == (120, "a newer reign wrote other records")
    assert (wal.end, wal.terms) == (to, began(written[0]))
    assert everything(wal) == [batch.data for batch in written[:10]]
    assert len(segments(tmp_path)) == 1
    other = run_of(to, 5, term=2)
    wal.append(other, Lsn(12))
    assert everything(wal) == [batch.data for batch in written[:10] + other]
    again = wal.cut(other[0].position, tmp_path / "diverged")
    assert again.name == f"{2:020d}-{12:020d}-1.log"
    crash(wal)
    wal, found = opened(tmp_path)
    assert (found.end, found.cut_bytes) == (other[0].position, 0)
    wal.append(run_of(wal.end, 1, term=2), Lsn(0))
    assert wal.cut(other[0].position, tmp_path / "diverged").name == f"{2:020d}-{12:020d}-2.log"
    wal.close()


def test_a_cut_to_the_base_of_a_pruned_log_keeps_the_base(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    first = run_of(EMPTY, 120, size=400)
    wal.append(first, Lsn(0))
    base = wal.prune(wal.end.lsn)
    assert base.lsn > 0
    wal.cut(base, tmp_path / "diverged")
    assert (wal.end, wal.base, everything(wal)) == (base, base, [])
    crash(wal)
    wal, found = opened(tmp_path)
    assert (found.base, found.end, found.terms) == (base, base, began(first[0]))
    written = run_of(base, 3, term=5)
    wal.append(written, Lsn(0))
    assert everything(wal) == [batch.data for batch in written]
    assert wal.terms == began(first[0], written[0])
    wal.close()


def test_what_the_log_itself_says_is_committed_is_not_cut(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = [*run_of(EMPTY, 4), batch_after(run_of(EMPTY, 4)[-1].position, watermark=3)]
    wal.append(written, Lsn(0))
    with pytest.raises(CutRefused) as caught:
        wal.cut(written[1].position, tmp_path / "diverged")
    assert caught.value.committed == 3
    wal.cut(written[2].position, tmp_path / "diverged")
    with pytest.raises(CutRefused):
        wal.cut(written[0].position, tmp_path / "diverged")
    assert wal.keep_tail(written[0].position, tmp_path / "diverged", "state goes too").exists()
    assert wal.end == written[2].position
    wal.close()


def test_nothing_is_cut_unless_the_copy_is_durable(tmp_path: Path) -> None:
    synced: list[str] = []
    broken = False

    def fsync(fd: int) -> None:
        name = os.readlink(f"/proc/self/fd/{fd}")
        if broken and "diverged" in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        synced.append(Path(name).name)
        if name.endswith("diverged"):  # the folder comes last: then the log must still be whole
            assert segments(tmp_path)[0].read_bytes().find(written[-1].data) > 0
        os.fsync(fd)

    wal, _ = opened(tmp_path, calls=replace(SYSCALLS, fsync=fsync))
    written = run_of(EMPTY, 4)
    wal.append(written, Lsn(0))
    broken = True
    with pytest.raises(DiskFull):
        wal.cut(written[1].position, tmp_path / "diverged")
    assert wal.end == written[3].position
    assert list((tmp_path / "diverged").iterdir()) == []
    broken = False
    synced.clear()
    copy = wal.cut(written[1].position, tmp_path / "diverged")
    assert synced[:3] == [copy.name, copy.with_suffix(".json").name + ".tmp", "diverged"]
    assert wal.end == written[1].position
    wal.close()


# --- pruning and new generations ---


def test_pruning_removes_whole_segments_and_a_late_reader_is_told(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 120, size=400)
    wal.append(written, Lsn(0))
    assert wal.prune(Lsn(0)) == EMPTY
    status = wal.status()
    second = status.segments[1]
    assert wal.prune(Lsn(second.last - 1)).lsn == second.first - 1
    assert wal.prune(second.last).lsn == second.last
    with pytest.raises(LogPruned) as caught:
        read(wal, Lsn(second.last - 1), BIG, wal.end.lsn)
    assert caught.value.base == wal.base == written[second.last - 1].position
    assert wal.position_at(Lsn(3)) is None
    assert everything(wal) == [batch.data for batch in written[second.last :]]
    wal.close()
    wal, found = opened(tmp_path)
    assert (found.base, found.end) == (written[second.last - 1].position, written[-1].position)
    assert found.terms == began(written[0])
    assert wal.prune(Lsn(BIG)).lsn == wal.status().segments[-1].first - 1
    assert len(segments(tmp_path)) == 1
    wal.close()


def test_a_new_generation_begins_empty_after_its_base_and_the_old_one_goes_when_told(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    old = run_of(EMPTY, 3)
    wal.append(old, Lsn(0))
    wal.prepare()
    base = Position(Term(4), Lsn(50), b"c" * 16)
    terms = TermList((TermEntry(Term(1), Lsn(1), 8), TermEntry(Term(4), Lsn(40), 9)))
    (tmp_path / "wal" / "0000000002").mkdir()
    (tmp_path / "wal" / "0000000002" / "left over").touch()
    wal.restart(base, terms, 2)
    assert (wal.base, wal.end, wal.terms, everything(wal)) == (base, base, terms, [])
    new = run_of(base, 2, term=4)
    wal.append(new, Lsn(0))
    crash(wal)
    unswitched, found = opened(tmp_path)  # meta.cbor still named the old one
    assert found.end == old[-1].position
    crash(unswitched)
    wal, found = opened(tmp_path, generation=2, base=base, base_terms=terms)
    assert (found.base, found.end) == (base, new[-1].position)
    assert generations(tmp_path / "wal") == [1, 2]
    wal.remove_generation(1)
    assert generations(tmp_path / "wal") == [2]
    with pytest.raises(AssertionError):
        wal.remove_generation(2)
    wal.close()


def test_what_was_known_committed_in_another_history_is_forgotten_with_it(tmp_path: Path) -> None:
    """A node that was given up goes back. Its next start would miss what the log of before held."""
    wal, _ = opened(tmp_path)
    wal.append(run_of(EMPTY, 3), Lsn(900))
    base = Position(Term(4), Lsn(50), b"c" * 16)
    terms = TermList((TermEntry(Term(1), Lsn(1), 8), TermEntry(Term(4), Lsn(40), 9)))
    wal.restart(base, terms, 2)
    assert wal.watermark == 50
    new = run_of(base, 2, term=4)
    wal.append(new, Lsn(51))
    wal.close()
    wal, found = opened(tmp_path, generation=2, base=base, base_terms=terms)
    assert found.watermark == wal.watermark == 51
    wal.close()


def test_a_directory_without_a_log_has_no_generations(tmp_path: Path) -> None:
    assert generations(tmp_path / "wal") == []


# --- against a model ---

ACTIONS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 6), st.integers(1, 3_000)),
    st.tuples(st.just("reopen"), st.booleans(), st.integers(0, 0)),
    st.tuples(st.just("cut"), st.integers(1, 8), st.integers(0, 0)),
    st.tuples(st.just("prune"), st.integers(0, 60), st.integers(0, 0)),
    st.tuples(st.just("tear"), st.integers(1, 5), st.integers(1, 400)),
)


@given(actions=st.lists(ACTIONS, max_size=25))
def test_the_log_is_a_list_of_batches(tmp_path_factory: pytest.TempPathFactory, actions: list[Any]) -> None:
    root = tmp_path_factory.mktemp("log")
    wal, _ = opened(root)
    model: list[Batch] = []
    term = 1
    for action, number, size in actions:
        end = model[-1].position if model else EMPTY
        if action == "append":
            term += size % 7 == 0
            fresh = run_of(end, number, size=size, term=term, count=1 + size % 3)
            wal.append(fresh, Lsn(0))
            model += fresh
        elif action == "reopen":
            wal.close() if number else crash(wal)
            wal, found = opened(root)
            assert found.cut_bytes == 0
        elif action == "cut" and wal.base.lsn < end.lsn:
            kept = [batch for batch in model if batch.last <= wal.base.lsn]
            model = max(kept, model[:-number], key=len)
            wal.cut(model[-1].position if model else EMPTY, root / "diverged")
        elif action == "prune":
            wal.prune(Lsn(number))
        elif action == "tear":
            fresh = run_of(end, number, size=size, term=term)
            wal.append(fresh, Lsn(0))
            crash(wal)
            last = segments(root)[-1]
            at = place_of(last, fresh[-1])
            flip(last, at + size % len(fresh[-1].data))
            model += fresh[:-1]
            wal, found = opened(root)
            assert found.cut_from == fresh[-1].first
        assert wal.end == (model[-1].position if model else EMPTY)
        assert everything(wal) == [batch.data for batch in model if batch.first > wal.base.lsn]
        for batch in model[-3:]:
            assert wal.position_at(batch.last) == (batch.position if batch.last >= wal.base.lsn else None)
    wal.close()


def test_real_calls_are_the_default() -> None:
    assert Syscalls() == SYSCALLS

"""The log: append, read, recovery after every kind of damage, cut, prune and restart."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cluster.errors import CutRefused, DiskFailed, DiskFull, FormatNewer, LogCorrupt, LogPruned
from cluster.files import SYSCALLS, Syscalls
from cluster.log_view import LogView
from cluster.recovery import Recovery
from cluster.segment import MARK_BYTES, MARK_MAGIC, Mark, Place, Segment, Window
from cluster.wal import Wal, generations
from redwire.batch import Batch, make_batch, parse_batch
from redwire.position import EMPTY, Incarnation, Lsn, NodeId, Position, Reign, Term, TermEntry, TermList

INCARNATION = Incarnation("0123456789abcdef" * 2)
BIG = 1 << 30
SEGMENT = 1 << 14
UNSYNCED = replace(SYSCALLS, fsync=lambda fd: None, fdatasync=lambda fd: None)
"""For tests that open a log many times and do not lose power."""


def batch_after(
    end: Position, *, size: int = 30, count: int = 1, term: int = 1, watermark: int = 0, body: bytes = b""
) -> Batch:
    reign = Reign(Term(term), NodeId("eu-1"))
    return make_batch(
        reign, end, [body or bytes([65 + end.lsn % 26]) * size], count, end.lsn + 1, Lsn(watermark)
    )


def run_of(end: Position, number: int, **how: Any) -> list[Batch]:
    made: list[Batch] = []
    for _ in range(number):
        made.append(batch_after(end, **how))
        end = made[-1].position
    return made


def opened(root: Path, **changed: Any) -> tuple[Wal, Recovery]:
    given: dict[str, Any] = {
        "incarnation": INCARNATION,
        "generation": 1,
        "base": EMPTY,
        "base_terms": TermList(),
        "applied": Lsn(0),
        "watermark": Lsn(0),
        "segment_bytes": SEGMENT,
    }
    return Wal.open(root / "wal", **{**given, **changed})


def crash(wal: Wal) -> None:
    """Let go of the files as a killed process does: no last mark."""
    wal._writer.close()


def read(wal: Wal, after: Lsn, bytes_max: int, through: Lsn) -> list[bytes]:
    return [batch.data for batch in wal.read(after, bytes_max, through)]


def everything(wal: Wal) -> list[bytes]:
    return read(wal, wal.base.lsn, BIG, wal.end.lsn)


def segments(root: Path, generation: int = 1) -> list[Path]:
    return sorted((root / "wal" / f"{generation:010d}").glob("*.log"))


def flip(path: Path, offset: int, bits: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bits
    path.write_bytes(data)


def place_of(path: Path, batch: Batch) -> int:
    offset = path.read_bytes().find(batch.data)
    assert offset > 0
    return offset


# --- the plain life of a log ---


def test_a_new_log_is_empty(tmp_path: Path) -> None:
    wal, found = opened(tmp_path)
    assert found == Recovery(EMPTY, EMPTY, TermList(), Lsn(0), Lsn(0))
    assert (wal.end, wal.base, everything(wal)) == (EMPTY, EMPTY, [])
    assert wal.position_at(Lsn(0)) == EMPTY
    assert not wal.note_watermark(Lsn(9))
    wal.close()
    assert segments(tmp_path) == []


def began(*batches: Batch) -> TermList:
    """The list of a log in which these began their terms."""
    return TermList(tuple(TermEntry.of(each.reign.term, each.first, each.chain) for each in batches))


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


# --- reading ---


def test_reads_take_whole_batches_by_position_size_and_end(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 300, size=200, count=3)  # 80 KB over six segments
    for start in range(0, 300, 7):
        wal.append(written[start : start + 7], Lsn(0))
    assert len(wal.status().segments) > 4
    data, size = [batch.data for batch in written], len(written[0].data)
    for at in (0, 1, 57, 150, 299):
        after = Lsn(3 * at)
        assert read(wal, after, BIG, wal.end.lsn) == data[at:]
        assert read(wal, after, 1, wal.end.lsn) == data[at : at + 1]
        assert read(wal, after, 5 * size, wal.end.lsn) == data[at : at + 5]
        assert read(wal, after, 5 * size - 1, wal.end.lsn) == data[at : at + 4]
        assert read(wal, after, BIG, Lsn(after + 8)) == data[at : at + 2]
        assert read(wal, after, BIG, Lsn(after + 2)) == []
    assert read(wal, wal.end.lsn, BIG, Lsn(BIG)) == []
    assert read(wal, Lsn(wal.end.lsn + 50), BIG, Lsn(BIG)) == []
    with pytest.raises(ValueError, match="LSN 11"):
        read(wal, Lsn(10), BIG, wal.end.lsn)
    wal.close()


def test_positions_are_known_at_batch_ends_only(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 200, size=300, count=2)
    wal.append(written, Lsn(0))
    ends = {batch.last: batch.position for batch in written} | {Lsn(0): EMPTY}
    for lsn in range(wal.end.lsn + 3):
        assert wal.position_at(Lsn(lsn)) == ends.get(Lsn(lsn))
    wal.close()


def test_a_log_tells_who_wrote_its_end(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    assert wal.last_reign() is None
    written = run_of(EMPTY, 3)
    later = run_of(written[-1].position, 2, term=4)
    for batches in (written, later):
        wal.append(batches, Lsn(0))
        assert wal.last_reign() == batches[-1].reign
    wal.close()
    wal, _ = opened(tmp_path)
    assert wal.last_reign() == later[-1].reign
    wal.cut(written[-1].position, tmp_path / "diverged")
    assert wal.last_reign() == written[-1].reign
    wal.restart(wal.end, wal.terms, 2)
    assert wal.last_reign() is None
    wal.close()


def test_a_read_checks_what_it_returns(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 3)
    wal.append(written, Lsn(0))
    [path] = segments(tmp_path)
    flip(path, place_of(path, written[1]) + 90)
    assert read(wal, Lsn(0), 1, Lsn(3)) == [written[0].data]
    with pytest.raises(LogCorrupt) as caught:
        read(wal, Lsn(0), BIG, Lsn(3))
    assert (caught.value.path, caught.value.lsn) == (path, 2)
    path.unlink()
    with pytest.raises(LogCorrupt, match="cannot be read"):
        read(wal, Lsn(0), BIG, Lsn(3))
    crash(wal)


def test_a_file_that_may_not_be_opened_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when too many are open, or root wrote it: whoever believes that it is damaged gives it up."""
    wal, _ = opened(tmp_path)
    wal.append(run_of(EMPTY, 3), Lsn(0))

    def barred(window: Window, path: Path, size: int = 0) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as rights:
        rights.setattr(Window, "__init__", barred)
        with pytest.raises(DiskFailed, match="Permission denied"):
            read(wal, Lsn(0), BIG, Lsn(3))
        wal.close()
        with pytest.raises(DiskFailed, match="Permission denied"):
            opened(tmp_path)
    wal, _ = opened(tmp_path)
    assert len(read(wal, Lsn(0), BIG, Lsn(3))) == 3
    wal.close()


def test_readers_meet_only_whole_batches_while_the_writer_appends_prunes_and_cuts(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    wrong: list[str] = []
    reads = 0
    over = threading.Event()

    def follow() -> None:
        nonlocal reads
        after = Lsn(0)
        while not over.is_set():
            try:
                got = read(wal, after, 4_096, wal.end.lsn)
            except LogPruned as pruned:
                after = pruned.base.lsn
                continue
            for data in got:
                batch = parse_batch(data)
                if batch.first != after + 1:
                    wrong.append(f"{batch} after {after}")
                after = batch.last
            reads += len(got)
            if wal.end.lsn < after:  # a cut: go back, as a follower does that asks again
                after = wal.base.lsn

    def run() -> None:
        try:
            follow()
        except (LogCorrupt, ValueError) as error:
            wrong.append(str(error))

    readers = [threading.Thread(target=run) for _ in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(120):
        wal.append(run_of(wal.end, 5, size=400), Lsn(0))
        if turn % 40 == 20:
            to = wal.position_at(Lsn(wal.end.lsn - 40))
            assert to is not None
            wal.cut(to, tmp_path / "diverged")
        if turn % 30 == 29:
            wal.prune(Lsn(max(0, wal.end.lsn - 100)))
    over.set()
    for reader in readers:
        reader.join(10)
    assert wrong == []
    assert reads > 0
    wal.close()


class Overtaken(LogView):
    """A view whose reader is overtaken by the writer between looking at the log and opening its files."""

    meanwhile: ClassVar[Callable[[], object]]

    def read(self, after: Lsn, bytes_max: int, through: Lsn) -> list[bytes]:
        self.meanwhile()
        return LogView.read(self, after, bytes_max, through)

    def position_at(self, lsn: Lsn) -> Position | None:
        self.meanwhile()
        return LogView.position_at(self, lsn)


def overtaken(wal: Wal, meanwhile: Callable[[], object]) -> None:
    """Let `meanwhile` happen once, in the middle of the next read."""
    left = [meanwhile]
    view = wal._view
    wal._view = Overtaken(view.segments, view.base, view.end, view.history)
    Overtaken.meanwhile = lambda self=None: left.pop()() if left else None


def test_a_reader_overtaken_by_pruning_is_told_so_and_not_of_damage(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    wal.append(run_of(EMPTY, 120, size=400), Lsn(0))
    overtaken(wal, lambda: wal.prune(Lsn(60)))
    with pytest.raises(LogPruned):
        read(wal, Lsn(0), BIG, wal.end.lsn)
    overtaken(wal, lambda: wal.prune(wal.end.lsn))
    assert wal.position_at(Lsn(wal.base.lsn + 3)) is None
    wal.close()


def test_a_reader_overtaken_by_a_cut_gets_what_is_left(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 120, size=400)
    wal.append(written, Lsn(0))
    overtaken(wal, lambda: wal.cut(written[9].position, tmp_path / "diverged"))
    assert read(wal, Lsn(5), BIG, Lsn(120)) == [batch.data for batch in written[5:10]]
    overtaken(wal, lambda: wal.cut(written[4].position, tmp_path / "diverged"))
    assert wal.position_at(Lsn(8)) is None
    wal.close()


# --- recovery ---


def two_groups(tmp_path: Path) -> tuple[Path, list[Batch], int]:
    """A log whose second group was the last: its path, its batches, and where that group begins."""
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 4, size=20)
    wal.append(written[:2], Lsn(0))
    [path] = segments(tmp_path)
    wal.append(written[2:], Lsn(0))
    crash(wal)
    return path, written, place_of(path, written[1]) + len(written[1].data)


def test_a_group_torn_at_any_byte_is_cut_and_the_log_goes_on(tmp_path: Path) -> None:
    path, written, begin = two_groups(tmp_path)
    whole = path.read_bytes()
    third = begin + MARK_BYTES + len(written[2].data)
    end = third + len(written[3].data)
    for torn in range(begin, end):
        path.write_bytes(whole[:torn] + bytes(len(whole) - torn))
        wal, found = opened(tmp_path, calls=UNSYNCED)
        kept = written[:3] if torn >= third else written[:2]
        assert found.end == kept[-1].position
        assert everything(wal) == [batch.data for batch in kept]
        used = len(whole[:torn].rstrip(b"\0"))
        stands = third if torn >= third else begin + MARK_BYTES if torn >= begin + MARK_BYTES else begin
        assert found.cut_bytes == max(0, used - stands)
        assert found.cut_from == (found.end.lsn + 1 if found.cut_bytes else None)
        assert not any(path.read_bytes()[stands:])
        assert path.stat().st_size == SEGMENT
        wal.append(written[len(kept) :], Lsn(0))
        crash(wal)
        assert opened(tmp_path, calls=UNSYNCED)[1].end == written[-1].position


def test_any_changed_byte_below_a_later_mark_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    path, written, begin = two_groups(tmp_path)
    whole = path.read_bytes()
    first = place_of(path, written[0])
    for offset in range(first, begin):
        for bits in (1, 128):
            flip(path, offset, bits)
            damaged = path.read_bytes()
            with pytest.raises((LogCorrupt, FormatNewer)) as caught:
                opened(tmp_path)
            assert path.read_bytes() == damaged
            assert isinstance(caught.value, LogCorrupt), f"byte {offset - first}"
            lsn = 1 if offset < first + len(written[0].data) else 2
            assert (caught.value.path, caught.value.lsn) == (path, lsn)
            assert str(path) in str(caught.value) and "snapshot" in str(caught.value)
            assert caught.value.offset == place_of_lsn(first, written, lsn)
            path.write_bytes(whole)


def place_of_lsn(first: int, written: list[Batch], lsn: int) -> int:
    return first + sum(len(batch.data) for batch in written[: lsn - 1])


def test_any_changed_byte_of_the_unsynced_tail_is_cut_with_the_whole_batches_behind_it(
    tmp_path: Path,
) -> None:
    path, written, begin = two_groups(tmp_path)
    whole = path.read_bytes()
    third = begin + MARK_BYTES
    for offset in range(begin, third + len(written[2].data)):
        for bits in (1, 2, 128):
            flip(path, offset, bits)
            wal, found = opened(tmp_path)
            assert found.end == written[1].position
            assert found.cut_from == 3
            crash(wal)
            path.write_bytes(whole)


def test_after_a_clean_stop_every_byte_was_durable(tmp_path: Path) -> None:
    path, written, _ = two_groups(tmp_path)
    wal, _ = opened(tmp_path)
    wal.close()
    flip(path, place_of(path, written[3]) + 80)
    with pytest.raises(LogCorrupt, match="LSN 4"):
        opened(tmp_path)


def test_an_idle_mark_makes_the_end_durable_and_keeps_the_watermark(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 2)
    wal.append(written, Lsn(0))
    assert wal.note_watermark(Lsn(2))
    crash(wal)
    wal, found = opened(tmp_path)
    assert found.watermark == 2
    crash(wal)
    [path] = segments(tmp_path)
    flip(path, place_of(path, written[1]) + 80)
    with pytest.raises(LogCorrupt, match="durable up to LSN 2"):
        opened(tmp_path)


def test_bad_bytes_at_or_below_the_applied_lsn_are_damage_above_it_an_interrupted_write(
    tmp_path: Path,
) -> None:
    path, written, _ = two_groups(tmp_path)
    flip(path, place_of(path, written[3]) + 80)
    with pytest.raises(LogCorrupt) as caught:
        opened(tmp_path, applied=Lsn(4))
    assert caught.value.lsn == 4
    wal, found = opened(tmp_path, applied=Lsn(3))
    assert found.end.lsn == 3
    wal.close()


def test_state_ahead_of_a_log_without_any_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(LogCorrupt, match="LSN 1"):
        opened(tmp_path, applied=Lsn(5))


def test_an_interrupted_write_below_a_marks_watermark_is_cut_when_nothing_proves_it_durable(
    tmp_path: Path,
) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 4)
    wal.append(written[:2], Lsn(1_000))
    wal.append(written[2:], Lsn(1_000))
    crash(wal)
    [path] = segments(tmp_path)
    flip(path, place_of(path, written[2]) + 80)
    wal, found = opened(tmp_path)
    assert (found.end.lsn, found.watermark) == (2, 1_000)
    wal.close()
    assert opened(tmp_path)[1].watermark == 1_000  # the last mark keeps it


def test_a_log_that_ends_below_the_watermark_saved_beside_it_is_damage(tmp_path: Path) -> None:
    """As an older copy of it does; the node would hold against others that they lack what it lost itself."""
    wal, _ = opened(tmp_path)
    wal.append(run_of(EMPTY, 4), Lsn(0))
    wal.close()
    opened(tmp_path, watermark=Lsn(4))[0].close()
    before = [path.read_bytes() for path in segments(tmp_path)]
    with pytest.raises(LogCorrupt, match="LSN 5 was here and is known committed, the log ends before it"):
        opened(tmp_path, watermark=Lsn(5))
    assert [path.read_bytes() for path in segments(tmp_path)] == before


def test_the_watermark_of_a_batch_header_is_known_after_a_restart(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    first = batch_after(EMPTY)
    wal.append([first, batch_after(first.position, watermark=1)], Lsn(0))
    crash(wal)
    found = opened(tmp_path)[1]
    assert (found.watermark, found.announced) == (1, 1)


def test_mark_bytes_inside_a_document_prove_nothing(tmp_path: Path) -> None:
    """Even whole marks of this very segment, made for other offsets, do not count inside a document."""
    wal, _ = opened(tmp_path)
    first = batch_after(EMPTY)
    wal.append([first], Lsn(0))
    [path] = segments(tmp_path)
    place = Place(tmp_path / "wal", INCARNATION, 1, SEGMENT)
    segment = Segment(path, place, EMPTY, TermList(), 0, SEGMENT)
    forged = b"".join(segment.encode_mark(offset, Mark(Lsn(9), Lsn(9))) for offset in range(50))
    second = batch_after(first.position, size=20)
    third = batch_after(second.position, body=forged + MARK_MAGIC * 30)
    wal.append([second, third], Lsn(0))
    crash(wal)
    flip(path, place_of(path, second) + 80)
    wal, found = opened(tmp_path)
    assert (found.end.lsn, found.watermark, found.cut_from) == (1, 0, 2)
    wal.close()


@pytest.mark.parametrize(("offset", "value"), [(4, 1), (5, 128), (3, ord("2"))])
def test_a_batch_of_a_newer_version_stops_the_node_and_is_never_cut(
    tmp_path: Path, offset: int, value: int
) -> None:
    """A newer version's batch has a chain that holds over its own format and flags."""
    from redwire import batch as module

    path, written, _ = two_groups(tmp_path)
    newer = bytearray(written[3].data)
    newer[offset] = value
    newer[52:68] = module._chain(written[2].chain, bytes(newer[:52]), b"eu-1")
    data = bytearray(path.read_bytes())
    at = place_of(path, written[3])
    data[at : at + len(newer)] = newer
    path.write_bytes(data)
    with pytest.raises(FormatNewer):
        opened(tmp_path)
    assert path.read_bytes() == data


def test_a_batch_that_breaks_the_chain_ends_the_log(tmp_path: Path) -> None:
    path, written, _ = two_groups(tmp_path)
    other = batch_after(Position(Term(1), Lsn(2), bytes(16)), size=20)
    data = path.read_bytes()
    path.write_bytes(data.replace(written[2].data, other.data))
    assert len(path.read_bytes()) == len(data)
    assert opened(tmp_path)[1].end == written[1].position


def test_an_earlier_segment_that_ends_early_is_damage_whatever_follows(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 100, size=400)
    wal.append(written, Lsn(0))
    crash(wal)
    early, *later = segments(tmp_path)
    assert len(later) >= 2
    whole = early.read_bytes()
    early.write_bytes(whole[: SEGMENT // 2] + bytes(SEGMENT // 2))
    with pytest.raises(LogCorrupt, match=r"continues 1/\d+"):
        opened(tmp_path)
    early.write_bytes(whole)
    moved = later[0].read_bytes()
    later[0].unlink()
    with pytest.raises(LogCorrupt, match="continues"):
        opened(tmp_path)
    later[0].write_bytes(moved)
    flip(later[0], 50)
    with pytest.raises(LogCorrupt, match="CRC"):
        opened(tmp_path)
    flip(later[0], 50)
    wal, found = opened(tmp_path)
    assert found.end == written[-1].position
    wal.close()
    with pytest.raises(LogCorrupt, match="another log"):
        opened(tmp_path, incarnation=Incarnation("ff" * 16))


def test_a_log_that_begins_below_or_besides_its_base_is_damage(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    wal.append(run_of(EMPTY, 3), Lsn(0))
    wal.close()
    for base in (Position(Term(1), Lsn(2), bytes(16)), Position(Term(1), Lsn(0), bytes(16))):
        with pytest.raises(LogCorrupt):
            opened(tmp_path, base=base, base_terms=TermList((TermEntry(Term(1), Lsn(1), 0),)))


def test_a_crash_between_header_and_first_group_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 60, size=400)
    wal.append(written, Lsn(0))
    crash(wal)
    last = segments(tmp_path)[-1]
    data = last.read_bytes()
    header = int.from_bytes(data[8:12], "little")
    last.write_bytes(data[:header] + bytes(len(data) - header))
    wal, found = opened(tmp_path)
    assert 0 < found.end.lsn < 60
    assert found.cut_bytes == 0
    assert wal.room_bytes == 0
    newer = batch_after(wal.end, term=9)
    wal.append([newer], Lsn(0))  # another first batch than the empty file is named after
    assert last not in segments(tmp_path)
    crash(wal)
    wal, found = opened(tmp_path)
    assert found.end == newer.position
    last.write_bytes(data[:header] + bytes(len(data) - header))  # as if the removal had not become durable
    crash(wal)
    wal, found = opened(tmp_path)
    assert found.end == newer.position
    assert not last.exists()
    assert len(everything(wal)) == newer.last
    wal.close()


def test_what_a_killed_process_left_in_memory_is_synced_before_it_counts(tmp_path: Path) -> None:
    path, _, begin = two_groups(tmp_path)
    synced: list[str] = []

    def fsync(fd: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)

    calls = replace(SYSCALLS, fsync=fsync)
    crash(opened(tmp_path, calls=calls)[0])
    assert synced == [path.name, path.parent.name]
    flip(path, begin)
    crash(opened(tmp_path, calls=calls)[0])
    assert synced[2:] == [path.name, path.parent.name]


def test_a_failing_sync_at_the_end_of_recovery_stops_the_node(tmp_path: Path) -> None:
    two_groups(tmp_path)

    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    with pytest.raises(DiskFailed):
        opened(tmp_path, calls=replace(SYSCALLS, fsync=fsync))


# --- disk trouble ---


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
    assert wal.room_bytes == 0
    assert wal.prepare() and wal.prepare()
    assert SEGMENT - 300 < wal.room_bytes < SEGMENT
    while wal.room_bytes >= 500:
        before, batch = wal.room_bytes, batch_after(wal.end, size=400)
        wal.append([batch], Lsn(0))
        assert wal.prepare() == (
            disk.free > 0 or wal.status().bytes == 2 * SEGMENT and len(segments(tmp_path)) == 1
        )
        assert wal.room_bytes >= before - len(batch.data) - MARK_BYTES or disk.free == 0
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


def test_what_room_promises_fits_without_any_allocation(tmp_path: Path) -> None:
    disk = Budget(BIG)
    wal, _ = opened(tmp_path, calls=replace(SYSCALLS, allocate=disk))
    for size in (30, 700, 5_000, 1_000, 9_000, 12_000):
        wal.prepare()
        disk.free = 0
        promised = wal.room_bytes
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
    assert wal.room_bytes == 0
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


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"]
)
def test_what_is_no_file_in_a_segments_place_is_damage_and_is_not_opened(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    wal, _ = opened(tmp_path)
    wal.append(run_of(EMPTY, 3), Lsn(0))
    wal.close()
    (path,) = segments(tmp_path)
    path.unlink()
    make(path)
    with pytest.raises(
        LogCorrupt, match=r"at byte 0 \(LSN 1\): it is a (pipe|device), and no file"
    ) as caught:
        opened(tmp_path)
    assert caught.value.path == path

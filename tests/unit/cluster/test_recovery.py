"""Opening a log after every kind of damage: what is cut, and what is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from cluster.errors import DiskFailed, FormatNewer, LogCorrupt
from cluster.files import SYSCALLS
from cluster.segment import MARK_BYTES, MARK_MAGIC, Mark, Place, Segment
from redwire.batch import Batch
from redwire.position import EMPTY, Incarnation, Lsn, Position, Term, TermEntry, TermList
from tests.log_files import (
    INCARNATION,
    SEGMENT,
    UNSYNCED,
    batch_after,
    crash,
    everything,
    flip,
    opened,
    place_of,
    run_of,
    segments,
    two_groups,
)


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
    assert wal.room.sure_bytes == 0
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

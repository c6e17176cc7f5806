"""Reading a log, while it is written, pruned and cut as well."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from cluster.errors import DiskFailed, LogCorrupt, LogPruned
from cluster.log_view import LogView
from cluster.segment import Window
from cluster.wal import Wal
from redwire.batch import parse_batch
from redwire.position import EMPTY, Lsn, Position
from tests.log_files import BIG, crash, flip, opened, place_of, read, run_of, segments


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

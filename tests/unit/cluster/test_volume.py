"""How much is free: asked of the disk thread, which may hang, and of a volume that may fail."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import volume
from cluster.log_config import Level
from cluster.volume import INODES_MAX, Volume, free_bytes, name_of


class Bed:
    """A volume over a disk thread that does what it is asked to when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Callable[[], object], Callable[[object], object]]] = []
        self.free: int | OSError = 7
        self.said: list[tuple[str, Level]] = []
        disk: Any = self
        self.volume = Volume(disk, Path("/data"), self.note, self.measure, lambda folder: 3)

    def relieve(self, work: Callable[[], object], done: Callable[[object], object]) -> None:
        self.asked.append((work, done))

    def note(self, text: str, level: Level = Level.INFO) -> None:
        self.said.append((text, level))

    def measure(self, folder: Path) -> int:
        assert folder == Path("/data")
        if isinstance(self.free, OSError):
            raise self.free
        return self.free

    def answer(self, free: int | OSError) -> int | None:
        """What is known once the disk thread has come to it."""
        self.free = free
        work, done = self.asked.pop(0)
        done(work())
        self.volume.look()
        return self.volume.free_bytes


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_nothing_is_known_until_the_disk_thread_has_asked(bed: Bed) -> None:
    assert bed.volume.free_bytes is None
    assert bed.volume.free_inodes is None
    assert (bed.answer(7), bed.answer(5)) == (7, 5)
    assert bed.volume.free_inodes == 3


def test_a_volume_that_stands_still_is_asked_once_and_holds_nobody_up(bed: Bed) -> None:
    bed.answer(7)
    for _ in range(3):
        bed.volume.look()
    assert len(bed.asked) == 1 and bed.volume.free_bytes == 7
    assert (bed.answer(OSError(errno.EIO, "Input/output error")), bed.volume.free_inodes) == (None, None)


def test_an_error_is_unknown_and_said_once_and_its_end_too(bed: Bed) -> None:
    bed.answer(7)
    stale = OSError(errno.ESTALE, "Stale file handle")
    assert (bed.answer(stale), bed.answer(stale), bed.answer(6), bed.answer(5)) == (None, None, 6, 5)
    said = (
        "/data: how much is free on its volume is not known: Stale file handle; until it is, retention goes"
    )
    assert [(text.startswith(said), level) for text, level in bed.said] == [
        (True, Level.WARNING),
        (False, Level.INFO),
    ]
    assert bed.said[1][0] == "/data: how much is free on its volume is known again"


def test_what_is_free_is_what_the_system_says(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
    with pytest.raises(FileNotFoundError):
        free_bytes(tmp_path / "no")


def test_folders_on_one_volume_say_the_same_name_and_one_that_is_not_there_says_none(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert name_of(tmp_path / "data") == name_of(tmp_path) != ""
    assert name_of(Path("/proc")) != name_of(tmp_path)
    assert name_of(tmp_path / "nowhere") == ""


@pytest.mark.parametrize(("free", "log_free", "least"), [(7, 5, 5), (5, 7, 5)])
def test_of_a_log_with_a_volume_of_its_own_the_smaller_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, log_free: int, least: int
) -> None:
    blocks = {tmp_path: free, tmp_path / "wal": log_free}
    fake = SimpleNamespace(statvfs=lambda folder: SimpleNamespace(f_bavail=blocks[folder], f_frsize=4096))
    monkeypatch.setattr(volume, "os", fake)
    assert volume.free_bytes(tmp_path) == free * 4096
    (tmp_path / "wal").mkdir()
    assert volume.free_bytes(tmp_path) == least * 4096


@pytest.mark.parametrize(
    ("files", "left", "found"),
    [
        ((9, 9), (5, 3), 3),
        ((9, 0), (5, 0), 5),
        ((0, 0), (0, 0), None),
        (((1 << 64) - 1, 0), ((1 << 64) - 1, 0), INODES_MAX),
    ],
)
def test_inodes_are_counted_where_a_volume_has_a_number_of_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: tuple[int, int],
    left: tuple[int, int],
    found: int | None,
) -> None:
    (tmp_path / "wal").mkdir()
    said = {
        folder: SimpleNamespace(f_files=all_, f_favail=some)
        for folder, all_, some in zip((tmp_path, tmp_path / "wal"), files, left, strict=True)
    }
    monkeypatch.setattr(volume, "os", SimpleNamespace(statvfs=said.__getitem__))
    assert volume.free_inodes(tmp_path) == found

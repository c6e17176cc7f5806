"""Whether a process does its work: a disk that answers, hangs, is full, and answers again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from cluster.disk import DiskState
from cluster.effects import Now
from cluster.errors import DiskFailed
from cluster.files import SYSCALLS, Syscalls
from cluster.log_config import Level
from cluster.pulse import SILENT_MS, Pulse


class FakeDisk:
    """Does what it is asked to when it is told to."""

    def __init__(self) -> None:
        self.state = DiskState.WORKING
        self.asked: list[tuple[Callable[[], object], Callable[[object], object]]] = []

    def call(self, work: Callable[[], object], done: Callable[[object], object]) -> None:
        self.asked.append((work, done))

    def answer(self) -> None:
        work, done = self.asked.pop(0)
        done(work())


class Bed:
    """A pulse over a fake disk, and its clock."""

    def __init__(self, folder: Path, calls: Syscalls = SYSCALLS) -> None:
        self.ms = 5_000
        self.said: list[tuple[str, Level]] = []
        self.disk = FakeDisk()
        self.file = folder / "pulse"
        self.pulse = Pulse(
            self.disk,  # type: ignore[arg-type]
            folder,
            lambda: Now(self.ms * 1_000, 1_700_000_000_000 + self.ms),
            lambda text, level=Level.INFO: self.said.append((text, level)),
            calls,
        )

    def at(self, ms: int) -> str:
        """What is wrong so much later; "" for nothing."""
        self.ms += ms
        return self.pulse.status().why


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_a_process_is_alive_from_the_start_until_its_disk_is_silent_for_too_long(bed: Bed) -> None:
    bed.pulse.beat()
    assert bed.at(SILENT_MS) == ""
    assert bed.at(1) == "the disk has not answered for 20 s"


def test_a_disk_that_answers_is_asked_again_and_one_that_owes_an_answer_is_not(bed: Bed) -> None:
    bed.pulse.beat()
    bed.pulse.beat()
    assert len(bed.disk.asked) == 1
    bed.ms += SILENT_MS + 1
    bed.disk.answer()
    assert bed.pulse.status().alive and bed.pulse.status().answered_ms == 0
    assert bed.file.read_bytes() == (1_700_000_000_000 + bed.ms).to_bytes(8, "little")
    bed.pulse.beat()
    assert len(bed.disk.asked) == 1


def test_who_was_stopped_himself_does_not_say_that_the_disk_was_silent(bed: Bed) -> None:
    """Nor does its probe: whoever restarts what was only paused makes it worse."""
    bed.pulse.look()
    bed.disk.answer()
    assert bed.at(9 * SILENT_MS) == ""
    bed.pulse.look()
    assert (bed.at(SILENT_MS), bed.said) == ("", [])
    assert bed.at(1) == "the disk has not answered for 20 s"


def test_a_full_disk_answers_however_long_its_thread_waits_for_room(bed: Bed) -> None:
    bed.pulse.beat()
    bed.disk.state = DiskState.FULL
    assert bed.at(10 * SILENT_MS) == ""
    bed.pulse.look()
    bed.disk.state = DiskState.WORKING
    assert bed.at(SILENT_MS) == "" and bed.at(1) != ""


def test_no_room_for_the_file_is_an_answer_and_another_error_is_the_end(tmp_path: Path) -> None:
    def fails(code: int) -> Syscalls:
        def pwritev(fd: int, buffers: Sequence[bytes], offset: int) -> int:
            raise OSError(code, "told to")

        return replace(SYSCALLS, pwritev=pwritev)

    full = Bed(tmp_path, fails(errno.ENOSPC))
    full.pulse.beat()
    full.disk.answer()
    assert full.pulse.status().answered_ms == 0
    broken = Bed(tmp_path, fails(errno.EIO))
    broken.pulse.beat()
    with pytest.raises(DiskFailed):
        broken.disk.answer()


def test_silence_and_its_end_are_said_once_each(bed: Bed) -> None:
    bed.pulse.look()
    bed.ms += SILENT_MS + 1_000
    bed.pulse.look()
    bed.pulse.look()
    bed.disk.answer()
    bed.pulse.look()
    bed.pulse.look()
    assert bed.said == [
        ("the disk has not answered for 21 s", Level.ERROR),
        ("the disk answers again", Level.INFO),
    ]


def test_a_pipe_in_the_place_of_its_file_does_not_hold_up_the_disk(bed: Bed) -> None:
    os.mkfifo(bed.file)
    bed.pulse.beat()
    with pytest.raises(DiskFailed, match="it is a pipe, and no file"):
        bed.disk.answer()

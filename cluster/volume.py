"""Which volume the data directory is on, and how much is free there. The disk thread asks for that: the loop
never waits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from cluster.disk import Disk
from cluster.log_config import Level, Note

LOG_FOLDER = "wal"
"""In the data directory, where an operator may have put it on a volume of its own."""
INODES_MIN = 64
"""Files that a node makes within minutes: segments, a snapshot, what SQLite keeps beside the state."""
INODES_MAX = 1 << 32
"""More than this many are told as this many: a volume without an end says the highest number there is."""


def free_bytes(folder: Path) -> int:
    """What the node's user may still write below `folder`; of a data directory whose log has a volume of its
    own, what the smaller of both takes. Waits for the volumes. Raises `OSError`.
    """
    return min(volume.f_bavail * volume.f_frsize for volume in _volumes(folder))


def free_inodes(folder: Path) -> int | None:
    """How many files may still be made there, likewise, `INODES_MAX` at most; None where a volume does not
    count them. Raises `OSError`.
    """
    counted = (min(volume.f_favail, INODES_MAX) for volume in _volumes(folder) if volume.f_files)
    return min(counted, default=None)


def _volumes(folder: Path) -> list[os.statvfs_result]:
    log = folder / LOG_FOLDER
    return [os.statvfs(each) for each in ((folder, log) if log.is_dir() else (folder,))]


_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Tells machines apart, and says nothing else of them."""
NAME_CHARS = 16


def name_of(folder: Path) -> str:
    """The same for all folders on one volume of one machine, for as long as that runs; "" if it is not known.

    Machines that run inside another one may have volumes that are one there: that is not seen.
    """
    try:
        parts = f"{_BOOT.read_text().strip()} {folder.stat().st_dev}"
    except OSError:
        return ""
    return hashlib.sha256(parts.encode()).hexdigest()[:NAME_CHARS]


class Volume:
    """One volume, as `disk`'s thread last saw it; `name` is by `name_of`. For the event loop's thread only.

    `free_bytes` stays what it was while an answer is owed, and is None where nobody knows: before the first
    answer, and after one that was an error. `note` hears of that, and of its end. `free_inodes` likewise.
    """

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        note: Note,
        measure: Callable[[Path], int] = free_bytes,
        count: Callable[[Path], int | None] = free_inodes,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._note = note
        self._measure = measure
        self._count = count
        self._under_way = False
        self._trouble = ""
        self.free_bytes: int | None = None
        self.free_inodes: int | None = None
        self.name = name_of(folder)
        self.look()

    def look(self) -> None:
        """Ask, unless the last answer is still owed. Never waits."""
        if not self._under_way:
            self._under_way = True
            self._disk.relieve(self._ask, self._answered)

    def _ask(self) -> tuple[int, int | None] | OSError:
        """On the disk thread. An error is an answer: it says nothing about what was written."""
        try:
            return self._measure(self._folder), self._count(self._folder)
        except OSError as error:
            return error

    def _answered(self, found: tuple[int, int | None] | OSError) -> None:
        self._under_way = False
        before, self._trouble = self._trouble, ""
        if isinstance(found, OSError):
            self.free_bytes = self.free_inodes = None
            self._trouble = found.strerror or str(found)
            if self._trouble != before:
                text = f"{self._folder}: how much is free on its volume is not known: {self._trouble}"
                self._note(f"{text}; until it is, retention goes by bytes and age alone", Level.WARNING)
            return
        self.free_bytes, self.free_inodes = found
        if before:
            self._note(f"{self._folder}: how much is free on its volume is known again")

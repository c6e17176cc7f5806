"""How much is free on the volume of the data directory. The disk thread asks it: the loop never waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cluster.disk import Disk
from cluster.log_config import Level, Note


def free_bytes(folder: Path) -> int:
    """What the node's user may still write below `folder`. Waits for the volume. Raises `OSError`."""
    volume = os.statvfs(folder)
    return volume.f_bavail * volume.f_frsize


class Volume:
    """One volume, as `disk`'s thread last saw it. For the event loop's thread only.

    `free_bytes` stays what it was while an answer is owed, and is None where nobody knows: before the first
    answer, and after one that was an error. `note` hears of that, and of its end.
    """

    def __init__(
        self, disk: Disk, folder: Path, note: Note, measure: Callable[[Path], int] = free_bytes
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._note = note
        self._measure = measure
        self._under_way = False
        self._trouble = ""
        self.free_bytes: int | None = None
        self.look()

    def look(self) -> None:
        """Ask, unless the last answer is still owed. Never waits."""
        if not self._under_way:
            self._under_way = True
            self._disk.relieve(self._ask, self._answered)

    def _ask(self) -> int | OSError:
        """On the disk thread. An error is an answer: it says nothing about what was written."""
        try:
            return self._measure(self._folder)
        except OSError as error:
            return error

    def _answered(self, found: int | OSError) -> None:
        self._under_way = False
        before, self._trouble = self._trouble, ""
        if isinstance(found, OSError):
            self.free_bytes, self._trouble = None, found.strerror or str(found)
            if self._trouble != before:
                text = f"{self._folder}: how much is free on its volume is not known: {self._trouble}"
                self._note(f"{text}; until it is, retention goes by bytes and age alone", Level.WARNING)
            return
        self.free_bytes = found
        if before:
            self._note(f"{self._folder}: how much is free on its volume is known again")

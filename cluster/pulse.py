"""Whether this process does its work: its event loop turns, and its disk answers. Nothing about the cluster.

A process that fails this should be started anew; one that passes should not, whatever else is wrong: a
restart mends no network, no lost majority and no full disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec

from cluster.disk import Disk, DiskState
from cluster.effects import Now
from cluster.errors import DiskFailed, DiskFull
from cluster.files import FILE_MODE, SYSCALLS, Syscalls, not_a_file, translated
from cluster.log_config import Level, Note

BEAT_S = 2.0
"""An answer that was not there for ten of them has a disk called silent."""
SILENT_MS = 20_000
"""Networked volumes stand still for some seconds now and then, and go on: no reason to end a process."""


class PulseStatus(msgspec.Struct, frozen=True):
    """`answered_ms`: how long ago the disk answered last. `why` says what is wrong, "" for nothing."""

    answered_ms: int
    why: str

    @property
    def alive(self) -> bool:
        """Whether the process does its work."""
        return not self.why


class Pulse:
    """Has the disk thread write and sync a small file every two seconds, behind all that waits there.

    A full disk is one that answers: the node waits for room and says so (R2), and a new process would too.
    """

    def __init__(
        self, disk: Disk, data_dir: Path, clock: Callable[[], Now], note: Note, calls: Syscalls = SYSCALLS
    ) -> None:
        self._disk = disk
        self._path = data_dir / "pulse"
        self._clock = clock
        self._note = note
        self._said = False
        self._calls = calls
        self._answered_ms = clock().ms
        self._asked_ms: int | None = None  # since when the disk owes an answer

    async def run(self) -> None:
        """Ask for ever, and say when the disk stops to answer and when it does again."""
        while True:
            self.look()
            await anyio.sleep(BEAT_S)

    def beat(self) -> None:
        """Ask the disk once, unless it owes the last answer. Never waits."""
        if self._asked_ms is None:
            self._asked_ms = self._clock().ms
            self._disk.call(self._touch, self._answered)

    def status(self) -> PulseStatus:
        """How it is now; that somebody could ask says that the loop turns. A disk that was not asked, as
        while the process or its machine was stopped, owes no answer.
        """
        now_ms = self._clock().ms
        silent_ms = 0 if self._asked_ms is None else now_ms - self._asked_ms
        silent = silent_ms > SILENT_MS and self._disk.state is not DiskState.FULL
        why = f"the disk has not answered for {silent_ms // 1000} s" if silent else ""
        return PulseStatus(now_ms - self._answered_ms, why)

    def look(self) -> None:
        """Ask the disk, and say what has changed."""
        self.beat()
        if self._disk.state is DiskState.FULL:
            self._answered_ms = self._asked_ms = self._clock().ms
        status = self.status()
        if status.alive is self._said:
            self._said = not status.alive
            level = Level.INFO if status.alive else Level.ERROR
            self._note(status.why or "the disk answers again", level)

    def _touch(self) -> None:
        """On the disk thread. No room is an answer; any other failure ends the node, as everywhere."""
        with suppress(DiskFull), translated(self._path):
            if what := not_a_file(self._path):  # whoever opens a pipe waits, and the log behind it
                raise DiskFailed(self._path, what)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                self._calls.write_all(fd, [self._clock().wall_ms.to_bytes(8, "little")], 0)
                self._calls.fdatasync(fd)
            finally:
                os.close(fd)

    def _answered(self, nothing: None) -> None:
        self._answered_ms, self._asked_ms = self._clock().ms, None

"""Processes that outlive the command which started them: found by their command line, ended together.

No file says what runs, so none can say it wrongly after a crash: the system is asked. A process is named by
its id and the moment it started, and is signalled by a handle that was compared with both, so that a stranger
who got the id of a process that is gone is never touched.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

STOP_S = 10.0
"""How long a process may take to end before it is killed."""

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19
"""Fields of /proc/PID/stat behind the command, which stands in parentheses (proc_pid_stat(5))."""


class Endable(Protocol):
    """A process as `end` needs it: a child of ours, or one that was found."""

    def send_signal(self, sig: int, /) -> None:
        """Send a signal, if it is still there."""

    def kill(self) -> None:
        """SIGKILL."""

    def wait(self, timeout: float) -> object:
        """Return when it is gone. Raises `subprocess.TimeoutExpired`."""


class Process(msgspec.Struct, frozen=True):
    """One process, for good: `started_ticks` since the machine began tell it from a later one with its id."""

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this id now; None if there is none, or it only waits to be taken notice of."""
        fields = _stat(pid)
        return None if fields is None or fields[_STATE] in "ZX" else cls(pid, int(fields[_STARTED]))

    @property
    def runs(self) -> bool:
        """Whether it is there."""
        return Process.of(self.pid) == self

    @property
    def is_paused(self) -> bool:
        """Whether SIGSTOP holds it."""
        fields = _stat(self.pid)
        return fields is not None and fields[_STATE] == "T"

    def send_signal(self, sig: int, /) -> None:
        """Send a signal; nobody gets it when the process is gone."""
        with self._handle() as handle:
            if handle is not None:
                signal.pidfd_send_signal(handle, sig)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> None:
        """Return when it is gone. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        with self._handle() as handle:
            if handle is None:
                return
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(timeout * 1000):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)

    @contextmanager
    def _handle(self) -> Iterator[int | None]:
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            yield handle if self.runs else None
        finally:
            os.close(handle)


def find(commands: Mapping[str, Sequence[str]]) -> dict[str, Process]:
    """Which of these commands run, by name. Any program may run them, and more arguments may follow."""
    found: dict[str, Process] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        process = Process.of(int(entry.name))
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has just ended
        for name, command in commands.items():
            if words[1 : len(command)] == list(command[1:]) and process is not None and process.runs:
                found[name] = process
    return {name: found[name] for name in commands if name in found}


def end(processes: Iterable[Endable]) -> None:
    """End all: SIGTERM to each, also to a paused one, then SIGKILL to who is there after `STOP_S`."""
    processes = list(processes)
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
    for process in processes:
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)


def _stat(pid: int) -> Sequence[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()

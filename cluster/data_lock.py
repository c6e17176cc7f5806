"""The lock on a data directory: one process holds it, says who it is, and what became of its last reload.

The file `lock` has two lines: the holder's process id, and once it was told to reload, a JSON object. Whoever
holds no lock may read it. What it says is worth something only while the lock is held.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cluster.errors import DataDirInUse
from cluster.files import FILE_MODE, SYSCALLS, translated

_NAME = "lock"
_BYTES_MAX = 16 << 10
TRY_S = 0.5
"""A process that only looks into the directory lets go of it sooner."""
_TRY_AGAIN_S = 0.02


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of the holder's last reload. `number` counts them from 1.

    `sha256` is of the certificate that the process uses since, or goes on using where it was not `done`.
    """

    number: int
    done: bool
    message: str
    sha256: str


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that has a data directory. `pid` is 0 if it did not say."""

    pid: int
    reloaded: Reloaded | None = None


class DataLock:
    """A data directory that is this process's until `close`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, data_dir: Path) -> DataLock:
        """Take `data_dir`, made if missing. Waits `TRY_S` for whoever has it.

        Raises `DataDirInUse`, which names the process that has it, or `DiskFailed`.
        """
        path = data_dir / _NAME
        with translated(path):
            SYSCALLS.make_folder(data_dir)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            deadline = time.monotonic() + TRY_S
            while not _locked(fd, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    pid = _read(fd).pid
                    os.close(fd)
                    raise DataDirInUse(data_dir, pid)
                time.sleep(_TRY_AGAIN_S)
            lock = cls(fd)
            lock._write(b"%d\n" % os.getpid())
        return lock

    def tell(self, outcome: Reloaded) -> None:
        """Say what became of a reload. Raises `OSError`."""
        self._write(b"%d\n%s\n" % (os.getpid(), msgspec.json.encode(outcome)))

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        os.pwrite(self._fd, data, 0)  # in one piece: a reader sees the old lines or the new
        os.ftruncate(self._fd, len(data))


@contextmanager
def looked_into(data_dir: Path) -> Iterator[Holder | None]:
    """Whoever holds `data_dir`; None when nobody does, and then nobody can take it inside the `with`.

    Changes and makes nothing. Raises `DiskFailed`.
    """
    path = data_dir / _NAME
    with translated(path):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            fd = -1
    try:
        yield _read(fd) if fd >= 0 and not _locked(fd, fcntl.LOCK_SH) else None
    finally:
        if fd >= 0:
            os.close(fd)


def _locked(fd: int, mode: int) -> bool:
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(fd: int) -> Holder:
    first, _, rest = os.pread(fd, _BYTES_MAX, 0).partition(b"\n")
    pid = int(first) if first.strip().isdigit() else 0
    try:
        return Holder(pid=pid, reloaded=msgspec.json.decode(rest.partition(b"\n")[0], type=Reloaded))
    except msgspec.DecodeError:
        return Holder(pid=pid)

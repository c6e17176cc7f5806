"""The lock on a data directory: one process holds it, says who it is, and what became of its last reload.

It is the directory itself that is locked: a file could be removed under whoever holds it, and the next one
would lock another. The file `lock` only says who that is, in two lines: its process id, and once it was
told to reload, a JSON object. Anybody may read it; it is worth something only while the directory is locked.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cluster.errors import DataDirInUse, DataDirNoFolder, DiskFailed
from cluster.files import FILE_MODE, SYSCALLS, not_a_file, translated

_NAME = "lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BYTES_MAX = 16 << 10
"""A process id, and the outcome of a reload with the paths that it speaks of."""
TRY_S = 0.5
"""A process that only looks into the directory lets go of it sooner."""
_TRY_AGAIN_S = 0.02
"""A try costs one system call; whoever only looks is gone after a few."""


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

    def __str__(self) -> str:
        return f"process {self.pid or 'unknown'}"


class DataLock:
    """A data directory that is this process's until `close`.

    `process` tells this holder from every other, also on another host with a copy of the directory.
    """

    def __init__(self, folder: int, words: int) -> None:
        self.process = secrets.token_hex(16)
        self._folder = folder
        self._words = words

    @classmethod
    def take(cls, data_dir: Path) -> DataLock:
        """Take `data_dir`, made if missing. Waits `TRY_S` for whoever has it.

        Raises `DataDirInUse`, which names the process that has it, `DataDirNoFolder`, or `DiskFailed`.
        """
        require_folder(data_dir)
        with translated(data_dir):
            SYSCALLS.make_folder(data_dir)
            folder = os.open(data_dir, _FOLDER)
            deadline = time.monotonic() + TRY_S
            while not _locked(folder, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    os.close(folder)
                    raise DataDirInUse(data_dir, _read(data_dir).pid)
                time.sleep(_TRY_AGAIN_S)
            lock = cls(folder, os.open(data_dir / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
            lock._write(b"%d\n" % os.getpid())
        return lock

    def tell(self, outcome: Reloaded) -> None:
        """Say what became of a reload. Raises `OSError`."""
        self._write(b"%d\n%s\n" % (os.getpid(), msgspec.json.encode(outcome)))

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._words)
        os.close(self._folder)

    def _write(self, data: bytes) -> None:
        os.pwrite(self._words, data, 0)  # in one piece: a reader sees the old lines or the new
        os.ftruncate(self._words, len(data))


def nearest(folder: Path) -> Path:
    """`folder`, or what is there of the way to it."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder


def require_folder(data_dir: Path) -> None:
    """Raise `DataDirNoFolder` where something else stands in the place of a directory, and `DiskFailed`, also
    where something else stands in the place of the file `lock`.
    """
    words = data_dir / _NAME
    with translated(data_dir):
        there = nearest(data_dir)
        if not there.is_dir():
            raise DataDirNoFolder(data_dir, there)
        if what := not_a_file(words):
            raise DiskFailed(words, what)


@contextmanager
def looked_into(data_dir: Path) -> Iterator[Holder | None]:
    """Whoever holds `data_dir`; None when nobody does, and then nobody can take it inside the `with`.

    Changes and makes nothing. Raises `DiskFailed`.
    """
    with translated(data_dir):
        try:
            folder = os.open(data_dir, _FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            folder = -1
    try:
        yield _read(data_dir) if folder >= 0 and not _locked(folder, fcntl.LOCK_SH) else None
    finally:
        if folder >= 0:
            os.close(folder)


def _locked(fd: int, mode: int) -> bool:
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # as on NFS
        why = f"{error.strerror}: its file system locks no directories; use a local one"
        raise OSError(error.errno, why) from error
    return True


def _read(data_dir: Path) -> Holder:
    words = data_dir / _NAME
    try:
        if not_a_file(words):
            return Holder(pid=0)
        with words.open("rb") as file:
            first, _, rest = file.read(_BYTES_MAX).partition(b"\n")
    except OSError:
        return Holder(pid=0)
    pid = int(first) if first.strip().isdigit() else 0
    try:
        return Holder(pid=pid, reloaded=msgspec.json.decode(rest.partition(b"\n")[0], type=Reloaded))
    except msgspec.DecodeError:
        return Holder(pid=pid)

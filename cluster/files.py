"""Files that must outlive a power cut: the few system calls behind them, and how their errors are named.

Files have mode 0600, folders 0700. A file or rename counts as done only when its folder is synced too.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cluster.errors import DiskFailed, DiskFull

FILE_MODE = 0o600
"""For the node's user alone: documents, verifiers and the cluster's secret are in the files."""
FOLDER_MODE = 0o700
_BUFFERS_MAX = 1_024
"""IOV_MAX of Linux: one vectored write takes no more."""
_NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))
_NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT))


def _extend(fd: int, offset: int, size: int) -> None:
    os.ftruncate(fd, max(os.fstat(fd).st_size, offset + size))


_fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
_allocate: Callable[[int, int, int], None] = getattr(os, "posix_fallocate", _extend)


class Syscalls(msgspec.Struct, frozen=True):
    """How bytes reach the disk. Tests pass calls that fail."""

    pwritev: Callable[[int, Sequence[bytes], int], int] = os.pwritev
    fdatasync: Callable[[int], None] = _fdatasync
    fsync: Callable[[int], None] = os.fsync
    allocate: Callable[[int, int, int], None] = _allocate
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs

    def free_bytes(self, folder: Path) -> int | None:
        """What the node's user may still write on the volume of `folder`; None where that is not known, as it
        does not answer, or not say how large it is. Whoever writes there meets what is wrong.
        """
        try:
            volume = self.statvfs(folder)
        except OSError:
            return None
        return volume.f_bavail * volume.f_frsize if volume.f_blocks else None

    def write_all(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """Write every byte of `buffers` at `offset`; the offset behind them. Raises `OSError`."""
        for start in range(0, len(buffers), _BUFFERS_MAX):
            part = buffers[start : start + _BUFFERS_MAX]
            size = sum(map(len, part))
            written = self.pwritev(fd, part, offset)
            while written < size:
                more = self.pwritev(fd, [b"".join(part)[written:]], offset + written)
                if more == 0:
                    raise OSError(errno.EIO, "the file takes no more bytes and does not say why")
                written += more
            offset += size
        return offset

    def sync_folder(self, folder: Path) -> None:
        """Make the names in `folder` durable. Raises `OSError`."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fsync(fd)
        finally:
            os.close(fd)

    def make_folder(self, folder: Path) -> None:
        """Make `folder` and those above it, durably, where they are missing. Raises `OSError`."""
        if not folder.is_dir():
            self.make_folder(folder.parent)
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            self.sync_folder(folder.parent)

    def replace_whole(self, path: Path, data: bytes) -> None:
        """Make `path` hold exactly `data`: after a crash it holds the old or the new bytes, never a mixture.

        Raises `DiskFull` (the old file stands) or `DiskFailed`.
        """
        temp = path.with_name(path.name + ".tmp")
        with translated(path):
            temp.unlink(missing_ok=True)  # what a crash has left, or what is no file
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            try:
                self.write_all(fd, [data], 0)
                self.fsync(fd)
            except OSError:
                temp.unlink()
                raise
            finally:
                os.close(fd)
            os.replace(temp, path)
            self.sync_folder(path.parent)


SYSCALLS = Syscalls()
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def not_a_file(path: Path) -> str:
    """What stands at `path` in the place of a file, in words; "" for a file, and where nothing is.

    To be asked before it is opened: a pipe keeps whoever opens it waiting, and a device may do anything.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return ""
    return "" if stat.S_ISREG(mode) else f"it is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, and no file"


def open_file(path: str | Path, flags: int) -> int:
    """A descriptor of the file `path`, made with `FILE_MODE` where `flags` say so: an opener for `open`.

    It never waits, also where a pipe has come into the place of a file after that was looked at. Raises
    `OSError`.
    """
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)


_MEDIUM = frozenset((errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENOENT))
"""What says that the bytes of a file are gone, and not that this process cannot get at them."""


def is_lost(error: OSError) -> bool:
    """Whether reading failed because of what the disk holds: not for rights, limits or memory that are short,
    which an operator mends without giving up what is there.
    """
    return error.errno in _MEDIUM


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Name an `OSError` about `path`: `DiskFull` where space is short, else `DiskFailed`."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise DiskFull(path, "for it") from error
        if error.errno in _NO_DESCRIPTOR:
            hint = "raise LimitNOFILE of its service, or ulimit -n, then start the node again"
            raise DiskFailed(path, str(error), hint) from error
        raise DiskFailed(path, str(error)) from error

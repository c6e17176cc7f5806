"""What goes wrong with simulated disks: they are full, and syncs fail and lose what they were for."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from msgspec.structs import force_setattr

from cluster import snapshot, volume
from cluster.errors import DiskFull
from cluster.files import SYSCALLS
from cluster.snapshot import SnapshotReceiver
from cluster.state import State


class Faults:
    """Those of one disk. While it is `full` no file grows. `syncs_left` counts down to the sync that fails,
    None for none; `failed`: one has, in the process that runs.
    """

    def __init__(self) -> None:
        self.full = False
        self.syncs_left: int | None = None
        self.failed = False
        self._written: tuple[int, int, int] | None = None  # descriptor, offset and bytes of the last write

    def wrote(self, fd: int, offset: int, size: int) -> None:
        """Bytes are written, and not synced."""
        self._written = fd, offset, size

    def sync(self, fd: int) -> None:
        """Raises `OSError` if this sync is the one that fails; what it was for is lost."""
        if self.syncs_left is None:
            return
        self.syncs_left -= 1
        if self.syncs_left < 0:
            self.syncs_left, self.failed = None, True
            if self._written is not None and self._written[0] == fd:
                _, offset, size = self._written
                os.pwrite(fd, bytes(size), offset)
            raise OSError(errno.EIO, "Input/output error")

    def grow(self, path: Path) -> None:
        """Raises `DiskFull` while it is."""
        if self.full:
            raise DiskFull(path, "in the simulation")


@contextmanager
def failing(here: Callable[[], Faults]) -> Iterator[None]:
    """Inside, the files of nodes are on the disk that `here` names the faults of."""
    real = {name: getattr(SYSCALLS, name) for name in ("pwritev", "fdatasync", "fsync", "allocate")}

    def pwritev(fd: int, buffers: Sequence[bytes], offset: int) -> int:
        end = offset + sum(map(len, buffers))
        if here().full and os.fstat(fd).st_size < end:
            raise OSError(errno.ENOSPC, "No space left on device")
        here().wrote(fd, offset, end - offset)
        written: int = real["pwritev"](fd, buffers, offset)
        return written

    def allocate(fd: int, offset: int, size: int) -> None:
        if here().full:
            raise OSError(errno.ENOSPC, "No space left on device")
        real["allocate"](fd, offset, size)

    def sync(fd: int) -> None:
        here().sync(fd)
        real["fdatasync"](fd)

    def statvfs(folder: Path) -> Any:
        return SimpleNamespace(f_bavail=0 if here().full else 1 << 28, f_frsize=4_096, f_files=0)

    def grows(owner: type[Any], name: str, path_of: Callable[..., Path]) -> Any:
        work = getattr(owner, name)

        def grown(self: Any, *arguments: Any, **named: Any) -> Any:
            here().grow(path_of(self))
            return work(self, *arguments, **named)

        return patch.object(owner, name, grown)

    with ExitStack() as stack:
        for name, fault in zip(real, (pwritev, sync, sync, allocate), strict=True):
            stack.callback(force_setattr, SYSCALLS, name, real[name])
            force_setattr(SYSCALLS, name, fault)
        stack.enter_context(patch.object(volume, "os", SimpleNamespace(statvfs=statvfs)))
        stack.enter_context(patch.object(snapshot, "os", SimpleNamespace(fsync=sync)))
        for name in ("apply", "checkpoint", "snapshot_into"):
            stack.enter_context(grows(State, name, lambda state: state.path))
        stack.enter_context(grows(SnapshotReceiver, "_append", lambda receiver: receiver._path))
        yield

"""What Linux tells about processes and disks: CPU time, resident memory, file systems."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tools.errors import BenchImpossible

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_IN_MEMORY = ("tmpfs", "ramfs")
_TIMES = slice(11, 15)
"""utime, stime, cutime, cstime: in /proc/<pid>/stat, counted behind the command's name."""
SYNC_SAMPLES = 200
"""A p99 rests on two of them, and a disk that takes 10 ms is done in two seconds."""
SYNC_BYTES = 4096
"""A page, as a small batch writes it."""


class MachineCpu(msgspec.Struct, frozen=True):
    """Seconds of all cores since boot: what ran, and everything."""

    busy_s: float
    total_s: float


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time of these processes, their threads, and the children that they have waited for; 0 of none."""
    return sum(_ticks(pid) for pid in pids) / _TICKS_PER_S


def descendants(pid: int) -> list[int]:
    """`pid` and every process below it that lives now."""
    found, at = [pid], 0
    while at < len(found):
        for task in Path(f"/proc/{found[at]}/task").glob("*/children"):
            found += [int(child) for child in _read(task).split()]
        at += 1
    return found


def resident_mb(pid: int) -> float:
    """Memory of one process that is in RAM now, in MB of 10^6 bytes; 0 when it has gone."""
    pages = _read(Path(f"/proc/{pid}/statm")).split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if pages else 0.0


def machine_cpu() -> MachineCpu:
    """The whole machine's CPU time."""
    return parse_machine_cpu(Path("/proc/stat").read_text())


def parse_machine_cpu(stat: str) -> MachineCpu:
    """From the text of /proc/stat, whose first line counts user, nice, system, idle, iowait, irq, softirq and
    steal.
    """
    ticks = [int(field) for field in stat.split("\n", 1)[0].split()[1:9]]
    return MachineCpu((sum(ticks) - ticks[3] - ticks[4]) / _TICKS_PER_S, sum(ticks) / _TICKS_PER_S)


def filesystem(path: Path) -> str:
    """The type of the file system that `path` is on, as the kernel calls it."""
    return parse_filesystem(Path("/proc/self/mountinfo").read_text(), path.resolve())


def parse_filesystem(mountinfo: str, path: Path) -> str:
    """From the text of /proc/self/mountinfo: the type of the last and deepest mount above `path`."""
    best, kind = -1, "unknown"
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mount = Path(left.split()[4].replace("\\040", " "))
        if path.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), right.split()[0]
    return kind


def real_disk(path: Path) -> str:
    """The file system of `path`. Raises `BenchImpossible` where it is kept in memory: fsync costs nothing."""
    kind = filesystem(path)
    if kind in _IN_MEMORY:
        raise BenchImpossible(f"{path} is on {kind}, where fsync does nothing", hint="name a disk with --dir")
    return kind


def sync_ms(folder: Path) -> list[float]:
    """How long one `fdatasync` takes after 4 KiB were written into a file that has its size, ascending."""
    took = []
    path = folder / "sync-probe"
    with path.open("wb", buffering=0) as file:
        file.write(bytes(SYNC_BYTES * SYNC_SAMPLES))
        os.fsync(file.fileno())
        for at in range(SYNC_SAMPLES):
            os.pwrite(file.fileno(), b"\1" * SYNC_BYTES, at * SYNC_BYTES)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return sorted(took)


def _ticks(pid: int) -> int:
    return parse_ticks(_read(Path(f"/proc/{pid}/stat")))


def parse_ticks(stat: str) -> int:
    """From the text of /proc/<pid>/stat, whose second field, the command's name, may hold anything."""
    return sum(map(int, stat.rpartition(")")[2].split()[_TIMES]))


def _read(path: Path) -> str:
    """The text; nothing when the process has gone."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""

"""A log in a folder of a test: its batches, its files, and what can happen to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cluster.files import SYSCALLS
from cluster.recovery import Recovery
from cluster.wal import Wal
from redwire.batch import Batch, make_batch
from redwire.position import EMPTY, Incarnation, Lsn, NodeId, Position, Reign, Term, TermEntry, TermList

INCARNATION = Incarnation("0123456789abcdef" * 2)
BIG = 1 << 30
SEGMENT = 1 << 14
UNSYNCED = replace(SYSCALLS, fsync=lambda fd: None, fdatasync=lambda fd: None)
"""For tests that open a log many times and do not lose power."""


def batch_after(
    end: Position, *, size: int = 30, count: int = 1, term: int = 1, watermark: int = 0, body: bytes = b""
) -> Batch:
    reign = Reign(Term(term), NodeId("eu-1"))
    return make_batch(
        reign, end, [body or bytes([65 + end.lsn % 26]) * size], count, end.lsn + 1, Lsn(watermark)
    )


def run_of(end: Position, number: int, **how: Any) -> list[Batch]:
    made: list[Batch] = []
    for _ in range(number):
        made.append(batch_after(end, **how))
        end = made[-1].position
    return made


def opened(root: Path, **changed: Any) -> tuple[Wal, Recovery]:
    given: dict[str, Any] = {
        "incarnation": INCARNATION,
        "generation": 1,
        "base": EMPTY,
        "base_terms": TermList(),
        "applied": Lsn(0),
        "watermark": Lsn(0),
        "segment_bytes": SEGMENT,
    }
    return Wal.open(root / "wal", **{**given, **changed})


def crash(wal: Wal) -> None:
    """Let go of the files as a killed process does: no last mark."""
    wal._writer.close()


def read(wal: Wal, after: Lsn, bytes_max: int, through: Lsn) -> list[bytes]:
    return [batch.data for batch in wal.read(after, bytes_max, through)]


def everything(wal: Wal) -> list[bytes]:
    return read(wal, wal.base.lsn, BIG, wal.end.lsn)


def segments(root: Path, generation: int = 1) -> list[Path]:
    return sorted((root / "wal" / f"{generation:010d}").glob("*.log"))


def flip(path: Path, offset: int, bits: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bits
    path.write_bytes(data)


def place_of(path: Path, batch: Batch) -> int:
    offset = path.read_bytes().find(batch.data)
    assert offset > 0
    return offset


def began(*batches: Batch) -> TermList:
    """The list of a log in which these began their terms."""
    return TermList(tuple(TermEntry.of(each.reign.term, each.first, each.chain) for each in batches))


def two_groups(tmp_path: Path) -> tuple[Path, list[Batch], int]:
    """A log whose second group was the last: its path, its batches, and where that group begins."""
    wal, _ = opened(tmp_path)
    written = run_of(EMPTY, 4, size=20)
    wal.append(written[:2], Lsn(0))
    [path] = segments(tmp_path)
    wal.append(written[2:], Lsn(0))
    crash(wal)
    return path, written, place_of(path, written[1]) + len(written[1].data)

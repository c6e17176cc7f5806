"""Tails that lost: what a node logged and the cluster did not keep is copied before it is cut (R4).

A tail is two files: `<term>-<first LSN>-<number>.log`, the batches as they were logged, and the same name
with `.json`, its manifest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from cluster.files import FILE_MODE, Syscalls, translated
from cluster.log_view import LogView
from redwire.position import Lsn, Position

_READ_BYTES = 4 << 20
"""Four full batches at a time: memory does not grow with the tail."""


def keep_tail(view: LogView, after: Position, folder: Path, reason: str, calls: Syscalls) -> Path:
    """Copy every batch behind `after` into `folder`; returns once copy, manifest and names are durable. One
    that an attempt which came to nothing left there whole is not made again.

    `after` is a position of the log below its end. Raises `DiskFull` (no half copy stays), `DiskFailed`, or
    `LogCorrupt` if the tail cannot be read; the log itself is not touched.
    """
    (first,) = view.read(after.lsn, 1, view.end.lsn)
    with translated(folder):
        calls.make_folder(folder)
        stem, chain = f"{first.reign.term:020d}-{first.first:020d}", view.end.chain.hex().encode()
        for manifest in sorted(folder.glob(f"{stem}-*.json")):
            copy = manifest.with_suffix(".log")
            if copy.exists() and chain in manifest.read_bytes():  # that of all that was logged up to there
                return copy
        path, fd = _create(folder, stem)
        size, kept = 0, False
        try:
            for batches in _pieces(view, after.lsn):
                size = calls.write_all(fd, batches, size)
            calls.fsync(fd)
            calls.replace_whole(
                path.with_suffix(".json"), _manifest(after, view.end, first.first, size, reason)
            )
            kept = True
        finally:
            os.close(fd)
            if not kept:
                path.unlink()
    return path


def _create(folder: Path, stem: str) -> tuple[Path, int]:
    number = 1
    while True:
        path = folder / f"{stem}-{number}.log"
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        except FileExistsError:
            number += 1


def _pieces(view: LogView, after: Lsn) -> Iterator[list[bytes]]:
    while batches := view.read(after, _READ_BYTES, view.end.lsn):
        yield [batch.data for batch in batches]
        after = batches[-1].last


def _manifest(after: Position, end: Position, first: Lsn, size: int, reason: str) -> bytes:
    return json.dumps(
        {
            "format": 1,
            "from": {"term": after.term, "lsn": after.lsn, "chain": after.chain.hex()},
            "to": {"term": end.term, "lsn": end.lsn, "chain": end.chain.hex()},
            "first": first,
            "bytes": size,
            "reason": reason,
        },
        indent=1,
    ).encode()

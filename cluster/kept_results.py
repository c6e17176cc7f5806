"""How the memory of keys keeps what a request came to: short where its records came to the same.

Results are packed `RESULT`s, one for each record, in the request's order. A run is a stretch of records with
one status whose versions are all the same, or rise by one from record to record as those of records that were
applied do. A request of 10,000 deletes that found nothing is one run; where runs would take more bytes than
the results, these are kept as they are.
"""

from __future__ import annotations

import struct

from redwire.message.client import RESULT, RecordStatus

_RUN = struct.Struct("<BHQ")
"""Status, with `_RISING` in it or not, records, and the version of the first."""
_RISING = 0x80
_APPLIED = int(RecordStatus.APPLIED)
_COUNT = struct.Struct("<H")


APPLIED, LISTED, RUNS = range(3)
"""The forms: not kept at all, since every record was applied, and its version is its LSN; as they are; as
runs, their number before them.
"""


def kept(count: int, items: bytes) -> tuple[int, bytes]:
    """The results `items` of a request of `count` records: how they are kept, and as what."""
    if items[:: RESULT.size].count(_APPLIED) == count:
        return APPLIED, b""
    if count == 1:
        return LISTED, items
    runs = _runs(items)
    if _COUNT.size + len(runs) * _RUN.size >= len(items):
        return LISTED, items
    return RUNS, _COUNT.pack(len(runs)) + b"".join([_RUN.pack(*run) for run in runs])


def given_back(form: int, first: int, count: int, data: bytes) -> bytes:
    """The results that were `kept` in `form` as `data`."""
    if form == LISTED:
        return data
    if form == APPLIED:
        return _expanded(_APPLIED | _RISING, count, first)
    runs = _RUN.iter_unpack(data[_COUNT.size :])
    return b"".join([_expanded(*run) for run in runs])


def size_of(form: int, count: int, data: bytes, offset: int) -> int:
    """How many bytes from `offset` of `data` on were `kept` in `form`."""
    if form == LISTED:
        return count * RESULT.size
    if form == APPLIED:
        return 0
    return _COUNT.size + int(_COUNT.unpack_from(data, offset)[0]) * _RUN.size


def _runs(items: bytes) -> list[tuple[int, int, int]]:
    """Status with `_RISING`, records and first version of each run."""
    runs: list[tuple[int, int, int]] = []
    run_status, length, start, rise = -1, 0, 0, 0
    for status, version in RESULT.iter_unpack(items):
        if status == run_status:
            if length == 1 and version - start in (0, 1):
                rise, length = version - start, 2
                continue
            if length > 1 and version == start + rise * length:
                length += 1
                continue
        if length:
            runs.append((run_status | _RISING * rise, length, start))
        run_status, length, start, rise = status, 1, version, 0
    if length:
        runs.append((run_status | _RISING * rise, length, start))
    return runs


def _expanded(kind: int, count: int, start: int) -> bytes:
    status = kind & ~_RISING
    if not kind & _RISING:
        return RESULT.pack(status, start) * count
    return b"".join([RESULT.pack(status, version) for version in range(start, start + count)])

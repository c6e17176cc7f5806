"""The batch: the unit that is logged, synced, sent and acknowledged (R1).

The primary writes its bytes once; every node stores and forwards the same bytes. All numbers are little-
endian.

    offset size
    0      4    "RWB1": format version 1
    4      2    flags, none defined: an unknown flag stops a node, it is never skipped (R10)
    6      2    length of the primary's id, 1 to 63
    8      8    term
    16     8    first LSN
    24     4    records (LSNs taken)
    28     4    body length
    32     8    batch time, milliseconds since 1970, strictly rising along the log
    40     8    watermark when the batch was made
    48     4    CRC-32 of the body
    52     16   chain: BLAKE2b-128 over the previous chain (zeros before the first batch), bytes 0 to 51 of
                this header and the primary's id
    68     n    the primary's id
    68+n        body: requests, see `record`
"""

from __future__ import annotations

import hashlib
import struct
import zlib

import msgspec

from redwire.errors import BatchInvalid
from redwire.position import CHAIN_BYTES, Lsn, NodeId, Position, Reign, Term

MAGIC = b"RWB1"
BATCH_BYTES_SOFT = 1 << 20
"""A batch closes here; a single larger request makes a batch of its own. Thousands of small writes share a
sync and a frame by then: more would save nothing, and each waits for all of it.
"""
BATCH_RECORDS_SOFT = 4_096
"""At some 15 µs a record, what one batch makes apply take stays below 0.1 s."""
BATCH_BYTES_MAX = (16 << 20) - 4_096
"""Room for one 15 MiB request and the header, and still one frame."""

_FIXED = struct.Struct("<4sHHQQIIQQI")
_HEADER_BYTES = _FIXED.size + CHAIN_BYTES
HEADER_BYTES_MAX = _HEADER_BYTES + 63
"""The primary's id, which ends the header, is a DNS label."""
assert _HEADER_BYTES == 68


class Batch(msgspec.Struct, frozen=True):
    """One batch: its parsed header beside its bytes. `data` is header and body as logged and sent."""

    reign: Reign
    first: Lsn
    last: Lsn
    time_ms: int
    watermark: Lsn
    chain: bytes
    data: bytes

    @property
    def position(self) -> Position:
        """Where a log ends whose last batch is this one."""
        return Position(self.reign.term, self.last, self.chain)

    @property
    def records(self) -> int:
        """How many there are in it: it takes as many LSNs."""
        return self.last - self.first + 1

    @property
    def body(self) -> memoryview:
        """The requests, as a view into `data`."""
        return memoryview(self.data)[_HEADER_BYTES + len(self.reign.primary) :]

    def __str__(self) -> str:
        return f"[{self.reign} {self.first}..{self.last} wm={self.watermark} {len(self.data)}B]"


def make_batch(
    reign: Reign, after: Position, requests: list[bytes], count: int, time_ms: int, watermark: Lsn
) -> Batch:
    """The batch that continues a log ending at `after`. `count` is the number of records in `requests`."""
    body = b"".join(requests)
    first, last = Lsn(after.lsn + 1), Lsn(after.lsn + count)
    primary = reign.primary.encode()
    fixed = _FIXED.pack(
        MAGIC, 0, len(primary), reign.term, first, count, len(body), time_ms, watermark, zlib.crc32(body)
    )
    chain = _chain(after.chain, fixed, primary)
    return Batch(reign, first, last, time_ms, watermark, chain, b"".join((fixed, chain, primary, body)))


def batch_size(data: memoryview) -> int:
    """Bytes of the batch whose header begins `data`, of which at least 68 bytes are there. Raises
    `BatchInvalid`.
    """
    magic, flags, primary_len, _, _, count, body_len, _, _, _ = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise BatchInvalid(f"starts with {bytes(magic)!r}, not {MAGIC!r}")
    if flags:
        raise BatchInvalid(f"has unknown flags {flags:#06x}: written by a newer version", newer=True)
    size = _HEADER_BYTES + int(primary_len) + int(body_len)
    if not 1 <= primary_len <= 63 or not count or not body_len or size > BATCH_BYTES_MAX:
        raise BatchInvalid(f"says {count} records in {body_len} bytes by a primary id of {primary_len}")
    return size


def parse_batch(data: bytes) -> Batch:
    """The batch in `data`, which is exactly one batch; its body's CRC is checked, its chain is not.

    Raises `BatchInvalid`. A reader checks the chain with `follows`, since only it knows what came before.
    """
    if len(data) < _HEADER_BYTES or batch_size(memoryview(data)) != len(data):
        raise BatchInvalid(f"does not fill its {len(data)} bytes")
    _, _, primary_len, term, first, count, _, time_ms, watermark, crc = _FIXED.unpack_from(data)
    primary_end = _HEADER_BYTES + primary_len
    if zlib.crc32(memoryview(data)[primary_end:]) != crc:
        raise BatchInvalid(f"at LSN {first} fails its CRC")
    try:
        primary = data[_HEADER_BYTES:primary_end].decode("ascii")
    except UnicodeDecodeError as error:
        raise BatchInvalid(f"at LSN {first} names no primary") from error
    reign = Reign(Term(term), NodeId(primary))
    chain = data[_FIXED.size : _HEADER_BYTES]
    return Batch(reign, Lsn(first), Lsn(first + count - 1), time_ms, Lsn(watermark), chain, data)


def follows(batch: Batch, end: Position) -> bool:
    """Whether `batch` continues a log that ends at `end`: next LSN, no older term, the chain over both."""
    if batch.first != end.lsn + 1 or batch.reign.term < end.term:
        return False
    return batch.chain == _chain(end.chain, batch.data[: _FIXED.size], batch.reign.primary.encode())


def _chain(previous: bytes, fixed: bytes, primary: bytes) -> bytes:
    return hashlib.blake2b(previous + fixed + primary, digest_size=CHAIN_BYTES).digest()

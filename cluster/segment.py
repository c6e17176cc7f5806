"""One file of the log: its header, its local marks, its batches, and how they are read.

A segment is named `<term>-<first LSN>.log` after its first batch. It is allocated in full before anything
enters it, so that an append changes no metadata and cannot run out of space. All numbers are little-endian.

    header   offset size
             0      4    "RWS1"
             4      2    format; an unknown one stops the node
             6      2    0
             8      4    length of the header
             12     4    number of terms in the list
             16     8    generation
             24     16   incarnation of the data directory
             40     8    term of the first batch
             48     8    term  \
             56     8    LSN    > the position that the first batch continues
             64     16   chain /
             80     20n  the term list of that position: (term, first LSN, mark of its first batch)
             80+20n 4    CRC-32 of everything before

    mark     0      4    "RWM1"
             4      8    durable: the LSN up to which the log was on disk before the bytes behind this mark
             12     8    watermark: the highest one known at that time, which may lie above the log's own end
             20     12   BLAKE2b-96 over these 20 bytes and the mark's offset, keyed (see `mark_key`)

Behind the header stand write groups, each one mark and any number of batches; zeros follow. A mark is no part
of the shared log: other nodes never see it. No document can pass for one, because its key never leaves the
node in a form that a client sees, and its place is part of what is hashed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import msgspec

from cluster.errors import FormatNewer, FormatOlder, LogCorrupt
from cluster.files import FILE_MODE, SYSCALLS, Syscalls, not_a_file
from redwire.batch import HEADER_BYTES_MAX, Batch, batch_size, parse_batch
from redwire.errors import BatchInvalid
from redwire.position import Incarnation, Lsn, Position, Term, TermEntry, TermList

SEGMENT_BYTES = 64 << 20
"""Four of the largest batches. Log is given back by whole segments: of larger ones more would be kept for
nobody, of smaller ones more would have to be laid out, which at 1 MB/s is one a minute.
"""
INDEX_BYTES = 32 << 10
"""A reader walks at most so far to find its batch; 64 MiB then need 2,048 index entries of 16 bytes."""
_WINDOW_BYTES = 256 << 10
"""Eight steps of the index: who was led to its batch finds it at one read."""

_FORMAT = 3
_HEADER_MAGIC = b"RWS1"
_HEADER = struct.Struct("<4sHHIIQ16sQQQ16s")
_TERM = struct.Struct("<QQI")
_CRC = struct.Struct("<I")
HEADER_BYTES_LIMIT = 16 << 20
"""A million reigns; a longer header is a damaged length."""

MARK_MAGIC = b"RWM1"
_MARK = struct.Struct("<4sQQ")
_CHECK_BYTES = 12
MARK_BYTES = _MARK.size + _CHECK_BYTES
_BATCH_PEEK = HEADER_BYTES_MAX
_ZEROS = bytes(4)
_NAME = re.compile(r"(\d{20})-(\d{20})\.log\Z")


class Place(msgspec.Struct, frozen=True):
    """Where one generation of a log lives, and by which calls it reaches the disk."""

    root: Path
    incarnation: Incarnation
    generation: int
    segment_bytes: int = SEGMENT_BYTES
    calls: Syscalls = SYSCALLS

    @property
    def folder(self) -> Path:
        """The folder of this generation's segments."""
        return self.root / f"{self.generation:010d}"

    def path(self, term: Term, first: Lsn) -> Path:
        """The file whose first batch is of `term` and begins at `first`."""
        return self.folder / f"{term:020d}-{first:020d}.log"

    def paths(self) -> list[Path]:
        """The segments on disk in order of (first LSN, term). Other files in the folder are not ours."""
        named = [(match, path) for path in self.folder.iterdir() if (match := _NAME.match(path.name))]
        return [path for _, path in sorted(named, key=lambda pair: (int(pair[0][2]), int(pair[0][1])))]


def require_file(path: Path) -> None:
    """Raises `LogCorrupt` for what is named like a segment and is no file."""
    named = _NAME.match(path.name)
    if named and (what := not_a_file(path)):
        raise LogCorrupt(path, 0, Lsn(int(named[2])), what)


class Mark(msgspec.Struct, frozen=True):
    """What this node itself knew when it wrote on: see the module's table."""

    durable: Lsn
    watermark: Lsn


class Segment:
    """One file of the log as its writer and readers know it.

    `previous` and `terms` are what the log was before it; `size` is allocated, `end` is where the next bytes
    go. The index has one entry per `INDEX_BYTES`; one thread notes batches while others search.
    """

    __slots__ = ("_index", "begin", "end", "key", "path", "previous", "size", "terms")

    def __init__(
        self, path: Path, place: Place, previous: Position, terms: TermList, begin: int, size: int
    ) -> None:
        self.path = path
        self.previous = previous
        self.terms = terms
        self.begin = self.end = begin
        self.size = size
        self.key = mark_key(place, path)
        self._index = array("Q"), array("Q")  # first LSNs and offsets, the same length

    @property
    def first(self) -> Lsn:
        """The LSN of the first record that is or will be in it."""
        return Lsn(self.previous.lsn + 1)

    @property
    def empty(self) -> bool:
        """Whether it holds no batch. Such a file only carries `previous`; nothing is appended to it."""
        return not self._index[0]

    @property
    def room_bytes(self) -> int:
        """Bytes of batches that still fit as one group, beside the group's mark and the last mark of all."""
        return max(0, self.size - self.end - 2 * MARK_BYTES)

    def note(self, batch: Batch, offset: int) -> None:
        """Remember that `batch` stands at `offset`."""
        lsns, offsets = self._index
        if not offsets or offset - offsets[-1] >= INDEX_BYTES:
            offsets.append(offset)  # before its LSN: a searching thread must find it there
            lsns.append(batch.first)

    def offset_before(self, lsn: Lsn) -> int:
        """The offset of a batch that begins at or below `lsn`; the begin of the segment if it holds none."""
        lsns, offsets = self._index
        index = bisect_right(lsns, lsn)
        return offsets[index - 1] if index else self.begin

    def forget(self, end: int, after: Lsn) -> None:
        """Take back what was noted above `after`; the segment ends at `end`."""
        lsns, offsets = self._index
        keep = bisect_right(lsns, after)
        self._index = lsns[:keep], offsets[:keep]
        self.end = end

    def encode_mark(self, offset: int, mark: Mark) -> bytes:
        """The bytes of `mark` at `offset` of this segment, and nowhere else."""
        data = _MARK.pack(MARK_MAGIC, mark.durable, mark.watermark)
        return data + self._check(data, offset)

    def decode_mark(self, data: bytes, offset: int) -> Mark | None:
        """The mark in `data`, None unless this node wrote exactly these bytes at this place."""
        if len(data) != MARK_BYTES or data[_MARK.size :] != self._check(data[: _MARK.size], offset):
            return None
        _, durable, watermark = _MARK.unpack_from(data)
        return Mark(durable, watermark)

    def _check(self, data: bytes, offset: int) -> bytes:
        place = offset.to_bytes(8, "little")
        return hashlib.blake2b(place + data, digest_size=_CHECK_BYTES, key=self.key).digest()


def mark_key(place: Place, path: Path) -> bytes:
    """The key of a segment's marks, derived from the data directory's incarnation and the file's name."""
    name = f"{place.generation}/{path.name}".encode()
    return hashlib.blake2b(name, digest_size=32, key=bytes.fromhex(place.incarnation)).digest()


def header_bytes(terms: TermList) -> int:
    """Bytes that a segment's header takes."""
    return _HEADER.size + _TERM.size * len(terms.entries) + _CRC.size


def encode_header(place: Place, term: Term, previous: Position, terms: TermList) -> bytes:
    """The header of a segment whose first batch is of `term` and continues `previous`."""
    data = _HEADER.pack(
        _HEADER_MAGIC,
        _FORMAT,
        0,
        header_bytes(terms),
        len(terms.entries),
        place.generation,
        bytes.fromhex(place.incarnation),
        term,
        previous.term,
        previous.lsn,
        previous.chain,
    ) + b"".join(_TERM.pack(*entry) for entry in terms.entries)
    return data + _CRC.pack(zlib.crc32(data))


def decode_header(place: Place, path: Path, window: Window) -> Segment | str:
    """The segment at `path`, or what is wrong with its header. Raises `FormatNewer` or `FormatOlder`.

    A header is synced before its file gets its name, so a bad one is damage, never an interrupted write.
    """
    fixed = window.at(0, _HEADER.size)
    if len(fixed) < _HEADER.size or not fixed.startswith(_HEADER_MAGIC):
        return "no segment header"
    _, form, _, length, count, generation, incarnation, term, *previous = _HEADER.unpack(fixed)
    data = window.at(0, length) if _HEADER.size < length <= HEADER_BYTES_LIMIT else b""
    if not data or data[-_CRC.size :] != _CRC.pack(zlib.crc32(data[: -_CRC.size])):
        return "the segment header fails its CRC"
    if form != _FORMAT:
        wrong = FormatNewer if form > _FORMAT else FormatOlder
        raise wrong(path, f"segment format {form}, this version knows {_FORMAT}")
    if (generation, incarnation.hex()) != (place.generation, place.incarnation):
        return (
            f"the segment belongs to another log (generation {generation}, incarnation {incarnation.hex()})"
        )
    position = Position(*previous)
    entries = _TERM.iter_unpack(data[_HEADER.size : _HEADER.size + _TERM.size * count])
    terms = TermList(tuple(map(TermEntry._make, entries)))
    if path != place.path(term, Lsn(position.lsn + 1)) or length != header_bytes(terms):
        return "the segment header does not match the file's name"
    return Segment(path, place, position, terms, length, window.size)


class Window:
    """A file opened for reading through one window of memory: a context manager. Raises `OSError`."""

    def __init__(self, path: Path, window_bytes: int = _WINDOW_BYTES) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size
        self._window_bytes = window_bytes
        self._held = b""
        self._start = 0

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def at(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`, fewer only where the file ends."""
        begin = offset - self._start
        if begin < 0 or begin + size > len(self._held):
            self._start, begin = offset, 0
            self._held = os.pread(self._fd, max(size, self._window_bytes), offset)
        return self._held[begin : begin + size]


class Walk:
    """Goes through the marks and batches of a segment; iterate over it once.

    `offset` is where the last entry ended. When the iteration is over, `why` says what stands there: "" for
    zeros or the end of the file, else what is wrong with the bytes. A batch's own CRC is checked, its chain
    is not: only the caller knows what came before.
    """

    def __init__(self, segment: Segment, window: Window, offset: int) -> None:
        self.offset = offset
        self.why = ""
        self._segment = segment
        self._window = window

    def __iter__(self) -> Iterator[Batch | Mark]:
        at = self._window.at
        while True:
            head = at(self.offset, _BATCH_PEEK)
            if not head or head.startswith(_ZEROS):
                return
            entry = self._mark() if head.startswith(MARK_MAGIC) else self._batch(head)
            if entry is None:
                return
            yield entry

    def _mark(self) -> Mark | None:
        mark = self._segment.decode_mark(self._window.at(self.offset, MARK_BYTES), self.offset)
        if mark is None:
            self.why = "a mark fails its check"
        else:
            self.offset += MARK_BYTES
        return mark

    def _batch(self, head: bytes) -> Batch | None:
        try:
            size = batch_size(memoryview(head.ljust(_BATCH_PEEK, b"\0")))
            batch = parse_batch(self._window.at(self.offset, size))
        except BatchInvalid as error:
            self.why = error.message
            return None
        self.offset += size
        return batch


def later_marks(segment: Segment, window: Window, offset: int) -> tuple[list[Mark], int]:
    """The valid marks anywhere behind `offset`, and the offset from which on there are only zeros."""
    marks, end, step = [], offset, _WINDOW_BYTES
    for start in range(offset, window.size, step):
        data = window.at(start, step + MARK_BYTES - 1)
        if data.count(0) == len(data):
            continue
        if used := len(data[:step].rstrip(b"\0")):
            end = start + used
        found = data.find(MARK_MAGIC)
        while 0 <= found < step:
            mark = segment.decode_mark(data[found : found + MARK_BYTES], start + found)
            if mark is not None:
                marks.append(mark)
            found = data.find(MARK_MAGIC, found + 1)
    return marks, end


def create_file(place: Place, path: Path, size: int) -> int:
    """A new file of `size` allocated zeros; its open descriptor. Raises `OSError` and then leaves no file."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        place.calls.allocate(fd, 0, size)
    except OSError:
        os.close(fd)
        path.unlink()
        raise
    return fd


def clear_tail(place: Place, segment: Segment) -> None:
    """Make everything behind `segment.end` zeros again, durably. Raises `OSError`.

    Without space for the zeros the segment is simply shorter: the log goes on in the next one.
    """
    fd = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, segment.end)
        try:
            place.calls.allocate(fd, 0, segment.size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            os.ftruncate(fd, segment.end)
            segment.size = segment.end
        place.calls.fsync(fd)
    finally:
        os.close(fd)

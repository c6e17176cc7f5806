"""What `redwire load` reads: a file with a bookmark beside it, or a stream that comes once, when it likes."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

import anyio

from redwire.position import ClusterId
from redwire.record import DOC_BYTES_MAX
from tools.cli.ndjson import (
    PIECE_BYTES,
    READ_BYTES,
    SUFFIX,
    Bookmark,
    Piece,
    Place,
    Prefix,
    bookmarked,
    pieces,
)
from tools.errors import LoadRuns

STANDARD_INPUT = Path("-")
BUFFER_BYTES = PIECE_BYTES + DOC_BYTES_MAX
"""Of a stream: a piece, and the longest line behind it."""


class Source(Protocol):
    """Lines to be loaded into a collection, and how far they are committed. Made by `opened`.

    `name` is what errors call them, `size` how many bytes there are if that is known, and `once` why no
    bookmark is kept; "" where one is. First comes `start`, unless all is to be loaded again, then `begin`,
    then the others.
    """

    name: str
    size: int | None
    once: str

    def start(self) -> Place:
        """Where an earlier load stopped; the beginning without a bookmark. Raises `RequestInvalid`."""

    def begin(self, cluster: ClusterId) -> None:
        """This is where they go. A bookmark from which nobody has asked to `start` is taken away: it would be
        ahead. Raises `RequestInvalid` where an earlier load went to another cluster, `OSError`.
        """

    def pieces(self, start: Place) -> AsyncIterator[Piece]:
        """What follows on `start`. Raises `LineInvalid`, as `ndjson.pieces`."""

    def save(self, place: Place) -> None:
        """All before `place` is committed: a bookmark, and none at the beginning. One that cannot be written
        is the last, and `once` says why; what stands there is behind.
        """

    def done(self) -> None:
        """All of it is committed: no bookmark is left."""


class File:
    """A file with its bookmark beside it; with no bookmark when `once` says why."""

    def __init__(self, lines: IO[bytes], path: Path, collection: str, id_field: str, once: str = "") -> None:
        self.name = str(path)
        self.size: int | None = os.fstat(lines.fileno()).st_size
        self.once = once
        self._lines = lines
        self._to = collection, id_field
        self._cluster = ClusterId("")
        self._path = None if once else path.with_name(path.name + SUFFIX)
        self._prefix = Prefix(lines)
        self._found: Bookmark | None = None

    def start(self) -> Place:
        """As `Source`."""
        if self._path is not None:
            self._found = bookmarked(self._path, self._prefix, *self._to)
        return Place() if self._found is None else self._found.place

    def begin(self, cluster: ClusterId) -> None:
        """As `Source`."""
        self._cluster = cluster
        if self._path is None or self._found is None:
            self.done()
        else:
            self._found.require_cluster(self._path, cluster)

    async def pieces(self, start: Place) -> AsyncIterator[Piece]:
        """As `Source`."""
        self._lines.seek(start.offset)
        for piece in pieces(self._lines, self.name, *self._to, start):
            yield piece

    def save(self, place: Place) -> None:
        """As `Source`."""
        if self.once or self._path is None:
            return
        try:
            if place == Place():
                self.done()
            else:
                Bookmark.make(self._prefix, self._cluster, *self._to, place).save(self._path)
        except OSError as error:
            self.once = f"{self._path} cannot be written ({error.strerror})"

    def done(self) -> None:
        """As `Source`."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Stream:
    """A pipe, a terminal or the like: nothing waits for it but the next piece, and nothing is kept of it."""

    def __init__(self, fd: int, name: str, collection: str, id_field: str) -> None:
        self.name = name
        self.size: int | None = None
        self.once = f"{name} is read once"
        self._fd = fd
        self._to = collection, id_field
        self._data = bytearray()
        self._ended = False

    def start(self) -> Place:
        """As `Source`."""
        return Place()

    def begin(self, cluster: ClusterId) -> None:
        """As `Source`."""

    async def pieces(self, start: Place) -> AsyncIterator[Piece]:
        """As `Source`, from the beginning."""
        source = pieces(self, self.name, *self._to, start)
        while True:
            await self._filled()
            piece = next(source, None)
            if piece is None:
                return
            yield piece

    def save(self, place: Place) -> None:
        """As `Source`."""

    def done(self) -> None:
        """As `Source`."""

    def readline(self, size: int, /) -> bytes:
        """The next line, or `size` bytes of it; b"" at the end. Waits where `_filled` has not."""
        while not (end := self._data.find(b"\n", 0, size) + 1) and len(self._data) < size and not self._ended:
            self._read()
        line = bytes(self._data[: end or size])
        del self._data[: end or size]
        return line

    async def _filled(self) -> None:
        """Return once so many whole lines are there as a piece can have, or all that will come."""
        while not self._ended and len(self._data) < BUFFER_BYTES and self._data.find(b"\n", PIECE_BYTES) < 0:
            with suppress(PermissionError):  # what is no pipe, but a file: it keeps nobody waiting
                await anyio.wait_readable(self._fd)
            self._read()

    def _read(self) -> None:
        data = os.read(self._fd, READ_BYTES)
        self._data += data
        self._ended = not data


@contextmanager
def opened(path: Path, collection: str, id_field: str) -> Iterator[Source]:
    """The file, for one load at a time; or `STANDARD_INPUT`. Raises `LoadRuns`, `OSError`."""
    if path == STANDARD_INPUT:
        yield Stream(sys.stdin.fileno(), "standard input", collection, id_field)
        return
    with path.open("rb") as lines:
        if not lines.seekable():
            yield Stream(lines.fileno(), str(path), collection, id_field)
        elif not os.access(path.parent, os.W_OK):
            yield File(lines, path, collection, id_field, f"{path.parent} cannot be written to")
        else:
            _lock(lines, path)
            yield File(lines, path, collection, id_field)


def _lock(lines: IO[bytes], path: Path) -> None:
    """Until `lines` is closed. The file itself is locked: its bookmark is replaced, and removed."""
    try:
        fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LoadRuns(
            f"another load of {path} is at work", hint="wait until it is done, or load a copy of the file"
        ) from None

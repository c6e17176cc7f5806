"""Files of JSON lines: cut into pieces, each of which goes out as one request, and bookmarked."""

from __future__ import annotations

import hashlib
import os
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import IO, Any, Protocol, Self

import msgspec

from redwire.document import encode_record
from redwire.errors import RequestInvalid
from redwire.position import ClusterId
from redwire.record import DOC_BYTES_MAX, Op
from tools.errors import LineInvalid

PIECE_RECORDS = 500
"""Apply of one takes some 10 ms; pieces of small documents end here."""
PIECE_BYTES = 256 << 10
"""Small enough that many are in flight at once, large enough that what surrounds a document weighs little."""
READ_BYTES = 1 << 20
"""A few system calls a second, and no more memory than four pieces."""
SUFFIX = ".redwire-load"
RESTART_HINT = "pass --restart to begin at the first line"


class Place(msgspec.Struct, frozen=True):
    """Between two lines: so many lines, and bytes, stand before it."""

    line: int = 0
    offset: int = 0


@dataclass(slots=True, eq=False)
class Piece:
    """The documents of consecutive lines. `lines` has the number of each, counted from 1."""

    end: Place
    records: list[bytes] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        """Whether no more should be added."""
        return len(self.records) >= PIECE_RECORDS or self.size >= PIECE_BYTES


class Lines(Protocol):
    """Something that is read line by line."""

    def readline(self, size: int, /) -> bytes:
        """The next line, or `size` bytes of it; b"" at the end."""


def pieces(file: Lines, name: str, collection: str, id_field: str, start: Place) -> Iterator[Piece]:
    """The rest of `file`, which stands at `start`; a byte order mark and empty lines are skipped.

    Raises `LineInvalid` for the first line that is no document with an id, after the piece that ends
    before it was given out; a file that holds a JSON array, or UTF-16, is told by name.
    """
    shape: Any = msgspec.defstruct("Line", [("id", str | int)], rename={"id": id_field})
    decode = msgspec.json.Decoder(shape).decode
    place, piece, first = start, Piece(start), start == Place()
    while line := file.readline(DOC_BYTES_MAX + 2):
        document = (line.removeprefix(BOM_UTF8) if place == Place() else line).strip()
        place = Place(place.line + 1, place.offset + len(line))
        if document:
            try:
                ident = str(decode(document).id)
                record = encode_record(Op.PUT, collection, ident, document)
            except (msgspec.MsgspecError, UnicodeDecodeError, RequestInvalid) as error:
                if piece.records:
                    yield piece
                elif first:
                    _check_whole(name, document)
                raise _line_invalid(name, place.line, document, error) from error
            first = False
            piece.records.append(record)
            piece.ids.append(ident)
            piece.lines.append(place.line)
            piece.size += len(record)
        piece.end = place
        if piece.full:
            yield piece
            piece = Piece(place)
    if piece.records:
        yield piece


def _check_whole(name: str, document: bytes) -> None:
    """Raises `LineInvalid` where it is not the first line that is wrong, but what the whole file is."""
    if document.startswith(b"["):
        text = "is one JSON array, and not a JSON object on each line"
        raise LineInvalid(name, None, text, hint=f"write it as lines: jq -c '.[]' {quote(name)}")
    if document.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        hint = f"write it as UTF-8: iconv -f UTF-16 -t UTF-8 {quote(name)}"
        raise LineInvalid(name, None, "is UTF-16", hint=hint)


def _line_invalid(name: str, line: int, document: bytes, error: Exception) -> LineInvalid:
    """What is wrong with a line, and what to do against just that."""
    reason, hint = str(error), "each line is one whole JSON object"
    match error:
        case _ if len(document) > DOC_BYTES_MAX:
            reason, hint = f"more than {DOC_BYTES_MAX} bytes", "split the document"
        case _ if not _is_utf8(document):
            reason, hint = "not UTF-8", "write the file as UTF-8, and not compressed"
        case RequestInvalid():
            reason, hint = error.reason, error.hint
        case msgspec.ValidationError() if "missing required field" in reason:
            hint = "--id-field names the field of each document that is its id"
        case msgspec.ValidationError() if " - at `$." in reason:
            hint = "an id is a text or a whole number"
        case _:
            pass
    return LineInvalid(name, line, reason, hint=hint)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class Prefix:
    """The beginning of `file`, hashed once as it grows; where the file is read is left as it is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._offset = 0

    def digest(self, offset: int) -> str:
        """The hash of the first `offset` bytes. Ask for rising offsets."""
        at = self._file.tell()
        self._file.seek(self._offset)
        while self._offset < offset and (data := self._file.read(min(offset - self._offset, READ_BYTES))):
            self._hash.update(data)
            self._offset += len(data)
        self._file.seek(at)
        return self._hash.hexdigest()


class Bookmark(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file is committed to a collection of the cluster with this id. `before` is a hash over all
    that stands before.
    """

    cluster: ClusterId
    collection: str
    id_field: str
    line: int
    offset: int
    before: str

    @classmethod
    def make(cls, prefix: Prefix, cluster: ClusterId, collection: str, id_field: str, place: Place) -> Self:
        """A bookmark at `place`."""
        return cls(
            cluster=cluster,
            collection=collection,
            id_field=id_field,
            line=place.line,
            offset=place.offset,
            before=prefix.digest(place.offset),
        )

    @property
    def place(self) -> Place:
        """Where to go on."""
        return Place(self.line, self.offset)

    def save(self, path: Path) -> None:
        """Replace the bookmark in the file `path`, whole. It is not synced: of a machine that crashes an
        older one may be left, or one that is none; then more is loaded again, and nothing is left out. Raises
        `OSError`; the one that was there is left then.
        """
        draft = path.with_name(path.name + ".new")
        try:
            draft.write_bytes(msgspec.json.encode(self) + b"\n")
            os.replace(draft, path)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise

    def require_cluster(self, path: Path, cluster: ClusterId) -> None:
        """Raises `RequestInvalid` where it is not this cluster that has what stands before."""
        if self.cluster != cluster:
            text = f"{path}: an earlier load to another cluster ({self.cluster[:8]})"
            raise RequestInvalid(text, hint=RESTART_HINT)


def bookmarked(path: Path, prefix: Prefix, collection: str, id_field: str) -> Bookmark | None:
    """Where the load of the file of `prefix` stopped, as `path` has it, in whichever cluster; None without a
    bookmark.

    Raises `RequestInvalid` for the bookmark of another load.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        bookmark = msgspec.json.decode(data, type=Bookmark)
    except msgspec.MsgspecError as error:
        raise RequestInvalid(f"{path}: not a bookmark: {error}", hint=RESTART_HINT) from error
    if bookmark != Bookmark.make(prefix, bookmark.cluster, collection, id_field, bookmark.place):
        if bookmark.collection != collection:
            why = f"an earlier load to the collection {bookmark.collection}"
        elif bookmark.id_field != id_field:
            why = f"an earlier load by the field {bookmark.id_field}"
        else:
            why = f"an earlier load of another file, or the lines up to {bookmark.line} have changed since"
        raise RequestInvalid(f"{path}: {why}", hint=RESTART_HINT)
    return bookmark

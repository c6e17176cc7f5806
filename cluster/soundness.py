"""Whether a state file is as it was written: its structure, and every checksum in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from cluster.errors import StateCorrupt
from cluster.recall import NEVER, Recall
from cluster.registry import Registry
from cluster.tables import NAMES, check_row, key_rows, open_reader, read_position, read_terms, translated
from redwire.position import Position

PIECE_BYTES = 256 << 10
"""Between two rests of a scrub."""
PIECE_ROWS = 64
"""At most, of documents or of entries of their index: a piece takes a third of a millisecond."""

_ROWS = """
    SELECT rowid, {linked}, c, id, version, sum, doc
    FROM docs NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT ?
"""
_INDEXED = """EXISTS (
    SELECT 1 FROM docs AS entry INDEXED BY docs_by_id
    WHERE entry.c = docs.c AND entry.id = docs.id AND entry.rowid = docs.rowid
)"""
_ENTRIES = """
    SELECT c, id, EXISTS (
        SELECT 1 FROM docs AS row NOT INDEXED
        WHERE row.rowid = entry.rowid AND row.c = entry.c AND row.id = entry.id
    ) AND typeof(c) = 'integer' AND typeof(id) = 'text'
    FROM docs AS entry INDEXED BY docs_by_id WHERE (c, id) > (?, ?) ORDER BY c, id LIMIT ?
"""


def verify(path: Path, recall: Recall = NEVER) -> Position:
    """Where the state in `path` stands, after everything in it was looked at.

    Nothing is changed, and no second file is made. Raises `FormatNewer`, `FormatOlder`, `StateCorrupt` or
    `DiskFailed`, and `CalledOff` by `recall`.
    """
    with translated(path), closing(open_reader(path)) as connection, recall.over(connection):
        for _ in still_pieces(path, connection):
            recall.look()
        return read_position(path, connection)


def still_pieces(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """Look at everything in the state file at `path`, which nobody writes to, piece by piece.

    The first piece is all of the structure, free pages included: 3 s for a million documents, in which one
    view is held. Raises `StateCorrupt`, or what SQLite finds.
    """
    _check_structure(path, connection, "1")
    yield
    _check_small(path, connection)
    yield from _check_rows(path, connection, linked="1")


def pieces(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """Look at every row in the state file at `path`, and whether a reader would find it, beside the writer.

    No view is held between two pieces, nor for long in one: views keep SQLite's log from being folded. Free
    pages are not looked at. Raises `StateCorrupt`, or what SQLite finds.
    """
    for table in sorted(NAMES - {"docs"}):
        _check_structure(path, connection, table)
    _check_small(path, connection)
    yield from _check_rows(path, connection, linked=_INDEXED)
    yield from _check_entries(path, connection)


def _check_structure(path: Path, connection: sqlite3.Connection, what: str) -> None:
    # The quick check would leave out the order of rows, and names that differ from their index.
    (structure,) = connection.execute(f"PRAGMA integrity_check({what})").fetchone()
    if structure != "ok":
        raise StateCorrupt(path, structure)


def _check_small(path: Path, connection: sqlite3.Connection) -> None:
    """Everything but documents."""
    read_position(path, connection)
    read_terms(path, connection)
    Registry(path, connection)  # which checks what it reads
    for _ in key_rows(path, connection):
        pass


def _check_rows(path: Path, connection: sqlite3.Connection, *, linked: str) -> Iterator[None]:
    """The documents as they lie; `linked` is an expression that is true of those which their index has."""
    at, rows = -1, PIECE_ROWS
    statement = _ROWS.format(linked=linked)
    while rows:
        rows, size = 0, 0
        with closing(connection.execute(statement, (at, PIECE_ROWS))) as cursor:
            for rowid, found, *row in cursor:
                check_row(path, *row)
                if not found or rowid <= at:
                    raise StateCorrupt(
                        path, f"the document {row[1]!r} of collection {row[0]} is out of place"
                    )
                at, rows, size = rowid, rows + 1, size + len(row[-1])
                if size >= PIECE_BYTES:
                    break
        yield


def _check_entries(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """The index of documents: a document that it has, and the table has not, is lost."""
    at, rows = (-1, ""), PIECE_ROWS
    while rows:
        rows = 0
        for c, ident, found in connection.execute(_ENTRIES, (*at, PIECE_ROWS)):
            if not found or (c, ident) <= at:
                raise StateCorrupt(path, f"the entry of {ident!r} of collection {c} is out of place")
            at, rows = (c, ident), rows + 1
        yield

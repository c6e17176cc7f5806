"""Whether a state file is as it was written: its structure, and every checksum in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from cluster.errors import StateCorrupt
from cluster.recall import NEVER, Recall
from cluster.registry import Registry
from cluster.tables import check_row, key_rows, open_reader, read_position, read_terms, translated
from redwire.position import Position

PIECE_BYTES = 256 << 10
"""Between two rests of a scrub."""
ROW_BYTES = 1 << 10
"""What a document counts for beside its own bytes: a piece has 256 at most, and takes half a millisecond."""

_DOCS = "SELECT rowid, c, id, version, sum, doc FROM docs NOT INDEXED WHERE rowid > ? ORDER BY rowid"


def verify(path: Path, recall: Recall = NEVER) -> Position:
    """Where the state in `path` stands, after everything in it was looked at.

    Nothing is changed, and no second file is made. Raises `FormatNewer`, `FormatOlder`, `StateCorrupt` or
    `DiskFailed`, and `CalledOff` by `recall`.
    """
    with translated(path), closing(open_reader(path)) as connection, recall.over(connection):
        for _ in pieces(path, connection):
            recall.look()
        return read_position(path, connection)


def pieces(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """Look at everything in the state file at `path`, piece by piece; between two of them no view is held.

    Raises `StateCorrupt`, or what SQLite finds.
    """
    # The quick check would leave out the order of rows, and names that differ from their index.
    (structure,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if structure != "ok":
        raise StateCorrupt(path, structure)
    yield
    read_position(path, connection)
    read_terms(path, connection)
    Registry(path, connection)  # which checks what it reads
    for _ in key_rows(path, connection):
        pass
    at, more = -1, True
    while more:
        more, size = False, 0
        with closing(connection.execute(_DOCS, (at,))) as cursor:
            for row in cursor:
                check_row(path, *row[1:])
                at, size = row[0], size + ROW_BYTES + len(row[-1])
                if size >= PIECE_BYTES:
                    more = True
                    break
        yield

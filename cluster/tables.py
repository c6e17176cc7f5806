"""The tables of a state file, and the connections to it.

    meta         one row: where in the log this state stands, and the key memory's forgotten_through
    terms        which term began at which LSN, and how
    collections  number and name; a name never goes away, and no two differ only in case
    docs         the documents; a version is the LSN of the record that wrote it
    keys         idempotency keys, one row per batch that executed any (see `keys`)
    config       bodies of CONFIG and ADMIT records, and of TERM_START where a node was given up
    users        PutUser bodies by name
    tokens       PutToken bodies by id

A state file is written by one connection and read by many. `synchronous=NORMAL` syncs at checkpoints only:
after a power cut the state is some earlier one, never less than the last complete checkpoint, and the log
has the rest (R10). What a checkpoint has folded into the file was synced in SQLite's log before: where that
log ends below what the file itself says, it was damaged, and the two together are no state. Nor are they
where the log goes on from another file, of another node or of another time, whose pages it lacks: each begins
a life of its own, by whose name file and log know each other (`Lives`, `require_whole`).

Not told apart are a log of SQLite's that somebody removed, and one that SQLite folded and removed itself, as
it does for whoever closes the file last. Where the process had ended amid a checkpoint, the file without that
log is partly old. If it was to grow, SQLite refuses it; else it passes for the newest state. A mark in it of
where it last stood whole would tell, but would also call the file of a killed node damaged that a tool has
looked into and closed properly; that alarm would cost a whole state.

SQLite's pages carry no checksums, and a bit that flips on the disk would be served as what was written. So a
document carries one in its row, as `meta` and `terms` do, other bodies carry one behind them (`sealed`), and
whoever reads checks. The names of `collections` have two indexes that must agree with them (`soundness`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from secrets import randbits
from typing import NamedTuple
from urllib.parse import quote
from zlib import crc32

from cluster import files
from cluster.errors import (
    DiskFailed,
    DiskFull,
    FormatNewer,
    FormatOlder,
    NodeError,
    StateCorrupt,
    StateLocked,
)
from cluster.files import FILE_MODE, SYSCALLS, not_a_file
from redwire.position import CHAIN_BYTES, Lsn, Position, Term, TermEntry, TermList

APPLICATION_ID = 0x52575354
"""`RWST` in the file's header."""
FORMAT = 7
"""1 had no checksums; 2 kept the documents in the tree of their ids (ADR 14); 5 results of keys in full; 6 no
lives, and no LSN in the checksum of keys.
"""
WRITER_BUSY_MS = 5_000
"""Nobody else writes but a person with a tool of SQLite's; and a reader can hold the writer up that rebuilds
the index of a fresh file.
"""
WRITER_CACHE_KIB = 8_192
READER_CACHE_KIB = 2_048
"""Per connection; with the writer's this bounds what the state costs a node in memory."""
_SEAL_BYTES = 4


class Lives(NamedTuple):
    """The life of SQLite's log in which something was written, a random number, the one before it, and up to
    which LSN that went: all of it was in the file when this one began.
    """

    life: int
    before: int
    before_last: int

    @classmethod
    def after(cls, held: MetaRow) -> Lives:
        """Of what is written from now on, while the file by itself says `held`."""
        return cls(randbits(63), held.life, held.applied)


class MetaRow(NamedTuple):
    """The row of `meta` but for its checksum."""

    applied: int
    term: int
    chain: bytes
    time_ms: int
    forgotten_through: int
    life: int
    before: int
    before_last: int

    def follows(self, held: MetaRow) -> bool:
        """Whether a log that says this belongs to a file that says `held` by itself."""
        return held.life == self.life or (held.life, held.applied) == (self.before, self.before_last)

    def checksum(self) -> int:
        """The CRC-32 that the row carries."""
        numbers = f"{self.applied} {self.term} {self.time_ms} {self.forgotten_through}"
        lives = f"{self.life} {self.before} {self.before_last}"
        return crc32(self.chain, crc32(f"{numbers} {lives}".encode()))


_META = f"SELECT {', '.join(MetaRow._fields)}, sum FROM meta"
_EMPTY_SUM = MetaRow(0, 0, bytes(CHAIN_BYTES), 0, -1, 0, 0, 0).checksum()
_TABLES = f"""
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1), applied INTEGER NOT NULL, term INTEGER NOT NULL,
    chain BLOB NOT NULL, time_ms INTEGER NOT NULL, forgotten_through INTEGER NOT NULL,
    life INTEGER NOT NULL, before INTEGER NOT NULL, before_last INTEGER NOT NULL, sum INTEGER NOT NULL
);
INSERT INTO meta VALUES (1, 0, 0, zeroblob({CHAIN_BYTES}), 0, -1, 0, 0, 0, {_EMPTY_SUM});
CREATE TABLE terms (
    term INTEGER PRIMARY KEY, first INTEGER NOT NULL, mark INTEGER NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE collections (c INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE UNIQUE INDEX collections_in_any_case ON collections (name COLLATE NOCASE);
CREATE TABLE docs (
    c INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, sum INTEGER NOT NULL, doc BLOB NOT NULL
);
CREATE UNIQUE INDEX docs_by_id ON docs (c, id);
CREATE TABLE keys (last INTEGER PRIMARY KEY, entries BLOB NOT NULL);
CREATE TABLE config (lsn INTEGER PRIMARY KEY, kind INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE users (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""

_WRITER_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "wal_autocheckpoint = 0",
    "secure_delete = OFF",
    f"cache_size = -{WRITER_CACHE_KIB}",
)

_BARRED = frozenset((sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM))

NAMES = frozenset(("meta", "terms", "collections", "docs", "keys", "config", "users", "tokens"))
"""What SQL must not reach (see `sql`)."""


def open_writer(path: Path) -> sqlite3.Connection:
    """The writing connection; a file that is missing or empty becomes the state of an empty log, mode 0600.

    The caller sees to it that there is one writer, and that no two threads use it at once. Raises
    `FormatNewer`, `FormatOlder`, `StateCorrupt`, `DiskFull` or `DiskFailed`.
    """
    with translated(path):
        if is_new(path):
            _make(path)
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=WRITER_BUSY_MS / 1000
        )
        with closed_on_error(connection):
            _check(connection, path)
            for pragma in _WRITER_PRAGMAS:
                # to its end: one that writes, as journal_mode may, commits and fails there
                connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def is_new(path: Path) -> bool:
    """Whether `open_writer` makes the file at `path`: it is missing, or empty. Raises `StateCorrupt` where
    something else is there.
    """
    _require_files(path)
    return not path.exists() or not path.stat().st_size


def _make(path: Path) -> None:
    """All of it at once: a process that ends amid this leaves no part of a state. What lies beside it was of
    one that is gone.
    """
    temp = path.with_name(f"{path.name}.tmp")
    for left in (*_beside(path), temp):
        left.unlink(missing_ok=True)
    with files.translated(path):
        os.close(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
        with closing(sqlite3.connect(temp)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.executescript(f"BEGIN;{_TABLES}COMMIT;")  # which syncs
        os.replace(temp, path)
        SYSCALLS.sync_folder(path.parent)


def open_reader(path: Path, *, cached_statements: int = 32, still: bool = False) -> sqlite3.Connection:
    """A connection that cannot write, for the thread that opens it. Raises as `open_writer`.

    `still`: nobody has the file open, and no file of another owner is to appear beside it, as SQLite's own
    index does.
    """
    with translated(path):
        _require_files(path)
        log = path.with_name(path.name + "-wal")
        alone = still and not (log.exists() and log.stat().st_size)
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro{'&immutable=1' if alone else ''}",
            uri=True,
            isolation_level=None,
            cached_statements=cached_statements,
            timeout=1,
        )
        with closed_on_error(connection):
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
            _check(connection, path)
    return connection


def require_whole(path: Path) -> None:
    """Raises `StateCorrupt` where the file at `path` and SQLite's log beside it are no state together. Nobody
    has them open. Both stay as they are: whoever could write would fold the log into the file in the end.

    Nothing is said of a file that is new, or in which the process ended amid a checkpoint.
    """
    folded = _folded(path)
    if folded is None:
        return
    with translated(path), closing(open_reader(path, still=True)) as connection:
        seen = read_meta(path, connection)
    if seen.applied < folded.applied:
        text = f"the file stands at LSN {folded.applied}, and with its -wal at {seen.applied}"
        raise StateCorrupt(path, f"{text}: that was damaged")
    if not seen.follows(folded):
        text = f"the file stands at LSN {folded.applied}, and the -wal beside it goes on from another file"
        raise StateCorrupt(path, text)


def _folded(path: Path) -> MetaRow | None:
    """What the file at `path` says by itself, without SQLite's log; None where that cannot be told."""
    with suppress(sqlite3.Error, UnicodeDecodeError, StateCorrupt):
        _require_files(path)
        name = f"file:{quote(str(path))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(name, uri=True)) as connection:
            return read_meta(path, connection)
    return None


def read_meta(path: Path, connection: sqlite3.Connection) -> MetaRow:
    """The row of `meta` in the state file at `path`, as `connection` sees it now. Raises `StateCorrupt`."""
    *row, total = connection.execute(_META).fetchone() or (0, 0, b"", 0, 0, 0, 0, 0, 0)
    meta = MetaRow._make(row)
    with suppress(TypeError):  # damage makes other types of them, too
        if meta.checksum() == total:
            return meta
    raise StateCorrupt(path, "where it stands does not match its checksum")


def read_position(path: Path, connection: sqlite3.Connection) -> Position:
    """Where in the log the state stands that `connection` sees now. Raises `StateCorrupt`."""
    meta = read_meta(path, connection)
    return Position(Term(meta.term), Lsn(meta.applied), meta.chain)


def term_row(entry: TermEntry) -> tuple[int, int, int, int]:
    """A row of `terms`."""
    return *entry, crc32(f"{entry.term} {entry.first} {entry.mark}".encode())


def read_terms(path: Path, connection: sqlite3.Connection) -> TermList:
    """Which term began where. Raises `StateCorrupt`."""
    entries = []
    for row in connection.execute("SELECT term, first, mark, sum FROM terms ORDER BY term"):
        entries.append(TermEntry(*row[:3]))
        if term_row(entries[-1]) != row:
            raise StateCorrupt(path, f"the row of term {row[0]} does not match its checksum")
    return TermList(tuple(entries))


def checksum(c: int, ident: str, version: int, doc: bytes) -> int:
    """The CRC-32 that the row of a document carries: of its place and its bytes."""
    return crc32(doc, crc32(f"{c} {version} {ident}".encode()))


def check_row(path: Path, c: int, ident: str, version: int, total: int, doc: object) -> None:
    """Raises `StateCorrupt` for a row of `docs` that is not as it was written. `path` is the state's file."""
    if not isinstance(doc, bytes) or checksum(c, ident, version, doc) != total:
        raise StateCorrupt(path, f"the document {ident!r} of collection {c} does not match its checksum")


def sealed(body: bytes, place: str = "") -> bytes:
    """`body` as a table keeps it, with the CRC-32 of it and its `place` behind it."""
    return body + crc32(body, crc32(place.encode())).to_bytes(_SEAL_BYTES, "little")


def opened(path: Path, kept: object, what: str, place: str = "") -> bytes:
    """The body in what a table keeps. Raises `StateCorrupt`, which names `what`, if it is not as written."""
    body = kept[:-_SEAL_BYTES] if isinstance(kept, bytes) else b""
    if sealed(body, place) != kept:
        raise StateCorrupt(path, f"{what} does not match its checksum")
    return body


def key_row(last: int, entries: bytes) -> tuple[int, bytes]:
    """A row of `keys`: entries that were recorded up to LSN `last`, which stands for their order."""
    return last, sealed(entries, str(last))


def key_rows(path: Path, connection: sqlite3.Connection) -> Iterator[bytes]:
    """The stored key entries, in the order in which they were recorded. Raises `StateCorrupt`."""
    for last, entries in connection.execute("SELECT last, entries FROM keys ORDER BY last"):
        yield opened(path, entries, f"the row of keys at LSN {last}", str(last))


TRANSLATED = (sqlite3.Error, UnicodeDecodeError, OSError)
"""What `translation` knows."""


def translation(path: Path, error: Exception) -> NodeError:
    """The error, one of `TRANSLATED`, that was met at the file at `path`: `DiskFull`, `StateCorrupt`,
    `StateLocked`, else `DiskFailed`.
    """
    if isinstance(error, UnicodeDecodeError):  # SQLite names in its error what it found
        return StateCorrupt(path, "its schema cannot be read")
    if not isinstance(error, sqlite3.Error):
        return DiskFailed(path, str(error))
    exact = getattr(error, "sqlite_errorcode", 0)
    code = exact & 0xFF
    if code == sqlite3.SQLITE_FULL or exact == sqlite3.SQLITE_IOERR_SHMSIZE:  # no space for the log's index
        return DiskFull(path, "for the state")
    undecodable = not code and "decode" in str(error)  # text that is no UTF-8: only damage makes it so
    if undecodable or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StateCorrupt(path, str(error))
    if code == sqlite3.SQLITE_BUSY:
        return StateLocked(path)
    return DiskFailed(path, str(error))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Inside, raise the `translation` of what is met at the file at `path`."""
    try:
        yield
    except TRANSLATED as error:
        raise translation(path, error) from error


def is_barred(error: NodeError, path: Path) -> bool:
    """Whether the file at `path`, about which `error` is, is there and SQLite did not get at it, for want of
    rights, descriptors or memory: which says nothing of what is in it.
    """
    code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
    return code in _BARRED and path.exists()


@contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Whoever opens a connection owns it until this ends without an error."""
    opened = False
    try:
        yield
        opened = True
    finally:
        if not opened:
            connection.close()


def _beside(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}-{what}") for what in ("wal", "shm", "journal")]


def _require_files(path: Path) -> None:
    """Raises `StateCorrupt` where something else stands in the place of a file that SQLite would open."""
    for each in (path, *_beside(path)):
        if what := not_a_file(each):
            raise StateCorrupt(each, what)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Whether the file is a state file, and one that this version understands."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise StateCorrupt(path, f"it is no state file (application id {application:#010x})")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < FORMAT:
        raise FormatOlder(path, f"a state file of format {version}, this version reads {FORMAT}")
    if version > FORMAT:
        raise FormatNewer(path, f"a state file of format {version}, this version knows {FORMAT}")
    if not _schema_of_new() <= _schema(connection):
        raise StateCorrupt(path, "its tables are not declared as they were")


def _schema(connection: sqlite3.Connection) -> frozenset[tuple[str, str, str, str | None]]:
    """How everything is declared: by which SQLite reads the rows, and which nothing else checks."""
    return frozenset(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


@cache
def _schema_of_new() -> frozenset[tuple[str, str, str, str | None]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_TABLES)
        return _schema(connection)

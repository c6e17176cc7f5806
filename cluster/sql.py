"""SQL over the documents, for reading: each collection is a view with the columns id, rid (the same), doc and
version.

A statement is untrusted. Four walls stand around it, each enough for what it is there for:

* the connection cannot write: it is opened read-only, and what a statement compiles to is authorized step by
  step;
* the authorizer denies what it does not know, and lets the tables be read through the views only (see
  `sql_guard`);
* values, steps, time, and the answer's rows and bytes are bounded, where SQLite lets itself be bounded;
* for the rest, memory, and time in the compiler or inside one function, it runs in a process of its own (see
  `sql_process`).
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cluster.errors import QueryFailed, StateCorrupt
from cluster.sql_guard import JSON_TABLES, Guard
from cluster.statement import CATALOG, TEXT_BYTES_MAX, Statement, parse
from cluster.tables import check_row, open_reader, translated
from redwire.errors import Code
from redwire.frame import PAYLOAD_BYTES_MAX
from redwire.message.driver import SqlValue
from redwire.message.params import Json, Param, Timestamp, Uuid, Vector

ROWS_MAX = 10_000
"""As many as one request may write."""
RESULT_BYTES_MAX = 15 << 20
"""Texts and blobs of one answer, so that it fits a frame."""
TWICE_BYTES_MAX = PAYLOAD_BYTES_MAX // 2
"""The same where the answer holds every row twice."""
SECONDS_MAX = 5.0
"""Statements are for people and pages: one that takes longer keeps one of two processes from everybody else.
"""
STEPS_MAX = 500_000_000
"""Time ends a statement first, wherever a step takes 10 ns or more (30 on a slow machine): a faster one does
no more work for it than this.
"""
STEPS_PER_LOOK = 20_000
"""Less than a millisecond: time is over when it is over, and looking costs nothing."""
VALUE_BYTES_MAX = 16 << 20
"""Twice the largest document: a function may make a longer one of it."""
VIEWS_MAX = 500
"""Views that one connection keeps, at 4 KB each; beyond it it begins anew. That takes 40 ms for so many, and
four times as long for twice as many.
"""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE_BYTES_MAX,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: TEXT_BYTES_MAX + 1024,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}

Rows = list[tuple[SqlValue, ...]]
Values = dict[str, SqlValue] | Sequence[SqlValue]


class SqlQuery(msgspec.Struct, frozen=True):
    """One statement. More values than it has parameters are allowed: `$1` need not use them all.

    `bytes_max` bounds the texts and blobs of the answer.
    """

    text: str
    params: Sequence[Param] = ()
    bytes_max: int = RESULT_BYTES_MAX


class SqlResult(msgspec.Struct, frozen=True):
    """Rows, as they were at one moment. `statement` is its kind: `select` or `show`.

    No two `columns` are equal: a second `x` is `x:1`.
    """

    statement: str
    columns: tuple[str, ...]
    rows: Rows

    def rows_as_json(self) -> list[tuple[SqlValue | msgspec.Raw, ...]]:
        """The rows for an encoder of JSON: in a column `doc` a JSON object is one, not a text that holds
        one."""
        places = [place for place, name in enumerate(self.columns) if name.partition(":")[0] == "doc"]
        if not places:
            return [*self.rows]
        return [
            tuple(_object(value) if place in places else value for place, value in enumerate(row))
            for row in self.rows
        ]


class SqlWorker:
    """One connection for statements."""

    def __init__(self, path: Path, *, seconds_max: float = SECONDS_MAX) -> None:
        self._path = path
        self._seconds_max = seconds_max
        self._guard = Guard(f"_{secrets.token_hex(16)}")
        self._views_made = 0
        # A cached statement would be run as it was authorized: under the guard's trust for one of our own.
        self._connection = open_reader(path, cached_statements=0)
        for limit, value in _LIMITS.items():
            self._connection.setlimit(limit, value)
        # Sorting and temporary tables count as memory: nothing a statement asks for fills a disk.
        self._connection.execute("PRAGMA temp_store = MEMORY")
        # Their first use looks at the schema, which the guard will not allow.
        for table in sorted(JSON_TABLES):
            self._connection.execute(f"SELECT 1 FROM {table}('[]')").fetchall()
        self._damage: StateCorrupt | None = None
        self._connection.create_function(self._guard.intact, 5, self._intact, deterministic=True)
        self._connection.set_authorizer(self._guard)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def run(self, query: SqlQuery) -> SqlResult:
        """Run one statement. Raises `QueryFailed`, `StateCorrupt` or `DiskFailed`."""
        statement = parse(query.text)
        values = statement.bound([_bound(param) for param in query.params])
        with translated(self._path):
            self._make_views(statement.names)
            self._damage = None
            columns, rows = self._select(statement, values, query.bytes_max)
            return SqlResult(statement.kind.value, columns, rows)

    def _intact(self, c: int, ident: str, version: int, total: int, doc: bytes) -> bytes:
        """The document, for the reading views. SQLite does not pass on what is wrong with it."""
        try:
            check_row(self._path, c, ident, version, total, doc)
        except StateCorrupt as damage:
            self._damage = damage
            raise
        return doc

    def _select(
        self, statement: Statement, values: Values, bytes_max: int
    ) -> tuple[tuple[str, ...], list[tuple[SqlValue, ...]]]:
        """Run what is not trusted."""
        connection, guard = self._connection, self._guard
        meter = _Meter(self._seconds_max)
        connection.set_progress_handler(meter, STEPS_PER_LOOK)
        guard.trusting, guard.denied = False, ""
        try:
            cursor = connection.execute(statement.text, values)
            try:
                columns = _distinct([column[0] for column in cursor.description or ()])
                return columns, _bounded(cursor, bytes_max)
            finally:
                cursor.close()
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise self._damage or _failed(error, guard.denied, meter.exceeded) from error
        finally:
            guard.trusting = True
            connection.set_progress_handler(None, 0)

    def _make_views(self, names: frozenset[str]) -> None:
        """Make the views among `names`, those of collections and the catalog's, that are not there yet."""
        execute, views = self._connection.execute, self._guard.views
        found = self._definitions(names - views)
        if not found:
            return
        execute("PRAGMA query_only = OFF")
        if len(views) + len(found) > VIEWS_MAX:
            for (name,) in execute("SELECT name FROM sqlite_temp_master WHERE type = 'view'").fetchall():
                execute(f'DROP VIEW temp."{name}"')
            views.clear()
            found = self._definitions(names)
        for number, (name, columns, source) in enumerate(found, self._views_made):
            inner = f'"{self._guard.secret}_{number}"'
            execute(f"CREATE TEMP VIEW {inner} AS {source}")
            execute(f'CREATE TEMP VIEW "{name}" AS SELECT {columns} FROM temp.{inner}')
            views.add(name.lower())
        self._views_made += len(found)
        execute("PRAGMA query_only = ON")

    def _definitions(self, names: frozenset[str]) -> list[tuple[str, str, str]]:
        """Name, columns and reading SELECT of each view among `names` that there can be.

        None hides a function that goes behind FROM: a collection of that name stays, even without documents.
        """
        find = "SELECT c, name FROM collections WHERE name = ? COLLATE NOCASE"
        rows = (self._connection.execute(find, (name,)).fetchone() for name in names - JSON_TABLES)
        intact = f"CAST({self._guard.intact}(c, id, version, sum, doc) AS TEXT)"
        source = f"SELECT id, version, {intact} AS doc FROM main.docs WHERE c ="
        found = [(row[1], "id, id AS rid, doc, version", f"{source} {row[0]}") for row in rows if row]
        if CATALOG in names:
            found.append(
                (CATALOG, "name, 'document' AS model", "SELECT name FROM main.collections ORDER BY name")
            )
        return found


class _Meter:
    """Counts steps and time; true ends the statement."""

    def __init__(self, seconds_max: float) -> None:
        self.exceeded = ""
        self._steps = 0
        self._seconds_max = seconds_max
        self._deadline = time.monotonic() + seconds_max

    def __call__(self) -> bool:
        self._steps += STEPS_PER_LOOK
        if self._steps >= STEPS_MAX:
            self.exceeded = f"took more than {STEPS_MAX:,} steps"
        elif time.monotonic() >= self._deadline:
            self.exceeded = f"took more than {self._seconds_max:g} seconds"
        return self.exceeded != ""


def _bounded(cursor: sqlite3.Cursor, bytes_max: int) -> Rows:
    """All rows of an answer within bounds. Each row counts with its columns' names: JSON repeats them."""
    rows: Rows = []
    size = 0
    names = sum(len(name) for name, *_ in cursor.description or ())
    for row in cursor:
        if len(rows) == ROWS_MAX:
            raise QueryFailed(f"the answer has more than {ROWS_MAX:,} rows", hint="add a LIMIT")
        size += names + sum(len(value) for value in row if isinstance(value, str | bytes))
        if size > bytes_max:
            raise QueryFailed(
                f"the answer has more than {bytes_max} bytes", hint="add a LIMIT", code=Code.TOO_LARGE
            )
        rows.append(row)
    return rows


def _failed(error: BaseException, denied: str, exceeded: str) -> QueryFailed:
    """SQLite's error in our words. One that speaks of the file, not of the statement, is raised as it is."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, sqlite3.Error) and code in _FILE_ERRORS:
        raise error
    if exceeded:
        hint = "narrow it down: id = … and id > … use an index, nothing else does"
        return QueryFailed(f"the statement {exceeded}", hint=hint, code=Code.TIMEOUT)
    if denied:
        return QueryFailed(denied)
    if absent := _ABSENT.fullmatch(str(error)):
        hint = "SHOW COLLECTIONS names those that are: one begins with its first document"
        return QueryFailed(f"there is no collection {absent[1]}", hint=hint)
    if code == sqlite3.SQLITE_TOOBIG:
        return QueryFailed(f"a value of more than {VALUE_BYTES_MAX} bytes", code=Code.TOO_LARGE)
    if field := _FIELD.match(str(error)):
        hint = f"a collection's columns are id, rid, doc and version; a field is in doc: doc->>'{field[1]}'"
        return QueryFailed(str(error), hint=hint)
    if str(error) == _MALFORMED:
        hint = "to SQL so is a document a thousand arrays deep: WHERE json_valid(doc) leaves it out"
        return QueryFailed(str(error), hint=hint)
    return QueryFailed(str(error))


_FIELD = re.compile(r"no such column: (?:\w+\.)?(\w+)\Z")
_MALFORMED = "malformed JSON"
_ABSENT = re.compile(r"no such table: (.+)")
_FILE_ERRORS = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR))


def _bound(param: Param) -> SqlValue:
    """A parameter as SQLite takes it: JSON and vectors as JSON text, a UUID as its usual text, a time as its
    count."""
    match param:
        case Vector(values):
            return msgspec.json.encode(values).decode()
        case Json(text):
            return text
        case Timestamp(count):
            return count
        case Uuid(raw):
            return str(uuid.UUID(bytes=raw))
        case None | bool() | int() | float() | str() | bytes():
            return param


def _distinct(names: list[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    columns: list[str] = []
    for name in names:
        column = name
        while column in seen:
            seen[name] += 1
            column = f"{name}:{seen[name]}"
        seen[column] = 0
        columns.append(column)
    return tuple(columns)


def _object(value: SqlValue) -> SqlValue | msgspec.Raw:
    if isinstance(value, str) and value.lstrip(" \t\r\n").startswith("{"):
        try:
            return msgspec.json.decode(value, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError):  # the latter: deeper than the stack has room for
            return value
    return value

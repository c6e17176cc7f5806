"""The documents as apply sees them: executes one WRITE request after the other inside the caller's
transaction.

What a record means is decided in `logical`. Here it meets SQLite: unconditional puts, which need no look at
what is there, are kept and written in one go before the next statement that reads.

A document that damage hides from the index is absent here, and an INSERT of its id is decided without it,
until the next look at the whole file finds a row without its entry (`scrub`). Nothing else knows of an id: to
hear of it at once, each insert would have to read in a second index.

A collection is there from its first document on, and stays when its last one is deleted: its number is in
views of readers, and to learn that a document was the last one would be a look-up for each that is deleted.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cluster.errors import StateCorrupt
from cluster.logical import FAILURES, Effect, aborted, decide, generated_id
from cluster.tables import check_row, checksum
from redwire.errors import RequestInvalid
from redwire.message.client import RESULT, RecordStatus
from redwire.record import IF_VERSION, Op, records

_PUT = """INSERT INTO docs VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET version = excluded.version, sum = excluded.sum, doc = excluded.doc"""
"""Not REPLACE, which deletes and inserts: one as long as the document before is written over in its place."""
_ROW = "SELECT version, sum, doc FROM docs WHERE c = ? AND id = ?"
_DELETE = "DELETE FROM docs WHERE c = ? AND id = ?"
_CREATE = "INSERT INTO collections VALUES (?, ?)"
_INSERT = "INSERT INTO docs VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"

COLLECTIONS_MAX = 10_000
"""Each lives in every node's memory for ever, and a writer makes as many as it can think of names."""

_Row = tuple[int, str, int, int, bytes]

_APPLIED = int(RecordStatus.APPLIED)
_PUT_OP, _INSERT_OP = int(Op.PUT), int(Op.INSERT)
_NO_COLLECTION = -1
"""No document has it, so whatever is looked up in it is absent."""


class Documents:
    """The writing side of `docs` and `collections`. `connection`, to the state file at `path`, stays the
    caller's.

    Between two `write`s `puts` may hold rows that are not in the table yet; `flush` before the transaction
    ends. A rolled back transaction leaves this object behind the times: make a new one.

    `check_room` and `collections` are for any thread.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Raises `StateCorrupt`, and what SQLite does."""
        self._path = path
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._puts: list[_Row] = []
        rows = connection.execute("SELECT c, name FROM collections ORDER BY c").fetchall()
        for number, name in rows:
            if not isinstance(name, str):
                raise StateCorrupt(path, f"the name of collection {number} is none")
        self._numbers: dict[bytes, int] = {name.encode(): number for number, name in rows}
        self._any_case = {name.lower() for name in self._numbers}

    @property
    def collections(self) -> int:
        """How many there are."""
        return len(self._numbers)

    def write(self, request: memoryview, first: int, *, atomic: bool) -> bytes:
        """Execute a WRITE request whose first record has LSN `first`; a packed `RESULT` per record.

        `check_write` has passed the request, here or where it was logged. Raises `ValueError` for a record
        with an op or a flag that this version does not know, `StateCorrupt` for a damaged document that a
        record asks about, and `sqlite3.Error`.
        """
        if atomic:
            return self._atomic(request, first)
        return b"".join([self._record(*record, lsn) for lsn, record in enumerate(records(request), first)])

    def check_room(self, request: bytes) -> None:
        """Raises `RequestInvalid` for a WRITE request that would begin a collection, where there are as many
        as there may be.

        What is on its way may fill the last places: `write` decides again.
        """
        if len(self._numbers) < COLLECTIONS_MAX:
            return
        for place, (op, flags, collection, _, _, version) in enumerate(records(memoryview(request))):
            begins = op != Op.DELETE and not (flags and version) and collection not in self._numbers
            if begins and collection.lower() not in self._any_case:
                more = f"would be one more than the {COLLECTIONS_MAX:,} there may be"
                raise RequestInvalid(
                    f"collection {collection.decode()} {more}",
                    place,
                    hint="write into one that is there: SHOW COLLECTIONS",
                )

    def flush(self) -> None:
        """Write the puts that wait."""
        if self._puts:
            self._executemany(_PUT, self._puts)
            self._puts.clear()

    def _atomic(self, request: memoryview, first: int) -> bytes:
        """All records or none: what the records before the failing one did is taken back."""
        self.flush()
        self._execute("SAVEPOINT request")
        known, items = len(self._numbers), []
        for place, record in enumerate(records(request)):
            item = self._record(*record, first + place)
            items.append(item)
            if item[0] in FAILURES:
                self._puts.clear()
                self._execute("ROLLBACK TO request")
                self._forget_collections(known)
                count = sum(1 for _ in records(request))
                self._execute("RELEASE request")
                return aborted(place, item, count)
        self.flush()
        self._execute("RELEASE request")
        return b"".join(items)

    def _record(
        self, op: int, flags: int, collection: bytes, ident: bytes, doc: bytes, version: int, lsn: int
    ) -> bytes:
        """One record by the table in `logical`; its packed result."""
        name = ident.decode() or generated_id(lsn)
        number = self._numbers.get(collection, _NO_COLLECTION)
        if not flags and number != _NO_COLLECTION:
            if op == _PUT_OP:
                self._puts.append(_row(number, name, lsn, doc))
                return RESULT.pack(_APPLIED, lsn)
            if op == _INSERT_OP:
                self.flush()
                if self._execute(_INSERT, _row(number, name, lsn, doc)).rowcount:
                    return RESULT.pack(_APPLIED, lsn)
        elif flags & ~IF_VERSION:
            raise ValueError(f"record flags {flags:#04x} at LSN {lsn}")
        current = self._version(number, name)
        barred = number == _NO_COLLECTION and self._barred(collection)
        wanted = version if flags else None
        status, shown, effect = decide(Op(op), wanted, current, lsn, barred=barred)
        if effect is Effect.WRITE:
            if number == _NO_COLLECTION:
                number = self._create(collection)
            self._puts.append(_row(number, name, lsn, doc))
        elif effect is Effect.DELETE:
            self._execute(_DELETE, (number, name))
        return RESULT.pack(status, shown)

    def _barred(self, collection: bytes) -> bool:
        """Whether this collection, which there is not, cannot begin."""
        return len(self._numbers) >= COLLECTIONS_MAX or collection.lower() in self._any_case

    def _version(self, number: int, name: str) -> int:
        if number == _NO_COLLECTION:
            return 0
        self.flush()
        row = self._execute(_ROW, (number, name)).fetchone()
        if row is None:
            return 0
        check_row(self._path, number, name, *row)
        return int(row[0])

    def _create(self, collection: bytes) -> int:
        """A new collection; numbers are given in the order of the log, so they are the same on every node."""
        number = len(self._numbers) + 1
        self._execute(_CREATE, (number, collection.decode()))
        self._numbers[collection] = number
        self._any_case.add(collection.lower())
        return number

    def _forget_collections(self, known: int) -> None:
        """Take back the collections beyond the first `known` ones."""
        for name in list(self._numbers)[known:]:
            del self._numbers[name]
            self._any_case.discard(name.lower())


def _row(number: int, name: str, version: int, doc: bytes) -> _Row:
    """The row of `docs` for one document, with its checksum."""
    return number, name, version, checksum(number, name, version, doc), doc

"""The state: what the log amounts to, up to one LSN, in a SQLite file.

One thread applies; `applied` moves in the same transaction as the data that it covers (R10). Nothing in here
decides: what a record means stands in `logical`, what a key means in `keys`, and both follow from the log
alone.

A batch is applied as a whole or not at all. What this version does not know (a kind, a flag, an account
change) stops apply with `ApplyStopped`; after any error the state stands where it stood before the call.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from cluster.accounts import Accounts
from cluster.documents import Documents
from cluster.effects import Fate, Result
from cluster.errors import ApplyStopped, DiskFull, OutOfOrder
from cluster.files import FILE_MODE, Syscalls
from cluster.keys import Expired, Keys, Remembered
from cluster.recall import NEVER, Recall
from cluster.registry import Registry
from cluster.soundness import verify
from cluster.sqlite_log import SqliteLog
from cluster.tables import (
    TRANSLATED,
    WRITER_BUSY_MS,
    closed_on_error,
    key_row,
    key_rows,
    open_reader,
    open_writer,
    read_meta,
    read_position,
    read_terms,
    require_whole,
    term_row,
    translated,
    translation,
)
from redwire.batch import Batch, follows
from redwire.body import decode
from redwire.errors import BodyInvalid, RequestInvalid
from redwire.message.client import RESULT, RecordStatus
from redwire.message.log import CloseKey, ClusterRecord
from redwire.position import Incarnation, Lsn, NodeId, Position, Term, TermList
from redwire.record import REQUEST_HEADER, Key, RequestKind, request_heads

KEY_BYTES_SLACK = 1 << 20
"""Few keys are not worth a rewrite: 15,000 entries."""
KEY_BYTES_PER_HELD = 4
"""Stored key entries are due to be rewritten when they exceed so many times those that are held, and the
slack: a new one costs a third of a rewrite of another one at most.
"""
KEY_ROW_BYTES = 64 << 10
"""Some 1,300 entries a row: what surrounds them weighs nothing, and a row is read at once."""

_NOT_APPLICABLE = (RequestInvalid, BodyInvalid, ValueError, OverflowError, struct.error)
_EXPIRED = Result(Fate.EXPIRED)


class AppliedBatch(NamedTuple):
    """One batch after apply: its last LSN, and one result per request, in order, the node's own records
    included.

    A duplicate carries the first LSN and items of the request that was executed.
    """

    last: Lsn
    results: list[Result]


class StateStatus(msgspec.Struct, frozen=True):
    """What the state weighs: SQLite's own log, the clients and their keys that are remembered with what they
    take in memory, and the collections that there are.
    """

    wal_bytes: int
    clients: int
    open_keys: int
    key_bytes: int
    collections: int


class State:
    """The state in one file, and the key memory beside it. `checkpointed` is the LSN that survives a power
    cut without the log.

    It belongs to one thread at a time: whoever opens it hands it over to the applier. `applied`,
    `batch_time_ms`, `terms`, `checkpointed`, `lookup`, `accounts`, `cluster_records`, `admits`, `given_up`,
    `status`, `snapshot_into`, and of `sqlite_log` and `documents` what these say, may be used from any
    thread. `lookup` and those about the cluster may be ahead by the `apply` that is running: it is committed
    in the log, so they are early, not wrong.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.applied: Position
        self.batch_time_ms: int
        self.terms: TermList
        self.keys: Keys
        self._connection = connection
        self.documents: Documents
        self._registry: Registry
        self._key_bytes = 0
        self.sqlite_log = SqliteLog(path, connection)
        self._load()

    @classmethod
    def open(cls, path: Path) -> State:
        """The state in `path`; a missing or empty file becomes the state of an empty log.

        What the file says is made durable first, so `checkpointed` equals `applied`. Raises `FormatNewer`,
        `StateCorrupt`, `DiskFull` or `DiskFailed`.
        """
        require_whole(path)
        connection = open_writer(path)
        with closed_on_error(connection):
            with translated(path):
                Syscalls().sync_folder(path.parent)
                state = cls(path, connection)
            state.checkpoint()
        return state

    def close(self) -> None:
        """Close the file; nothing else works afterwards."""
        self._connection.close()

    def apply(
        self,
        batches: Sequence[Batch],
        patience_ms: int = WRITER_BUSY_MS,
        fits: Callable[[int], bool] | None = None,
    ) -> list[AppliedBatch]:
        """Apply `batches`, which continue the state, in one transaction. `patience_ms` is for another process
        that writes into the file. `fits` says whether it may grow so much when SQLite's log is folded.

        Raises `OutOfOrder`, `ApplyStopped`, `DiskFull` and `StateLocked` (later it may work), `StateCorrupt`
        or `DiskFailed`; then nothing was applied.
        """
        end = self.applied
        for batch in batches:
            if not follows(batch, end):
                raise OutOfOrder(batch.first, end)
            end = batch.position
        if not batches:
            return []
        committed, execute, time_ms = False, self._connection.execute, batches[-1].time_ms
        try:
            self.sqlite_log.be_patient(patience_ms)
            execute("BEGIN IMMEDIATE")
            try:
                terms = _extended(self.terms, batches, self._connection)
                applied = [self._apply_batch(batch) for batch in batches]
                self.documents.flush()
                self.keys.advance(end.lsn, time_ms)
                self.sqlite_log.note(end, time_ms, self.keys.forgotten_through)
                if fits is not None and not fits(self.sqlite_log.growth_bytes()):
                    raise DiskFull(self.path, "to fold its log afterwards")
                execute("COMMIT")
                committed = True
            finally:
                if not committed:
                    self._roll_back()
        except TRANSLATED as error:
            raise translation(self.path, error) from error
        self.terms, self.batch_time_ms = terms, time_ms
        self.sqlite_log.cause(sum([len(batch.data) for batch in batches]))
        self.applied = end  # last: whoever looks at it first finds all that belongs to it
        return applied

    def lookup(self, key: Key) -> Result | None:
        """What a request came to whose key is known, or was and is forgotten; else None (R9)."""
        verdict = self.keys.lookup(key)
        if isinstance(verdict, Remembered):
            return Result(Fate.DUPLICATE if verdict.items else Fate.CLOSED, verdict.first, verdict.items)
        return _EXPIRED if isinstance(verdict, Expired) else None

    def accounts(self) -> Accounts:
        """All users and bearer tokens."""
        return self._registry.accounts

    def cluster_records(self) -> tuple[tuple[Lsn, ClusterRecord], ...]:
        """All CONFIG records with their LSNs, the last one in force."""
        return self._registry.records

    def given_up(self) -> Mapping[NodeId, Term]:
        """The nodes that operators gave up, each with the newest term that began without it."""
        return {node: self.terms.term_at(lsn) for node, lsn in self._registry.given_up.items()}

    def admits(self) -> Mapping[NodeId, Incarnation]:
        """The data directory that counts for each member, by its last ADMIT record."""
        return self._registry.admits

    @property
    def checkpointed(self) -> Lsn:
        """What survives a power cut without the node's log."""
        return self.sqlite_log.folded

    @property
    def checkpoint_due(self) -> bool:
        """Whether it is time for a `checkpoint`."""
        return self.sqlite_log.due

    def checkpoint(self, *, urgent: bool = False) -> Lsn | None:
        """Make what is applied durable without the node's log, as far as readers let us, which are waited for
        a little where it is `urgent`; `checkpointed`, or None when it stayed behind. Raises `DiskFull` or
        `DiskFailed`.
        """
        return self.sqlite_log.fold(self.applied.lsn, urgent=urgent)

    @property
    def keys_due(self) -> bool:
        """Whether most of the stored keys are dropped by now, so that it is time for `rewrite_keys`."""
        return self._key_bytes > KEY_BYTES_PER_HELD * self.keys.entry_bytes + KEY_BYTES_SLACK

    def rewrite_keys(self) -> None:
        """Store the keys anew, in a transaction of its own, which takes 0.2 s and as much space as they do,
        128 MiB, at most: no `apply` needs that. Raises `DiskFull` and `StateLocked` (later it may work),
        or `DiskFailed`; then they are stored as they were.
        """
        connection = self._connection
        with translated(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute("DELETE FROM keys")
                connection.executemany("INSERT INTO keys VALUES (?, ?)", _rows_of(self.keys))
                self.sqlite_log.note(self.applied, self.batch_time_ms, self.keys.forgotten_through)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        self._key_bytes = self.keys.entry_bytes

    def snapshot_into(self, path: Path, recall: Recall = NEVER) -> Position:
        """Write the state as it is now, at a batch boundary, into the new file `path`, synced; where it
        stands.

        Blocks its thread for as long as the copy takes, while applies go on. Raises `DiskFull`, `DiskFailed`,
        and `CalledOff` by `recall`; then there is no file.
        """
        with translated(self.path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
            written = False
            try:
                _copy(self.path, path, recall)
                position = verify(path, recall)
                written = True
            finally:
                if not written:
                    for left in (path, path.with_name(f"{path.name}-journal")):
                        left.unlink(missing_ok=True)
        return position

    def status(self) -> StateStatus:
        """What it weighs."""
        keys = self.keys
        size = self.sqlite_log.size_bytes()
        return StateStatus(size, len(keys), keys.open, keys.held, self.documents.collections)

    def _load(self) -> None:
        """Read from the tables whatever is kept in memory beside them."""
        connection = self._connection
        self.applied = read_position(self.path, connection)
        meta = read_meta(self.path, connection)
        self.batch_time_ms = meta.time_ms
        self.terms = read_terms(self.path, connection)
        keys, stored = Keys(forgotten_through=meta.forgotten_through), 0
        for entries in key_rows(self.path, connection):
            keys.replay(entries)
            stored += len(entries)
        keys.advance(self.applied.lsn, meta.time_ms)
        self.keys, self._key_bytes = keys, stored
        self.documents, self._registry = Documents(self.path, connection), Registry(self.path, connection)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        with closed_on_error(self._connection):  # nothing is applied over what is remembered by halves
            self._load()

    def _apply_batch(self, batch: Batch) -> AppliedBatch:
        """Apply one batch but for the position. Raises `ApplyStopped`."""
        try:
            results, entries = self._apply_requests(batch)
        except _NOT_APPLICABLE as error:
            raise ApplyStopped(batch.last, str(error)) from error
        if entries:
            joined = b"".join(entries)
            self._connection.execute("INSERT INTO keys VALUES (?, ?)", key_row(batch.last, joined))
            self._key_bytes += len(joined)
        return AppliedBatch(batch.last, results)

    def _apply_requests(self, batch: Batch) -> tuple[list[Result], list[bytes]]:
        """Results of all requests, and the key entries of those that were executed under a key."""
        keys, write, lsn, time_ms = self.keys, self.documents.write, batch.first, batch.time_ms
        results: list[Result] = []
        entries: list[bytes] = []
        keys.advance(Lsn(lsn - 1), time_ms)
        for head in request_heads(batch.body):
            key = head.key
            if head.kind is RequestKind.CLOSE:
                asked = decode(bytes(head.data[REQUEST_HEADER.size :]), CloseKey)
                closed = Key(asked.client, asked.sequence, asked.sequence)
                entries += keys.close(closed, lsn, time_ms)
                results.append(self.lookup(closed) or _EXPIRED)
            elif head.kind is not RequestKind.WRITE:
                status = self._registry.apply(head.kind, bytes(head.data[REQUEST_HEADER.size :]), lsn)
                version = 0 if status is RecordStatus.NOT_FOUND else lsn
                results.append(Result(Fate.EXECUTED, lsn, RESULT.pack(status, version)))
            elif key is None:
                results.append(Result(Fate.EXECUTED, lsn, write(head.data, lsn, atomic=head.atomic)))
            else:
                known = self.lookup(key)
                if known is None:
                    items = write(head.data, lsn, atomic=head.atomic)
                    entries.append(keys.record(key, lsn, head.count, items, time_ms))
                    known = Result(Fate.EXECUTED, lsn, items)
                results.append(known)
            lsn = Lsn(lsn + head.count)
        if lsn != batch.last + 1:
            raise ValueError(f"its requests take {lsn - batch.first} LSNs, its header says otherwise")
        return results, entries


def _rows_of(keys: Keys) -> Iterator[tuple[int, bytes]]:
    """The rows in which `keys` are stored anew."""
    parts: list[bytes] = []
    last, size = Lsn(0), 0
    for last, part in keys.entries():
        parts.append(part)
        size += len(part)
        if size >= KEY_ROW_BYTES:
            yield key_row(last, b"".join(parts))
            parts, size = [], 0
    if parts:
        yield key_row(last, b"".join(parts))


def _extended(terms: TermList, batches: Sequence[Batch], connection: sqlite3.Connection) -> TermList:
    """`terms` once `batches` are applied; the table is extended as well."""
    for batch in batches:
        extended = terms.extended(batch.reign.term, batch.first, batch.chain)
        if extended is not terms:
            connection.execute("INSERT INTO terms VALUES (?, ?, ?, ?)", term_row(extended.entries[-1]))
            terms = extended
    return terms


def copy_bytes(path: Path) -> int:
    """How large a snapshot of the state at `path` is. Raises `StateCorrupt`, `DiskFailed`."""
    with translated(path), closing(open_reader(path)) as connection:
        pages, unused, size = (
            connection.execute(f"PRAGMA {what}").fetchone()[0]
            for what in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - unused) * size)


def _copy(source: Path, target: Path, recall: Recall) -> None:
    connection = open_reader(source)
    try:
        connection.execute("PRAGMA query_only = OFF")
        try:
            with recall.over(connection):
                connection.execute("VACUUM INTO ?", (str(target),))
        except sqlite3.Error as error:
            found = translation(target, error)
            raise found if isinstance(found, DiskFull) else error from error
    finally:
        connection.close()
    fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    Syscalls().sync_folder(target.parent)

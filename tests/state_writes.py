"""Requests for a state, and what is in it afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.client_ids import MARK_BYTES, marked
from cluster.state import State
from cluster.tables import open_reader
from redwire.message.admin import ScramRecord
from redwire.message.client import RESULT, RecordStatus
from redwire.position import Lsn
from redwire.record import Key, Op, Record, encode_record, encode_write

APPLIED, DELETED, NOT_FOUND = RecordStatus.APPLIED, RecordStatus.DELETED, RecordStatus.NOT_FOUND
EXISTS, MISMATCH, ABORTED = RecordStatus.EXISTS, RecordStatus.VERSION_MISMATCH, RecordStatus.ABORTED
ANN = marked(Lsn(0), b"m" * MARK_BYTES)
VERIFIER = ScramRecord(salt=bytes(16), iterations=4096, stored_key=bytes(32), server_key=bytes(32))


def put(ident: str, doc: bytes = b"{}", collection: str = "orders", version: int | None = None) -> Record:
    return Record(Op.PUT, collection, ident, doc, version)


def request(*records: Record, key: Key | None = None, atomic: bool = False) -> bytes:
    return encode_write([encode_record(record) for record in records], key, atomic=atomic)


def results(state: State, *batches: Any) -> list[list[tuple[int, int]]]:
    """(status, version) of each record, per request."""
    applied = state.apply(batches)
    return [list(RESULT.iter_unpack(result.items)) for batch in applied for result in batch.results]


def documents(path: Path) -> dict[tuple[str, str], tuple[int, bytes]]:
    connection = open_reader(path)
    rows = connection.execute(
        "SELECT name, id, version, doc FROM docs JOIN collections USING (c) ORDER BY name, id"
    ).fetchall()
    connection.close()
    return {(name, ident): (version, doc) for name, ident, version, doc in rows}

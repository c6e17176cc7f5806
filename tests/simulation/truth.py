"""What the log amounts to at every LSN, told from its batches alone: whatever is read is held against it."""

from __future__ import annotations

from bisect import bisect_right, insort

from redwire.batch import Batch
from redwire.body import decode
from redwire.message.log import CloseKey
from redwire.message.read import SCAN_BYTES_MAX, Fetch, Fetched, Scan, Scanned, ScannedRow
from redwire.record import REQUEST_HEADER, Op, RequestHead, RequestKind, records, request_heads

Found = tuple[int, bytes]
"""A document: version and content."""


class Truth:
    """All documents of one collection, each as it was at every LSN up to `end`."""

    def __init__(self, collection: str) -> None:
        self.end = 0
        self._collection = collection.encode()
        self._terms = {0: 0}  # by the last LSN of each batch: between those no state ever stands
        self._keys: set[tuple[bytes, int]] = set()
        self._ids: list[str] = []
        self._stories: dict[str, tuple[list[int], list[bytes | None]]] = {}

    def add(self, batch: Batch) -> None:
        """The log goes on with `batch`."""
        assert batch.first == self.end + 1
        lsn = int(batch.first)
        for head in request_heads(batch.body):
            if self._counts(head):
                for at, (op, _, collection, ident, doc, _) in enumerate(records(head.data), lsn):
                    if collection == self._collection:
                        self._write(Op(op), ident.decode(), doc, at)
            lsn += head.count
        self.end = int(batch.last)
        self._terms[self.end] = batch.reign.term

    def stands(self, term: int, lsn: int) -> bool:
        """Whether a batch of `term` ends at `lsn`: only there a state can stand."""
        return self._terms.get(lsn) == term

    def at(self, lsn: int, ident: str) -> Found | None:
        """A document as it was at `lsn`."""
        versions, docs = self._stories.get(ident, ([], []))
        index = bisect_right(versions, lsn)
        doc = docs[index - 1] if index else None
        return None if doc is None else (versions[index - 1], doc)

    def answer(self, asked: Fetch | Scan, term: int, lsn: int) -> Fetched | Scanned:
        """What a state says that stands at `lsn`."""
        if isinstance(asked, Fetch):
            version, doc = self.at(lsn, asked.id) or (0, b"")
            return Fetched(version > 0, version, term, lsn, doc)
        rows: list[ScannedRow] = []
        size = 0
        for ident in self._ids[bisect_right(self._ids, asked.after) :]:
            found = self.at(lsn, ident)
            if found is not None:
                size += len(found[1]) if rows else 0
                if len(rows) == asked.limit or size > SCAN_BYTES_MAX:
                    return Scanned(term, lsn, True, tuple(rows))
                rows.append(ScannedRow(ident, *found))
        return Scanned(term, lsn, False, tuple(rows))

    def documents(self) -> dict[str, Found]:
        """All documents there are in the end, by id."""
        found = ((ident, self.at(self.end, ident)) for ident in self._ids)
        return {ident: document for ident, document in found if document is not None}

    def _counts(self, head: RequestHead) -> bool:
        """Whether it is a write that nobody has executed or ruled out before (R9)."""
        if head.kind is RequestKind.CLOSE:
            closed = decode(bytes(head.data[REQUEST_HEADER.size :]), CloseKey)
            self._keys.add((closed.client, closed.sequence))
        if head.kind is not RequestKind.WRITE or head.key is None:
            return head.kind is RequestKind.WRITE
        key = (head.key.client, head.key.sequence)
        known = key in self._keys
        self._keys.add(key)
        return not known

    def _write(self, op: Op, ident: str, doc: bytes, lsn: int) -> None:
        if ident not in self._stories:
            self._stories[ident] = ([], [])
            insort(self._ids, ident)
        versions, docs = self._stories[ident]
        there = bool(docs) and docs[-1] is not None
        if op is Op.PUT or (op is Op.INSERT and not there) or (op is Op.DELETE and there):
            versions.append(lsn)
            docs.append(None if op is Op.DELETE else doc)

"""What the log amounts to at every LSN, told from its batches alone: whatever is read is held against it."""

from __future__ import annotations

from bisect import bisect_right, insort

from limits import Limits

from cluster.client_ids import issue_lsn, owner_of
from cluster.keys import CLIENT_AGE_MS, CLIENT_BYTES_HELD, RESULT_BYTES_HELD
from redwire.batch import Batch
from redwire.body import decode
from redwire.message.client import RecordStatus
from redwire.message.log import CloseKey
from redwire.message.read import SCAN_BYTES_MAX, Fetch, Fetched, Scan, Scanned, ScannedRow
from redwire.record import (
    IF_VERSION,
    REQUEST_HEADER,
    Key,
    Op,
    RequestHead,
    RequestKind,
    records,
    request_heads,
)

Found = tuple[int, bytes]
"""A document: version and content."""
Version = tuple[int, bytes | None]
"""The same, or (0, None) for one that is not there."""
Ident = tuple[bytes, int]
"""What makes two keys the same."""
Outcome = tuple[int, list[tuple[RecordStatus, int]]]
"""The first LSN of a request, and status and version of each of its records."""
_RESULT_BYTES = 11 + RESULT_BYTES_HELD
"""Each result that a client may still ask for, beside what says how its records differ."""
_FAILURES = (RecordStatus.EXISTS, RecordStatus.VERSION_MISMATCH)


class Truth:
    """All documents of one collection, each as it was at every LSN up to `end`. `outcomes` are what came of
    the requests with a key: None for one that is never executed. Of keys and clients as much is remembered as
    `limits` say.
    """

    def __init__(self, collection: str, limits: Limits) -> None:
        self.end = 0
        self._collection = collection.encode()
        self._limits = limits
        self._terms = {0: 0}  # by the last LSN of each batch: between those no state ever stands
        self.outcomes: dict[Ident, Outcome | None] = {}
        self._clients: dict[
            bytes, tuple[int, int]
        ] = {}  # oldest sequence, and when it wrote last: in that order
        self._held: dict[bytes, dict[int, int]] = {}  # what each result takes that they may ask for
        self._forgotten = -1  # who was given its id up to here may be one who was forgotten
        self._ids: list[str] = []
        self._stories: dict[str, tuple[list[int], list[bytes | None]]] = {}

    def add(self, batch: Batch) -> None:
        """The log goes on with `batch`."""
        assert batch.first == self.end + 1
        lsn = int(batch.first)
        self._forget(batch.time_ms)
        for head in request_heads(batch.body):
            if head.kind is RequestKind.CLOSE:
                closed = decode(bytes(head.data[REQUEST_HEADER.size :]), CloseKey)
                if self._open(Key(closed.client, closed.sequence, closed.sequence), batch.time_ms, 0):
                    self.outcomes[closed.client, closed.sequence] = None
                    self._hold(closed.client, closed.sequence, 0)
            elif head.kind is RequestKind.WRITE and (head.key is None or self._open(head.key, batch.time_ms)):
                self._request(head, lsn)
            lsn += head.count
        self.end = int(batch.last)
        self._terms[self.end] = batch.reign.term

    def remembers(self, client: bytes) -> bool:
        """Whether it has written, and was not forgotten."""
        return client in self._clients

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

    def _forget(self, now_ms: int) -> None:
        """Who has not written for a day is not known any more (R9)."""
        for client, (_, time_ms) in list(self._clients.items()):
            if time_ms <= now_ms - CLIENT_AGE_MS:
                self._forget_one(client)

    def _forget_one(self, client: bytes) -> None:
        del self._clients[client], self._held[client]
        self._forgotten = max(self._forgotten, issue_lsn(client))

    def _open(self, key: Key, now_ms: int, promised: int | None = None) -> bool:
        """Whether what comes with `key` now is for its client to be executed: then it has written. It is not
        where the key was used before, or may have been by one who was forgotten (R9). Who is not the client
        has `promised` nothing for it.
        """
        if not key.oldest <= key.sequence < key.oldest + self._limits.window:
            return False
        oldest, _ = self._clients.get(key.client, (0, 0))
        if key.client not in self._clients and not self._forgotten < issue_lsn(key.client) <= self.end:
            return False
        if key.sequence < oldest or (key.client, key.sequence) in self.outcomes:
            return False
        self._clients.pop(key.client, None)
        self._clients[key.client] = max(oldest, key.oldest if promised is None else promised), now_ms
        if len(self._clients) > self._limits.clients:
            self._forget_one(self._crowding())
        return True

    def _hold(self, client: bytes, sequence: int, size: int) -> None:
        """Remember what `client` may ask for now, and nobody for whom there is no room."""
        oldest, _ = self._clients[client]
        held = {kept: size for kept, size in self._held.get(client, {}).items() if kept >= oldest}
        self._held[client] = held | {sequence: _RESULT_BYTES + size}
        while sum(map(self._takes, self._clients)) > self._limits.bytes:
            owners = {owner_of(client) for client in self._clients}
            takes = {owner: sum(map(self._takes, self._clients_of(owner))) for owner in owners}
            self._forget_one(self._clients_of(max(owners, key=lambda owner: (takes[owner], owner)))[0])

    def _takes(self, client: bytes) -> int:
        return CLIENT_BYTES_HELD + sum(self._held[client].values())

    def _clients_of(self, owner: bytes) -> list[bytes]:
        return [client for client in self._clients if owner_of(client) == owner]

    def _crowding(self) -> bytes:
        """Who has to go: of the clients of whoever has most, the one that wrote last the longest ago."""
        owned: dict[bytes, list[bytes]] = {}
        for client in self._clients:
            owned.setdefault(owner_of(client), []).append(client)
        return max(owned.values(), key=lambda own: (len(own), owner_of(own[0])))[0]

    def _request(self, head: RequestHead, first: int) -> None:
        """Execute a write."""
        changed: dict[str, Version] = {}
        results: list[tuple[RecordStatus, int]] = []
        for at, (op, flags, collection, name, doc, version) in enumerate(records(head.data), first):
            assert collection == self._collection, "nobody writes anything else"
            ident = name.decode()
            before = changed.get(ident) or self._newest(ident)
            wanted = version if flags & IF_VERSION else before[0]
            status, after = _executed(Op(op), before, (at, doc), wanted)
            results.append((status, at if after[0] == at else before[0]))
            changed[ident] = after
            if head.atomic and status in _FAILURES:
                aborted = (RecordStatus.ABORTED, 0)
                failed = len(results) - 1
                results = [aborted] * failed + results[-1:] + [aborted] * (head.count - failed - 1)
                changed.clear()
                break
        for ident, after in changed.items():
            if after != self._newest(ident):
                self._write(ident, after[0] or first, after[1])
        if head.key is not None:
            self.outcomes[head.key.client, head.key.sequence] = first, results
            self._hold(head.key.client, head.key.sequence, _differing_bytes(results))

    def _newest(self, ident: str) -> Version:
        versions, docs = self._stories.get(ident, ((), ()))
        return (versions[-1], docs[-1]) if docs and docs[-1] is not None else (0, None)

    def _write(self, ident: str, lsn: int, doc: bytes | None) -> None:
        if ident not in self._stories:
            self._stories[ident] = ([], [])
            insort(self._ids, ident)
        versions, docs = self._stories[ident]
        versions.append(lsn)
        docs.append(doc)


def _executed(op: Op, before: Version, new: tuple[int, bytes], wanted: int) -> tuple[RecordStatus, Version]:
    """What a record comes to that makes `new` of a document, if its version is the one that is `wanted`."""
    there = before[0] > 0
    if before[0] != wanted:
        return RecordStatus.VERSION_MISMATCH, before
    if op is Op.DELETE:
        return (RecordStatus.DELETED, (0, None)) if there else (RecordStatus.NOT_FOUND, before)
    if op is Op.INSERT and there:
        return RecordStatus.EXISTS, before
    return RecordStatus.APPLIED, new


def _differing_bytes(results: list[tuple[RecordStatus, int]]) -> int:
    """What it takes to say what the records of a request came to."""
    if all(status is RecordStatus.APPLIED for status, _ in results):
        return 0
    runs, at = 0, 0
    while at < len(results):
        runs, at = runs + 1, at + max(_stretch(results[at:], rise) for rise in (0, 1))
    return min(9 * len(results), 2 + 11 * runs)


def _stretch(results: list[tuple[RecordStatus, int]], rise: int) -> int:
    """How many of the first have one status, and versions that rise by `rise`."""
    status, version = results[0]
    fits = [result == (status, version + rise * place) for place, result in enumerate(results)]
    return fits.index(False) if False in fits else len(fits)

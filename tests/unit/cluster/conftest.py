"""A log in memory, to be applied: batches of requests that continue each other."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from redwire.batch import Batch, make_batch
from redwire.position import EMPTY, Lsn, NodeId, Position, Reign, Term
from redwire.record import REQUEST_HEADER, Key, Record, encode_record, encode_write


@dataclass
class WrittenLog:
    """A log as one primary after the other would write it. Times rise by a millisecond unless told."""

    end: Position = EMPTY
    time_ms: int = 1_700_000_000_000
    term: Term = Term(1)
    batches: list[Batch] = field(default_factory=list)

    def batch(self, *requests: bytes, after_ms: int = 1) -> Batch:
        count = sum(REQUEST_HEADER.unpack_from(request)[3] for request in requests)
        self.time_ms += after_ms
        reign = Reign(self.term, NodeId("eu-1"))
        batch = make_batch(reign, self.end, list(requests), count, self.time_ms, Lsn(0))
        self.end = batch.position
        self.batches.append(batch)
        return batch

    def write(self, *records: Record, key: Key | None = None, atomic: bool = False) -> Batch:
        return self.batch(encode_write([encode_record(record) for record in records], key, atomic=atomic))


@pytest.fixture
def written_log() -> WrittenLog:
    return WrittenLog()

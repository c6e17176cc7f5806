"""What a node knows of its own log without opening a file: where it begins and ends, its terms, its young
batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.tail import Tail
from redwire.batch import Batch
from redwire.position import Lsn, Position, TermList


@dataclass(slots=True, eq=False)
class Log:
    """The log's outline. `base` is where the kept part begins (the position before its first batch).

    `end` may run ahead of `durable`, the highest LSN that is on disk; `terms` covers the log from LSN 1 to
    `end`.
    """

    base: Position
    end: Position
    durable: Lsn
    terms: TermList
    time_ms: int = 0
    tail: Tail = field(default_factory=Tail)

    def continues(self, at: Position) -> bool:
        """Whether it goes on from `at`: it holds what follows, and is of the same history by its terms."""
        return self.base.lsn <= at.lsn <= self.end.lsn and self.terms.term_at(at.lsn) == at.term

    def append(self, batch: Batch) -> None:
        """The log was continued by `batch`, which is on its way to the disk."""
        self.tail.append(batch, self.durable)
        self.terms = self.terms.extended(batch.reign.term, batch.first, batch.chain)
        self.end = batch.position
        self.time_ms = batch.time_ms

    def cut(self, to: Position) -> None:
        """The log ends at `to` now."""
        self.end = to
        self.durable = min(self.durable, to.lsn)
        self.terms = self.terms.cut(to.lsn)
        self.tail.clear()

    def synced(self, lsn: Lsn) -> None:
        """Everything up to `lsn` is on disk."""
        self.durable = Lsn(max(self.durable, min(lsn, self.end.lsn)))

    def restart(self, at: Position, terms: TermList, time_ms: int) -> None:
        """A snapshot replaced everything: an empty log that goes on after `at`."""
        self.base = self.end = at
        self.durable = at.lsn
        self.terms = terms
        self.time_ms = time_ms
        self.tail.clear()

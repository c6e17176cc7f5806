"""What must hold, seen from outside the nodes: nothing acknowledged is lost, and histories never part."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from unittest.mock import patch

from limits import Limits
from machines import HERE, Machine
from truth import Found, Truth
from writers import COLLECTION, Fate, Write

from cluster.apply_queue import ApplyQueue
from cluster.storage import Storage
from redwire.batch import Batch
from redwire.message.client import RecordStatus
from redwire.position import Position


class Violated(Exception):
    """Something that must hold does not."""


class History:
    """All batches that any node ever applied: one log, the same everywhere (state machine safety). `truth` is
    what it amounts to.
    """

    def __init__(self, limits: Limits) -> None:
        self.truth = Truth(COLLECTION, limits)
        self._applied: dict[int, tuple[Position, str]] = {}
        self.failure: Violated | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, whatever is handed to a state is looked at first."""
        take, history = ApplyQueue.take, self

        def looked_at(queue: ApplyQueue, batches: list[Batch]) -> None:
            history._see(batches, HERE.get().name)
            take(queue, batches)

        with patch.object(ApplyQueue, "take", looked_at):
            yield

    def _see(self, batches: Iterable[Batch], name: str) -> None:
        for batch in batches:
            if batch.first == self.truth.end + 1:
                self.truth.add(batch)
            known, who = self._applied.setdefault(batch.first, (batch.position, name))
            if known != batch.position and self.failure is None:
                text = (
                    f"{name} applies {batch.position} from {batch.first} on, {who} has applied {known} there"
                )
                self.failure = Violated(text)

    def check(self) -> None:
        """Raises what was seen."""
        if self.failure is not None:
            raise self.failure


def documents(storage: Storage) -> dict[str, Found]:
    """All documents of a state that stands still, by id: version and content."""
    with closing(sqlite3.connect(f"file:{storage.state.path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT id, version, doc FROM docs JOIN collections USING (c) WHERE name = ?", (COLLECTION,)
        )
        return {ident: (version, bytes(doc)) for ident, version, doc in rows}


def check_writes(writes: Iterable[Write], found: dict[str, Found], truth: Truth) -> None:
    """Each write came to what its writer was told, every record of it. Raises `Violated`."""
    for write in writes:
        version, doc = found.get(write.ident, (0, b""))
        story = f"{write.ident} ({write.op.name}, {write.policy}; {', '.join(write.said)})"
        if write.fate is Fate.REFUSED and version:
            raise Violated(f"{story} was refused, and is there at {version}")
        if write.fate is Fate.COMMITTED and write.results:
            came = truth.outcomes.get(write.key) if write.key is not None else None
            if came != (write.lsn, write.results):
                raise Violated(f"{story} was told to have come to {write.results}, and came to {came}")
            if write.status is RecordStatus.ABORTED:
                if version:
                    raise Violated(f"{story} was aborted, and is there at {version}")
                continue
        if write.fate is Fate.COMMITTED:
            if write.status is not RecordStatus.APPLIED:
                raise Violated(f"{story}: its id was nobody else's")
            if (version, doc) != (write.lsn, write.doc):
                raise Violated(
                    f"{story} was acknowledged at {write.lsn}, and is there at {version or 'no LSN'}"
                )


def check_same(machines: Sequence[Machine], truth: Truth) -> dict[str, Found]:
    """All running machines hold the documents that the log amounts to; those. Raises `Violated`."""
    true = truth.documents()
    for machine in machines:
        assert machine.node is not None
        found = documents(machine.node.storage)
        if found != true:
            different = sorted(found.items() ^ true.items())[:4]
            raise Violated(f"{machine.name} does not hold what the log amounts to: {different}")
    return true

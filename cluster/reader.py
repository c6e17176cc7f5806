"""Reads of documents: a few threads with read-only connections, each answer true at one applied LSN.

What waits is answered together, in one short read transaction, so that a thousand gets do not cost a thousand
snapshots and SQLite's checkpoints are never held up for long.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from cluster.errors import StateCorrupt
from cluster.freshness import WAITING_MAX
from cluster.tables import check_row, open_reader, read_position, translated
from cluster.threads import Post
from cluster.turns import Turns
from redwire.errors import Code, RedwireError, Refused
from redwire.message.read import SCAN_BYTES_MAX, Fetch, Fetched, Scan, Scanned, ScannedRow
from redwire.position import Position

READ_THREADS = 2
"""Reads are mostly Python, so more threads only take turns; one alone would wait behind each large scan."""
TOGETHER_MAX = 64
TOGETHER_BYTES_MAX = SCAN_BYTES_MAX
"""What one read transaction answers: the bound on how long it stands in a checkpoint's way."""

UNTOLD_MAX = 4
"""Such answers, or single ones that are larger, that the event loop was not yet told of: more would hold it
for as long as they take to be sent, some ms each, and take memory while it does something else.
"""

Q = TypeVar("Q")
A = TypeVar("A")
Q_contra = TypeVar("Q_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)
Job = tuple[Q, Callable[[A | RedwireError], object]]
"""A query, and who is told its answer, or the error that it came to."""


class Worker(Protocol[Q_contra, A_co]):
    """What one read thread works with. It is made, used and closed by that thread."""

    def answers(self, queries: Sequence[Q_contra]) -> Iterator[Sequence[A_co | RedwireError]]:
        """One answer for each query, in order, as many at a time as there are at once.

        A query's own error is its answer; raising ends the worker.
        """

    def close(self) -> None:
        """Release everything."""


class ReadStatus(msgspec.Struct, frozen=True):
    """How many queries wait, and how many the threads have taken since the start."""

    waiting: int
    taken: int


class ReadThreads(Generic[Q, A]):
    """Threads that take queries from one queue, each `together_max` at most at once."""

    def __init__(
        self,
        make: Callable[[], Worker[Q, A]],
        post: Post,
        *,
        name: str,
        threads: int,
        together_max: int,
        waiting: Turns[Job[Q, A]] | None = None,
    ) -> None:
        """`waiting` says who is next; without it, who came first."""
        self._make = make
        self._post = post
        self._together_max = together_max
        self._changed = threading.Condition()
        self._waiting = deque[Job[Q, A]]() if waiting is None else waiting
        self._stopping = False
        self._untold = threading.Semaphore(UNTOLD_MAX)
        self._taken = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, query: Q, done: Callable[[A | RedwireError], object]) -> None:
        """Have `query` answered: `done(answer)` is posted once, with an error for one that failed.

        Returns at once. When too many wait already, the answer is `Refused` with code BUSY.
        """
        with self._changed:
            busy = self._stopping or len(self._waiting) >= WAITING_MAX
            if not busy:
                self._waiting.append((query, done))
                self._changed.notify()
        if busy:
            self._post(done, Refused(Code.BUSY, "too many reads wait on this node", hint="retry"))

    def stop(self) -> None:
        """Answer what waits, close everything, and wait until the threads are gone."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for _ in self._threads:
            self._untold.release()
        for thread in self._threads:
            thread.join()

    def status(self) -> ReadStatus:
        """How many wait, and how many were taken."""
        with self._changed:
            return ReadStatus(len(self._waiting), self._taken)

    def _run(self) -> None:
        worker: Worker[Q, A] | None = None
        while jobs := self._take():
            worker = self._answered(worker, jobs)
        _closed(worker)

    def _answered(self, worker: Worker[Q, A] | None, jobs: Sequence[Job[Q, A]]) -> Worker[Q, A] | None:
        """Answer `jobs`; the worker for the next ones, None after an error."""
        answered = 0
        try:
            worker = worker or self._make()
            for answers in worker.answers([query for query, _ in jobs]):
                told = jobs[answered : answered + len(answers)]
                if not self._stopping:  # then the event loop may wait for this thread
                    self._untold.acquire()
                self._post(self._tell, [done for _, done in told], answers)
                answered += len(answers)
        except RedwireError as error:
            for _, done in jobs[answered:]:
                self._post(done, error)
            _closed(worker)
            return None
        return worker

    def _tell(
        self, waiting: Sequence[Callable[[A | RedwireError], object]], answers: Sequence[A | RedwireError]
    ) -> None:
        """In the thread that owns them: crossing over costs more than most answers."""
        self._untold.release()
        for done, answer in zip(waiting, answers, strict=True):
            done(answer)

    def _take(self) -> list[Job[Q, A]]:
        """What waits, up to the bound; empty when it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._together_max))]
            self._taken += len(jobs)
            return jobs


def _closed(worker: Worker[Q, A] | None) -> None:
    if worker is not None:
        worker.close()


Query = Fetch | Scan
Answer = Fetched | Scanned


class Reader(ReadThreads[Query, Answer]):
    """Answers Fetch and Scan from the state file at `path`; their tokens are the caller's business.

    A Fetch or Scan of a collection that does not exist finds nothing. Errors: `StateCorrupt`, `DiskFailed`.
    """

    def __init__(self, path: Path, post: Post, *, threads: int = READ_THREADS) -> None:
        super().__init__(
            lambda: _Documents(path), post, name="read", threads=threads, together_max=TOGETHER_MAX
        )


_FETCH = """SELECT c, id, version, sum, doc FROM docs
WHERE c = (SELECT c FROM collections WHERE name = ?) AND id = ?"""
_SCAN = """SELECT c, id, version, sum, doc FROM docs
WHERE c = (SELECT c FROM collections WHERE name = ?) AND id > ? ORDER BY id"""


class _Documents:
    """One thread's connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = open_reader(path)

    def close(self) -> None:
        self._connection.close()

    def answers(self, queries: Sequence[Query]) -> Iterator[list[Answer | RedwireError]]:
        """Answers of as few read transactions as their bound allows, those of each at once."""
        waiting = deque(queries)
        while waiting:
            yield self._transaction(waiting)

    def _transaction(self, waiting: deque[Query]) -> list[Answer | RedwireError]:
        answers: list[Answer | RedwireError] = []
        size = 0
        with translated(self._path):
            self._connection.execute("BEGIN")
            try:
                at = read_position(self._path, self._connection)
                while waiting and size < TOGETHER_BYTES_MAX:
                    try:
                        with translated(self._path):
                            answer = self._answer(waiting.popleft(), at)
                    except StateCorrupt as damage:  # one document's: others can still be read
                        answers.append(damage)
                    else:
                        size += size_of(answer)
                        answers.append(answer)
            finally:
                if self._connection.in_transaction:  # some errors end it by themselves
                    self._connection.execute("ROLLBACK")
        return answers

    def _answer(self, query: Query, at: Position) -> Answer:
        """Raises `StateCorrupt` for a document that is not as it was written."""
        if isinstance(query, Fetch):
            row = self._connection.execute(_FETCH, (query.collection, query.id)).fetchone()
            if row is None:
                return Fetched(False, 0, at.term, at.lsn)
            check_row(self._path, *row)
            return Fetched(True, row[2], at.term, at.lsn, row[4])
        rows: list[ScannedRow] = []
        size = 0
        more = False
        with closing(self._connection.execute(_SCAN, (query.collection, query.after))) as cursor:
            for row in cursor:
                check_row(self._path, *row)
                _, ident, version, _, doc = row
                size += len(doc) if rows else 0  # the first document may be larger than a page
                if len(rows) == query.limit or size > SCAN_BYTES_MAX:
                    more = True
                    break
                rows.append(ScannedRow(ident, version, doc))
        return Scanned(at.term, at.lsn, more, tuple(rows))


def size_of(answer: Answer) -> int:
    """Bytes of the documents in it."""
    if isinstance(answer, Fetched):
        return len(answer.document)
    return sum(len(row.document) for row in answer.rows)

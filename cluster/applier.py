"""The state's thread: applies what is committed, everything that waits in one transaction, and checkpoints in
between.

A checkpoint of a long SQLite log would hold every commit up, so most of it is done beside the applies: a
short-lived second thread folds what is there (SQLite lets a writer go on meanwhile), then the state's own
thread only folds what has come since, and starts SQLite's log anew.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue

import msgspec

from cluster.disk import RETRY_S
from cluster.errors import DiskFull, NodeError
from cluster.state import AppliedBatch, State, fold
from cluster.threads import Post
from redwire.batch import Batch
from redwire.errors import RedwireError
from redwire.position import Position

LOOK_EVERY = 16
"""Transactions, between two looks at how long SQLite's log is; a large one counts for several."""
LOOK_BYTES = 64 << 10
"""Sixteen times this is a small part of what makes a checkpoint due."""
TRANSACTION_BYTES_MAX = 4 << 20
"""What one transaction covers: enough to make its fixed cost small, and some 30 ms at most."""

OnApplied = Callable[[list[AppliedBatch], Position], None]
"""`(batches, where the state stands now)`"""


class ApplierStatus(msgspec.Struct, frozen=True):
    """What waits to be applied. `blocked` says what it waits for, "" when it does not."""

    waiting: int
    waiting_bytes: int
    blocked: str


class Applier:
    """Applies batches in the order given. `state` is this object's until `stop` has returned.

    `applied` is posted after each transaction. A full disk is waited out. Any other error is posted to
    `fail`, once, and nothing is applied any more.
    """

    def __init__(
        self,
        state: State,
        post: Post,
        applied: OnApplied,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._state = state
        self._post = post
        self._applied = applied
        self._fail = fail
        self._waiting = _Waiting()
        self._stopping = threading.Event()
        self._blocked = ""
        self._unlooked = 0  # transactions since the last look
        self._folding: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)
        self._thread.start()

    def apply(self, batches: Sequence[Batch]) -> None:
        """Apply `batches`, which continue what was given before. Returns at once.

        After an error or `stop` they are dropped: the log has them.
        """
        if self._stopping.is_set():
            return
        self._waiting.add(batches)

    def stop(self) -> None:
        """Finish what was given, unless the disk is full or apply has failed; afterwards the thread is gone.

        Waits for it; what it still posts comes after this returns.
        """
        self._stopping.set()
        self._waiting.ring()
        self._thread.join()

    def status(self) -> ApplierStatus:
        """What waits."""
        return ApplierStatus(len(self._waiting), self.waiting_bytes, self._blocked)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the batches that wait."""
        return self._waiting.size

    @property
    def blocked(self) -> bool:
        """Whether it waits for space."""
        return bool(self._blocked)

    def _run(self) -> None:
        """The thread. An error that nobody foresaw is told to `fail` too, and then shown like any bug."""
        error: BaseException | None = None
        try:
            while batches := self._take():
                if not self._apply(batches):
                    break
                self._checkpoint()
        except RedwireError as foreseen:
            error = foreseen
        finally:
            error = error or sys.exception()
            self._stopping.set()
            self._waiting.take(None)
            if error is not None:
                self._post(self._fail, error)
            if self._folding is not None:
                self._folding.join()

    def _take(self) -> list[Batch]:
        """What waits, up to one transaction; empty when it is time to stop."""
        while True:
            stopping = self._stopping.is_set()  # first: nothing is added afterwards
            taken = self._waiting.take(TRANSACTION_BYTES_MAX)
            if taken or stopping:
                return taken
            self._waiting.wait()

    def _apply(self, batches: list[Batch]) -> bool:
        """Apply them, as often as it takes; False when it was given up."""
        while True:
            try:
                applied = self._state.apply(batches)
            except DiskFull as error:
                if not self._wait_for_space(error):
                    return False
            else:
                self._blocked = ""
                self._unlooked += 1 + sum([len(batch.data) for batch in batches]) // LOOK_BYTES
                self._post(self._applied, applied, self._state.applied)
                return True

    def _wait_for_space(self, error: DiskFull) -> bool:
        """Wait a while; False when it is time to stop instead."""
        self._blocked = str(error)
        return not self._stopping.wait(RETRY_S)

    def _checkpoint(self) -> None:
        """Take the next step of a checkpoint: begin it beside the applies, or end it here."""
        if self._folding is None:
            if self._unlooked < LOOK_EVERY:
                return
            self._unlooked = 0
            if self._state.checkpoint_due:
                self._folding = threading.Thread(target=self._fold, name="fold", daemon=True)
                self._folding.start()
        elif not self._folding.is_alive():
            self._folding = None
            with suppress(DiskFull):  # `apply` will meet it too, and waits it out there
                self._state.checkpoint()

    def _fold(self) -> None:
        with suppress(NodeError):  # the state's own checkpoint, which follows, meets the same error
            fold(self._state.path)


class _Waiting:
    """Batches on their way from the event loop's thread, which adds them, to the one that takes them."""

    __slots__ = ("_added_bytes", "_batches", "_bell", "_taken_bytes")

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._added_bytes = self._taken_bytes = 0  # each is written by one thread, so neither needs a lock
        self._bell: SimpleQueue[None] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def size(self) -> int:
        """How many bytes they are."""
        taken = self._taken_bytes  # first: what moves meanwhile counts twice
        return self._added_bytes - taken

    def add(self, batches: Sequence[Batch]) -> None:
        """More of them."""
        for batch in batches:
            self._added_bytes += len(batch.data)
        self._batches.extend(batches)
        if self._bell.empty():
            self._bell.put(None)

    def take(self, bytes_max: int | None) -> list[Batch]:
        """The first of them, up to `bytes_max` together or one that is larger; None for all."""
        batches, taken, size = self._batches, list[Batch](), 0
        while batches and (not taken or bytes_max is None or size + len(batches[0].data) <= bytes_max):
            batch = batches.popleft()
            size += len(batch.data)
            taken.append(batch)
        self._taken_bytes += size
        return taken

    def ring(self) -> None:
        """End a `wait`."""
        self._bell.put(None)

    def wait(self) -> None:
        """Return when more were added, or at a ring."""
        self._bell.get()

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

import msgspec

from cluster.disk import RETRY_S
from cluster.errors import DiskFull, NodeError
from cluster.state import AppliedBatch, State, fold
from cluster.threads import Post
from redwire.batch import Batch
from redwire.errors import RedwireError
from redwire.position import Position

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
        self._changed = threading.Condition()
        self._waiting: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._stopping = False
        self._blocked = ""
        self._folding: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)
        self._thread.start()

    def apply(self, batches: Sequence[Batch]) -> None:
        """Apply `batches`, which continue what was given before. Returns at once.

        After an error or `stop` they are dropped: the log has them.
        """
        with self._changed:
            if self._stopping:
                return
            self._waiting.extend(batches)
            self._waiting_bytes += sum(len(batch.data) for batch in batches)
            self._changed.notify()

    def stop(self) -> None:
        """Finish what was given, unless the disk is full or apply has failed; afterwards the thread is gone.

        Waits for it; what it still posts comes after this returns.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def status(self) -> ApplierStatus:
        """What waits."""
        with self._changed:
            return ApplierStatus(len(self._waiting), self._waiting_bytes, self._blocked)

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
            with self._changed:
                self._stopping = True
                self._waiting.clear()
                self._waiting_bytes = 0
            if error is not None:
                self._post(self._fail, error)
            if self._folding is not None:
                self._folding.join()

    def _take(self) -> list[Batch]:
        """What waits, up to one transaction; empty when it is time to stop."""
        taken: list[Batch] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            while self._waiting and (not taken or size + len(self._waiting[0].data) <= TRANSACTION_BYTES_MAX):
                batch = self._waiting.popleft()
                size += len(batch.data)
                taken.append(batch)
            self._waiting_bytes -= size
        return taken

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
                self._post(self._applied, applied, self._state.applied)
                return True

    def _wait_for_space(self, error: DiskFull) -> bool:
        """Wait a while; False when it is time to stop instead."""
        with self._changed:
            self._blocked = str(error)
            return not self._changed.wait_for(lambda: self._stopping, RETRY_S)

    def _checkpoint(self) -> None:
        """Take the next step of a checkpoint: begin it beside the applies, or end it here."""
        if self._folding is None:
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

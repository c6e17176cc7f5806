"""Applies what is committed: a little of it at once, in the event loop, everything else in the state's own
thread, all that waits in one transaction, with the steps of a checkpoint in between.

To wake a thread and to hear of it again costs more than a transaction of a few documents, and while other
threads of the node want Python's lock it takes longer, too. So what is small is applied by whoever brings it,
as long as the thread has nothing to do and the state's pages are in memory.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

import msgspec

from cluster.disk import RETRY_S
from cluster.errors import DiskFull, StateLocked
from cluster.folds import LOOK_EVERY, LOOK_RECORDS, Folds
from cluster.space import Space
from cluster.state import AppliedBatch, State
from cluster.threads import Post
from redwire.batch import BATCH_RECORDS_SOFT, Batch
from redwire.errors import RedwireError
from redwire.position import Position

AT_ONCE_BYTES_MAX = 16 << 10
"""Some 70 small documents, which take a millisecond."""
AT_ONCE_S = 0.005
"""Five times that: the file's pages come from a disk, or wait for one to take them. That is for a thread."""
THREAD_ALONE_S = 1.0
"""How long the thread does everything afterwards: who is so slow once is so again."""
FOLDED_LOOK_S = 0.05
"""Between two looks whether a fold beside the applies is over, while nothing comes to apply: statements may
wait for what follows it.
"""
TRANSACTION_BYTES_MAX = 4 << 20
"""What one transaction covers: enough to make its fixed cost small, and some 30 ms of large documents."""
TRANSACTION_RECORDS_MAX = BATCH_RECORDS_SOFT
"""And so many records, or one batch that has more: 0.1 s, where each is on pages of its own."""
RECORD_PAGES_BYTES = 4 << 10
"""What a record takes in SQLite's log beside its own bytes: a page. All over a collection it is two where it
is deleted, and three where it grows: whether the state can be folded then is seen before it is committed.
"""

OnApplied = Callable[[list[AppliedBatch], Position], None]
"""`(batches, where the state stands now)`"""


class ApplierStatus(msgspec.Struct, frozen=True):
    """What waits to be applied. `blocked` says what it waits for, "" when it does not."""

    waiting: int
    waiting_bytes: int
    blocked: str


class Applier:
    """Applies batches in the order given. `state` is this object's until `stop` has returned.

    `applied` is called after each transaction: posted by the thread, and called by `apply` for what that did
    itself. A full disk is waited out. Any other error is posted to `fail`, once, and nothing is applied any
    more.
    """

    def __init__(
        self,
        state: State,
        post: Post,
        applied: OnApplied,
        fail: Callable[[BaseException], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._post = post
        self._applied = applied
        self._fail = fail
        self._waiting = _Waiting()
        self._shortcut = _Shortcut(clock)
        self._own = threading.Lock()  # the state's, for an apply or a checkpoint
        self._stopping = threading.Event()
        self._space = Space(state.path)
        self._folds = Folds(state, self._space)
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)
        self._thread.start()

    def apply(self, batches: Sequence[Batch], *, at_once: bool = False) -> None:
        """Apply `batches`, which continue what was given before: soon, or `at_once` if they are small and the
        thread has nothing to do.

        After an error or `stop` they are dropped: the log has them.
        """
        if self._stopping.is_set():
            return
        if not (at_once and self._at_once(batches)):
            self._shortcut.untold += len(batches)
            self._waiting.add(batches)

    def stop(self) -> None:
        """Finish what was given, unless the disk is full or apply has failed; afterwards the thread is gone.

        Waits for it; what it still posts comes after this returns.
        """
        self._stopping.set()
        self._waiting.ring()
        self._thread.join()

    def ease(self) -> None:
        """Space is short on the volume: fold SQLite's log soon, if what that gives back is worth it."""
        self._folds.short = True
        self._waiting.ring()

    def status(self) -> ApplierStatus:
        """What waits."""
        return ApplierStatus(len(self._waiting), self.waiting_bytes, self._space.blocked)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the batches that wait."""
        return self._waiting.size

    @property
    def blocked(self) -> bool:
        """Whether it waits for space."""
        return bool(self._space.blocked)

    def _at_once(self, batches: Sequence[Batch]) -> bool:
        """Apply `batches` here and now, if that is less work than to have the thread do it; whether that is
        over. A full disk, and another process that writes into the file, are for the thread to wait out; any
        other error is the end, as it is there.
        """
        shortcut, folds = self._shortcut, self._folds
        began_s = shortcut.clock()
        unseen = folds.beside is not None and folds.unlooked >= LOOK_EVERY  # how much space is left
        if not shortcut.open(batches, began_s) or unseen or self.blocked:
            return False
        if not self._own.acquire(blocking=False):
            return False
        try:
            if self._stopping.is_set():  # since `apply` looked: thread and state may be gone
                return False
            applied, position = self._state.apply(batches, 0), self._state.applied
        except (DiskFull, StateLocked):
            shortcut.close()
            return False
        except RedwireError as error:
            self._stopping.set()
            self._waiting.ring()
            self._post(self._fail, error)
            return True
        finally:
            self._own.release()
        folds.wrote(*_measured(batches))
        shortcut.taken(began_s)
        if folds.due:
            self._waiting.ring()
        self._applied(applied, position)
        return True

    def _told(self, applied: list[AppliedBatch], position: Position) -> None:
        self._shortcut.untold -= len(applied)
        self._applied(applied, position)

    def _run(self) -> None:
        """The thread. An error that nobody foresaw is told to `fail` too, and then shown like any bug."""
        error: BaseException | None = None
        try:
            while self._turn():
                self._waiting.wait(None if self._folds.beside is None else FOLDED_LOOK_S)
        except RedwireError as foreseen:
            error = foreseen
        finally:
            error = error or sys.exception()
            self._stopping.set()
            self._waiting.clear()
            if error is not None:
                self._post(self._fail, error)
            self._folds.end()

    def _turn(self) -> bool:
        """Apply what waits, a transaction at a time, and look after SQLite's log; False at the end."""
        while True:
            stopping = self._stopping.is_set()  # first: nothing is added afterwards
            with self._own:
                batches = self._waiting.take()
                if stopping and not batches:
                    return False
                if batches and not self._apply(batches):
                    return False
                self._folds.step()
            if not batches:
                return True

    def _apply(self, batches: list[Batch]) -> bool:
        """Apply them, as often as it takes; False when it was given up. Where there is no space the first
        thing is to give back what SQLite's log takes.
        """
        folded = False
        size, records = _measured(batches)
        takes_bytes = size + RECORD_PAGES_BYTES * records
        fits = self._space.has if records > LOOK_RECORDS else None  # fewer take less than is kept free
        while True:
            self._folds.look(takes_bytes)
            if self._space.low:
                if self._stopping.wait(RETRY_S):
                    return False
                continue
            try:
                applied = self._state.apply(batches, fits=fits)
            except DiskFull as error:
                if folded and not self._wait_for_space(error):
                    return False
                self._folds.for_space()
                folded = True
            else:
                if self._space.full:
                    self._space.met("")
                self._folds.wrote(size, records)
                self._post(self._told, applied, self._state.applied)
                return True

    def _wait_for_space(self, error: DiskFull) -> bool:
        """Wait a while; False when it is time to stop instead."""
        self._space.met(str(error))
        return not self._stopping.wait(RETRY_S)


class _Shortcut:
    """When batches may be applied by who brings them. `untold` are those that the thread was given and has
    not told of: nothing overtakes them.
    """

    __slots__ = ("_closed_until_s", "clock", "untold")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.untold = 0
        self._closed_until_s = 0.0

    def open(self, batches: Sequence[Batch], now_s: float) -> bool:
        """Whether these are so little, and nothing speaks against it."""
        if self.untold or now_s < self._closed_until_s:
            return False
        return sum([len(batch.data) for batch in batches]) <= AT_ONCE_BYTES_MAX

    def taken(self, began_s: float) -> None:
        """It was taken, and is closed for a while if that took long."""
        if self.clock() - began_s > AT_ONCE_S:
            self.close()

    def close(self) -> None:
        """Leave everything to the thread for a while."""
        self._closed_until_s = self.clock() + THREAD_ALONE_S


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

    def take(self) -> list[Batch]:
        """The first of them: what one transaction covers, at least one."""
        batches, taken, size, records = self._batches, list[Batch](), 0, 0
        while batches:
            size, records = size + len(batches[0].data), records + batches[0].records
            if taken and (size > TRANSACTION_BYTES_MAX or records > TRANSACTION_RECORDS_MAX):
                break
            taken.append(batches.popleft())
        self._taken_bytes += sum([len(batch.data) for batch in taken])
        return taken

    def clear(self) -> None:
        """Let go of all of them."""
        while self.take():
            pass

    def ring(self) -> None:
        """End a `wait`."""
        self._bell.put(None)

    def wait(self, seconds: float | None) -> None:
        """Return when more were added, at a ring, or after so many `seconds`."""
        with suppress(Empty):
            self._bell.get(timeout=seconds)


def _measured(batches: Sequence[Batch]) -> tuple[int, int]:
    """Bytes and records of them."""
    return sum([len(batch.data) for batch in batches]), sum([batch.records for batch in batches])

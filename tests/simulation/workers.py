"""What the threads of a node do, done by the loop when its time has come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from machines import HERE

from cluster import disk
from cluster.applier import Applier
from cluster.disk import Disk
from cluster.errors import DiskFull, NodeError
from cluster.reader import Reader, Worker
from cluster.threads import Post
from cluster.wal import Wal
from redwire.errors import RedwireError

SEGMENT_BYTES = 32 << 10
"""So small that logs are let go of within a run, and snapshots are needed."""


class Turns:
    """What a thread of this machine does: `work`, done by the loop when its time has come. However often it
    is asked for, one turn at most is due.
    """

    def __init__(self, work: Callable[[], None], *, slow: bool) -> None:
        self._machine = HERE.get()
        self._work = work
        self._slow = slow
        self._due = False

    def soon(self, more_s: float = 0.0) -> None:
        """Let there be a turn, `more_s` later than it would be."""
        if not self._due:
            self._due = True
            self._machine.later(self.take, slow=self._slow, more_s=more_s)

    def take(self) -> None:
        """A turn, now."""
        self._due = False
        self._work()


class SimulatedDisk(Disk):
    """The disk thread's work, done by the loop when its time has come."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._life = HERE.get().life
        self.ahead.clock = asyncio.get_running_loop().time
        self._turns = Turns(self._work, slow=True)
        self._begun = False
        self._todo: deque[Any] = deque()
        put = self._asked.put

        def asked(item: Any) -> None:
            put(item)
            self._soon()

        self._asked.put = asked  # type: ignore[method-assign,assignment]

    def start(self) -> None:
        self._begun = True
        self._soon()

    def stop(self) -> None:
        if not self._life.over:
            super().stop()
            self._turns.take()

    def _soon(self, more_s: float = 0.0) -> None:
        if self._begun and (self._todo or not self._asked.empty()):
            self._turns.soon(more_s)

    def _work(self) -> None:
        if self.state in (disk.DiskState.FAILED, disk.DiskState.STOPPED):
            return
        try:
            self._turn()
        except _Later:
            self._soon(disk.RETRY_S)
        except NodeError as error:
            self.state = disk.DiskState.FAILED
            self._post(self._fail, error)
        else:
            self._soon()

    def _turn(self) -> bool:
        """What is not done for want of space stays, for another turn."""
        todo = self._todo
        self.ahead.prepare()
        while not self._asked.empty():
            todo.append(self._asked.get_nowait())
        while todo:
            group = [*takewhile(lambda item: isinstance(item, disk._Append), todo)]
            self._log(group)
            for _ in group:
                todo.popleft()
            if not todo or todo[0] is None:
                return not todo
            if not group:
                result, job = self._with_space(todo[0].work), todo.popleft()
                if job.done is not None:
                    self._post(job.done, result)
        return True

    def _with_space(self, work: Callable[[], Any]) -> Any:
        try:
            result = work()
        except DiskFull as error:
            self.state = disk.DiskState.FULL
            if self._stopping.is_set():
                raise
            self._asked.relieve(self._post)
            raise _Later from error
        if self.state is disk.DiskState.FULL:
            self.state = disk.DiskState.WORKING
        return result


class _Later(Exception):
    """There is no space now."""


class SimulatedApplier(Applier):
    """The apply thread's work, done by the loop when its time has come. In a process of three nothing is
    applied at once.
    """

    def __init__(self, *arguments: Any) -> None:
        self._machine = HERE.get()
        self._life = self._machine.life
        self._turns = Turns(self._work, slow=False)
        self._thread_alone = self._machine.number % 3 == 2
        super().__init__(*arguments, clock=lambda: 0.0)

    def apply(self, batches: Any, *, at_once: bool = False) -> None:
        thread = self._thread_alone or self._machine.faults.full
        super().apply(batches, at_once=at_once and not thread)
        self._soon()

    def ease(self) -> None:
        super().ease()
        self._soon()

    def stop(self) -> None:
        while not self._life.over and self._waiting and not self.blocked:
            self._turns.take()
        self._stopping.set()

    def _soon(self) -> None:
        if (self._waiting or self._folds.due) and not self._stopping.is_set():
            self._turns.soon(disk.RETRY_S if self.blocked else 0.0)

    def _apply(self, batches: Any) -> bool:
        if self._machine.faults.full:
            self._space.met("full")
            self._waiting._batches.extendleft(reversed(batches))
            self._waiting._taken_bytes -= sum(len(batch.data) for batch in batches)
            return False
        return super()._apply(batches)

    def _work(self) -> None:
        if self._stopping.is_set():  # the thread is gone, and the state may be closed
            return
        try:
            batches = self._waiting.take()
            if not batches or self._apply(batches):
                self._folds.step()
        except RedwireError as error:
            self._stopping.set()
            self._post(self._fail, error)
        self._soon()


class Unthreaded:
    """Stands for a thread: folds are done at once, anything else by whoever made it."""

    ident = None

    def __init__(self, *, target: Callable[[], None], name: str, daemon: bool) -> None:
        self._target, self._name = target, name

    def start(self) -> None:
        if self._name == "fold":
            self._target()

    def is_alive(self) -> bool:
        return False

    def join(self, timeout_s: float | None = None) -> None:
        """It never ran."""


class SimulatedReader(Reader):
    """The read threads' work, done by the loop when its time has come."""

    def __init__(self, path: Path, post: Post) -> None:
        self._life = HERE.get().life
        self._turns = Turns(self._work, slow=False)
        self._worker: Worker[Any, Any] | None = None
        super().__init__(path, post, threads=1)

    def submit(self, query: Any, done: Callable[[Any], object]) -> None:
        super().submit(query, done)
        if self._waiting:
            self._turns.soon()

    def stop(self) -> None:
        super().stop()
        while not self._life.over and self._waiting:
            self._turns.take()
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _work(self) -> None:
        if self._waiting:
            self._worker = self._answered(self._worker, self._take())
        if self._waiting:
            self._turns.soon()


class Desk:
    """A read desk without SQL, and without the look for damage."""

    def __init__(self, path: Path, post: Post, way: object = None) -> None:
        self.on_damage: Callable[[NodeError], None] = lambda error: None
        self.sql = SimpleNamespace(status=lambda: SimpleNamespace(waiting=0, taken=0))
        self._post = post
        self.use(path)

    def use(self, path: Path, way: object = None) -> None:
        """Read from `path` from now on."""
        self.documents = SimulatedReader(path, self._post)

    def stop(self) -> None:
        """Let go of the state file."""
        self.documents.stop()


class SmallWal(Wal):
    """A log in small segments."""

    @classmethod
    def open(cls, *arguments: Any, **named: Any) -> Any:
        return super().open(*arguments, segment_bytes=SEGMENT_BYTES, **named)

"""A thread with an event loop of its own, in which one asynchronous context manager is open.

Threads that block have coroutine functions run there. None of them has to wait for the loop: where a signal's
exception ends the wait, what was asked for is cancelled before anything begins that is asked for later.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

from redwire.errors import ChannelClosed, RequestInvalid

T = TypeVar("T")

LAST_S = 1.0
"""What is under way when the manager has been left was told so, and ends at once; else it is cancelled."""


class LoopThread:
    """Runs `manager` in a daemon thread: started once, and stopped for good.

    `call` and `stop` take no lock: a signal's handler or the garbage collector may come at any point of them.
    """

    def __init__(self, manager: AbstractAsyncContextManager[object]) -> None:
        self._manager = manager
        self._thread = threading.Thread(target=self._run, name="redwire", daemon=True)
        self._started = _Latch()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[Any] | None = None
        self._to_leave: asyncio.Event | None = None
        self._calls: dict[_Call[Any], None] = {}
        self._stopping = False
        self._entering = False
        self._closing = False
        self._ended = False
        self._failure: BaseException | None = None

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop, or has ended by itself."""
        return self._stopping or self._ended

    def start(self) -> None:
        """Enter the manager, and return once it is entered. Raises what entering raised, and `ChannelClosed`
        where it was stopped meanwhile. Whatever else ends the wait stops it.
        """
        try:
            self._thread.start()
            self._started.wait()
        except BaseException:
            self.stop()
            raise
        if self.stopping:
            self.join()
            raise _closed()

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run `function` in the loop, and wait for its result. Raises what it raised, and `ChannelClosed`
        when the thread ends before. Whatever else ends the wait cancels it, or keeps it from beginning.
        """
        loop = self._loop
        if loop is None or self._is_over():
            raise _closed()
        if self._thread.ident == threading.get_ident():
            raise RequestInvalid("a blocking call in the client's own thread would wait for ever")
        call = _Call(function, self._calls)
        try:
            self._calls[call] = None
            with suppress(RuntimeError):  # the loop is closed: the thread has ended
                loop.call_soon_threadsafe(self._begin, call)
            if self._is_over():  # and may not have seen this one
                call.fail(_closed())
            return call.result()
        except BaseException:
            if not call.done:
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(call.give_up)
            raise
        finally:
            del call  # which has the error, whose traceback has this frame

    def stop(self) -> None:
        """Leave the manager, or do not enter it. Never waits; anybody may call it, at any time and again."""
        self._stopping = True
        if self._loop is not None and not self._ended:
            with suppress(RuntimeError):  # the loop was closed just now
                self._loop.call_soon_threadsafe(self._halt)

    def join(self) -> None:
        """Wait until the thread has ended. Raises what entering or leaving the manager raised, once.

        In the thread itself, and once the interpreter lets no other thread go on, it returns at once.
        """
        if self._thread.ident in (None, threading.get_ident()) or sys.is_finalizing():
            return
        end = _Call(self._live, self._calls)  # never begun, it fails when the thread ends
        self._calls[end] = None
        if not self._is_over():
            with suppress(ChannelClosed):
                end.result()
        self._calls.pop(end, None)
        self._thread.join()  # at once, for one that is interrupted takes the thread for ended from then on
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self) -> None:
        with ExitStack() as ending:
            ending.push(self._end)
            with asyncio.Runner() as runner:
                runner.run(self._live())

    async def _live(self) -> None:
        """From before the manager is entered until it was left, and the calls have ended."""
        self._main, self._to_leave = asyncio.current_task(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stopping:
            return
        try:
            self._entering = True
            async with self._manager:
                self._entering = False
                self._started.open()
                await self._to_leave.wait()
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            self._entering = False
            tasks = [call.task for call in [*self._calls] if call.task is not None]
            if tasks:
                await asyncio.wait(tasks, timeout=LAST_S)
            self._closing = True

    def _begin(self, call: _Call[Any]) -> None:
        """In the loop: begin it, unless the loop is about to be closed."""
        if self._closing:
            call.fail(_closed())
        else:
            call.begin()

    def _is_over(self) -> bool:
        """Whether nothing runs in the thread any more: where the interpreter ends, it is stopped for good."""
        return self._ended or sys.is_finalizing()

    def _halt(self) -> None:
        """In the loop: leave the manager, or give up to enter it."""
        assert self._main is not None and self._to_leave is not None
        self._to_leave.set()
        if self._entering:
            self._entering = False
            self._main.cancel()

    def _end(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """The thread ends: all who wait are told, and `error` is for `join` to raise."""
        self._failure, self._ended = error, True
        with suppress(KeyError):  # the last one may be taken by whoever waits for it
            while self._calls:
                call, _ = self._calls.popitem()
                call.fail(_closed())
        self._started.open()
        return True


class _Call(Generic[T]):
    """One function that is run in the loop for a thread that waits.

    `calls` has it until there is an outcome. `task` is the one that it runs in.
    """

    def __init__(self, function: Callable[[], Awaitable[T]], calls: dict[_Call[Any], None]) -> None:
        self.task: asyncio.Task[T] | None = None
        self.done = False
        self._function = function
        self._calls = calls
        self._value: Any = None
        self._error: BaseException | None = None
        self._settled = _Latch()

    def result(self) -> T:
        """Wait for the outcome: return it, or raise it."""
        self._settled.wait()
        try:
            if self._error is not None:
                raise self._error
            value: T = self._value
            return value
        finally:
            del self  # as in `LoopThread.call`

    def begin(self) -> None:
        """In the loop: run the function in a task of its own, from the next pass on."""
        self.task = asyncio.Task(self._run())
        self.task.add_done_callback(self._told)

    def give_up(self) -> None:
        """In the loop: nobody waits any more. What has not begun by now never will."""
        if self.task is None:
            self._calls.pop(self, None)
        else:
            self.task.cancel()

    def fail(self, error: BaseException) -> None:
        """`error` is the outcome, unless there is one."""
        if not self.done:
            self._error = error
            self._settle()

    async def _run(self) -> T:
        return await self._function()

    def _told(self, task: asyncio.Task[T]) -> None:
        self.task = None  # let go of here, or whoever waits would run what its end leads to
        error = _closed() if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)
        elif not self.done:
            self._value = task.result()
            self._settle()

    def _settle(self) -> None:
        self.done = True
        self._calls.pop(self, None)
        self._settled.open()


class _Latch:
    """Opened once, or again to no effect; one thread waits for that, until a signal's exception ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        """Return once it is open."""
        self._lock.acquire()

    def open(self) -> None:
        """Let the one who waits go on."""
        with suppress(RuntimeError):  # it is open
            self._lock.release()


def _closed() -> ChannelClosed:
    return ChannelClosed("the client was closed", retry=False)

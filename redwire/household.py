"""The tasks that keep one open client going."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from redwire.errors import RequestInvalid


class Household:
    """A task group in a task of its own: it lives from `open` to `close`, which two tasks may call, whatever
    scopes they are in.

    When one of its tasks fails all others are cancelled. `ending` is called once they are to end, whatever
    for, while more can still be begun.
    """

    def __init__(self) -> None:
        self.ending: Callable[[], None] = lambda: None
        self.tasks: TaskGroup = anyio.create_task_group()
        self._opened = anyio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """From now on tasks may be begun. Cancelling this leaves nothing behind."""
        self._task = asyncio.Task(self._live())
        try:
            await self._opened.wait()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Cancel the tasks, and return once they have ended. Raises what one of them raised."""
        assert self._task is not None
        self.tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise _first(error)

    async def _live(self) -> None:
        async with self.tasks:
            self._opened.set()
            try:
                await anyio.sleep_forever()
            finally:
                self.ending()


def require_asyncio() -> None:
    """Raises `RequestInvalid` where no asyncio task runs."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # there is no loop, or one of another make
        task = None
    if task is None:
        text = "the client runs on asyncio or uvloop, and no task of theirs enters it"
        raise RequestInvalid(text, hint="run it by asyncio.run(), or use redwire.connect_sync()")


def require_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raises `RequestInvalid` where another event loop runs than `loop`, or none."""
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is not loop:
        text = "the client belongs to the event loop it was opened in, and this call is not made there"
        raise RequestInvalid(text, hint="open one in each loop")


def _first(error: BaseException) -> BaseException:
    """Of a group the first error: the others follow from it, or wait for the same repair."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

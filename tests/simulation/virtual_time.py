"""An event loop whose time passes only when nothing is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

from anyio._backends._asyncio import CancelScope

STEPS_MAX = 200_000
"""Passes of the loop at one moment: beyond it something runs in a circle."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order in which they fall due. `now_s` begins at `BEGIN_S` and never waits."""

    BEGIN_S = 1_000.0

    def __init__(self) -> None:
        super().__init__()
        self.now_s = self.BEGIN_S
        self._steps = 0
        self._selector = self
        numbers = count()

        def numbered(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **how: Any) -> Numbered:
            return Numbered(work, loop=loop, number=next(numbers), **how)

        self.set_task_factory(numbered)

    def time(self) -> float:
        """The moment, in seconds."""
        return self.now_s

    def select(self, timeout: float | None) -> Sequence[object]:
        """As the loop's selector: there are no files to wait for, so time leaps to what is due next."""
        if timeout is None:
            raise RuntimeError("nothing is due any more: everybody waits for somebody else")
        if timeout <= 0:
            self._steps += 1
            if self._steps > STEPS_MAX:
                raise RuntimeError(f"{STEPS_MAX} passes of the loop, and no time has passed")
            return ()
        self._steps = 0
        scheduled = self._scheduled  # type: ignore[attr-defined]
        self.now_s = max(self.now_s + timeout, scheduled[0]._when if scheduled else 0.0)
        return ()

    def _process_events(self, events: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


class Numbered(asyncio.Task[Any]):
    """A task whose place in a set is not that of its address in memory, which is another one in each run."""

    def __init__(self, work: Coroutine[Any, Any, Any], *, number: int, **how: Any) -> None:
        self._number = number
        super().__init__(work, **how)

    def __hash__(self) -> int:
        return self._number


@contextmanager
def numbered_scopes() -> Iterator[None]:
    """The same for whatever can be cancelled."""
    numbers, made = count(), dict[int, int]()

    def new(cls: type[CancelScope], *_: object, **__: object) -> CancelScope:
        scope = object.__new__(cls)
        made[id(scope)] = next(numbers)
        return scope

    with (
        patch.object(CancelScope, "__new__", new),
        patch.object(CancelScope, "__hash__", lambda scope: made[id(scope)]),
    ):
        yield

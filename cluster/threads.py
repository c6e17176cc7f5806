"""How a node's threads speak to its event loop, and what becomes of an error that nobody foresaw in one.

By itself a thread that ends with an exception is shown and forgotten, and what it should have done is waited
for until somebody looks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from cluster.errors import Scarce


class Post(Protocol):
    """How results reach the event loop: `loop.call_soon_threadsafe`, or a queue's `put` in tests."""

    def __call__(self, callback: Callable[..., object], /, *args: object) -> object:
        """Have `callback(*args)` called in the loop's thread."""


@contextmanager
def watched(failed: Callable[[BaseException], object]) -> Iterator[None]:
    """Inside, an error that ends a thread is given to `failed`, in that thread, and shown like any bug."""
    show = threading.excepthook

    def tell(end: threading.ExceptHookArgs) -> None:
        try:
            if isinstance(end.exc_value, Exception):
                failed(end.exc_value)
        finally:  # last: to show it takes more memory than there may be, and then nobody would be told
            show(end)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = show


def scarce(error: BaseException) -> Scarce | None:
    """What `error`, or one of its group, says that the system has refused: a thread, or memory; else None."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(scarce, error.exceptions)), None)
    if isinstance(error, MemoryError):
        return Scarce("memory")
    is_thread = isinstance(error, RuntimeError) and str(error) == "can't start new thread"
    return Scarce("threads") if is_thread else None

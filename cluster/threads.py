"""What becomes of an error that nobody foresaw in a thread: whoever runs the process hears of it.

By itself a thread that ends with an exception is shown and forgotten, and what it should have done is waited
for until somebody looks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watched(failed: Callable[[BaseException], object]) -> Iterator[None]:
    """Inside, an error that ends a thread is shown like any bug and given to `failed`, in that thread."""
    show = threading.excepthook

    def tell(end: threading.ExceptHookArgs) -> None:
        show(end)
        if isinstance(end.exc_value, Exception):
            failed(end.exc_value)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = show

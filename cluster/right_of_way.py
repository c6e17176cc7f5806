"""Who may look at the state file for long while SQLite's log wants to be folded into it: nobody, for a while.

A statement holds one view of the file for as long as it takes, and what was written since stays in SQLite's
log. Statements that overlap would keep it there for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class RightOfWay:
    """Statements pass; a fold that has waited for too long takes the way from those that have not begun."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._passing = 0

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Inside, a statement may run. Blocks its thread while the way is taken."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            self._passing += 1
        try:
            yield
        finally:
            with self._changed:
                self._passing -= 1
                self._changed.notify_all()

    def take(self) -> None:
        """Let nobody pass from now on."""
        with self._changed:
            self._taken = True

    def wait(self, seconds: float) -> None:
        """Wait for those who pass, `seconds` at most, and while it is taken."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._passing and self._taken), seconds)

    def give_back(self) -> None:
        """Let statements pass again."""
        with self._changed:
            self._taken = False
            self._changed.notify_all()

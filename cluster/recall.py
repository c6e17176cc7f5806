"""Calls off what a thread does with SQLite once nobody waits for it any more.

A thread cannot be cancelled. To copy and verify a state takes a minute for some gigabytes, and until its
threads are done a node that stops has not stopped.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cluster.errors import CalledOff

STEPS = 10_000
"""Of SQLite's machine, between two looks: some 0.1 ms."""


class Recall:
    """One piece of work. `call_off` may be called from any thread, the rest is for the one that works."""

    def __init__(self) -> None:
        self._off = threading.Event()
        self._connection: sqlite3.Connection | None = None

    def call_off(self) -> None:
        """The work ends at its next look, and a statement of SQLite's at once."""
        self._off.set()
        connection = self._connection
        if connection is not None:
            with suppress(sqlite3.ProgrammingError):  # it has just been closed
                connection.interrupt()

    @property
    def off(self) -> bool:
        """Whether it was called off."""
        return self._off.is_set()

    def rest(self, seconds: float) -> bool:
        """Do nothing for so long, or until it is called off; whether it is."""
        return self._off.wait(seconds)

    def look(self) -> None:
        """Raises `CalledOff` where nobody waits any more."""
        if self._off.is_set():
            raise CalledOff

    @contextmanager
    def over(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Inside, what `connection` does is part of the work, and raises `CalledOff`, too."""
        # An interrupt passes by a statement that has not begun, which is why SQLite looks by itself as well;
        # yet it does not while it checks the pages of one tree.
        connection.set_progress_handler(self._off.is_set, STEPS)
        self._connection = connection
        try:
            self.look()
            yield
        except sqlite3.OperationalError:
            self.look()
            raise
        finally:
            self._connection = None
            connection.set_progress_handler(None, 0)


NEVER = Recall()
"""Of work that is always waited for."""

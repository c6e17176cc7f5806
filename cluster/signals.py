"""SIGTERM, SIGINT and SIGHUP, heard from the first moment of a process to its last.

An event loop's own receiver would leave moments before it and after it in which they end the process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

_STOPS = (signal.SIGTERM, signal.SIGINT)


def ignore_hangups() -> None:
    """SIGHUP, which asks for a reload, does nothing while nobody can reload."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Signals:
    """The first SIGTERM or SIGINT asks for the end, and waits until somebody listens.

    Afterwards SIGTERM changes nothing, and SIGINT ends the process at once: what was acknowledged is on disk.
    For the main thread only.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._ring: Callable[[], object] | None = None

    def hold(self) -> None:
        """From now on signals end nothing by themselves."""
        ignore_hangups()
        for number in _STOPS:
            signal.signal(number, self._came)

    def let_go(self) -> None:
        """Signals end the process again; so does the one that came meanwhile."""
        for number in (*_STOPS, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if self.asked is not None:
            os.kill(os.getpid(), self.asked)

    def listen(self, ring: Callable[[], object] | None) -> None:
        """Call `ring` when the end is asked for, at once if it was; None is nobody, as at the start."""
        self._ring = ring
        if ring is not None and self.asked is not None:
            ring()

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = signal.Signals(number)
            if self._ring is not None:
                self._ring()
        elif number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)

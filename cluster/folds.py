"""When SQLite's log is folded into the state's file, and by whom.

A checkpoint of a long one would hold every commit up, so most of it is done beside the applies: a short-lived
second thread folds what is there (SQLite lets a writer go on meanwhile), then the state's own thread only
folds what has come since, and starts SQLite's log anew.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from cluster.errors import DiskFull, NodeError, StateLocked
from cluster.space import Space
from cluster.state import State

LOOK_EVERY = 16
"""Transactions, between two looks at how long SQLite's log is; a large one counts for several."""
LOOK_BYTES = 64 << 10
"""Sixteen times this is a small part of what makes a checkpoint due."""
LOOK_RECORDS = 64
"""Sixteen times this, and what is applied at once in the end, write less than a volume keeps free."""
FOLD_BYTES_SHORT = 16 << 20
"""SQLite's log, while space on the volume is short: that much is worth a fold, however many follow."""


class Folds:
    """Of the log of `state`, whose volume is `space`. For whoever may apply at that moment.

    `beside` is the thread that folds beside the applies, None while there is none; `unlooked` are the
    transactions since the last look; `short` is set by any thread: a fold is worth more than it was.
    """

    __slots__ = ("_space", "_state", "beside", "short", "unlooked")

    def __init__(self, state: State, space: Space) -> None:
        self.beside: threading.Thread | None = None
        self.unlooked = 0
        self.short = False
        self._state = state
        self._space = space

    @property
    def due(self) -> bool:
        """Whether there is a next step to look at. For any thread."""
        beside = self.beside
        if beside is not None:
            return not beside.is_alive()
        return self.unlooked >= LOOK_EVERY or self.short or bool(self._space.blocked)

    def wrote(self, size: int, records: int) -> None:
        """A transaction of so many bytes and records was applied."""
        self.unlooked += 1 + size // LOOK_BYTES + records // LOOK_RECORDS

    def look(self, takes_bytes: int = 0) -> None:
        """See what is free on the volume, as `Space.look`; where that is too little, fold."""
        self._space.look(self._state.sqlite_log.size_bytes(), self.for_space, takes_bytes)

    def step(self) -> None:
        """Take the next step of a checkpoint, where one is `due`: begin it beside the applies, or end it."""
        if not self.due:
            return
        if self.beside is None:
            self.unlooked = 0
            self.look()
            short, self.short = self.short, False
            early = short and self._state.sqlite_log.size_bytes() >= FOLD_BYTES_SHORT
            if self._state.checkpoint_due or early:
                self._state.sqlite_log.claim()
                self.beside = threading.Thread(target=self._fold_beside, name="fold", daemon=True)
                self.beside.start()
        else:
            self.beside = None
            with suppress(DiskFull, StateLocked):  # `apply` will meet it too, and waits it out there
                if self._state.checkpoint() is not None and self._rewritable():
                    self._state.rewrite_keys()

    def for_space(self) -> None:
        """Fold here and now, whoever waits for that: nothing is applied without."""
        self.end()
        with suppress(DiskFull):
            self._state.checkpoint(urgent=True)

    def end(self) -> None:
        """Wait for the thread beside the applies, if there is one."""
        if self.beside is not None:
            self._state.sqlite_log.way.give_back()  # which it may wait for
            self.beside.join()
            self.beside = None

    def _rewritable(self) -> bool:
        """Whether to rewrite the stored keys. That is done behind a fold that did not stay behind, and is the
        cause of none: between two there are 40 MB of new ones, as a rule. So nothing else in SQLite's log
        needs the space that it takes, and where it fails for want of it the next fold gives that back.
        """
        return self._state.keys_due and self._space.has(self._state.keys.entry_bytes)

    def _fold_beside(self) -> None:
        with suppress(NodeError):  # the state's own checkpoint, which follows, meets the same error
            self._state.sqlite_log.fold_beside()

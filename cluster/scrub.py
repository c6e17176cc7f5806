"""Looks for damage in the state file beside everything else: soon after each start, and once a day.

A read meets the damage of the document that it finds. What it should have found, and does not since a page or
an id is damaged, only a look at the whole file can tell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from cluster.errors import NodeError, StateLocked
from cluster.recall import Recall
from cluster.soundness import pieces
from cluster.tables import is_barred, open_reader, translated
from cluster.threads import Post

FIRST_S = 5.0
"""A node that starts has other things to do."""
EVERY_S = 24 * 3600.0
"""Disks rot over months; a state of 100 million documents takes nine hours of the day."""
AGAIN_S = 60.0
"""After the file could not be opened: descriptors or memory may be back by then, and who had it to himself
be gone.
"""
REST_S = 0.01
"""Between two pieces: a twentieth of a core at most."""


class Scrub:
    """One thread over the state file at `path`; `found(error)` is posted at most once, and ends it."""

    def __init__(
        self, path: Path, post: Post, found: Callable[[NodeError], object], *, first_s: float = FIRST_S
    ) -> None:
        self._path = path
        self._post = post
        self._found = found
        self._first_s = first_s
        self._recall = Recall()
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let go of the file, whatever was not looked at yet."""
        self._recall.call_off()
        self._thread.join()

    def _run(self) -> None:
        pause_s = self._first_s
        while not self._recall.rest(pause_s):
            pause_s = EVERY_S
            try:
                self._look()
            except NodeError as error:
                if isinstance(error, StateLocked) or is_barred(error, self._path):
                    pause_s = AGAIN_S
                    continue
                if not self._recall.off:
                    self._post(self._found, error)
                return

    def _look(self) -> None:
        """Once over everything, unless it is time to stop. Raises what is wrong, and `CalledOff`."""
        recall = self._recall
        with translated(self._path), closing(open_reader(self._path)) as connection, recall.over(connection):
            for _ in pieces(self._path, connection):
                if recall.rest(REST_S):
                    return

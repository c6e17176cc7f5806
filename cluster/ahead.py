"""The log's next segment, allocated before it is needed: by the disk's thread, between two turns."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.threads import Post
from cluster.wal import Wal


class Ahead:
    """Has the next segment of `wal` allocated. `on_room`, if there is one, is posted when that changed how
    much room there is: it was allocated, or found no space.
    """

    def __init__(
        self, wal: Wal, post: Post, retry_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self.retry_s = retry_s
        self.on_room: Callable[[], object] | None = None
        self._wal = wal
        self._post = post

    def prepare(self) -> bool:
        """See `Wal.prepare`."""
        return self._wal.prepare(self.clock(), self._tell)

    def _tell(self) -> None:
        if self.on_room is not None:
            self._post(self.on_room)

"""The last of the space on the state's volume, which is kept for folds: without some SQLite's log could never
be folded where the state has grown, and nothing that lies there for its sake would ever go.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster.errors import DiskFull
from cluster.files import SYSCALLS
from cluster.log_room import KEPT_FREE_BYTES

FOLD_FREE_BYTES = KEPT_FREE_BYTES * 2 // 3
"""32 MiB: more than one transaction of apply. With less nothing more is applied, nor logged; and then not
until `KEPT_FREE_BYTES` are free, so that it does not change with every write.
"""


class Space:
    """What the state at `path` finds on its volume: `low` says that there is little, `full` what apply met
    when it last tried, each "" where that is not so. For the apply thread, but for `blocked`.
    """

    def __init__(self, path: Path, free_bytes: Callable[[Path], int | None] = SYSCALLS.free_bytes) -> None:
        self.low = self.full = ""
        self._path = path
        self._free_bytes = free_bytes

    @property
    def blocked(self) -> str:
        """What apply waits for, "" when it does not."""
        return self.full or self.low

    def look(self, log_bytes: int, fold: Callable[[], None]) -> None:
        """See what is free; `fold` is called where less would be left once the state had grown by all that
        SQLite's log holds, `log_bytes`: later there might not be enough for it.
        """
        if log_bytes and self._low(log_bytes):
            fold()
        self.low = DiskFull(self._path, "that is not kept for folding its log").message if self._low() else ""

    def _low(self, taken_bytes: int = 0) -> bool:
        free = self._free_bytes(self._path.parent)
        least = KEPT_FREE_BYTES if self.low else FOLD_FREE_BYTES
        return free is not None and free - taken_bytes < least

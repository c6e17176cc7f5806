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
"""32 MiB: what a fold may take where SQLite's log is folded at 16 MiB, and writes are on their way. With less
nothing more is logged; and then not until `KEPT_FREE_BYTES` are free, so that it does not change with every
write.
"""


class Space:
    """What the state at `path` finds on its volume. `blocked` says what apply waits for, "" when it does
    not. For the apply thread, but for `blocked`.
    """

    def __init__(self, path: Path, free_bytes: Callable[[Path], int | None] = SYSCALLS.free_bytes) -> None:
        self.blocked = ""
        self._path = path
        self._free_bytes = free_bytes

    def look(self, fold: Callable[[], None]) -> None:
        """See what is free; `fold` is called where that is little."""
        if self._low():
            fold()
        self.blocked = (
            DiskFull(self._path, "that is not kept for folding its log").message if self._low() else ""
        )

    def _low(self) -> bool:
        free = self._free_bytes(self._path.parent)
        return free is not None and free < (KEPT_FREE_BYTES if self.blocked else FOLD_FREE_BYTES)

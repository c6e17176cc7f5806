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
"""32 MiB. Where a transaction would leave less nothing more is applied, nor logged; and then not until
`KEPT_FREE_BYTES` are free, so that it does not change with every write.
"""


class Space:
    """What the state at `path` finds on its volume: `low` says that there is little, `full` what apply met
    when it last tried, and `blocked` what of both it waits for; each "" where that is not so. For the apply
    thread, but for `blocked`.
    """

    def __init__(self, path: Path, free_bytes: Callable[[Path], int | None] = SYSCALLS.free_bytes) -> None:
        self.low = self.full = self.blocked = ""
        self._path = path
        self._folder = path.parent
        self._free_bytes = free_bytes

    def met(self, full: str) -> None:
        """Apply met a full disk, as it says, or none: "".

        That stays until it has tried again, whatever a look finds: a quota may leave less than is free.
        """
        self.full = full
        self.blocked = full or self.low

    def look(self, log_bytes: int, fold: Callable[[], None], takes_bytes: int = 0) -> None:
        """See what is free, and whether a transaction may take `takes_bytes` of it. `fold` is called where
        too little would be left then once the state had grown by all that SQLite's log holds, `log_bytes`:
        later there might not be enough for it.
        """
        least = max(FOLD_FREE_BYTES + takes_bytes, KEPT_FREE_BYTES if self.low else 0)
        free = self._free_bytes(self._folder)
        if free is not None and log_bytes and free - log_bytes < least:
            fold()
            free = self._free_bytes(self._folder)
        low = free is not None and free < least
        self.low = DiskFull(self._path, "that is not kept for folding its log").message if low else ""
        self.blocked = self.full or self.low

    def has(self, size_bytes: int) -> bool:
        """Whether so much may be written that could be left as well."""
        free = self._free_bytes(self._folder)
        return free is None or free - size_bytes >= FOLD_FREE_BYTES

"""How much a log takes, now and later."""

from __future__ import annotations

from typing import NamedTuple

SEGMENT_PARTS = 16
"""A segment is made smaller down to such a part, 4 MiB: below that a few batches fill it."""
SEGMENT_REST = 64
"""The last such part of a segment that no other follows, 1 MiB, takes no more requests: it would take the
smallest of them alone, and nobody would call the disk full. It is enough for what a node logs by itself.
"""
KEPT_FREE_BYTES = 48 << 20
"""What a new segment leaves free: the state, which follows the log on the same volume as a rule, takes some
for what is logged, and needs some to give it back.
"""


class LogRoom(NamedTuple):
    """`sure_bytes`: what the log will surely take (R2). `later_bytes`: what it will take of one batch once
    those before it are written, and its next segment is there; 0 when there is no space for that. Nothing of
    both: the disk is full, for the log or for the state.
    """

    sure_bytes: int
    later_bytes: int

    @property
    def full(self) -> bool:
        """Whether nothing is logged until somebody makes space."""
        return not (self.sure_bytes or self.later_bytes)

    def behind(self, waiting_bytes: int, framing_bytes: int = 0) -> LogRoom:
        """The same when so many bytes are on their way into the log, without what frames a group."""
        sure_bytes = self.sure_bytes - waiting_bytes - framing_bytes
        return LogRoom(max(0, sure_bytes), max(0, self.later_bytes - framing_bytes))


NO_SPACE = LogRoom(0, 0)


def segment_size(whole_bytes: int, free_bytes: int | None, need_bytes: int = 0) -> int:
    """How large the next segment is to be where so much is free: `whole_bytes`, or a part that leaves as much
    again free, and never less than `need_bytes`; 0 where there is too little for any. Where nobody knows what
    is free a whole one is tried.
    """
    size, least = max(whole_bytes, need_bytes), max(whole_bytes // SEGMENT_PARTS, need_bytes)
    while free_bytes is not None and free_bytes < size + max(size, KEPT_FREE_BYTES):
        if size <= least:
            return 0
        size = max(size // 2, least)
    return size

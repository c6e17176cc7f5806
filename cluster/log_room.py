"""How much a log takes, now and later."""

from __future__ import annotations

from typing import NamedTuple


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
        return not any(self)

    def behind(self, waiting_bytes: int) -> LogRoom:
        """The same when so many bytes are on their way into the log."""
        return LogRoom(max(0, self.sure_bytes - waiting_bytes), self.later_bytes)

    def less(self, framing_bytes: int) -> LogRoom:
        """The same without what frames a group."""
        return LogRoom(max(0, self.sure_bytes - framing_bytes), max(0, self.later_bytes - framing_bytes))


NO_SPACE = LogRoom(0, 0)

"""How often a snapshot came to nothing, and when none is asked for any more.

Two snapshots in a row that the log could not continue mean that the source lets go of its log faster than a
snapshot travels: then no third one is fetched by itself, and what is said names the limit to raise.
"""

from __future__ import annotations

import msgspec

from redwire.position import Lsn

IN_A_ROW_MAX = 2
"""One may meet a burst of writes; a third would copy the state once more for the same end."""
_TOO_LATE = "came too late to go on from: raise retention.bytes_max or age_max_s on the primary"


class Fetch(msgspec.Struct, frozen=True):
    """A snapshot may be asked for."""


class GiveUp(msgspec.Struct, frozen=True):
    """None is asked for from here on, and `text` says why."""

    text: str


class StayAway(msgspec.Struct, frozen=True):
    """None is asked for, and why was said before."""


Step = Fetch | GiveUp | StayAway


class SnapshotTries:
    """Counts the snapshots that came without the state having been applied further since the last of them."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._applied_then = Lsn(0)
        self._trouble = _TOO_LATE
        self._told = False

    def next(self, applied: Lsn) -> Step:
        """Whether to try again, the state being applied up to `applied`."""
        if applied > self._applied_then:
            self._in_a_row, self._told = 0, False
        if self._in_a_row < IN_A_ROW_MAX:
            return Fetch()
        if self._told:
            return StayAway()
        self._told = True
        return GiveUp(f"{self._in_a_row} snapshots in a row {self._trouble}, then restart this node")

    def arrived(self) -> None:
        """One is here as a whole."""
        self._in_a_row += 1
        self._trouble = _TOO_LATE

    def unusable(self, why: str) -> None:
        """The one that is here is no state."""
        self._trouble = f"cannot be used ({why}): look at the node that they came from"

    def ended(self, applied: Lsn) -> None:
        """The one that was here is installed or refused; the state is applied up to `applied` now."""
        self._applied_then = applied

"""Requests that wait to be logged, in bytes: all of them, and those of each caller (R1)."""

from __future__ import annotations

from cluster.effects import Proposal


class Queued:
    """Nothing at first. What was added is removed as it was, or cleared with all else."""

    __slots__ = ("_of", "size")

    def __init__(self) -> None:
        self.size = 0
        self._of: dict[int, int] = {}

    def add(self, proposal: Proposal) -> None:
        """One more waits."""
        size, caller = len(proposal.request), id(proposal.caller)
        self.size += size
        self._of[caller] = self._of.get(caller, 0) + size

    def remove(self, proposal: Proposal) -> None:
        """It is logged, or answered without."""
        size, caller = len(proposal.request), id(proposal.caller)
        self.size -= size
        left = self._of[caller] - size
        if left:
            self._of[caller] = left
        else:
            del self._of[caller]

    def clear(self) -> None:
        """Nothing waits any more."""
        self.size = 0
        self._of.clear()

    def of(self, caller: object) -> int:
        """What `caller` waits for."""
        return self._of.get(id(caller), 0)

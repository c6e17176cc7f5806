"""When the next batch is worth making: once those are there who usually come together, or a moment later.

What a batch costs every node (turns of its event loop, a sync, a transaction) is paid once for all requests
in it. Callers who each wait for their answer before they ask again fall into step: who is answered by one
batch comes back for one, over a time that their number and their distance decide. Without patience the first
of them leaves in a batch of its own, the others in two or three more, and so on for ever: with eight callers
a batch holds two or three.

Patience costs its time only where somebody is missing, and never more than a fraction of what a commit takes
anyway. Where few come nobody waits: within that fraction not one of them would come by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

ENOUGH = 32
"""So many share what a batch costs: of 64 callers, half come back while the others are under way."""
PATIENCE_SHARE = 3
"""Of the time that a commit takes lately: a third."""
PATIENCE_US_MAX = 5_000
"""However far away the copies are: of 64 callers on one machine half come back within that."""
FEW = 4
"""Under way at once, and so many come while one commit takes: of fewer, hardly one in a third of it."""
FADING = 16
"""Batches: who has left is waited for about so often."""


@dataclass(slots=True, eq=False)
class Gathering:
    """How many are usually under way at once, and since when (monotonic µs) the first of those waits who wait
    now.
    """

    usual: float = 1.0
    _since_us: int | None = None

    def patience_us(self, waiting: int, took_us: float, now_us: int) -> int:
        """How much longer those who wait do so for the others; 0: make a batch of them, once one may be made.

        `waiting` are some; a commit takes `took_us` lately.
        """
        if self._since_us is None:
            self._since_us = now_us
        if self.usual < FEW or waiting >= min(round(self.usual), ENOUGH):
            return 0
        patience_us = min(int(took_us) // PATIENCE_SHARE, PATIENCE_US_MAX)
        return max(0, self._since_us + patience_us - now_us)

    def made(self, under_way: int) -> None:
        """A batch of those who waited was made; so many requests are `under_way` now, waiting or in batches
        that are not answered.
        """
        self._since_us = None
        self.usual = max(under_way, self.usual - (self.usual - under_way) / FADING)

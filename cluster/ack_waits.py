"""Who waits for copies of one LSN: handles that a later ack or tick settles. For users of the package; the
node's own writes wait in `cluster.commit_waiter`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from redwire.position import Lsn


class Reached(msgspec.Struct, frozen=True):
    """Enough copies were proven: `observed` of them."""

    observed: int


class TimedOut(msgspec.Struct, frozen=True):
    """The time was up with `observed` of `required` copies; the record may still get there."""

    observed: int
    required: int


class NotRequired(msgspec.Struct, frozen=True):
    """No copy was asked for."""


AwaitOutcome = Reached | TimedOut | NotRequired


@dataclass(slots=True, eq=False)
class AckWait:
    """A wait for `required` copies of `target` beside our own; `outcome` is None until it is settled."""

    target: Lsn
    required: int
    deadline_ms: int
    outcome: AwaitOutcome | None = None


class AckWaits:
    """The waits that are not settled. `copies` says how many voters other than this node hold an LSN."""

    __slots__ = ("_copies", "_open")

    def __init__(self, copies: Callable[[Lsn], int]) -> None:
        self._copies = copies
        self._open: list[AckWait] = []

    def __len__(self) -> int:
        return len(self._open)

    def add(self, target: Lsn, required: int, now_ms: int, timeout_ms: int) -> AckWait:
        """A wait for `required` copies of `target` beside our own; settled at once where it can be."""
        wait = AckWait(target, required, now_ms + timeout_ms)
        if required <= 0:
            wait.outcome = NotRequired()
        else:
            self._open.append(wait)
            self.settle(now_ms)
        return wait

    def settle(self, now_ms: int) -> None:
        """Look at the ack table and the clock again."""
        if self._open:
            self._settle(lambda wait: now_ms >= wait.deadline_ms)

    def end(self) -> None:
        """The reign is over: what has its copies has reached them, the rest has no time left."""
        self._settle(lambda wait: True)

    def forget(self, wait: AckWait) -> None:
        """Nobody waits for this one any more; one that is settled is forgotten already."""
        if wait in self._open:
            self._open.remove(wait)

    def _settle(self, over: Callable[[AckWait], bool]) -> None:
        """Settle the waits that have their copies, and those that are `over` without."""
        for wait in self._open:
            observed = self._copies(wait.target)
            if observed >= wait.required:
                wait.outcome = Reached(observed)
            elif over(wait):
                wait.outcome = TimedOut(observed, wait.required)
        self._open = [wait for wait in self._open if wait.outcome is None]

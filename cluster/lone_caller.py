"""Who waits for one proposal alone, and is told once what it came to."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cluster.answers import Answers, Shared
from cluster.effects import Proposal, Result
from redwire.errors import RedwireError
from redwire.position import Lsn


class NotKnown(msgspec.Struct, frozen=True):
    """Logged, at `first` (0: not told); nobody knows yet whether it stays. `message` says why."""

    first: Lsn
    message: str


CameTo = Result | NotKnown | RedwireError
"""Committed and applied, now or by an earlier attempt; logged; or certainly not written."""


class LoneCaller:
    """An `answers.Caller` of one proposal: `told` is called once, from the event loop's thread."""

    __slots__ = ("_told",)

    def __init__(self, told: Callable[[CameTo], None]) -> None:
        self._told = told

    def released(self, shared: Shared, answers: Answers) -> None:
        """Committed."""
        ((_, result),) = answers
        self._told(result)

    def known(self, proposal: Proposal, result: Result) -> None:
        """Committed by an earlier attempt."""
        self._told(result)

    def unconfirmed(self, proposal: Proposal, shared: Shared | None, first: Lsn, message: str) -> None:
        """Nobody knows yet."""
        self._told(NotKnown(first, message))

    def rejected(self, proposal: Proposal, error: RedwireError) -> None:
        """Certainly not written."""
        self._told(error)

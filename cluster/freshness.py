"""Reads that wait until this node has applied what their token has seen (R12)."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import msgspec

from redwire.errors import Code, RedwireError, Refused, TokenLost
from redwire.position import ClusterId, Lsn, TermList, Token

WAITING_MAX = 10_000
"""Reads that may wait at once on one node, some 10 MB of them; beyond it they are told to go elsewhere, or to
come back. So many may wait to be fresh, and as many of those that are for a thread.
"""

Done = Callable[[RedwireError | None], None]


class History(msgspec.Struct, frozen=True):
    """What this node has applied: up to `applied`, in the terms of `terms`. `cluster` is "" for a node that
    has not joined one: it is behind whatever a token saw, and nothing was replaced.
    """

    cluster: ClusterId
    applied: Lsn
    terms: TermList


@dataclass(slots=True, eq=False)
class Freshness:
    """Waiting reads, by LSN. Each `done` is called once: with None to go ahead, else with the error to
    answer.
    """

    _heap: list[tuple[int, int, int, Token, Done]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    @property
    def any(self) -> bool:
        """Whether a read waits."""
        return bool(self._heap)

    def wait(self, token: Token, wait_ms: int, now_ms: int, history: History, done: Done) -> None:
        """Call `done` as soon as `token` is covered, or when it cannot be."""
        if token.lsn <= history.applied or _foreign(token, history):
            done(verdict(token, history))
        elif not wait_ms or len(self._heap) >= WAITING_MAX:
            done(_stale(token, history))
        else:
            heapq.heappush(self._heap, (token.lsn, next(self._numbers), now_ms + wait_ms, token, done))

    def applied(self, history: History) -> None:
        """More was applied."""
        while self._heap and self._heap[0][0] <= history.applied:
            _, _, _, token, done = heapq.heappop(self._heap)
            done(verdict(token, history))

    def tick(self, now_ms: int, history: History) -> None:
        """Time has passed."""
        late = [entry for entry in self._heap if entry[2] <= now_ms]
        if late:
            self._heap = [entry for entry in self._heap if entry[2] > now_ms]
            heapq.heapify(self._heap)
            for _, _, _, token, done in late:
                done(_stale(token, history))


def verdict(token: Token, history: History) -> TokenLost | None:
    """None when the applied history is the one that the token saw, else why not."""
    if _foreign(token, history):
        text = f"the token is of cluster {token.cluster[:8]}, this is {history.cluster[:8]}"
        return TokenLost(text, hint="read without the token")
    term = history.terms.term_at(token.lsn)
    if term == token.term:
        return None
    text = f"the token saw LSN {token.lsn} in term {token.term}; here term {term} wrote it"
    return TokenLost(text, hint="what it saw was replaced: read without the token and decide anew")


def _foreign(token: Token, history: History) -> bool:
    return history.cluster not in ("", token.cluster)


def _stale(token: Token, history: History) -> Refused:
    behind = token.lsn - history.applied
    return Refused(
        Code.STALE,
        f"this node has applied LSN {history.applied}, {behind} short",
        hint="wait for it, or ask the primary if this is another node",
    )

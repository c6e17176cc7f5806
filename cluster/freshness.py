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
_OVER_MAX = 64
"""Entries of waits that are over, beside as many as wait, that a heap may hold before it is cleared."""

Done = Callable[[RedwireError | None], None]


class History(msgspec.Struct, frozen=True):
    """What this node has applied: up to `applied`, in the terms of `terms`. `cluster` is "" for a node that
    has not joined one: it is behind whatever a token saw, and nothing was replaced.
    """

    cluster: ClusterId
    applied: Lsn
    terms: TermList


class _Wait(msgspec.Struct, frozen=True, eq=False):
    """One read that waits, for `holder`."""

    token: Token
    ends_ms: int
    holder: str
    done: Done


@dataclass(slots=True, eq=False)
class Freshness:
    """Waiting reads, by LSN. Each `done` is called once: with None to go ahead, else with the error to
    answer.

    When every place is taken, whoever holds most of them loses the one that would be taken longest: so one
    user keeps nobody else from waiting.
    """

    _waits: dict[int, _Wait] = field(default_factory=dict)
    _by_lsn: list[tuple[int, int]] = field(default_factory=list)  # of waits that are over as well
    _latest: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # by holder, and likewise
    _held: dict[str, int] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=count)

    @property
    def any(self) -> bool:
        """Whether a read waits."""
        return bool(self._waits)

    def wait(
        self, token: Token, wait_ms: int, now_ms: int, history: History, done: Done, *, holder: str = ""
    ) -> None:
        """Call `done` as soon as `token` is covered, or when it cannot be. `holder` is the user who asks."""
        if token.lsn <= history.applied or _foreign(token, history) or _replaced(token, history):
            done(verdict(token, history))
        elif not wait_ms:
            done(_stale(token, history))
        else:
            self._add(_Wait(token, now_ms + wait_ms, holder, done))
            if len(self._waits) > WAITING_MAX:
                wait = self._remove(self._dearest())
                wait.done(_crowded(wait.token, history))

    def applied(self, history: History) -> None:
        """More was applied."""
        while self._by_lsn and self._by_lsn[0][0] <= history.applied:
            _, number = heapq.heappop(self._by_lsn)
            if number in self._waits:
                wait = self._remove(number)
                wait.done(verdict(wait.token, history))

    def tick(self, now_ms: int, history: History) -> None:
        """Time has passed."""
        for number in [number for number, wait in self._waits.items() if wait.ends_ms <= now_ms]:
            wait = self._remove(number)
            over = _replaced(wait.token, history)  # by a snapshot of another history, since it began to wait
            wait.done(verdict(wait.token, history) if over else _stale(wait.token, history))

    def _add(self, wait: _Wait) -> None:
        number, holder = next(self._numbers), wait.holder
        self._waits[number] = wait
        heapq.heappush(self._by_lsn, (wait.token.lsn, number))
        heapq.heappush(self._latest.setdefault(holder, []), (-wait.ends_ms, -number))
        self._held[holder] = self._held.get(holder, 0) + 1

    def _dearest(self) -> int:
        """Of whoever holds most, the wait that ends last; the newest of several."""
        holder = max(self._held, key=self._held.__getitem__)
        latest = self._latest[holder]
        while -latest[0][1] not in self._waits:
            heapq.heappop(latest)
        return -latest[0][1]

    def _remove(self, number: int) -> _Wait:
        """It is over. What the heaps still say of it goes when that is most of what they say."""
        wait = self._waits.pop(number)
        holder = wait.holder
        left = self._held[holder] - 1
        if not left:
            del self._held[holder], self._latest[holder]
        else:
            self._held[holder] = left
            if len(self._latest[holder]) > 2 * left + _OVER_MAX:
                self._latest[holder] = self._cleared(self._latest[holder], -1)
        if len(self._by_lsn) > 2 * len(self._waits) + _OVER_MAX:
            self._by_lsn = self._cleared(self._by_lsn, 1)
        return wait

    def _cleared(self, heap: list[tuple[int, int]], sign: int) -> list[tuple[int, int]]:
        kept = [entry for entry in heap if sign * entry[1] in self._waits]
        heapq.heapify(kept)
        return kept


def verdict(token: Token, history: History) -> TokenLost | None:
    """None when the applied history is the one that the token saw, else why not."""
    if _foreign(token, history):
        text = f"the token is of cluster {token.cluster[:8]}, this is {history.cluster[:8]}"
        return TokenLost(text, hint="read without the token")
    term = history.terms.term_at(token.lsn)
    if term == token.term:
        return None
    text = f"the token saw LSN {token.lsn} in term {token.term}; here it is of term {term}"
    return TokenLost(text, hint="what it saw was replaced: read without the token and decide anew")


def _foreign(token: Token, history: History) -> bool:
    return history.cluster not in ("", token.cluster)


def _replaced(token: Token, history: History) -> bool:
    """Whether a newer term than the token's has begun below what it saw: nobody will write that here."""
    return history.terms.term_at(token.lsn) > token.term


def _stale(token: Token, history: History) -> Refused:
    behind = token.lsn - history.applied
    return Refused(
        Code.STALE,
        f"this node has applied LSN {history.applied}, {behind} short",
        hint="wait for it, or ask the primary if this is another node",
    )


def _crowded(token: Token, history: History) -> Refused:
    text = f"this node has applied LSN {history.applied}, {token.lsn - history.applied} short, and "
    text += f"{WAITING_MAX} reads wait here, most of them of this user"
    return Refused(Code.STALE, text, hint="ask the primary, or wait for less at a time")

"""The idempotency keys of one client id: which sequence is next, and which is the oldest unresolved one (R9).

A server remembers what became of a client's sequences from the oldest unresolved one on, `OPEN_MAX` of them
at most. So a key may be asked about as long as it is open here; once it is closed nobody may ask again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from redwire.record import OPEN_MAX, Key

ANSWERED_MAX = 256
"""Keys that somebody has stored, and whose answers may not be noted there yet when the program ends: as many
as it has under way between an answer and a note of it.
"""
YOUNG = OPEN_MAX // 2
"""Sequences behind the newest one up to which a place in the window hinders nobody yet."""


class SessionKeys:
    """The sequences that go with one client id: 1, 2, 3 and so on.

    A sequence is *open* from `take` to `close`. One that is *kept* has no call waiting for it any more, yet
    somebody may still ask what became of it: it stays open until its place in the window is needed.
    """

    def __init__(self, client: bytes) -> None:
        """`client` is an id that a server issued to us alone."""
        self.client = client
        self.oldest = 1
        self._next = 1
        self._closed: set[int] = set()  # of those above `oldest`
        self._kept: set[int] = set()
        self._shown: set[int] = set()  # of those without an answer
        self._answered = deque[int]()  # of those that were shown, and are kept

    @property
    def full(self) -> bool:
        """Whether `take` would find no place now."""
        return self._next - self.oldest >= OPEN_MAX and self.oldest not in self._kept

    @property
    def room(self) -> int:
        """Sequences that can be taken before anything is let go of that was kept."""
        return OPEN_MAX - (self._next - self.oldest)

    @property
    def stuck(self) -> bool:
        """Whether a call that waits has held the window's end for more than half of it."""
        return self._next - self.oldest > YOUNG and self.oldest not in self._kept

    def take(self) -> int:
        """The next sequence, open from now on; 0 while the window is full of calls that wait."""
        sequence = self._next
        while sequence - self.oldest >= OPEN_MAX:
            if self.oldest not in self._kept:
                return 0
            self.close(self.oldest)
        self._next = sequence + 1
        return sequence

    def close(self, sequence: int) -> None:
        """`sequence` is resolved, and is never asked for again. Closing it twice changes nothing."""
        if sequence != self.oldest:
            if sequence > self.oldest:
                self._closed.add(sequence)
            return
        closed = self._closed
        while True:
            self._kept.discard(sequence)
            sequence += 1
            if sequence not in closed:
                break
            closed.remove(sequence)
        self.oldest = sequence

    def keep(self, sequence: int) -> None:
        """Nobody waits for `sequence` any more; what became of it is not known."""
        self._shown.discard(sequence)
        if sequence >= self.oldest and sequence not in self._closed:
            self._kept.add(sequence)

    def show(self, sequence: int) -> None:
        """Somebody has the key of `sequence`, and may store it."""
        if sequence >= self.oldest and sequence not in self._closed and sequence not in self._kept:
            self._shown.add(sequence)

    def answered(self, sequence: int) -> None:
        """What became of `sequence` is known here. Whoever stored its key may yet ask: the last
        `ANSWERED_MAX` of those are kept. Else it is closed.
        """
        if sequence not in self._shown:
            self.close(sequence)
            return
        self.keep(sequence)
        self._keep_answered(sequence)

    def resolved(self, sequence: int) -> None:
        """Somebody asked what became of `sequence`, and was told: it is as one that was `answered`. What a
        call still waits for is that call's.
        """
        if sequence in self._kept and sequence not in self._answered:
            self._keep_answered(sequence)

    def key(self, sequence: int, ids: Sequence[str], *, atomic: bool = True) -> WriteKey:
        """The key of `sequence`, for a write of these documents."""
        return WriteKey(self.client, sequence, min(self.oldest, sequence), tuple(ids), atomic)

    def _keep_answered(self, sequence: int) -> None:
        self._answered.append(sequence)
        if len(self._answered) > ANSWERED_MAX:
            self.close(self._answered.popleft())


class WriteKey(Key, frozen=True):
    """The key of a write, the ids of its documents ("" where the cluster makes one), and whether it was all
    or none of them: then none raises `Conflict`.
    """

    ids: tuple[str, ...]
    atomic: bool = True

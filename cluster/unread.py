"""Answers that clients have asked for and do not take, all together.

Each client may leave some megabytes lying, for it may only be slow. A node with many such clients would have
no memory left: while all together leave too much, or would with what is being read for them, nothing more is
read for anybody, until some of them have taken theirs, or were ended (`cluster.guests`). Those who wait then
go on in turns by user. Who takes what it gets notices nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from cluster.turns import Turns

EACH_BYTES_MAX = 8 << 20
"""The largest document. A client that leaves more is read no further until it takes some."""
ALL_BYTES_MAX = 256 << 20
"""Thirty-two clients that leave all they may: a fault of one application, and no machine is out of memory."""
SCARCE_BYTES_MAX = 64 << 10
"""What each may leave while all leave too much: what is on its way to somebody who is merely far."""
LOOK_S = 0.1
"""Meanwhile the fastest disk brings some hundred megabytes; a look at each answer would cost more than it."""


class Answers(Protocol):
    """One client's channel."""

    @property
    def buffered_bytes(self) -> int:
        """What was written to it and is not taken yet."""


class _Waiting(NamedTuple):
    user: str
    begin: Callable[[], None]


class Unread:
    """For the event loop's thread only; `clock_s` is monotonic."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._clients: list[Answers] = []
        self._looked_s = float("-inf")
        self._left_bytes = 0  # when last looked at, and what was written since
        self._promised_bytes = 0
        self._waiting = Turns[_Waiting](lambda each: each.user)
        self._beginning = self._begun = False

    def enter(self, client: Answers) -> None:
        """A client's session begins."""
        self._clients.append(client)

    def leave(self, client: Answers) -> None:
        """It has ended."""
        self._clients.remove(client)

    def promise(self, size_bytes: int) -> None:
        """So much more may be written soon; less than nothing where it was, or will not be."""
        self._promised_bytes += size_bytes
        if size_bytes < 0:
            self.let_begin()

    def wrote(self, size_bytes: int) -> None:
        """So much was written to a client."""
        self._left_bytes += size_bytes

    def when_room(self, user: str, begin: Callable[[], None]) -> None:
        """Call `begin` once there is room for the largest answer, when it is `user`'s turn."""
        self._waiting.append(_Waiting(user, begin))

    def let_begin(self) -> None:
        """Have those begin for whom there is room by now."""
        if self._beginning:
            return
        self._beginning = True
        try:
            while self._waiting and self.has_room(EACH_BYTES_MAX):
                self._begun = True
                self._waiting.popleft().begin()
        finally:
            self._beginning = False

    def starving(self) -> bool:
        """Whether somebody waits for room, and nobody got any since this was asked last."""
        begun, self._begun = self._begun, False
        return bool(self._waiting) and not begun

    def has_room(self, size_bytes: int) -> bool:
        """Whether an answer of `size_bytes` is not too much: one always is not, where there is no other. One
        that is a little longer than the largest document counts as that.
        """
        others_bytes = self._left() + self._promised_bytes
        return not others_bytes or others_bytes + min(size_bytes, EACH_BYTES_MAX) <= ALL_BYTES_MAX

    @property
    def scarce(self) -> bool:
        """Whether all together leave too much, as last looked at, with all that was written since."""
        return self._left() > ALL_BYTES_MAX

    @property
    def short(self) -> bool:
        """Whether they do, or would with what is promised."""
        return self._left() + self._promised_bytes > ALL_BYTES_MAX

    def limit_bytes(self, client: Answers) -> int:
        """Below how much `client` has to come before it is read further; 0 while it leaves no more lying than
        it may.
        """
        left_bytes = client.buffered_bytes
        if left_bytes < SCARCE_BYTES_MAX:
            return 0
        limit_bytes = SCARCE_BYTES_MAX if self.scarce else EACH_BYTES_MAX
        return limit_bytes if left_bytes >= limit_bytes else 0

    def _left(self) -> int:
        now_s = self._clock_s()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._left_bytes = sum(client.buffered_bytes for client in self._clients)
        return self._left_bytes

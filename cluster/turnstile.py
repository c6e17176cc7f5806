"""Clients that send without a pause, one after the other: in each pass of the event loop one of them has its
turn, so that the node's own work and everybody else waits for one turn at most, however many they are.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from cluster.turns import Turns

CROWD = 4
"""So many who wait are a crowd: then nobody reads much, either, before its turn."""


class _Waiting(NamedTuple):
    user: str
    turn: asyncio.Future[None]


class Turn:
    """The turns of one session, of `user`."""

    __slots__ = ("_turnstile", "_user")

    def __init__(self, turnstile: Turnstile, user: str) -> None:
        self._turnstile = turnstile
        self._user = user

    async def come(self) -> None:
        """Wait for the next one."""
        await self._turnstile.go_through(self._user)

    async def if_crowded(self) -> None:
        """Wait for the next one where many wait."""
        if self._turnstile.crowded:
            await self._turnstile.go_through(self._user)


class Turnstile:
    """For the event loop's thread only. Users take turns, and so do the connections of each."""

    def __init__(self) -> None:
        self._waiting = Turns[_Waiting](lambda each: each.user)
        self._turning = False

    @property
    def crowded(self) -> bool:
        """Whether many wait."""
        return len(self._waiting) >= CROWD

    async def go_through(self, user: str) -> None:
        """Wait for the next turn of `user`: where nobody else waits, for the next pass of the loop."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(user, loop.create_future())
        self._waiting.append(waiting)
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn)
        await waiting.turn

    def _turn(self) -> None:
        """Let one through, and look again in the next pass."""
        let = False
        while self._waiting and not let:
            turn = self._waiting.popleft().turn
            if let := not turn.done():  # else its connection has ended meanwhile
                turn.set_result(None)
        self._turning = bool(self._waiting)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

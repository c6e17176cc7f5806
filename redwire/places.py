"""Who gets a key for the next write: the ids of one client, and the queue before them when all are full."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from redwire.errors import RedwireError
from redwire.keyring import Keyring
from redwire.pool import Pool
from redwire.record import OPEN_MAX, Key
from redwire.session_keys import SessionKeys

RENEW_PAUSE_S = 0.1
"""No node could be asked for a new client id: the pool looks for one by itself meanwhile."""

NO_ID_YET = "no node could issue a client id yet"
"""One that was just made cannot, before it has the first record of its cluster."""


class Places:
    """The places for writes of one client. `OPEN_MAX` may be under way at once, whatever the ids: that many
    a node takes of one session.
    """

    def __init__(self, pool: Pool, tasks: TaskGroup, client_id: bytes, under_way: Callable[[], int]) -> None:
        """`under_way` counts the writes without an outcome; new ids are fetched in `tasks`."""
        self._ring = Keyring(client_id)
        self._pool = pool
        self._tasks = tasks
        self._under_way = under_way
        self._queue: deque[anyio.Event] = deque()
        self._renewing = anyio.Lock()
        self._growing = False
        self._dismissed = False

    @property
    def full(self) -> bool:
        """Whether `take` would find no place now."""
        return self._under_way() >= OPEN_MAX or self._ring.full

    @property
    def trouble(self) -> str:
        """Why there is no place, while that is not for the writes under way: no node that we reached could
        issue a client id yet. Else "".
        """
        return NO_ID_YET if self._ring.empty else ""

    def take(self) -> tuple[SessionKeys, int] | None:
        """The keys and the sequence of one more write; None while there is no place."""
        if self._ring.empty:
            self._widen()
            return None
        keys = self._ring.roomiest()
        sequence = keys.take() if self._under_way() < OPEN_MAX else 0
        if keys.stuck:
            self._widen()
        return (keys, sequence) if sequence else None

    async def wait(self) -> None:
        """Wait until there is a place, in the order in which they came, or until all are dismissed."""
        if self._dismissed:
            return
        self._widen()
        line_up = self._queue.append
        while self.full and not self._dismissed:
            turn = anyio.Event()
            line_up(turn)
            line_up = self._queue.appendleft  # who was let in for nothing does not lose its turn
            try:
                await turn.wait()
            finally:
                if turn.is_set():  # one close may have made many places, and this waiter may be cancelled
                    self.admit()
                else:
                    self._queue.remove(turn)

    def admit(self) -> None:
        """There may be a place: whoever waits first looks."""
        if self._queue and not self.full:
            self._queue.popleft().set()

    def dismiss(self) -> None:
        """The client is being closed: whoever waits for a place need not wait any more."""
        self._dismissed = True
        while self._queue:
            self._queue.popleft().set()

    def resolved(self, key: Key) -> None:
        """Somebody asked what became of `key`, and was told."""
        self._ring.resolved(key)

    async def replace(self, keys: SessionKeys) -> RedwireError | None:
        """The id of `keys` was forgotten: go on under a new one. Why no node could be asked for one, None if
        one was; a pause is over then.
        """
        async with self._renewing:
            return await self._fetch(self._ring.renew) if keys in self._ring else None

    async def another(self, done: Callable[[], bool]) -> tuple[SessionKeys, int] | None:
        """The keys and a sequence for a write that is under way already, as soon as there is a place; None if
        it is `done` before.
        """
        while not done():
            keys = self._ring.roomiest()
            sequence = keys.take()
            if sequence:
                return keys, sequence
            await self.wait()
        return None

    def _widen(self) -> None:
        if not self._growing and self._ring.narrow:
            self._growing = True
            self._tasks.start_soon(self._grow)

    async def _grow(self) -> None:
        """Get another client id before one write that waits holds up all others; where it does by now, as
        soon as there is a node to ask.
        """
        async with self._renewing:
            while self._ring.narrow and await self._fetch(self._ring.add) is not None and self._queue:
                pass
        self._growing = False

    async def _fetch(self, use: Callable[[bytes], None]) -> RedwireError | None:
        try:
            use(await self._pool.new_client_id())
        except RedwireError as error:
            await anyio.sleep(RENEW_PAUSE_S)
            return error
        self.admit()
        return None

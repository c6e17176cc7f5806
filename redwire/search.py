"""The search of one client for a node that it can use: for the primary, or for anybody.

All who seek share one search, which goes round the addresses, the likeliest first, as long as anybody does.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from redwire.clock import clock_ms
from redwire.errors import ChannelClosed, ProtocolError, RedwireError
from redwire.link import Link
from redwire.routing import Router

STAGGER_S = 1.0
"""How long one address may keep a search waiting before the next one is tried beside it: after six round
trips over an ocean a link is open.
"""
SEARCH_PAUSE_S = 0.25
"""Between two rounds over all addresses when nothing was heard meanwhile. Who is dialled is for the router's
backoff to say: a round that dials nobody costs nothing.
"""


class Ground(Protocol):
    """Where is searched: the links of a client, and which of them leads."""

    router: Router
    leading: Link | None
    failures: dict[str, RedwireError]

    def link(self, addr: str) -> Link:
        """The link to `addr`, dialled now if there is none."""

    def known(self, addr: str) -> Link | None:
        """The link to `addr`, if there is one."""


class Search:
    """Who seeks, and the task that searches for them; it runs in `tasks`, and whoever seeks when they are
    cancelled gets `ChannelClosed`.
    """

    def __init__(self, ground: Ground, tasks: TaskGroup) -> None:
        self._ground = ground
        self._tasks = tasks
        self._changed = anyio.Event()
        self._seekers = 0
        self._under_way = False
        self._hopeless: RedwireError | None = None
        self._since_ms: int | None = None

    def changed(self) -> None:
        """Whom the links lead to has changed, or may have: all who seek look again."""
        if self._ground.leading is not None:
            self._since_ms = None
        self._changed.set()
        self._changed = anyio.Event()

    def sought_ms(self, now_ms: int) -> int:
        """How long a primary has been sought, however often the search was begun anew; 0 if none is."""
        return 0 if self._since_ms is None else now_ms - self._since_ms

    async def until(self, found: Callable[[], Link | None]) -> Link:
        """What `found` finds, now or later. Has no deadline: cancel it.

        Raises `AuthenticationFailed` or `ConnectFailed` when no address is left that another try could help,
        and `ChannelClosed`: to each who seeks an error of its own.
        """
        self._seekers += 1
        try:
            require_open(self._tasks)
            while (link := found()) is None:
                if not self._under_way:
                    self._begin()
                await self._changed.wait()
                require_open(self._tasks)
                if self._hopeless is not None:
                    raise copy(self._hopeless) from self._hopeless.__cause__
            return link
        finally:
            self._seekers -= 1

    def _begin(self) -> None:
        self._under_way, self._hopeless = True, None
        if self._since_ms is None:
            self._since_ms = clock_ms()
        self._tasks.start_soon(self._go_round)

    async def _go_round(self) -> None:
        """Until one leads or nobody seeks any more."""
        router = self._ground.router
        try:
            while self._seekers:
                failures: list[RedwireError] = []
                order = router.dial_order(clock_ms())
                for addr in order:
                    failure = await self._try(addr)
                    if self._ground.leading is not None:
                        return
                    if failure is not None and _is_final(failure):
                        failures.append(failure)
                if len(failures) == len(order):
                    self._hopeless = failures[0]
                    return
                with anyio.move_on_after(SEARCH_PAUSE_S):
                    await self._changed.wait()
        finally:
            self._under_way = False
            self.changed()

    async def _try(self, addr: str) -> RedwireError | None:
        """Dial, or ask again who leads; why the address is of no use, None if it is or may become so."""
        link = self._ground.known(addr)
        if link is None and self._ground.router.seek_ms(addr) > clock_ms():
            return self._ground.failures.get(addr)
        try:
            with anyio.move_on_after(STAGGER_S):
                if link is not None and link.usable:
                    await link.open()
                else:
                    link = self._ground.link(addr)
                    await link.settled.wait()
        except RedwireError as error:
            return error
        return link.failure if link is not None else None


def require_open(tasks: TaskGroup) -> None:
    """Raises `ChannelClosed` once the client that owns `tasks` is being closed."""
    if tasks.cancel_scope.cancel_called:
        raise ChannelClosed("the client was closed", retry=False)


def _is_final(failure: RedwireError) -> bool:
    """Whether only other credentials, certificates or hosts help; a node that talks nonsense may restart."""
    return not failure.retry and not isinstance(failure, ProtocolError)

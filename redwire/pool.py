"""The links of one client: at most one to each address, opened when needed, and the one that leads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain

import anyio
from anyio.abc import TaskGroup

from redwire.clock import clock_ms
from redwire.crowd import turn_at
from redwire.dial import Dialled, dial, stuck_hint
from redwire.errors import Code, ConnectFailed, RedwireError, Refused
from redwire.handshake import Credentials
from redwire.leadership import Claim, Leadership
from redwire.link import OPEN_S, Link
from redwire.position import ClusterId
from redwire.record import NO_CLIENT
from redwire.routing import Router
from redwire.search import Search, require_open
from redwire.tls import ClientFiles

TROUBLES_MAX = 3
"""Addresses that an error speaks of: more would hide what it is about."""

VISIT_S = 3.0
"""A connection, its handshake and one answer take six round trips, over an ocean less than two seconds;
another node may lead by then.
"""


class Dialler:
    """How to reach any node of a cluster: as whom, and trusting which authority; without `files` there is no
    TLS.
    """

    def __init__(self, files: ClientFiles | None, credentials: Credentials, client_name: str) -> None:
        self.client_name = client_name
        self._files = files
        self._credentials = credentials

    async def dial(self, addr: str, taken: Callable[[], None] = lambda: None) -> Dialled:
        """An authenticated connection. Raises and calls `taken` as `dial`; raises `ProtocolError`."""
        host, _, port = addr.rpartition(":")
        if not port.isdecimal():
            raise ConnectFailed(f"{addr!r} is not host:port", retry=False)
        context = None if self._files is None else self._files.context()
        return await dial(
            *(host.strip("[]"), int(port), context, self._credentials),
            client_name=self.client_name,
            taken=taken,
        )


class Pool:
    """Every link runs in `tasks`, which the client owns, and cancels when it is closed: whoever then wants a
    link gets `ChannelClosed`.

    `leading` is the link for writes, None while none is known; it changes by itself with what the nodes say.
    `cluster` is the id of the cluster that was met first: a node of another one is refused. `failures` are
    why addresses are not reached now, the latest last.
    """

    def __init__(self, router: Router, dialler: Dialler, tasks: TaskGroup) -> None:
        self.router = router
        self.leading: Link | None = None
        self.cluster: ClusterId | None = None
        self._dialler = dialler
        self._tasks = tasks
        self._links: dict[str, Link] = {}
        self.failures: dict[str, RedwireError] = {}
        self._leadership = Leadership(router)
        self._search = Search(self, tasks)
        self._asking: set[Link] = set()
        self._queued: set[str] = set()  # they were not dialled yet
        self._stuck: set[str] = set()  # they took the connection, and have not finished the handshake

    @property
    def dialling(self) -> bool:
        """Whether a link may be open soon that is not yet."""
        return any(link.opened is None for link in self._links.values())

    @property
    def phase(self) -> str:
        """What a call waits for while there is no link for it."""
        return "connect" if self.dialling or self.router.primary() is not None else "select"

    @property
    def trouble(self) -> str:
        """What is wrong with the addresses that are not reached now, the latest first; "" if nothing is."""
        found = dict.fromkeys(error.message for error in reversed(self.failures.values()))
        silent = (addr for addr, link in self._links.items() if not link.settled.is_set())
        found |= dict.fromkeys(self._silence(addr) for addr in silent if addr not in self.failures)
        shown = [*found][:TROUBLES_MAX]
        return "; ".join(shown + ["and others"] * (len(found) > len(shown)))

    @property
    def hint(self) -> str:
        """What to do about the latest `trouble` for which there is something to do; "" if there is none, and
        where some node is reached: what is missing then is one that leads.
        """
        if self.usable_links():
            return ""
        hints = (error.hint for error in reversed(self.failures.values()))
        return next(filter(None, chain(hints, map(stuck_hint, sorted(self._stuck)))), "")

    def _silence(self, addr: str) -> str:
        """What is to be said of an address from which nothing has come yet."""
        if addr in self._stuck:
            return f"{addr} takes the connection, and does not finish the handshake"
        if addr in self._queued:
            return f"other connections of this program to {addr} come first"
        return f"no answer from {addr}"

    def link(self, addr: str) -> Link:
        """The link to `addr`, dialled now if there is none; see `Link.settled`. Raises `ChannelClosed`."""
        link = self._links.get(addr)
        if link is None:
            require_open(self._tasks)
            link = self._links[addr] = Link(addr, self, self._dialler.client_name)
            self._tasks.start_soon(link.run)
        return link

    def known(self, addr: str) -> Link | None:
        """The link to `addr`, if there is one, whatever its state."""
        return self._links.get(addr)

    def usable_links(self) -> list[Link]:
        """The links that are open now."""
        return [link for link in self._links.values() if link.usable]

    async def leader(self) -> Link:
        """The link to the primary, as soon as there is one; as `Search.until`."""
        return await self._search.until(lambda: self.leading)

    async def any_link(self) -> Link:
        """Any open link, as soon as there is one; as `Search.until`."""
        return await self._search.until(lambda: next(iter(self.usable_links()), None))

    async def new_client_id(self) -> bytes:
        """A client id that nobody else has. Has no deadline: cancel it. Raises as `leader` and `dial` do,
        also when whoever leads says nothing for `VISIT_S`, and `Refused` (NOT_READY) while it has none.
        """
        leader = await self.leader()
        visit = Link(leader.addr, _Visit(self._dialler), self._dialler.client_name)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(visit.run)
            with anyio.move_on_after(VISIT_S) as patience:
                await visit.settled.wait()
            tasks.cancel_scope.cancel()
        if patience.cancelled_caught:
            raise ConnectFailed(f"{leader.addr} issued no client id within {VISIT_S:g} s", retry=True)
        if visit.opened is None:
            assert visit.failure is not None
            raise visit.failure
        if visit.opened.client_id == NO_CLIENT:
            raise Refused(Code.NOT_READY, f"{leader.addr} can issue no client id yet", hint="retry")
        return visit.opened.client_id

    def look_around(self) -> None:
        """Meet the nodes that are not linked yet, and ask those that are who they are by now: one of them may
        be who is wanted, and one may lead, where the primary that we know has lost them.
        """
        now_ms = clock_ms()
        for addr in self.router.dial_order(now_ms):
            link = self._links.get(addr)
            if link is not None and link.usable and not link.leads and link not in self._asking:
                self._asking.add(link)
                self._tasks.start_soon(_ask_again, link, self._asking)
            elif self.router.seek_ms(addr) <= now_ms:
                self.link(addr)

    # what links report

    async def dial(self, addr: str) -> Dialled:
        """An authenticated connection to `addr`, once it is our turn."""
        self._queued.add(addr)
        try:
            async with turn_at(addr):
                self._queued.remove(addr)
                return await self._dialler.dial(addr, partial(self._stuck.add, addr))
        finally:
            self._queued.discard(addr)
            self._stuck.discard(addr)

    def opened(self, link: Link, rtt_us: int) -> None:
        """The node said who it is. Raises `Refused` when it belongs to another cluster: then nothing that it
        says counts; and `TopologyInvalid`.
        """
        assert link.opened is not None
        if self.cluster is None:
            self.cluster = ClusterId(link.opened.cluster)
        elif link.opened.cluster != self.cluster:
            text = f"{link.addr} belongs to cluster {link.opened.name} ({link.opened.cluster[:8]})"
            raise Refused(Code.OTHER_CLUSTER, text, hint="the URI's hosts are not of one cluster")
        self.learned(link.opened.topology)
        now_ms = clock_ms()
        self.router.observed(link.addr, rtt_us, now_ms)
        self.router.met(link.addr, link.opened.region, link.opened.term, leads=link.leads)
        self.failures.pop(link.addr, None)
        self._leadership.said(link.addr, leads=link.leads)
        self._choose()

    def learned(self, blob: bytes) -> None:
        """A node sent a topology: it counts unless a newer one is known. Raises `TopologyInvalid`."""
        if self._leadership.learned(blob):
            known = self.router.dial_order(clock_ms())
            self.failures = {addr: error for addr, error in self.failures.items() if addr in known}
            self._choose()

    def lonely(self, link: Link) -> None:
        """The node says that it lacks others: if another one leads in its term too, that one has its turn."""
        self._choose()

    def denied(self, link: Link) -> None:
        """The node says that it does not lead."""
        link.leads = False
        if link.opened is not None:
            self.router.met(link.addr, link.opened.region, link.opened.term, leads=False)
        self._leadership.said(link.addr, leads=False)
        self._choose()

    def ended(self, link: Link, error: RedwireError) -> None:
        """The link is over."""
        del self._links[link.addr]
        self.failures.pop(link.addr, None)
        self.failures[link.addr] = error
        self.router.failed(link.addr, clock_ms())
        self._choose()

    def _choose(self) -> None:
        """What the links say has changed, or whom they lead to: look anew who leads."""
        now_ms = clock_ms()
        usable = {link.addr: link for link in self.usable_links()}
        claims = [_claim(link) for link in usable.values() if link.leads]
        addr = self._leadership.choose(claims, usable, now_ms, self._search.sought_ms(now_ms))
        self.leading = None if addr is None else usable[addr]
        self._search.changed()


async def _ask_again(link: Link, asking: set[Link]) -> None:
    """Ask it whether it leads by now; what goes wrong ends the link, or is no answer. One of `asking` no more
    then.
    """
    try:
        with suppress(RedwireError), anyio.move_on_after(OPEN_S):
            await link.open()
    finally:
        asking.discard(link)


def _claim(link: Link) -> Claim:
    """What a node says that leads."""
    assert link.opened is not None
    return Claim(link.addr, link.term, link.lonely, link.opened.topology)


class _Visit:
    """The owner of a link that is opened for its client id only."""

    def __init__(self, dialler: Dialler) -> None:
        self.dial = dialler.dial

    def opened(self, link: Link, rtt_us: int) -> None:
        pass

    def learned(self, blob: bytes) -> None:
        pass

    def lonely(self, link: Link) -> None:
        pass

    def denied(self, link: Link) -> None:
        pass

    def ended(self, link: Link, error: RedwireError) -> None:
        pass

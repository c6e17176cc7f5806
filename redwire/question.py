"""One question that any node can answer, put to one node after the other until one does."""

from __future__ import annotations

from collections.abc import Collection

import anyio

from redwire.dial import stuck_hint
from redwire.errors import ChannelClosed, ConnectFailed, DeadlineExceeded, Refused
from redwire.frame import Kind
from redwire.grace import Limit
from redwire.link import Link, payload
from redwire.pool import Pool

LEADER_S = 0.5
"""How long the primary is looked for where any node can answer for the cluster: one that is well is known by
then, and who looks in trouble does not wait for one that is not.
"""
PATIENCE_S = 1.0
"""And how long one node may take with its answer before the next one is asked instead: answers come from
memory, and a second is three times around the earth.
"""
AGAIN_S = 0.1
"""Before the nodes are asked again when none has answered, or it is looked whether another one is reached."""


class Question:
    """A request of `kind` with this `body`, which is answered by a frame of kind `answer`. Put once."""

    def __init__(self, pool: Pool, kind: Kind, answer: Kind, body: bytes) -> None:
        self._pool = pool
        self._kind = kind
        self._answer = answer
        self._body = body
        self._silent: list[str] = []  # whom it was put to, in that order

    async def put(self, addr: str | None, timeout_s: float) -> bytes:
        """What the node at `addr` answers; without it the primary, or any node that answers where that does
        not within a moment. Raises what it answered, and `DeadlineExceeded`.
        """
        with Limit(timeout_s):
            if addr is None:
                return await self._put_to_any(min(PATIENCE_S, timeout_s / 3))
            link = self._pool.link(addr)
            await link.settled.wait()
            return await self._put_to(link)
        if not self._silent:
            raise unreached(self._pool, timeout_s)
        who = ", ".join(dict.fromkeys(self._silent))
        text = f"no node answered within {timeout_s:g} s: {who} said nothing"
        raise DeadlineExceeded(text, phase="answer", sent=True, hint=stuck_hint(self._silent[0]))

    async def _put_to(self, link: Link) -> bytes:
        self._silent.append(link.addr)
        return payload(await link.ask(self._kind, self._body), self._answer)

    async def _put_to_any(self, patience_s: float) -> bytes:
        """Ask one node after the other, the primary first. Has no deadline: cancel it."""
        pool, asked = self._pool, set[Link]()
        link = await _leader_or_any(pool, min(LEADER_S, patience_s))
        while True:
            try:
                with Limit(patience_s):
                    return await self._put_to(link)
            except (ChannelClosed, ConnectFailed):
                pass  # another one may answer
            asked.add(link)
            pool.look_around()
            other = await _another(pool, asked, patience_s)
            if other is None:
                await anyio.sleep(AGAIN_S)
                asked.clear()
                patience_s *= 2
            link = other or await pool.any_link()


def unreached(pool: Pool, timeout_s: float) -> DeadlineExceeded:
    """Nobody could be asked; and what stands against that, if anything is known."""
    refused = any(isinstance(error, Refused) for error in pool.failures.values())
    what = "that was reached could answer" if refused else "was reached"
    text = f"no node {what} within {timeout_s:g} s" + (f": {pool.trouble}" if pool.trouble else "")
    return DeadlineExceeded(text, phase=pool.phase, hint=pool.hint)


async def _leader_or_any(pool: Pool, patience_s: float) -> Link:
    with anyio.move_on_after(patience_s):
        return await pool.leader()
    return await pool.any_link()


async def _another(pool: Pool, asked: Collection[Link], patience_s: float) -> Link | None:
    """A node that was not `asked`, as soon as there is a line to one; None where none comes."""
    with anyio.move_on_after(patience_s):
        while True:
            other = next((link for link in pool.usable_links() if link not in asked), None)
            if other is not None or not pool.dialling:
                return other
            await anyio.sleep(AGAIN_S)
    return None

"""Who leads, for one client: whom to believe of the nodes that say so, and of what topologies say.

    says that it leads, in no older term than the topology's   it is believed
    several do, in one term                                    whoever commits, or else they take turns
    nobody does                                                whom the topology names, unless it denies it
    leads in an older term                                     once the newer one is sought, or asked, in vain

The last is for a take-over by nodes that never heard of the newest terms, whose nodes are lost or cut off:
there is no other primary then. Nothing here waits or dials; time is passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from redwire import topology
from redwire.position import Term
from redwire.routing import Router

OUTLIVED_MS = 5_000
"""How long the primary of the newest term is looked for before one that leads in an older term is believed:
half of the ten seconds in which whoever serves is found. One that is cut off refuses writes by then. So long
one that leads is also asked for what it cannot commit before another one, of an older term, is.
"""


class Lonely(msgspec.Struct, frozen=True):
    """When a node said first and last that it lacks others, and committed nothing between, by the monotonic
    clock.
    """

    since_ms: int
    last_ms: int


class Claim(msgspec.Struct, frozen=True):
    """The node at `addr`, which can be asked now, says that it leads in `term`, by the topology in `blob`;
    `lonely` is None if it never said that it lacks others, or committed something since.
    """

    addr: str
    term: Term
    lonely: Lonely | None
    blob: bytes


class Leadership:
    """Whom one client takes for the primary; `router` hears what becomes known.

    `_denied` are the addresses of nodes that said that they do not lead: of them the topology is not believed
    that it is otherwise, until there is a newer one.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._denied: set[str] = set()

    def learned(self, blob: bytes) -> bool:
        """A node sent a topology: it counts unless a newer one is known; whether it did. Raises
        `TopologyInvalid`.
        """
        shape = topology.decode(blob)
        counts = shape is not None and self._router.update(shape)
        if counts:
            self._denied.clear()
        return counts

    def said(self, addr: str, *, leads: bool) -> None:
        """The node said whether it leads."""
        if leads:
            self._denied.discard(addr)
        else:
            self._denied.add(addr)

    def choose(
        self, claims: Sequence[Claim], reachable: Collection[str], now_ms: int, sought_ms: int
    ) -> str | None:
        """The address of the primary, one of `reachable`; None while none is known. `claims` are of nodes
        that are reachable; for `sought_ms` a primary has been sought.

        Goes back to the topology of one that leads in an older term when that one is chosen.
        """
        known = self._router.topology
        first, instead = _foremost(claims, now_ms)
        if first is not None and (known is None or first.term >= known.term):
            return first.addr
        named = self._router.primary()
        if not instead and named in reachable and named not in self._denied:
            return named
        if first is not None and (instead or sought_ms >= OUTLIVED_MS):
            shape = topology.decode(first.blob)
            if shape is not None:
                self._router.revert(shape)
                return first.addr
        return None


def _foremost(claims: Sequence[Claim], now_ms: int) -> tuple[Claim | None, bool]:
    """Whom to believe of those who lead, None if nobody does; and whether it is one instead of another of a
    newer term, which has not been able to commit anything for long. Where all lack somebody they take turns
    until one commits: what one of them lacks may be asked for by a single write only.
    """
    first = max(claims, key=lambda each: (each.term, -_refused_ms(each)), default=None)
    if first is None or first.lonely is None:
        return first, False
    if len(claims) == 1 or now_ms - first.lonely.since_ms < OUTLIVED_MS:
        return first, False
    others = [each for each in claims if each.lonely is None]
    if not others:
        return min(claims, key=_refused_ms), True
    return max(others, key=lambda each: each.term), True


def _refused_ms(claim: Claim) -> int:
    """When it said last that it lacks others; 0 if it does not lack any."""
    return 0 if claim.lonely is None else claim.lonely.last_ms

"""Who may wait at the listener: strangers are few, and those of whom there are most make room for the next.

A connection is a stranger until it is authenticated; a member's only until TLS has shown its certificate. By
the rule of `cluster.strangers`, and the places that it keeps for where members come from, strangers elsewhere
never keep the members of the cluster from each other. Clients leave as many places free as strangers can
take, and all connections together leave descriptors to the node's own files: a log that cannot open its next
segment would end the process.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable

from cluster.strangers import Chance, Stay, Strangers, origin

STRANGERS_MAX = 256
"""Each may hold 8 KiB and a TLS state for ten seconds."""
FILES_OF_OUR_OWN = 160
"""Log, state and snapshots, their readers, the metrics port, and the links to the other members."""


class Door:
    """Counts the `connections` of one listener. For the event loop's thread only.

    `short`: with more descriptors it would let in more strangers at a time.
    """

    def __init__(
        self,
        connections_max: int,
        strangers_max: int = STRANGERS_MAX,
        *,
        chance: Chance = random.randrange,
        hosts: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """`hosts` are those at which the settings say that members are."""
        self._connections_max = connections_max
        self._strangers_max = min(strangers_max, connections_max // 2)
        self.short = self._strangers_max < strangers_max
        self._strangers = Strangers(self._strangers_max, chance, hosts)
        self.connections = 0

    def enter(self, stay: Stay, now_s: float, address: str = "") -> bool:
        """Whether a new connection from `address` is let in. Another stranger may have to go for it; else
        `leave` it.
        """
        where = origin(address)
        if self.full or not self._strangers.place(where, now_s):
            return False
        self.connections += 1
        self._strangers.add(stay, where, now_s)
        return True

    def recognise(self, stay: Stay, *, member: bool = False) -> None:
        """It is known who this is: a stranger no more."""
        where = self._strangers.remove(stay)
        if member and where is not None:
            self._strangers.let_in(where)

    @property
    def strangers(self) -> int:
        """How many are in of whom nobody knows yet who they are."""
        return len(self._strangers)

    @property
    def full(self) -> bool:
        """Whether nobody at all can come in."""
        return self.connections >= self._connections_max

    @property
    def crowded(self) -> bool:
        """Whether one client more would take a place that newcomers need."""
        return self.connections > self._connections_max - self._strangers_max

    def leave(self, stay: Stay) -> None:
        """A connection that was let in has ended."""
        self._strangers.remove(stay)
        self.connections -= 1


def connections_max() -> int:
    """How many connections this process has descriptors for, its own files set aside."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(limit - FILES_OF_OUR_OWN, limit // 2)


def raise_file_limit() -> None:
    """Take as many descriptors as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

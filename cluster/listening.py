"""The addresses that a node listens on, and what it says when it can accept nobody there."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable

import anyio
from anyio.abc import SocketStream
from anyio.streams.stapled import MultiListener

from cluster.address import Address
from cluster.errors import ListenFailed
from cluster.log_config import Level, Note

BACKLOG = 1_024
"""Clients of a node that was gone come back at once; the idle thousand that a node is measured with fit."""
ACCEPT_AGAIN_S = 0.1
"""Where none could be accepted, descriptors are missing as a rule: asking more often would bring none."""
SAY_AGAIN_S = 60.0
"""Between two lines about a shortage: tried ten times a second, it is told often enough to be acted on."""
_SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
PASSING = _SHORTAGES | {errno.ECONNABORTED}
"""What is wrong with one connection, or gets better when others end."""


class Shortage:
    """Says in the log that nobody can be accepted: at once, then once a minute, and once when it is over. A
    crowd of strangers lets somebody in all the while: its end is not told.
    """

    def __init__(self, note: Note, clock: Callable[[], float] = time.monotonic) -> None:
        self._note = note
        self._clock = clock
        self._said_s = float("-inf")
        self._under_way = False

    def refused(self, error: OSError) -> None:
        """`error` came instead of a connection."""
        if error.errno in _SHORTAGES:
            self._say(os.strerror(error.errno))

    def turned_away(self, connections: int) -> None:
        """One came, and so many are open that no descriptor is left for it."""
        self._say(f"{connections} are open, and the rest is for the node's own files")

    def crowd(self, strangers: int) -> None:
        """One came, and found so many before it that nobody knows yet."""
        if self._due():
            text = (
                f"some connections are turned away: {strangers} others have not said yet who they are; "
                "clients try again by themselves; if it goes on, see who connects: ss -tn"
            )
            self._note(text, Level.WARNING)

    def accepted(self) -> None:
        """A connection came, and was let in."""
        if self._under_way:
            self._under_way = False
            self._note("connections are accepted again")

    def _say(self, why: str) -> None:
        if not self._due():
            return
        self._under_way = True
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        text = f"no connection can be accepted: {why}; this process may have {limit} descriptors: "
        self._note(text + "raise LimitNOFILE of its service, or ulimit -n", Level.WARNING)

    def _due(self) -> bool:
        """Whether there may be a line again; then it counts as said."""
        now_s = self._clock()
        if now_s - self._said_s < SAY_AGAIN_S:
            return False
        self._said_s = now_s
        return True


async def listen(address: Address, key: str) -> MultiListener[SocketStream]:
    """Take `address`, which `key` of the configuration names. Raises `ListenFailed`."""
    try:
        return await anyio.create_tcp_listener(
            local_host=address.host, local_port=address.port, backlog=BACKLOG
        )
    except OSError as error:
        text = f"cannot listen on {address}: {error.strerror}"
        raise ListenFailed(text, hint=f"another process has the port, or {key} is wrong") from error

"""What the scenes share: the cluster, where clients stand, and the one client that most of them use."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from redwire.client import Client, connect
from redwire.position import Token
from tools.demo.characters import characters
from tools.demo.plan import LEADER
from tools.demo.report import Report
from tools.dev.local_cluster import LocalCluster

USER = "demo"
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Stage:
    """`stack` closes what a scene opens; `rows` are the data set; `token` sees the last write so far.

    `stored` is how many documents the cluster must hold, as the scenes count them.
    """

    cluster: LocalCluster
    report: Report
    stack: AsyncExitStack
    full: bool
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    rows: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    stored: int = 0
    token: Token | None = None
    _db: Client | None = None

    def __post_init__(self) -> None:
        self.rows = characters(full=self.full)

    @property
    def db(self) -> Client:
        """The client beside the primary. Opened by `open_db`."""
        assert self._db is not None
        return self._db

    async def open_db(self) -> None:
        """Log in, in the primary's region."""
        self._db = await self.stack.enter_async_context(self.client_in(LEADER.region))

    def client_in(self, region: str) -> Client:
        """A client that stands in `region`, to be entered."""
        uri = self.cluster.uri(user=USER, password=self.password, within=region)
        return connect(uri, name=f"demo in {region}")

    def node_at(self, addr: str) -> str:
        """The node with this address."""
        port = int(addr.rpartition(":")[2])
        return next(node for node, its_port in self.cluster.ports.items() if its_port == port)


async def timed(call: Callable[[], Awaitable[T]]) -> tuple[T, float]:
    """What `call` returns, and how many ms it took."""
    began_s = time.monotonic()
    result = await call()
    return result, (time.monotonic() - began_s) * 1000

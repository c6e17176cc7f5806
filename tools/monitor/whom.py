"""Whom to ask for the document: one node as long as it answers and sees who leads, else the next."""

from __future__ import annotations

from collections.abc import Sequence

from redwire.status import Status
from tools.condition.view import fresh


class Whom:
    """Addresses in the order in which they are worth asking. `discovery`: nodes that documents name count
    too. Which node stands behind an address is learned, so that none is asked by two of them.
    """

    def __init__(self, seeds: Sequence[str], discovery: bool) -> None:
        self.current = seeds[0]
        self._seeds = tuple(seeds)
        self._discovery = discovery
        self._named: dict[str, str] = {}
        self._nodes: dict[str, str] = {}
        self._passed: dict[str, int] = {}
        self._turn = 0

    def answered(self, addr: str, status: Status) -> None:
        """`addr` gave `status`."""
        self._nodes[addr] = status.vantage.node
        if self._discovery:
            named = {node.addr: node.id for node in status.nodes if node.addr}
            self._named = named or self._named

    def passed(self, addr: str) -> None:
        """`addr` was tried, and was of no use or may be: the others come first now."""
        self._turn += 1
        self._passed[addr] = self._turn

    def others(self) -> list[str]:
        """Every other node's address, those that were passed longest ago first."""
        me = self._node(self.current)
        found: dict[str, str] = {}
        for addr in (*self._seeds, *self._named):
            node = self._node(addr) or addr
            if addr != self.current and node != me:
                found.setdefault(node, addr)
        return sorted(found.values(), key=lambda addr: self._passed.get(addr, 0))

    def _node(self, addr: str) -> str:
        return self._named.get(addr) or self._nodes.get(addr, "")


def sees(status: Status) -> bool:
    """Whether who gave `status` knows of a primary and has fresh word of it."""
    return status.primary.state == "leading" and fresh(status)

"""Reads of documents: fresh enough for their token, then off the event loop."""

from __future__ import annotations

from collections.abc import Callable

from cluster.errors import NodeError
from cluster.freshness import Freshness, History
from cluster.intake import not_ready
from cluster.node import Node
from cluster.primary import Primary
from redwire.errors import Code, RedwireError, RequestInvalid
from redwire.message.read import Fetch, Fetched, Scan, Scanned
from redwire.position import ClusterId
from redwire.record import COLLECTION

WAIT_MS_MAX = 60_000
"""How long a read waits for its token at most: the places are few, and who has gone leaves his taken."""

Answer = Callable[[Fetched | Scanned | RedwireError], object]


class Reads:
    """Serves Fetch and Scan from this node's applied state, whatever its role."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting = Freshness()

    def read(self, asked: Fetch | Scan, answer: Answer) -> None:
        """Call `answer` with what was asked for, or why not, once the applied state covers the token.

        Raises `RequestInvalid` for a name that no collection has, and `Refused` while a new reign is not
        ready, or for good where the state is damaged.
        """
        if not COLLECTION.match(asked.collection):
            text = f"collection name {asked.collection!r}"
            raise RequestInvalid(
                text, hint="1 to 64 of A-Z a-z 0-9 . _ -, not starting with a dot or sqlite_"
            )
        node = self._node

        def told(result: Fetched | Scanned | RedwireError) -> None:
            if isinstance(result, NodeError) and result.code is Code.DAMAGED:
                result = node.damage.told(result)
            answer(result)

        if isinstance(node.role, Primary) and not node.role.ready:
            raise not_ready()
        node.damage.check()
        if asked.token is None:
            node.storage.reads.documents.submit(asked, told)
            return

        def fresh(error: RedwireError | None) -> None:
            if error is not None:
                answer(error)
            else:
                node.storage.reads.documents.submit(asked, told)

        wait_ms = min(asked.wait_ms, WAIT_MS_MAX)
        self._waiting.wait(asked.token, wait_ms, node.clock().ms, self._history(), fresh)
        if self.waiting:
            node.outbox.apply.push()

    @property
    def waiting(self) -> bool:
        """Whether a read waits for this node to apply more."""
        return self._waiting.any

    def applied(self) -> None:
        """The node has applied more."""
        self._waiting.applied(self._history())

    def tick(self) -> None:
        """Time has passed."""
        self._waiting.tick(self._node.clock().ms, self._history())

    def _history(self) -> History:
        storage = self._node.storage
        return History(ClusterId(storage.meta.cluster), storage.applied.lsn, storage.log.terms)

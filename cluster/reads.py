"""Reads of documents: fresh enough for their token, then off the event loop."""

from __future__ import annotations

from collections.abc import Callable

from cluster.errors import NodeError
from cluster.freshness import Done, Freshness, History
from cluster.node import Node
from cluster.primary import Primary
from redwire.errors import RedwireError, RequestInvalid
from redwire.message.read import Fetch, Fetched, Scan, Scanned
from redwire.position import ClusterId, Token
from redwire.record import check_collection

WAIT_MS_MAX = 60_000
"""How long a read waits for its token at most: the places are few, and who has gone leaves his taken."""

Answer = Callable[[Fetched | Scanned | RedwireError], object]


class Reads:
    """Serves Fetch and Scan from this node's applied state, whatever its role."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting = Freshness()

    def check(self) -> None:
        """Raises `Refused` while a new reign is not ready (R3), or for good where the state is damaged."""
        role = self._node.role
        if isinstance(role, Primary):
            role.check_ready()
        self._node.damage.check()

    def when_fresh(self, asked: Fetch | Scan, go: Done, user: str = "") -> None:
        """Call `go` once, with None as soon as the applied state covers the token, or with why it will not.
        `user` is who asks: users share the places of those that wait.

        Raises `RequestInvalid` for a name that no collection has and for a token of this reign that saw more
        than it has logged, and what `check` raises.
        """
        check_collection(asked.collection)
        self.check()
        if asked.token is None:
            go(None)
            return
        node, wait_ms = self._node, min(asked.wait_ms, WAIT_MS_MAX)
        self._check_logged(asked.token)
        self._waiting.wait(asked.token, wait_ms, node.clock().ms, self._history(), go, holder=user)
        if self.waiting:
            node.outbox.apply.push()

    def read(self, asked: Fetch | Scan, answer: Answer) -> None:
        """Call `answer` with what the state holds of it now, or with why that cannot be told."""
        node = self._node

        def told(result: Fetched | Scanned | RedwireError) -> None:
            if isinstance(result, NodeError):
                result = node.damage.told(result)
            answer(result)

        node.storage.reads.documents.submit(asked, told)

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

    def _check_logged(self, token: Token) -> None:
        """Only the primary of a term logs in it, and so knows what nobody can have seen."""
        role, cluster = self._node.role, self._node.storage.meta.cluster
        if not isinstance(role, Primary) or token.cluster != cluster or token.term != role.reign.term:
            return
        if token.lsn > role.end.lsn:
            facts: dict[str, object] = {"lsn": token.lsn, "term": token.term, "head": role.end.lsn}
            text = f"the token says LSN {token.lsn} of term {token.term}, whose log ends at {role.end.lsn}"
            raise RequestInvalid(text, hint="take the token of a receipt as it is", facts=facts)

    def _history(self) -> History:
        """By the state alone: while a snapshot takes its place, the log is still that of the one before."""
        storage, state = self._node.storage, self._node.storage.state
        applied = state.applied.lsn  # before the terms, which are never behind it
        return History(ClusterId(storage.meta.cluster), applied, state.terms)

"""What an operator hears of a node's course, good news and bad: whom it follows, who has joined or is gone.

It looks at frozen statuses a few times a second and tells what changed since: what came and went between two
looks is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.log_config import Level
from cluster.replica import ReplicaStatus, State
from redwire.position import Lsn, NodeId, Term
from regions.status import MemberStatus

News = tuple[str, Level]


class Milestones:
    """The news since the last look. Each fact is told once until it is over.

    Whoever begins to follow has caught up when it has applied what was the log's end at that moment: under
    load nobody ever stands at the very end.
    """

    def __init__(self) -> None:
        self._source: tuple[NodeId, Term] | None = None
        self._goal: Lsn | None = None
        self._joined: set[NodeId] = set()
        self._goals: dict[NodeId, Lsn] = {}

    def leading(self, members: Sequence[MemberStatus], me: NodeId, head: Lsn) -> list[News]:
        """What is new while this node leads; `members` are the rows of its ack table, `head` ends its log."""
        self._source = self._goal = None
        return [news for row in members if row.id != me for news in self._member(row, head)]

    def following(self, status: ReplicaStatus, *, leads: bool) -> list[News]:
        """What is new while this node follows, or looks for whom to follow; `leads`: its source does."""
        self._joined.clear()
        self._goals.clear()
        return list(self._follower(status, leads))

    def _member(self, row: MemberStatus, head: Lsn) -> Iterator[News]:
        streams = row.connected and row.streaming
        if streams and row.id not in self._joined:
            self._joined.add(row.id)
            self._goals[row.id] = head
            yield f"{row.id} has joined: its log is proven up to LSN {row.matched}", Level.INFO
        elif not streams and row.id in self._joined:
            self._joined.discard(row.id)
            self._goals.pop(row.id, None)
            why = "its connection has ended" if not row.connected else "it takes the log no more"
            yield f"{row.id} is gone: {why}; it holds LSN {row.durable}", Level.WARNING
        if row.applied >= self._goals.get(row.id, row.applied + 1):
            del self._goals[row.id]
            yield f"{row.id} has caught up at LSN {row.applied}", Level.INFO

    def _follower(self, status: ReplicaStatus, leads: bool) -> Iterator[News]:
        source = _followed(status) if leads else None
        if source != self._source:
            if self._source is not None:
                yield f"follows {self._source[0]} no more, at LSN {status.end}", Level.WARNING
            self._source = source
            self._goal = status.source_head if source is not None else None
            if source is not None:
                yield f"follows {source[0]} in term {source[1]} from LSN {status.end + 1} on", Level.INFO
        if source is not None and self._goal is not None and status.applied >= self._goal:
            self._goal = None
            yield f"has caught up with {source[0]} at LSN {status.applied}", Level.INFO


def _followed(status: ReplicaStatus) -> tuple[NodeId, Term] | None:
    if status.state is not State.FOLLOWING or status.source is None or status.reign is None:
        return None
    return status.source, status.reign.term

"""What an operator hears of a node's course, good news and bad: whom it follows, who has joined or is gone.

It looks at frozen statuses a few times a second and tells what changed since. Sessions have numbers that are
never used again, so one that broke and came back between two looks is told as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cluster.events import EventKind
from cluster.replica import FollowerState, ReplicaStatus
from redwire.position import Lsn, NodeId, Term
from regions.status import MemberStatus

News = tuple[EventKind, str]


class Milestones:
    """The news since the last look. Each fact is told once until it is over.

    Whoever begins to follow has caught up when it has applied what was the log's end at that moment: under
    load nobody ever stands at the very end.
    """

    def __init__(self) -> None:
        self._source: tuple[NodeId, Term, int] | None = None
        self._goal: Lsn | None = None
        self._joined: dict[NodeId, int] = {}
        self._goals: dict[NodeId, Lsn] = {}

    def leading(
        self, members: Sequence[MemberStatus], sessions: Mapping[NodeId, int], head: Lsn
    ) -> list[News]:
        """What is new while this node leads; `members` are the rows of its ack table, `head` ends its log.

        `sessions` has the number of the session over which each follower takes the log.
        """
        self._source = self._goal = None
        return [news for row in members for news in self._member(row, sessions.get(row.id), head)]

    def following(self, status: ReplicaStatus, session: int | None, *, leads: bool) -> list[News]:
        """What is new while this node follows over `session`, or looks for whom to follow; `leads`: its
        source does.
        """
        self._joined.clear()
        self._goals.clear()
        return list(self._follower(status, session, leads))

    def _member(self, row: MemberStatus, session: int | None, head: Lsn) -> Iterator[News]:
        now = session if row.connected and row.streaming else None
        before = self._joined.get(row.id)
        if before is not None and now != before:
            del self._joined[row.id]
            self._goals.pop(row.id, None)
            why = "its connection has ended" if session != before else "it takes the log no more"
            holds = f"; it holds LSN {row.durable}" if now is None else ""  # else that is of the new session
            yield EventKind.MEMBER_LEFT, f"{row.id} is gone: {why}{holds}"
        if now is not None and now != before:
            self._joined[row.id] = now
            self._goals[row.id] = head
            yield EventKind.MEMBER_JOINED, f"{row.id} has joined: its log is proven up to LSN {row.matched}"
        if row.applied >= self._goals.get(row.id, row.applied + 1):
            del self._goals[row.id]
            yield EventKind.MEMBER_CAUGHT_UP, f"{row.id} has caught up at LSN {row.applied}"

    def _follower(self, status: ReplicaStatus, session: int | None, leads: bool) -> Iterator[News]:
        source = _followed(status, session) if leads else None
        if source != self._source:
            if self._source is not None:
                text = f"follows {self._source[0]} no more, at LSN {status.end}"
                yield EventKind.FOLLOWS_NO_MORE, text
            self._source = source
            self._goal = status.source_head if source is not None else None
            if source is not None:
                text = f"follows {source[0]} in term {source[1]} from LSN {status.end + 1} on"
                yield EventKind.FOLLOWS, text
        if source is not None and self._goal is not None and status.applied >= self._goal:
            self._goal = None
            yield EventKind.CAUGHT_UP, f"has caught up with {source[0]} at LSN {status.applied}"


def _followed(status: ReplicaStatus, session: int | None) -> tuple[NodeId, Term, int] | None:
    if status.state is not FollowerState.FOLLOWING or status.source is None:
        return None
    if status.reign is None or session is None:
        return None
    return status.source, status.reign.term, session

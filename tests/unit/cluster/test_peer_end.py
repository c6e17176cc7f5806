"""This side of a session with a member: what leaves at once, and what leaves together."""

from __future__ import annotations

from typing import Any, cast

from cluster.peer_end import ChannelEnd
from redwire.position import NodeId
from redwire.record import Op, Record
from redwire.stream import Channel


class Line:
    """A channel that writes down which of its writes were to leave now."""

    def __init__(self) -> None:
        self.now: list[bool] = []

    def write(self, *chunks: bytes, urgent: bool = False, now: bool = False) -> None:
        self.now.append(now)


def test_a_young_batch_leaves_now_and_many_that_catch_a_follower_up_leave_together(written_log: Any) -> None:
    batches = [written_log.write(Record(Op.DELETE, "orders", ident)) for ident in "abc"]
    line = Line()
    end = ChannelEnd(NodeId("us-1"), cast(Channel, line))
    end.take(batches[:1])
    end.take(batches)
    assert line.now == [True, False, False, False]

"""What a node makes of a member's refusal to give it its log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.effects import Rebuild
from cluster.peers import PeerSession
from cluster.replica import FollowerState, Replica
from redwire.errors import Code, Refused
from redwire.position import EMPTY, Lsn, NodeId, Position, Term

NEEDED = Refused(Code.SNAPSHOT_NEEDED, "the log is kept from LSN 6")
GROWN = Position(Term(1), Lsn(3), bytes(16))


@pytest.mark.parametrize(
    ("state", "end", "taken"),
    [
        (FollowerState.SEARCHING, EMPTY, [Rebuild(7, NEEDED.message, diverged=False)]),
        (FollowerState.SEARCHING, GROWN, []),
        (FollowerState.SETTLING, EMPTY, []),
        (FollowerState.FOLLOWING, EMPTY, []),
    ],
)
def test_a_snapshot_is_taken_where_nobody_else_has_answered_and_the_log_is_what_it_was(
    state: FollowerState, end: Position, taken: list[Rebuild]
) -> None:
    """What came from another one meanwhile was acked to him, and he counts it."""
    role = Replica(None, EMPTY, Lsn(0), Lsn(0), Lsn(0))
    asked, sent = list[Rebuild](), list[bytes]()
    node: Any = SimpleNamespace(
        role=role,
        roster=SimpleNamespace(attach=lambda end, dialled: 7),
        storage=SimpleNamespace(log=role),
        outbox=SimpleNamespace(rebuild=asked.append),
        report=lambda: None,
    )
    channel = SimpleNamespace(write=lambda header, *_, **__: sent.append(header))
    dialled: Any = SimpleNamespace(channel=channel)
    session = PeerSession(node, NodeId("us-1"), dialled, lambda: None)
    session.follow()
    role.state, role.end = state, end
    session._failed(NEEDED)
    assert asked == taken
    session.follow()
    assert len(sent) == 2, "it may be asked again over the same line"

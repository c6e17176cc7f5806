"""What a node asks a member for, and what it makes of the member's refusal to give it its log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from cluster.effects import Now, Rebuild
from cluster.inbox import Inbox
from cluster.node import Node
from cluster.peers import PeerSession
from cluster.primary import BEAT_MS
from cluster.replica import FollowerState, Replica
from cluster.storage import Storage
from redwire.body import encode
from redwire.errors import Code, Refused
from redwire.frame import Frame, Kind
from redwire.message.peer import Following
from redwire.node_role import NodeRole
from redwire.position import EMPTY, Lsn, NodeId, Position, Term
from tests.reports import report

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
        roster=SimpleNamespace(
            attach=lambda end, dialled: 7, reports={"us-1": report("us-1", lsn=9, term=1)}
        ),
        storage=SimpleNamespace(log=role),
        outbox=SimpleNamespace(rebuild=asked.append),
        inbox=Inbox(),
        report=lambda: report("eu-1"),
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


@pytest.mark.parametrize("given_up", [False, True])
def test_no_snapshot_takes_the_place_of_what_only_this_node_knows_committed_unless_that_was_given_up(
    given_up: bool,
) -> None:
    """Its LSN may be far above ours, when the log that both share has long been dropped there."""
    role = Replica(None, GROWN, Lsn(3), Lsn(3), Lsn(3))
    asked = list[Rebuild]()
    mine = report("eu-1", lsn=3, term=1, primary="eu-1", watermark=3, terms=((1, 1, 0),))
    terms, without = ((1, 1, 0), (2, 3, 0)), (("eu-1", 2),) if given_up else ()
    theirs = report("us-1", lsn=900, term=2, primary="us-1", base=700, terms=terms, without=without)
    node: Any = SimpleNamespace(
        role=role,
        roster=SimpleNamespace(attach=lambda end, dialled: 7, reports={"us-1": theirs}),
        storage=SimpleNamespace(log=role),
        outbox=SimpleNamespace(rebuild=asked.append),
        inbox=Inbox(),
        report=lambda: mine,
    )
    dialled: Any = SimpleNamespace(channel=SimpleNamespace(write=lambda header, *_, **__: None))
    session = PeerSession(node, NodeId("us-1"), dialled, lambda: None)
    session.follow()
    if given_up:
        session._failed(NEEDED)
        assert asked == [Rebuild(7, NEEDED.message, diverged=True, given_up=True)]
    else:
        with pytest.raises(Refused, match="lacks some of what is known committed here up to LSN 3"):
            session._failed(NEEDED)
        assert asked == []


@pytest.mark.anyio
async def test_who_has_answered_is_not_asked_again_before_that_is_heard(storage: Storage) -> None:
    """Its second answer would end the session over which it is followed since the first one; and its word
    comes behind its answer, in the same bytes, where it was greeted meanwhile.
    """
    leader, sent = NodeId("us-1"), list[bytes]()
    role = Replica(None, EMPTY, Lsn(0), Lsn(0), Lsn(0))
    node = Node(storage, role, lambda: Now(1_000_000, 1_000), lambda *_: None)
    channel = SimpleNamespace(write=lambda header, *_, **__: sent.append(header))
    dialled: Any = SimpleNamespace(channel=channel)
    session = PeerSession(node, leader, dialled, lambda: None)
    lines: Any = SimpleNamespace(follow=lambda member: session.follow())
    node.roster.lines = lines
    word = replace(node.report(), node=leader, role=NodeRole.PRIMARY, term=1, primary=leader)
    answer = Following(
        term=1,
        primary=leader,
        leads=True,
        common_term=0,
        common_lsn=0,
        common_chain=EMPTY.chain,
        head=0,
        watermark=0,
    )
    for kind, body in ((Kind.PEER_WELCOME, word), (Kind.FOLLOWING, answer), (Kind.PEER_WELCOME, word)):
        await session._take(Frame(kind, 0, 0, 0, encode(body)))
    asked = [header for header in sent if header[4] == Kind.FOLLOW]
    assert len(asked) == 1
    node._turn()
    assert role.session == session.number


@pytest.mark.anyio
async def test_whose_disk_is_behind_says_that_he_is_there_as_often_as_heartbeats_would_ask() -> None:
    """Until then he reads none, and `replica_timeout_ms` may be as short as a second."""

    async def nothing() -> list[Frame]:
        return []

    words = list[object]()
    journal = SimpleNamespace(behind=True, keeping_up=anyio.sleep_forever)
    role = Replica(None, EMPTY, Lsn(0), Lsn(0), Lsn(0))
    node: Any = SimpleNamespace(
        inbox=SimpleNamespace(post=words.append),
        outbox=None,
        role=role,
        roster=SimpleNamespace(attach=lambda end, dialled: 7),
        storage=SimpleNamespace(journal=journal, log=role),
    )
    dialled: Any = SimpleNamespace(channel=None, receive=nothing)
    session = PeerSession(node, NodeId("us-1"), dialled, lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PeerSession, "_followed", True)
        with anyio.move_on_after(2.5 * BEAT_MS / 1000):
            await session._listen()
    assert len(words) == 3, "with what came, and twice while the disk kept it"

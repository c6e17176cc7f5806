"""Whom a node asks, and when, as others tell it where they stand."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from cluster.effects import Now, Rebuild, SourceFound, Stood
from cluster.node import Node
from cluster.opening import Bootstrap
from cluster.rebuild import Rebuilder
from cluster.reign import Candidate
from cluster.replica import FollowerState, Replica
from cluster.storage import Storage
from redwire.errors import NotPrimary
from redwire.message.peer import Following
from redwire.node_role import NodeRole
from redwire.position import EMPTY, ClusterId, Lsn, NodeId, Reign, Term

LEADER = NodeId("us-1")
NOW = Now(1_000_000, 1_000)


@pytest.fixture
def node(storage: Storage) -> Node:
    return following(storage)


def following(storage: Storage) -> Node:
    """A replica with an empty data directory, which follows nobody."""
    log = storage.log
    role = Replica(storage.reign, log.end, log.durable, Lsn(0), Lsn(0))
    return Node(storage, role, lambda: NOW, lambda *_: None)


class Recorded:
    """Lines that remember what they were asked to do."""

    def __init__(self) -> None:
        self.followed: list[NodeId] = []
        self.greeted: list[NodeId | None] = []

    def follow(self, member: NodeId) -> None:
        self.followed.append(member)

    def greet(self, member: NodeId | None) -> None:
        self.greeted.append(member)

    def told(self, member: NodeId, reached_at: str) -> None:
        pass

    def met(self, member: NodeId) -> None:
        raise AssertionError(f"{member} has not dialled")


def told(node: Node, role: str, term: int = 1) -> Any:
    return replace(node.report(), node=LEADER, role=role, term=term, primary=LEADER)


@pytest.mark.parametrize(
    ("role", "asked"),
    [
        (NodeRole.PRIMARY, [LEADER]),
        (NodeRole.REPLICA, []),
        (NodeRole.OPENING, []),
        ("of a newer version", []),
    ],
)
def test_a_node_that_looks_for_the_primary_asks_at_once_who_says_that_it_leads(node, role, asked):
    node.roster.lines = lines = Recorded()
    node.greeted(told(node, role))
    assert lines.greeted == asked


def test_a_node_that_follows_asks_nobody(node):
    node.roster.lines = lines = Recorded()
    node.heard(told(node, NodeRole.PRIMARY))
    node.role.state = FollowerState.FOLLOWING
    node.greeted(told(node, NodeRole.PRIMARY, term=2))
    assert (lines.followed, lines.greeted) == ([LEADER], [])


@pytest.mark.anyio
async def test_a_reign_ends_at_the_report_that_proves_it_over_not_a_turn_later(open_storage):
    """What is committed by then would end the other reign as well."""
    with closing(open_storage(asyncio.get_running_loop().call_soon_threadsafe)) as storage:
        node = following(storage)
        candidate = Candidate(node, storage.config, random.Random(1), take_over=None)
        await candidate._open(Term(1), candidate._new_cluster({storage.me: storage.meta.incarnation}))
        assert node.leads
        node.heard(told(node, NodeRole.PRIMARY, term=1))
        assert node.leads
        node.heard(told(node, NodeRole.PRIMARY, term=2))
        assert not node.leads


@pytest.mark.anyio
async def test_what_is_known_committed_stays_known_in_a_reign_and_behind_it(open_storage):
    """Its own disk was the last to have it, and whoever told of it was gone by then: nothing was applied."""
    with closing(open_storage(asyncio.get_running_loop().call_soon_threadsafe)) as storage:
        node = following(storage)
        candidate = Candidate(node, storage.config, random.Random(1), take_over=None)
        await candidate._open(Term(1), candidate._new_cluster({storage.me: storage.meta.incarnation}))
        node.end_reign(NotPrimary("another one does"))
        assert (node.role.watermark, node.outbox.apply.through) == (0, 0)
        node.role.watermark = storage.log.end.lsn
        await candidate._open(Term(2), None)
        assert (node.role.watermark, node.outbox.apply.through) == (2, 2)
        node.end_reign(NotPrimary("another one does"))
        assert node.role.watermark == 2, "no source that lacks it is followed (R5)"


@pytest.mark.anyio
async def test_a_new_cluster_that_was_lost_with_the_power_is_begun_again_under_its_name_in_a_newer_term(
    open_storage, monkeypatch
):
    """Its reign was on the disk and its first records were not; others may have heard of both."""
    with closing(open_storage(asyncio.get_running_loop().call_soon_threadsafe)) as storage:
        candidate = Candidate(following(storage), storage.config, random.Random(1), take_over=None)
        await storage.begin_reign(Term(1), ClusterId("c" * 32))
        bootstrap = Bootstrap({storage.me: storage.meta.incarnation})

        async def opening(candidate):
            return SimpleNamespace(decide=lambda *_: bootstrap)

        monkeypatch.setattr(Candidate, "_opening", opening)
        await candidate.run()
        primary = candidate._node.role
        assert primary.reign == Reign(Term(2), storage.me) == storage.reign
        assert primary.record.cluster == storage.meta.cluster == "c" * 32


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("leads", "aspires", "followed"),
    [(True, False, True), (True, True, True), (False, True, True), (False, False, False)],
)
async def test_who_leads_no_more_is_followed_only_on_the_way_to_lead(node, leads, aspires, followed):
    """It passes on what it follows itself: its follower hears enough to stay, and is counted by nobody."""
    node.roster.candidacy.aspires = aspires
    await answered(node, leads=leads)
    assert node.role.searching is not followed


@pytest.mark.anyio
@pytest.mark.parametrize("busy", ["a snapshot comes", "a snapshot is installed", "its own reign opens"])
async def test_an_answer_that_comes_while_state_or_log_change_hands_is_nobody_to_follow(node, busy):
    """Several may have been asked at once: what this one sends would be appended to a log that gives way."""
    match busy:
        case "a snapshot comes":
            node.roster.fetching = 7
        case "a snapshot is installed":
            node.roster.installing = True
        case _:
            node.roster.candidacy.aspires = node.roster.candidacy.opens = True
    await answered(node, leads=True)
    assert node.role.searching


@pytest.mark.parametrize(
    ("about", "role", "leader", "lender", "votes", "snapshot"),
    [
        ("", NodeRole.REPLICA, True, False, True, True),
        ("aspires", NodeRole.OPENING, True, True, False, True),
        ("aspires opens", NodeRole.OPENING, False, False, False, False),
        ("fetching", NodeRole.REBUILDING, False, False, False, False),
        ("installing", NodeRole.REBUILDING, False, False, False, False),
        ("aspires fetching", NodeRole.OPENING, False, False, False, False),
        ("aspires installing", NodeRole.OPENING, False, False, False, False),
    ],
)
def test_what_may_happen_to_a_log_goes_by_what_the_node_is_about(
    node, about, role, leader, lender, votes, snapshot
):
    """As the table of `cluster.roster` has it."""
    roster = node.roster
    for flag in about.split():
        setattr(roster if flag in ("fetching", "installing") else roster.candidacy, flag, True)
    assert node.role_name is role
    assert (roster.may_follow(leads=True), roster.may_follow(leads=False)) == (leader, lender)
    node.greeted(replace(told(node, NodeRole.OPENING), stands=3))
    assert node.inbox.events() == [Stood(Reign(Term(3), LEADER))] * votes
    taken: list[Any] = []
    links: Any = SimpleNamespace(session=lambda number: SimpleNamespace(rebuild=taken.append))
    (node.storage.data_dir / "snapshots").mkdir()
    Rebuilder(node, links).begin(Rebuild(8, "its log is kept from later on", diverged=False))
    assert len(taken) == snapshot


async def answered(node: Node, *, leads: bool) -> None:
    """Another member answers with its log."""
    reply = Following(
        term=1,
        primary=LEADER,
        leads=leads,
        common_term=0,
        common_lsn=0,
        common_chain=EMPTY.chain,
        head=0,
        watermark=0,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.run)
        node.inbox.post(SourceFound(LEADER, 1, reply, EMPTY, EMPTY))
        await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()

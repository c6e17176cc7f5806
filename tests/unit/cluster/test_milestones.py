"""News of a node's course: each fact once, good and bad."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cluster.events import EventKind
from cluster.milestones import Milestones
from cluster.replica import FollowerState, ReplicaStatus
from redwire.position import Lsn, NodeId, Region, Reign, Term
from regions.binding import MemberKind
from regions.lag import CaughtUp, Health
from regions.status import MemberStatus

ME = NodeId("eu-1")
GONE = MemberStatus(
    id=NodeId("us-1"),
    region=Region("us"),
    kind=MemberKind.VOTER,
    connected=False,
    streaming=False,
    uncounted="",
    incarnation=None,
    received=Lsn(0),
    durable=Lsn(7),
    applied=Lsn(5),
    matched=Lsn(7),
    acked_ms=None,
    lag=CaughtUp(),
    health=Health(True),
)
THERE = replace(GONE, connected=True, streaming=True)
OWN = replace(THERE, id=ME)
ALONE = ReplicaStatus(FollowerState.SEARCHING, None, None, Lsn(7), Lsn(7), Lsn(5), Lsn(5), Lsn(0))
FOLLOWS = replace(
    ALONE,
    state=FollowerState.FOLLOWING,
    reign=Reign(Term(3), NodeId("us-1")),
    source=NodeId("us-1"),
    source_head=Lsn(9),
)


@pytest.fixture
def milestones() -> Milestones:
    return Milestones()


def lead(milestones: Milestones, *rows: MemberStatus, head: int = 9, session: int | None = 1) -> list[str]:
    sessions = {row.id: session for row in rows if session is not None}
    return [text for _, text in milestones.leading((OWN, *rows), sessions, Lsn(head))]


def follow(
    milestones: Milestones, status: ReplicaStatus, *, leads: bool = True, session: int | None = 1
) -> list[str]:
    return [text for _, text in milestones.following(status, session, leads=leads)]


def test_a_session_that_broke_and_came_back_between_two_looks_is_told(milestones):
    lead(milestones, THERE, head=5)
    assert lead(milestones, THERE, head=5, session=2) == [
        "us-1 is gone: its connection has ended",
        "us-1 has joined: its log is proven up to LSN 7",
        "us-1 has caught up at LSN 5",
    ]
    follow(milestones, FOLLOWS)
    assert follow(milestones, FOLLOWS, session=2) == [
        "follows us-1 no more, at LSN 7",
        "follows us-1 in term 3 from LSN 8 on",
    ]


def test_who_joins_catches_up_and_goes_is_told_once_each(milestones):
    assert lead(milestones, GONE) == []
    assert lead(milestones, THERE) == ["us-1 has joined: its log is proven up to LSN 7"]
    assert lead(milestones, THERE) == []
    assert lead(milestones, replace(THERE, applied=Lsn(9)), head=50) == ["us-1 has caught up at LSN 9"]
    assert lead(milestones, replace(THERE, applied=Lsn(50)), head=50) == []
    gone = "us-1 is gone: its connection has ended; it holds LSN 7"
    assert milestones.leading((OWN, GONE), {}, Lsn(9)) == [(EventKind.MEMBER_LEFT, gone)]
    assert lead(milestones, GONE, session=None) == []
    assert lead(milestones, THERE) == ["us-1 has joined: its log is proven up to LSN 7"]


def test_who_is_connected_and_takes_no_log_has_not_joined(milestones):
    silent = replace(THERE, streaming=False)
    assert lead(milestones, silent) == []
    lead(milestones, THERE)
    assert lead(milestones, silent) == ["us-1 is gone: it takes the log no more; it holds LSN 7"]


def test_whoever_needs_nothing_has_caught_up_when_it_joins(milestones):
    joined = lead(milestones, THERE, head=5)
    assert joined == ["us-1 has joined: its log is proven up to LSN 7", "us-1 has caught up at LSN 5"]


def test_whom_a_node_follows_is_told_once_and_so_is_the_end_of_it(milestones):
    assert follow(milestones, ALONE) == []
    assert follow(milestones, FOLLOWS) == ["follows us-1 in term 3 from LSN 8 on"]
    assert follow(milestones, replace(FOLLOWS, source_head=Lsn(20), applied=Lsn(8))) == []
    level = replace(FOLLOWS, source_head=Lsn(20), applied=Lsn(9))
    assert follow(milestones, level) == ["has caught up with us-1 at LSN 9"]
    assert follow(milestones, level) == []
    assert milestones.following(ALONE, None, leads=False) == [
        (EventKind.FOLLOWS_NO_MORE, "follows us-1 no more, at LSN 7")
    ]
    assert follow(milestones, ALONE) == []


def test_a_new_term_of_the_same_primary_is_news(milestones):
    follow(milestones, FOLLOWS)
    anew = replace(FOLLOWS, reign=Reign(Term(4), NodeId("us-1")))
    assert follow(milestones, anew) == [
        "follows us-1 no more, at LSN 7",
        "follows us-1 in term 4 from LSN 8 on",
    ]


def test_a_source_that_only_lends_its_log_is_not_followed(milestones):
    assert follow(milestones, FOLLOWS, leads=False) == []


@pytest.mark.parametrize("lacking", [{"source": None}, {"reign": None}, {"state": FollowerState.SETTLING}])
def test_who_has_not_begun_to_follow_says_nothing(milestones, lacking):
    assert follow(milestones, replace(FOLLOWS, **lacking)) == []


def test_a_change_of_role_begins_anew(milestones):
    lead(milestones, THERE)
    assert follow(milestones, FOLLOWS) == ["follows us-1 in term 3 from LSN 8 on"]
    assert lead(milestones, THERE) == ["us-1 has joined: its log is proven up to LSN 7"]
    assert follow(milestones, FOLLOWS) == ["follows us-1 in term 3 from LSN 8 on"]

"""Who is who among the sessions of a node."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.roster import GONE_MS, TWIN_MS, TWIN_PAUSE_MS, Life, Roster
from redwire.position import Incarnation, Lsn, NodeId, Position, Reign, Term

HERE, ELSEWHERE = Incarnation("0a" * 16), Incarnation("0b" * 16)


class End:
    """One end of a session."""

    def __init__(self, node: str) -> None:
        self.node = NodeId(node)

    def send(self, kind: int, payload: bytes, *, urgent: bool = False, correlation: int = 0) -> None:
        raise AssertionError("nothing is sent")

    def drop(self, error: Any) -> None:
        raise AssertionError("nothing is dropped")


@pytest.fixture
def roster() -> Roster:
    return Roster()


def test_one_process_may_say_who_it_is_over_several_lines(roster: Roster) -> None:
    first, second = (roster.attach(End("us-1"), dialled=False) for _ in range(2))
    for session, ms in ((first, 0), (second, 10), (first, 20)):
        assert roster.claim(session, Life(HERE, "p", ms)) is None


@pytest.mark.parametrize("directory", [HERE, ELSEWHERE])
def test_of_two_processes_with_one_id_the_one_that_is_heard_stays(
    roster: Roster, directory: Incarnation
) -> None:
    first, second = (roster.attach(End("us-1"), dialled=False) for _ in range(2))
    mine, other = Life(HERE, "p", 0), Life(directory, "q", GONE_MS - 1)
    assert roster.claim(first, mine) is None
    assert roster.claim(second, other) == mine
    assert roster.claim(second, other._replace(heard_ms=GONE_MS)) is None
    assert roster.claim(first, mine._replace(heard_ms=GONE_MS + 1)) == other._replace(heard_ms=GONE_MS)


def test_a_process_whose_session_has_ended_stands_in_nobodys_way(roster: Roster) -> None:
    first, second = (roster.attach(End("us-1"), dialled=False) for _ in range(2))
    roster.claim(first, Life(HERE, "p", 0))
    roster.detach(first)
    assert roster.claim(second, Life(HERE, "q", 1)) is None


def test_two_members_are_two_processes(roster: Roster) -> None:
    first, second = (roster.attach(End(node), dialled=False) for node in ("us-1", "ap-1"))
    assert roster.claim(first, Life(HERE, "p", 0)) is None
    assert roster.claim(second, Life(ELSEWHERE, "q", 0)) is None


def test_another_process_has_our_id_when_the_primary_says_so_or_all_who_answer(
    roster: Roster, vital_report: Any
) -> None:
    eu, us, reign = NodeId("eu-1"), NodeId("us-1"), Reign(Term(1), NodeId("eu-1"))
    assert [roster.taken_ms(eu, None, now) for now in (5, 12)] == [0, 7]
    roster.reports[us] = vital_report("us-1")
    assert roster.taken_ms(eu, None, 30) == 0, "somebody takes us for the member"
    assert roster.taken_ms(eu, reign, 30) == 25, "the primary does not"
    assert [roster.taken_ms(us, reign, now) for now in (30, 90)] == [0, 0]
    del roster.taken[eu]
    assert roster.taken_ms(eu, reign, 100) == 0, "it was silent, or took us for the member, in between"


def test_a_second_process_is_told_of_once_when_it_does_not_give_up_and_again_after_a_pause(
    roster: Roster,
) -> None:
    us, twins = NodeId("us-1"), roster.twins

    def told(*times_ms: int) -> list[int]:
        return [now_ms for now_ms in times_ms if twins.refused(us, now_ms)]

    assert told(0, TWIN_MS - 1, TWIN_MS, TWIN_MS + 1) == [TWIN_MS]
    end_ms = TWIN_MS + 1 + TWIN_PAUSE_MS
    assert told(end_ms) == [], "no pause yet"
    assert told(end_ms + TWIN_PAUSE_MS + 1) == [], "who has just begun anew"
    again_ms = end_ms + TWIN_PAUSE_MS + 1 + TWIN_MS
    assert told(again_ms) == [], "two that started anew"
    assert told(again_ms + 1, again_ms + 2) == [again_ms + 1]
    assert not twins.refused(NodeId("ap-1"), end_ms), "each member by itself"


def said(node: str, follows: str, lsn: int, term: int = 3) -> Any:
    return SimpleNamespace(node=node, follows=follows, last_term=2, last_lsn=lsn, term=term)


def test_the_way_to_a_primary_that_nobody_here_knows_stands_in_the_log_of_who_follows_it(
    roster: Roster,
) -> None:
    end = Position(Term(2), Lsn(9), 0)

    def guide(*reports: Any) -> NodeId | None:
        roster.reports = {NodeId(report.node): report for report in reports}
        return roster.guide({"eu-1", "us-1"}.__contains__, end, Term(3))

    idle, known, young = said("eu-1", "", 20), said("eu-1", "us-1", 20), said("us-1", "ap-1", 9)
    assert guide(idle, young) is guide(known) is guide(said("us-1", "ap-1", 20, term=2)) is None
    assert guide(idle, said("us-1", "ap-1", 10)) == "us-1"


@pytest.mark.parametrize(
    ("leads", "guides", "may"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_a_mere_lender_is_followed_only_where_it_guides_or_on_the_way_to_lead(
    roster: Roster, leads: bool, guides: bool, may: bool
) -> None:
    assert roster.may_follow(leads=leads, guides=guides) is may
    roster.candidacy.aspires = True
    assert roster.may_follow(leads=leads, guides=guides)
    roster.installing = True
    assert not roster.may_follow(leads=leads, guides=guides)

"""What the reports of the members say together."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.heard import Heard
from redwire.message.peer import Report
from redwire.position import NodeId
from tests.reports import report, voted

MINE = report("b", lsn=10, term=3, primary="b", role="opening")


def heard(*others: Report, mine: Report = MINE) -> Heard:
    return Heard(mine, {NodeId(other.node): other for other in others})


def test_who_has_heard_nobody_knows_its_own_report() -> None:
    alone = heard()
    assert alone.everybody == (MINE,)
    assert (alone.leader, alone.follower, alone.ahead, list(alone.as_long)) == (None, None, None, [])
    assert alone.longest is MINE and alone.led_last
    assert (alone.newest_term, alone.stood_term) == (3, 0)


def test_of_those_who_lead_the_one_with_the_newest_term_is_the_leader() -> None:
    older, newer = (report(node, lsn=5, term=term, role="primary") for node, term in (("a", 4), ("c", 5)))
    assert heard(older, newer).leader is newer


@pytest.mark.parametrize(
    ("fields", "follows"),
    [
        ({"term": 3, "follows": "c"}, True),
        ({"term": 2, "follows": "c"}, False),
        ({"term": 3, "follows": "b"}, False),
        ({"term": 3}, False),
    ],
)
def test_a_follower_follows_another_in_a_reign_that_is_no_older(
    fields: dict[str, Any], follows: bool
) -> None:
    other = report("a", lsn=10, **fields)
    assert heard(other).follower is (other if follows else None)


@pytest.mark.parametrize(
    ("other", "led_last"),
    [
        (report("a", lsn=10, term=3, primary="b"), True),
        (report("a", lsn=10, term=4, primary="c"), False),
        (report("a", lsn=10, term=4, primary="b"), True),
        (voted(report("a", lsn=10, term=3), 4, "c"), False),
        (voted(report("a", lsn=10, term=3), 4, "b"), True),
    ],
)
def test_nobody_led_since_unless_another_was_accepted_or_voted_for(other: Report, led_last: bool) -> None:
    assert heard(other).led_last is led_last


def test_the_log_of_the_newer_last_term_is_longer_and_ours_where_none_is() -> None:
    longer, shorter = report("a", lsn=9, term=4), report("c", lsn=11, term=2)
    assert heard(longer, shorter).longest is longer
    assert list(heard(longer, shorter).as_long) == [longer]
    same = report("a", lsn=10, term=3)
    assert heard(same).longest is MINE and list(heard(same).as_long) == [same]


def test_terms_are_told_apart_by_whom_the_votes_were_given() -> None:
    ours, away = voted(report("a", lsn=10, term=3), 7, "b"), voted(report("c", lsn=10, term=3), 5, "c")
    assert (heard(ours, away).newest_term, heard(ours, away).stood_term) == (5, 7)


def test_a_rival_was_told_to_lead_too_and_has_a_lesser_name() -> None:
    least, greater, replica = report("a", role="opening"), report("c", role="opening"), report("A")
    assert heard().rival([greater, least, replica]) == "a"
    assert heard().rival([greater, replica]) is None

"""Whether a reign of ours goes on: one table of what other members report."""

from __future__ import annotations

import msgspec
import pytest

from cluster.challenge import outbid, superseded
from redwire.errors import Code
from redwire.message.peer import REPORT_TERMS_MAX, Report
from tests.reports import report, voted

MINE = report("a", term=3, primary="a", role="primary", lsn=10, watermark=9, terms=((1, 1, 0), (3, 10, 0)))
"""Our reign, which begins at LSN 10. LSN 9 is known committed."""


def test_a_newer_reign_ends_ours() -> None:
    newer = report(
        "b", term=4, primary="b", role="primary", lsn=12, terms=((1, 1, 0), (3, 10, 0), (4, 12, 0))
    )
    for ready in (False, True):
        over = superseded(MINE, newer, ready=ready)
        assert over is not None and over.code is Code.STALE_TERM


def test_a_newer_reign_that_lacks_what_is_committed_here_ends_only_one_that_has_committed_nothing() -> None:
    newer = report("b", term=4, primary="b", role="primary", lsn=9, terms=((1, 1, 0), (2, 8, 0), (4, 9, 0)))
    assert superseded(MINE, newer, ready=True) is None
    assert superseded(MINE, newer, ready=False) is not None


@pytest.mark.parametrize("role", ["primary", "replica"])
def test_a_reign_that_has_committed_nothing_ends_where_somebody_knows_committed_what_it_lacks(role) -> None:
    other = report("b", term=2, primary="b", role=role, lsn=12, watermark=8, terms=((1, 1, 0), (2, 8, 0)))
    over = superseded(MINE, other, ready=False)
    assert over is not None and over.code is Code.PRIMARY_LACKS_COMMITTED
    assert superseded(MINE, msgspec.structs.replace(other, watermark=7), ready=False) is None
    far = tuple((1_000 + term, 20_000 + term, 0) for term in range(REPORT_TERMS_MAX))
    assert superseded(MINE, msgspec.structs.replace(other, terms=far), ready=False) is None, "untold"


def test_who_was_given_up_ends_no_reign_and_a_reign_that_was_given_up_is_over() -> None:
    """An operator had `b` begin term 4 without `a`, which knew LSN 9 committed."""
    terms = ((1, 1, 0), (2, 8, 0), (4, 9, 0))
    newer = report("b", term=4, primary="b", role="primary", lsn=9, watermark=9, terms=terms)
    without = msgspec.structs.replace(newer, without=(("a", 4),))
    over = superseded(MINE, without, ready=True)
    assert over is not None and over.code is Code.STALE_TERM
    assert superseded(MINE, msgspec.structs.replace(newer, without=(("a", 3), ("c", 4))), ready=True) is None
    back = msgspec.structs.replace(MINE, role="replica")
    assert superseded(newer, back, ready=False) is not None
    assert superseded(without, back, ready=False) is None
    since = report("a", term=4, primary="b", lsn=12, watermark=12, terms=terms)
    assert superseded(without, since, ready=False) is not None, "it has followed that reign since"


def test_a_reign_that_was_given_up_is_over_however_often_it_began_anew_unless_it_gave_up_the_other_too() -> (
    None
):
    terms = ((1, 1, 0), (2, 8, 0), (4, 9, 0))
    other = report(
        "b", term=4, primary="b", role="primary", lsn=9, watermark=9, terms=terms, without=(("a", 4),)
    )
    again = msgspec.structs.replace(MINE, term=9, last_term=9, terms=((1, 1, 0), (3, 10, 0), (9, 11, 0)))
    assert superseded(again, other, ready=True) is not None
    assert superseded(other, again, ready=True) is None
    both = msgspec.structs.replace(again, without=(("b", 9),))
    assert superseded(both, other, ready=True) is superseded(other, both, ready=True) is None
    same = msgspec.structs.replace(again, terms=((1, 1, 0), (3, 10, 0), (4, 11, 7)))
    assert superseded(same, other, ready=True) is not None, "a term 4 of its own"


def test_a_member_that_is_free_and_knows_a_newer_term_outbids_our_reign() -> None:
    void, ours = report("b", lsn=6, term=MINE.term + 2, primary="b"), {"term": MINE.term, "primary": "a"}
    for ready in (False, True):
        assert outbid(MINE, void, ready=ready)
        newer = voted(msgspec.structs.replace(void, **ours), MINE.term + 1, "c")
        assert outbid(MINE, newer, ready=ready)
        for over in (ours, {"follows": "c"}, {"role": "primary"}, {"role": "opening"}):
            assert not outbid(MINE, msgspec.structs.replace(void, **over), ready=ready)


@pytest.mark.parametrize("twin", ["vote", "reign"])
def test_a_member_that_has_our_term_from_another_primary_outbids_us_until_we_have_committed_something(
    twin: str,
) -> None:
    """A reign that has settled is accepted beside a vote or a void reign of the same term."""
    other = report("b", lsn=6, term=MINE.term, primary="b")
    if twin == "vote":
        other = voted(report("b", lsn=6, term=MINE.term - 1, primary="a"), MINE.term, "c")
    assert outbid(MINE, other, ready=False)
    assert not outbid(MINE, other, ready=True)
    assert not outbid(MINE, msgspec.structs.replace(other, follows="c"), ready=False)
    assert not outbid(MINE, voted(report("b", term=MINE.term, primary="a"), MINE.term), ready=False)


def test_of_two_reigns_of_one_term_the_one_that_has_committed_nothing_ends() -> None:
    other = report(
        "b", term=3, primary="b", role="primary", lsn=10, watermark=10, terms=((1, 1, 0), (3, 10, 0))
    )
    over = superseded(MINE, other, ready=False)
    assert over is not None and over.code is Code.TERM_TAKEN
    assert superseded(MINE, other, ready=True) is None
    assert superseded(MINE, msgspec.structs.replace(other, watermark=9), ready=False) is None


def test_of_two_reigns_of_one_term_that_have_both_committed_nothing_the_one_of_the_lesser_name_goes_on() -> (
    None
):
    terms = ((1, 1, 0), (3, 10, 7))
    theirs = report("b", term=3, primary="b", role="primary", lsn=10, watermark=9, terms=terms)
    over = superseded(theirs, MINE, ready=False)
    assert over is not None and over.code is Code.TERM_TAKEN and "neither has committed" in over.message
    assert superseded(MINE, theirs, ready=False) is None
    begun = msgspec.structs.replace(theirs, watermark=10)
    assert superseded(begun, MINE, ready=False) is None, "committed, and not applied yet"


def test_what_was_committed_in_another_reign_of_the_same_term_and_place_is_lacking() -> None:
    """Both began term 3 at LSN 10; the marks tell them apart."""
    theirs = report("b", lsn=12, term=3, primary="b", watermark=11, terms=((1, 1, 0), (3, 10, 7)))
    over = superseded(MINE, theirs, ready=False)
    assert over is not None and over.code is Code.PRIMARY_LACKS_COMMITTED
    same = msgspec.structs.replace(theirs, terms=MINE.terms, watermark=10)
    assert superseded(MINE, same, ready=False) is None


@pytest.mark.parametrize(
    "other",
    [
        report("b", term=2, primary="b", role="primary"),
        report("b", term=3, primary="b", role="primary"),
        report("b", term=3, primary="a", lsn=10, watermark=10, terms=((1, 1, 0), (3, 10, 0))),
        report("b", term=4, primary="c"),
        report("b"),
    ],
    ids=["older", "of the same term", "a follower of ours", "newer, but nobody leads it", "none"],
)
def test_a_reign_outlives_what_others_report_of_reigns_that_are(other: Report) -> None:
    assert superseded(MINE, other, ready=False) is None

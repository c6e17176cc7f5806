"""Where two logs part and how the follower goes on: one table of logs and verdicts (R4)."""

from __future__ import annotations

import pytest

from cluster.catchup import (
    REPLAY_RECORDS_MAX,
    STREAMING_RECORDS,
    Common,
    SnapshotNeeded,
    is_streaming,
    plan,
)
from redwire.errors import Code, Refused
from redwire.message.peer import REPORT_TERMS_MAX, Report, report_terms
from redwire.position import EMPTY, Lsn, Position, Term, TermEntry, TermList

CLUSTER = "c" * 32


def report(lsn: int, *terms: tuple[int, int], cluster: str = CLUSTER) -> Report:
    """A follower whose log ends at `lsn`, and of which `terms` say (term, first LSN)."""
    return Report(
        cluster=cluster,
        name="shop",
        node="us-1",
        region="us",
        incarnation="a" * 32,
        process="0c" * 16,
        role="replica",
        term=terms[-1][0] if terms else 0,
        primary="eu-1" if terms else "",
        last_term=terms[-1][0] if terms else 0,
        last_lsn=lsn,
        last_chain=bytes(16),
        watermark=0,
        applied=0,
        base=0,
        terms=tuple((term, first, 0) for term, first in terms),
    )


def planned(follower: Report, end: int, *terms: tuple[int, int], base: int = 0):
    ours = TermList(tuple(TermEntry(Term(term), Lsn(first), 0) for term, first in terms))
    last = Position(ours.term_at(Lsn(end)), Lsn(end), b"e" * 16) if end else EMPTY
    begin = Position(ours.term_at(Lsn(base)), Lsn(base), b"b" * 16) if base else EMPTY
    return plan(follower, CLUSTER, ours, last, begin)


OURS = ((1, 1), (3, 11), (4, 21))  # of a log that ends at 30


@pytest.mark.parametrize(
    ("lsn", "terms", "common"),
    [
        pytest.param(0, (), 0, id="empty"),
        pytest.param(5, ((1, 1),), 5, id="within the first term"),
        pytest.param(10, ((1, 1),), 10, id="at the end of a term"),
        pytest.param(20, ((1, 1), (3, 11)), 20, id="at the end of the next one"),
        pytest.param(30, OURS, 30, id="equal"),
        pytest.param(33, OURS, 30, id="longer in the last term"),
        pytest.param(12, ((1, 1),), 10, id="went on in a term that ended earlier here"),
        pytest.param(15, ((1, 1), (2, 8)), 7, id="another term follows the common one"),
        pytest.param(25, ((1, 1), (3, 11), (5, 23)), 20, id="a later term that we do not have"),
        pytest.param(9, ((2, 1),), 0, id="nothing in common"),
        pytest.param(9, ((1, 2),), 0, id="one term that begins elsewhere"),
    ],
)
def test_both_logs_agree_up_to_the_end_of_their_last_common_term(lsn, terms, common):
    assert planned(report(lsn, *terms), 30, *OURS) == Common(Lsn(common))


def test_two_empty_logs_agree_on_nothing():
    assert planned(report(0, cluster=""), 0) == Common(Lsn(0))


def test_our_empty_log_lends_nothing_to_a_longer_one():
    assert planned(report(30, *OURS), 0) == Common(Lsn(0))


@pytest.mark.parametrize(
    ("lsn", "base", "verdict"),
    [
        (20, 20, Common(Lsn(20))),
        (20, 0, Common(Lsn(20))),
        (19, 20, SnapshotNeeded("the log is kept from LSN 21, the follower needs it from 20")),
        (0, 20, SnapshotNeeded("the log is kept from LSN 21, the follower needs it from 1")),
    ],
)
def test_what_is_not_kept_any_more_comes_as_a_snapshot(lsn, base, verdict):
    follower = report(lsn, *(entry for entry in OURS if entry[1] <= lsn))
    assert planned(follower, 30, *OURS, base=base) == verdict


def test_a_tail_that_parts_below_what_is_kept_needs_a_snapshot_however_long_it_is():
    assert isinstance(planned(report(40, (1, 1), (2, 15)), 30, *OURS, base=20), SnapshotNeeded)


@pytest.mark.parametrize(
    ("end", "snapshot"), [(1, False), (REPLAY_RECORDS_MAX, False), (REPLAY_RECORDS_MAX + 1, True)]
)
def test_an_empty_follower_replays_a_short_history_and_skips_a_long_one(end, snapshot):
    assert isinstance(planned(report(0, cluster=""), end, (1, 1)), SnapshotNeeded if snapshot else Common)


def test_a_follower_that_holds_something_replays_any_length():
    assert planned(report(1, (1, 1)), 10 * REPLAY_RECORDS_MAX, (1, 1)) == Common(Lsn(1))


@pytest.mark.parametrize(
    ("cluster", "refused"), [("", False), (CLUSTER, False), ("d" * 32, True)], ids=["new", "ours", "other"]
)
def test_a_member_of_another_cluster_gets_nothing(cluster, refused):
    verdict = planned(report(5, (1, 1), cluster=cluster), 30, *OURS)
    if not refused:
        assert verdict == Common(Lsn(5))
        return
    assert isinstance(verdict, Refused)
    assert verdict.code is Code.OTHER_CLUSTER and not verdict.retry


def test_a_report_names_the_latest_terms_only_and_they_are_enough():
    every = [(number, number) for number in range(1, REPORT_TERMS_MAX + 500)]
    terms = TermList(tuple(TermEntry(Term(term), Lsn(first), 0) for term, first in every))
    told = [(term, first) for term, first, _ in report_terms(terms)]
    assert told == every[-REPORT_TERMS_MAX:]
    assert planned(report(told[-1][1], *told), 9_000, *every) == Common(Lsn(told[-1][1]))


@pytest.mark.parametrize(
    ("head", "durable", "streaming"),
    [
        (0, 0, True),
        (STREAMING_RECORDS, 0, True),
        (STREAMING_RECORDS + 1, 0, False),
        (STREAMING_RECORDS + 1, 1, True),
    ],
)
def test_a_follower_streams_while_it_is_near_the_head(head, durable, streaming):
    assert is_streaming(Lsn(head), Lsn(durable)) is streaming

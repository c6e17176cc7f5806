"""Following a longer log first: until it is here, or its owner is gone, or nothing comes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.pursuit import ASK_AGAIN_S, STALLED_S, Pursuit
from redwire.message.peer import Report
from redwire.position import Lsn, Position, Term

NOW_S = 50.0
Reporting = Callable[..., Report]


def at(term: int, lsn: int) -> Position:
    return Position(Term(term), Lsn(lsn), bytes(16))


def test_a_member_is_asked_at_once_and_again_when_it_had_time_to_answer() -> None:
    pursuit = Pursuit(NOW_S)
    assert pursuit.asks(NOW_S)
    assert not pursuit.asks(NOW_S + ASK_AGAIN_S)
    assert pursuit.asks(NOW_S + ASK_AGAIN_S + 0.1)
    assert not pursuit.asks(NOW_S + ASK_AGAIN_S + 0.2)


@pytest.mark.parametrize(
    ("end", "durable", "over"),
    [
        (at(1, 8), 8, False),
        (at(1, 9), 8, False),
        (at(1, 9), 9, True),
        (at(1, 10), 9, False),
        (at(1, 10), 10, True),
        (at(2, 3), 3, True),
    ],
    ids=["shorter", "not on disk", "as long", "more on its way", "longer", "a newer term"],
)
def test_it_is_over_once_a_log_as_long_is_on_disk(
    vital_report: Reporting, end: Position, durable: int, over: bool
) -> None:
    report = vital_report("us-1", lsn=9)
    assert (report.last_term, report.last_lsn) == (1, 9)
    assert Pursuit(NOW_S).over(end, Lsn(durable), report, NOW_S, rebuilding=False) is over


def test_it_is_over_when_the_member_is_gone() -> None:
    assert Pursuit(NOW_S).over(at(1, 4), Lsn(4), None, NOW_S, rebuilding=False)


def test_it_is_over_when_the_log_stands_still_and_no_snapshot_comes(vital_report: Reporting) -> None:
    report, pursuit = vital_report("us-1", lsn=9), Pursuit(NOW_S)

    def over(lsn: int, now_s: float, *, rebuilding: bool = False) -> bool:
        return pursuit.over(at(1, lsn), Lsn(lsn), report, now_s, rebuilding=rebuilding)

    assert not over(4, NOW_S)
    assert not over(4, NOW_S + STALLED_S)
    assert not over(5, NOW_S + STALLED_S + 1), "it grew"
    assert not over(5, NOW_S + 2 * STALLED_S + 1)
    assert not over(5, NOW_S + 3 * STALLED_S, rebuilding=True)
    assert not over(5, NOW_S + 4 * STALLED_S)
    assert over(5, NOW_S + 4 * STALLED_S + 1)

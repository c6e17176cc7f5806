"""Reads that wait for their token, and never get another history's answer."""

from __future__ import annotations

import pytest

from cluster.freshness import WAITING_MAX, Freshness, History
from redwire.errors import Code, Refused, TokenLost
from redwire.position import ClusterId, Lsn, Term, TermEntry, TermList, Token

CLUSTER = ClusterId("c" * 32)
TERMS = TermList((TermEntry(Term(1), Lsn(1), 0), TermEntry(Term(3), Lsn(6), 0)))


def history(applied: int) -> History:
    return History(CLUSTER, Lsn(applied), TERMS)


def token(lsn: int, term: int, cluster: str = CLUSTER) -> Token:
    return Token(ClusterId(cluster), Term(term), Lsn(lsn))


class Answers(list):
    def __call__(self, error) -> None:
        self.append(error)


def test_what_is_applied_is_answered_at_once():
    answers = Answers()
    Freshness().wait(token(5, 1), 0, 0, history(5), answers)
    assert answers == [None]


def test_a_read_waits_until_its_lsn_is_applied():
    answers, waits = Answers(), Freshness()
    waits.wait(token(7, 3), 1_000, 0, history(5), answers)
    waits.applied(history(6))
    assert answers == []
    waits.applied(history(8))
    assert answers == [None]


@pytest.mark.parametrize("lsn", [5, 7])
def test_a_token_of_another_term_is_lost_now_and_later(lsn):
    answers, waits = Answers(), Freshness()
    waits.wait(token(lsn, 2), 1_000, 0, history(5), answers)
    waits.applied(history(9))
    assert [type(answer) for answer in answers] == [TokenLost]


def test_what_was_replaced_is_lost_before_the_history_that_replaced_it_is_as_long():
    """A node that was given up stands at LSN 8 now, behind what the token saw of the history before."""
    at_once, early, fresh, waits = Answers(), Answers(), Answers(), Freshness()
    waits.wait(token(300, 1), 0, 0, history(8), at_once)
    assert isinstance(at_once[0], TokenLost)
    before = History(CLUSTER, Lsn(250), TermList(TERMS.entries[:1]))
    waits.wait(token(300, 1), 1_000, 0, before, early)
    waits.wait(token(300, 3), 1_000, 0, history(8), fresh)
    waits.tick(1_000, history(8))
    assert isinstance(early[0], TokenLost)
    assert fresh[0].code is Code.STALE, "this one may yet come"


def test_a_token_of_another_cluster_is_lost():
    answers = Answers()
    Freshness().wait(token(1, 1, "d" * 32), 1_000, 0, history(5), answers)
    assert isinstance(answers[0], TokenLost)


def test_a_node_that_has_not_joined_a_cluster_is_behind_and_says_lost_of_no_token():
    new = History(ClusterId(""), Lsn(0), TermList())
    at_once, later, foreign, waits = Answers(), Answers(), Answers(), Freshness()
    waits.wait(token(5, 1), 0, 0, new, at_once)
    assert isinstance(at_once[0], Refused) and at_once[0].code is Code.STALE
    waits.wait(token(5, 1), 1_000, 0, new, later)
    waits.wait(token(5, 1, "d" * 32), 1_000, 0, new, foreign)
    waits.applied(history(5))
    assert later == [None]
    assert isinstance(foreign[0], TokenLost)


def test_who_may_not_wait_is_told_how_far_this_node_is():
    answers = Answers()
    Freshness().wait(token(9, 3), 0, 0, history(5), answers)
    assert isinstance(answers[0], Refused)
    assert answers[0].code is Code.STALE
    assert "4 short" in str(answers[0])


def test_time_ends_a_wait_and_only_that_one():
    early, late, waits = Answers(), Answers(), Freshness()
    waits.wait(token(9, 3), 100, 0, history(5), early)
    waits.wait(token(8, 3), 500, 0, history(5), late)
    waits.tick(99, history(5))
    assert not early
    waits.tick(100, history(5))
    assert early[0].code is Code.STALE
    assert not late
    waits.applied(history(8))
    assert late == [None]


def full(waits: Freshness, holder: str = "", wait_ms: int = 60_000) -> Answers:
    """Every place taken by one user."""
    answers = Answers()
    for _ in range(WAITING_MAX):
        waits.wait(token(1 << 60, 3), wait_ms, 0, history(5), answers, holder=holder)
    return answers


def test_no_more_reads_wait_than_the_bound():
    one_more, waits = Answers(), Freshness()
    waiting = full(waits)
    waits.wait(token(9, 3), 60_000, 0, history(5), one_more)
    assert not waiting
    assert one_more[0].code is Code.STALE and "4 short" in str(one_more[0])


def test_whoever_holds_most_places_loses_one_to_another_user_and_keeps_no_reads_from_waiting():
    waits = Freshness()
    greedy, honest = full(waits, "greedy"), Answers()
    for number in range(30):
        waits.wait(token(9, 3), 60_000, 0, history(5), honest, holder="honest")
        assert not honest and len(greedy) == number + 1
    waits.wait(token(1 << 60, 3), 60_000, 0, history(5), greedy, holder="greedy")
    assert not honest and len(greedy) == 31 and {error.code for error in greedy} == {Code.STALE}
    waits.applied(history(9))
    assert honest == [None] * 30


def test_of_one_user_the_wait_that_ends_last_makes_room_for_one_that_ends_sooner():
    waits = Freshness()
    long, short, longest = full(waits), Answers(), Answers()
    waits.wait(token(9, 3), 5_000, 0, history(5), short)
    assert len(long) == 1 and not short
    waits.wait(token(9, 3), 70_000, 0, history(5), longest)
    assert len(longest) == 1 and len(long) == 1 and not short


def test_a_place_that_was_given_up_is_free_and_what_is_kept_of_it_stays_bounded():
    waits = Freshness()
    full(waits, "greedy")
    waits.tick(60_000, history(5))
    assert not waits.any
    for number in range(3):
        answers = full(waits, "greedy")
        waits.tick(60_000, history(5))
        assert len(answers) == WAITING_MAX, number
    for number in range(4 * WAITING_MAX):
        waits.wait(token(1 << 60, 3), 60_000 - number, 0, history(5), Answers(), holder="greedy")
    heaps = (waits._by_lsn, *waits._latest.values())
    assert len(waits._waits) == WAITING_MAX and all(len(heap) < 3 * WAITING_MAX for heap in heaps)

"""Whom a replica follows, what it cuts for that, and what it does not (R3 to R5)."""

from __future__ import annotations

import pytest

from cluster.catchup import PARTED_HINT
from cluster.effects import (
    Append,
    Applied,
    Commit,
    Cut,
    Drop,
    Durable,
    MetaSaved,
    Note,
    Rebuild,
    SaveMeta,
    SourceLost,
    Stood,
    TailCut,
)
from cluster.replica import FollowerState
from redwire.batch import make_batch
from redwire.errors import Code
from redwire.position import EMPTY, EMPTY_CHAIN, Lsn, NodeId, Position, Reign, Term
from tests.follower import FIRST, RIVAL, SECOND, Follower, ack, batches, of

# Finding a source


def test_an_empty_follower_follows_whom_it_hears_of_first(empty):
    assert empty.core.leader is None and empty.core.session is None
    assert empty.found(session=3) == [SaveMeta(FIRST)]
    assert empty.core.state is FollowerState.SETTLING
    assert empty.step(MetaSaved()) == [ack(0, session=3)]
    assert empty.core.state is FollowerState.FOLLOWING
    assert empty.core.session == 3 and empty.core.leader is not None
    assert empty.core.leader == FIRST.primary


def test_a_reign_that_is_on_disk_already_is_followed_at_once(grown):
    assert grown.found(grown.end) == [ack(5, applied=2)]
    assert grown.core.state is FollowerState.FOLLOWING


def test_the_reign_is_on_disk_before_the_first_ack_in_it(grown):
    assert grown.found(grown.end, reign=SECOND, watermark=4) == [SaveMeta(SECOND)]
    assert grown.step(Durable(Lsn(5))) == grown.beat(reign=SECOND, watermark=5) == []
    assert grown.step(MetaSaved()) == [ack(5, applied=2, reign=SECOND), Commit(Lsn(4))]


def test_the_tail_is_cut_before_the_first_ack(grown):
    save, cut = grown.found(grown.at(3), reign=SECOND)
    assert save == SaveMeta(SECOND)
    assert (cut.to.lsn, grown.core.end.lsn, grown.core.durable) == (3, 3, 3)
    assert "eu-1's log of term 2 goes on differently" in cut.reason
    assert grown.step(MetaSaved()) == []
    assert grown.step(TailCut()) == [ack(3, applied=2, reign=SECOND)]


def test_a_tail_may_be_cut_within_the_reign_that_is_on_disk(grown):
    """What this primary logged and lost with its disk, before anybody else had it."""
    assert [type(effect) for effect in grown.found(grown.at(4))] == [Cut]
    assert grown.step(TailCut()) == [ack(4, applied=2)]


def test_a_cut_makes_nothing_durable_that_was_not():
    follower = Follower(batches(5), FIRST, durable=1)
    follower.found(follower.at(3))
    assert follower.core.durable == 1


def test_orders_to_the_disk_outlive_the_session_and_the_next_one_waits_for_them(grown):
    grown.found(grown.at(3), reign=SECOND)
    grown.step(SourceLost(1))
    assert grown.found(grown.end, session=2, reign=SECOND) == []
    assert grown.step(MetaSaved()) == []
    assert grown.step(TailCut()) == [ack(3, applied=2, reign=SECOND, session=2)]


def test_orders_that_are_done_when_nobody_is_followed_begin_nothing(grown):
    grown.found(grown.end, reign=SECOND)
    grown.step(SourceLost(1))
    assert grown.step(MetaSaved()) == []
    assert grown.core.state is FollowerState.SEARCHING
    assert grown.found(grown.end, session=2, reign=SECOND) == [ack(5, applied=2, reign=SECOND, session=2)]


def test_what_the_source_knows_committed_is_applied_at_once(grown):
    assert grown.found(grown.end, head=9, watermark=9) == [ack(5, applied=2), Commit(Lsn(5))]
    status = grown.core.status()
    assert (status.source_head, status.watermark) == (9, 5)


def test_only_one_source_is_followed_at_a_time(grown):
    grown.follow()
    (drop,) = grown.found(grown.end, session=2)
    assert (drop.session, drop.error.code, drop.error.retry) == (2, Code.NOT_READY, True)
    assert drop.error.message == "NOT_READY: eu-1 answers, and eu-1 is followed already"
    assert grown.core.session == 1 and grown.core.state is FollowerState.FOLLOWING


def test_an_answer_for_another_end_of_the_log_is_asked_for_anew(grown):
    (drop,) = grown.found(grown.at(4), asked=grown.at(4))
    assert (drop.session, drop.error.code) == (1, Code.NOT_READY)
    assert f"ended at {grown.at(4)}, it ends at {grown.end}" in drop.error.message
    assert grown.core.state is FollowerState.SEARCHING and grown.core.reign == FIRST


@pytest.mark.parametrize(
    ("mine", "theirs", "code"),
    [
        pytest.param(SECOND, FIRST, Code.STALE_TERM, id="an older term"),
        pytest.param(SECOND, RIVAL, Code.TERM_TAKEN, id="the same term of another primary"),
        pytest.param(SECOND, SECOND, None, id="the same reign"),
        pytest.param(SECOND, Reign(Term(9), NodeId("ap-1")), None, id="a newer term"),
        pytest.param(None, RIVAL, None, id="the first one ever"),
    ],
)
def test_an_older_term_and_a_second_primary_of_a_term_are_refused(mine, theirs, code):
    follower = Follower(batches(5), mine)
    effects = follower.found(follower.end, reign=theirs)
    if code is None:
        assert follower.core.reign == theirs and not of(Drop, effects)
        return
    drop, note = effects
    assert (drop.session, drop.error.code) == (1, code)
    assert isinstance(note, Note) and note.text.startswith("eu-1 is refused: ")
    assert follower.core.state is FollowerState.SEARCHING and follower.core.reign == mine


def test_a_second_primary_of_a_term_is_followed_once_its_first_record_is_committed():
    follower = Follower(batches(5), SECOND)
    effects = follower.found(follower.end, reign=RIVAL, settled=True)
    assert follower.core.reign == RIVAL and not of(Drop, effects)


@pytest.mark.parametrize(("common", "refused"), [(0, True), (1, True), (2, False), (5, False)])
def test_what_is_known_committed_is_never_cut_whatever_the_term(common, refused, grown):
    effects = grown.found(grown.at(common), reign=Reign(Term(99), NodeId("ap-1")))
    codes = [drop.error.code for drop in of(Drop, effects)]
    assert codes == [Code.PRIMARY_LACKS_COMMITTED] * refused
    assert bool(of(Cut, effects)) is (not refused and common < 5)
    if refused:
        assert grown.core.reign == FIRST and grown.core.end.lsn == 5
        assert f"LSN {common + 1} to 2 are known committed" in of(Drop, effects)[0].error.message


@pytest.mark.parametrize(("theirs", "parted"), [(1, False), (2, True)])
def test_who_refuses_a_history_in_which_something_else_is_committed_says_that_the_two_have_parted(
    theirs, parted, grown
):
    (drop, _) = grown.found(grown.at(1), reign=SECOND, watermark=theirs)
    assert drop.error.code is Code.PRIMARY_LACKS_COMMITTED
    assert (drop.error.hint == PARTED_HINT) is parted


def test_another_history_of_what_is_known_committed_is_refused_although_the_terms_agree(grown):
    (drop, _) = grown.found(Position(Term(1), Lsn(2), b"x" * 16))
    assert drop.error.code is Code.PRIMARY_LACKS_COMMITTED
    assert "LSN 2 to 2 are known committed" in drop.error.message


def test_a_log_that_only_seems_to_agree_is_replaced_by_a_snapshot(grown):
    elsewhere = Position(Term(1), Lsn(4), b"x" * 16)
    (rebuild,) = grown.found(elsewhere)
    assert isinstance(rebuild, Rebuild) and (rebuild.session, rebuild.diverged) == (1, True)
    assert grown.core.state is FollowerState.SEARCHING and grown.core.end.lsn == 5


@pytest.mark.parametrize(("lsn", "refused"), [(2, True), (3, False)])
def test_a_log_that_differs_in_what_is_known_committed_is_refused_and_not_taken_over(lsn, refused, grown):
    """A source without our record at the common point shares less than it says, by one at least (R5)."""
    effects = grown.found(Position(Term(1), Lsn(lsn), b"x" * 16))
    assert [drop.error.code for drop in of(Drop, effects)] == [Code.PRIMARY_LACKS_COMMITTED] * refused
    assert len(of(Rebuild, effects)) == (not refused)


def test_a_common_point_within_a_batch_of_ours_is_none():
    whole = make_batch(FIRST, EMPTY, [b"three"], 3, 1, Lsn(0))
    follower = Follower([whole])
    (rebuild,) = follower.found(Position(Term(1), Lsn(2), EMPTY_CHAIN))
    assert isinstance(rebuild, Rebuild) and "disagree at LSN 2" in rebuild.reason


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_was_given_up_with_this_node_is_not_undone_in_place(elsewhere, grown):
    """It is set aside, whether the logs agree at the common point or only seem to."""
    common = Position(Term(1), Lsn(2), b"x" * 16) if elsewhere else grown.at(1)
    (rebuild,) = grown.found(common, reign=SECOND, settled=True, given_up=True)
    assert (rebuild.session, rebuild.diverged, rebuild.given_up) == (1, True, True)
    assert grown.core.state is FollowerState.SEARCHING and grown.core.end.lsn == 5
    assert grown.core.reign == FIRST


def test_who_was_given_up_and_lacks_nothing_goes_on_as_ever(grown):
    effects = grown.found(grown.at(3), reign=SECOND, settled=True, given_up=True)
    assert [cut.to.lsn for cut in of(Cut, effects)] == [3] and not of(Rebuild, effects)


def test_nothing_is_given_up_for_one_that_only_lends_or_while_another_one_has_our_vote(grown):
    (drop, _) = grown.found(grown.at(1), leads=False, given_up=True)
    assert drop.error.code is Code.PRIMARY_LACKS_COMMITTED
    grown.step(Stood(Reign(Term(9), NodeId("ap-1"))))
    (drop, _) = grown.found(grown.at(1), reign=SECOND, settled=True, given_up=True)
    assert drop.error.code is Code.NOT_READY


# Lending a log (R5)


def test_a_node_about_to_lead_follows_a_longer_log_without_accepting_a_reign(grown):
    assert grown.found(grown.end, reign=Reign(Term(0), NodeId("")), leads=False) == [ack(5, applied=2)]
    assert grown.core.reign == FIRST and grown.core.leader is None
    more = batches(2, SECOND, grown.end)
    assert of(Append, grown.receive(*more)) == [Append(batch) for batch in more]
    assert grown.beat(reign=Reign(Term(0), NodeId("")), head=7) == []
    assert grown.step(Durable(Lsn(7))) == [ack(7, applied=2, synced_us=1)]


def test_a_node_that_never_followed_acks_in_no_reign(empty):
    assert empty.found(leads=False) == [ack(0, reign=Reign(Term(0), NodeId("")))]
    assert empty.core.reign is None


def test_a_lender_is_told_what_is_new_only(grown):
    grown.follow(leads=False)
    assert grown.step(Durable(Lsn(5))) == []
    grown.step(Applied(Lsn(3), []))
    assert grown.beat(head=5) == [ack(5, applied=3)]
    assert grown.beat(head=5) == []


def test_a_lender_too_is_refused_when_it_lacks_what_is_known_committed(grown):
    (drop, _) = grown.found(grown.at(1), leads=False)
    assert drop.error.code is Code.PRIMARY_LACKS_COMMITTED

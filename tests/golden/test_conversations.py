"""Conversations between cores, as text: commit, lost lines, crashes, cuts, refusals.

Each file in `conversations/` reads as a story; a changed line is a changed decision.
"""

from __future__ import annotations

from cluster.primary import Primary
from cluster.replica import Replica

THREE = {"a": "eu", "b": "us", "c": "ap"}


def _begin(stage, followers="bc"):
    """`a` leads term 1 and everybody follows; the first record is committed and applied."""
    stage.lead("a", 1)
    sessions = [stage.follow(name, "a") for name in followers]
    stage.sync(*followers)
    stage.acks(*sessions)
    stage.send(*sessions)
    stage.sync("a", *followers)
    stage.acks(*sessions)
    stage.apply("a")
    stage.send(*sessions)
    stage.apply(*followers)
    return sessions


def test_a_write_is_committed_by_a_majority(play, golden):
    stage = play(THREE)
    b, c = _begin(stage)
    stage.say("a write: the frame leaves before any disk is done")
    stage.propose("a")
    stage.send(b)
    stage.sync("b")
    stage.acks(b)
    stage.say("one other copy is there, but the primary's own disk is not done: no commit")
    stage.sync("a")
    stage.apply("a")
    stage.send(b, c)
    stage.apply("b")
    stage.sync("c")
    stage.apply("c")
    stage.acks(b, c)
    golden(stage.lines)


def test_a_write_waits_for_both_regions(play, golden):
    stage = play({"a": "eu", "b": "eu", "c": "us"}, "regions(eu,us)")
    b, c = _begin(stage)
    stage.propose("a")
    stage.sync("a")
    stage.send(b)
    stage.sync("b")
    stage.acks(b)
    stage.say("two copies in eu do not make one in us")
    stage.send(c)
    stage.sync("c")
    stage.acks(c)
    stage.apply("a")
    golden(stage.lines)


def test_a_stronger_policy_delays_its_own_answer_only(play, golden):
    stage = play(THREE)
    b, c = _begin(stage)
    stage.propose("a", policy="ack_n=2")
    stage.propose("a")
    stage.sync("a")
    stage.send(b)
    stage.sync("b")
    stage.acks(b)
    stage.apply("a")
    stage.say("#2 is answered; #1 is committed and applied, and waits for its third copy")
    stage.send(c)
    stage.sync("c")
    stage.acks(c)
    golden(stage.lines)


def test_a_write_that_nobody_acks_is_not_confirmed_in_time(play, golden):
    stage = play(THREE)
    b, c = _begin(stage)
    stage.propose("a", timeout_ms=3_000)
    stage.part(b)
    stage.part(c)
    stage.sync("a")
    stage.wait(3_100)
    stage.tick("a")
    stage.say("a write that comes now is refused before anything is logged, once the grace is over")
    stage.wait(3_000)
    stage.propose("a")
    golden(stage.lines)


def test_the_old_primary_cuts_its_tail_and_keeps_it(play, golden):
    stage = play(THREE)
    b, c = _begin(stage)
    stage.say("a logs a write that reaches nobody, and is then told that b leads")
    stage.propose("a")
    stage.sync("a")
    stage.part(b)
    stage.part(c)
    stage.lead("b", 2)
    stage.sync("b")
    c2 = stage.follow("c", "b")
    stage.sync("c")
    stage.acks(c2)
    stage.send(c2)
    stage.sync("c")
    stage.acks(c2)
    stage.apply("b")
    stage.crash("a")
    a2 = stage.follow("a", "b")
    stage.sync("a")
    stage.acks(a2)
    stage.send(a2)
    stage.sync("a")
    stage.acks(a2)
    golden(stage.lines)
    assert [batch.last for batch in stage.machines["a"].diverged] == [2]


def test_what_is_known_committed_is_never_cut(play, golden):
    stage = play(THREE)
    b, c = _begin(stage)
    stage.propose("a")
    stage.sync("a")
    stage.send(b)
    stage.sync("b")
    stage.acks(b)
    stage.apply("a")
    stage.send(b)
    stage.apply("b")
    stage.say("c never got LSN 2, which a and b know to be committed; somebody makes c lead all the same")
    stage.part(b)
    stage.part(c)
    stage.lead("c", 9)
    stage.sync("c")
    stage.follow("b", "c")
    golden(stage.lines)
    assert stage.machines["b"].end.lsn == 2


def test_an_old_primary_and_a_second_one_of_the_same_term_are_refused(play, golden):
    stage = play(THREE)
    b, c = _begin(stage)
    stage.part(b)
    stage.part(c)
    stage.lead("b", 2)
    stage.sync("b")
    c2 = stage.follow("c", "b")
    stage.sync("c")
    stage.acks(c2)
    stage.part(c2)
    stage.say("a still believes in term 1")
    stage.follow("c", "a")
    golden(stage.lines)
    assert isinstance(stage.machines["a"].role, Primary) and isinstance(stage.machines["c"].role, Replica)


def test_the_primary_dies_between_send_and_its_own_sync(play, golden):
    stage = play(THREE)
    b, c = _begin(stage)
    stage.say("the frame reaches b; a dies before its own disk has it")
    stage.propose("a")
    stage.send(b)
    stage.sync("b")
    stage.crash("a")
    stage.part(b)
    stage.part(c)
    stage.say("a comes back, finds b's log longer, follows it, and then opens a new reign")
    a2 = stage.follow("a", "b")
    stage.sync("a")
    stage.acks(a2)
    stage.send(a2)
    stage.sync("a")
    stage.part(a2)
    stage.lead("a", 2)
    stage.sync("a")
    b2 = stage.follow("b", "a")
    stage.sync("b")
    stage.acks(b2)
    stage.send(b2)
    stage.sync("b")
    stage.acks(b2)
    stage.apply("a")
    golden(stage.lines)
    assert stage.machines["a"].log[1].data == stage.machines["b"].log[1].data


def test_no_ack_leaves_before_the_reign_is_on_disk(play, golden):
    stage = play(THREE)
    stage.lead("a", 1)
    session = stage.follow("b", "a")
    stage.say("the meta file is not written yet: the session breaks and comes again, still no ack")
    stage.part(session)
    again = stage.follow("b", "a")
    assert not stage.wire[again]
    stage.sync("b")
    stage.acks(again)
    golden(stage.lines)

"""Who waits for readiness, for reach or for room, for how long, and what ends that (R3, R8)."""

from __future__ import annotations

import pytest

from cluster.effects import Known, Reject, Unconfirmed
from redwire.errors import Code
from tests.intake_world import AMPLE, EXECUTED, OUT_OF_REACH, codes, key, told

# Readiness and reach (R3, R8)


def test_before_the_reign_is_ready_everything_is_held(intake, take, world, propose):
    world.ready = world.complete = False
    assert take(propose()) == take() == ([], [])
    world.ready = True
    assert take(propose()) == ([[2]], [])  # whatever is held waits to be looked at again
    intake.recheck()
    assert take() == ([[1]], [])


def test_who_is_out_of_reach_is_held_during_the_grace_and_refused_after_it(intake, take, world, propose):
    world.errors["majority"], world.grace = OUT_OF_REACH, True
    assert take(propose()) == ([], [])
    assert (len(intake), intake.queued.size) == (1, 100)
    world.grace = False
    assert take() == ([], [])  # nothing was said to have changed
    intake.recheck()
    assert take() == ([], [Reject(propose.made[0], OUT_OF_REACH)])
    assert propose.made[0].answered
    assert len(intake) == intake.queued.size == 0


def test_a_reign_that_is_not_ready_refuses_who_is_out_of_reach_after_the_grace(take, world, propose):
    world.ready, world.errors["majority"] = False, OUT_OF_REACH
    assert told(take(propose())[1]) == [(Reject, 1)]


def test_each_policy_is_refused_for_itself_and_asked_about_once_a_turn(take, world, propose):
    world.errors["ack_n=2"] = OUT_OF_REACH
    drafts, answers = take(*(propose(policy) for policy in ("ack_n=2", "majority", "ack_n=2", "majority")))
    assert (drafts, told(answers)) == ([[2, 4]], [(Reject, 1), (Reject, 3)])
    assert world.asked == ["ack_n=2", "majority"]
    take(propose())
    assert world.asked == ["ack_n=2", "majority", "majority"]


def test_what_was_held_goes_first_and_in_its_order(intake, take, world, propose):
    world.ready = False
    take(propose(), propose(), propose())
    world.ready = True
    intake.add([propose(), propose()])
    intake.recheck()
    assert take() == ([[1, 2, 3, 4, 5]], [])


def test_it_is_held_again_while_nothing_has_come_of_the_change(intake, take, world, propose):
    world.ready = False
    take(propose(), propose())
    for _ in range(3):
        intake.recheck()
        assert take() == ([], [])
    assert (len(intake), intake.queued.size) == (2, 200)


# Deadlines


@pytest.mark.parametrize(
    ("ready", "reach", "code"),
    [
        (False, True, Code.NOT_READY),
        (False, False, Code.INSUFFICIENT_REPLICAS),
        (True, False, Code.INSUFFICIENT_REPLICAS),
        (True, True, Code.BUSY),
    ],
)
def test_whose_time_is_up_before_it_is_logged_is_told_what_it_waited_for(
    ready, reach, code, intake, take, world, propose
):
    world.ready, world.grace = ready, True
    if not reach:
        world.errors["majority"] = OUT_OF_REACH
    take(propose(deadline_ms=2_000), room=AMPLE if not ready or not reach else AMPLE._replace(batches=0))
    world.ms = 1_999
    assert intake.expired(world.turn()) == []
    world.ms = 2_000
    answers = intake.expired(world.turn())
    assert (told(answers), codes(answers)) == ([(Reject, 1)], [code])
    assert answers[0].error.retry
    assert len(intake) == intake.queued.size == len(intake.expired(world.turn())) == 0


def test_a_turn_refuses_what_came_too_late(take, world, propose):
    world.ms = 3_000
    drafts, answers = take(propose(deadline_ms=2_999), propose(deadline_ms=3_001))
    assert (drafts, codes(answers)) == ([[2]], [Code.BUSY])


def test_those_who_have_time_left_wait_on_in_their_order(intake, take, world, propose):
    world.ready = False
    take(*(propose(deadline_ms=deadline) for deadline in (5_000, 2_000, 5_000)))
    intake.add([propose(deadline_ms=deadline) for deadline in (2_000, 5_000, 3_000)])
    world.ms = 2_500
    assert told(intake.expired(world.turn())) == [(Reject, 2), (Reject, 4)]
    assert intake.queued.size == 400
    world.ms = 3_000
    assert told(intake.expired(world.turn())) == [(Reject, 6)]
    world.ready = True
    intake.recheck()
    assert take() == ([[1, 3, 5]], [])


def test_a_key_that_was_executed_is_told_even_when_its_time_is_up(intake, take, world, propose):
    world.ready = False
    take(propose(key=key(1), deadline_ms=2_000))
    world.results[key(1).client, 1] = EXECUTED
    world.ms = 2_000
    assert intake.expired(world.turn()) == [Known(propose.made[0], EXECUTED)]


# The end


def test_the_end_of_the_reign_answers_everybody_and_refuses_first_attempts_only(intake, take, world, propose):
    world.ready = False
    take(propose(key=key(1)), propose(key=key(2), attempt=2))
    intake.add([propose(), propose(key=key(3), attempt=3)])
    answers = intake.end()
    assert told(answers) == [(Reject, 1), (Unconfirmed, 2), (Reject, 3), (Unconfirmed, 4)]
    assert {answer.error.code for answer in answers if isinstance(answer, Reject)} == {Code.NOT_PRIMARY}
    assert all(proposal.answered for proposal in propose.made)
    assert len(intake) == intake.queued.size == len(intake.end()) == 0
    intake.recheck()
    assert take() == ([], [])

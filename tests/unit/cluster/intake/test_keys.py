"""What is said of a key that is tried again, and which refusals are certain (R9)."""

from __future__ import annotations

from collections import deque

import pytest

from cluster.effects import Fate, Known, Reject, Result, Unconfirmed
from redwire.errors import Code
from tests.intake_world import AMPLE, EXECUTED, FORGOTTEN, OUT_OF_REACH, POLICIES, codes, key, told


def test_the_first_attempt_is_not_looked_up_apply_decides_about_it(take, world, propose):
    world.results[key(1).client, 1] = EXECUTED
    assert take(propose(key=key(1))) == ([[1]], [])


@pytest.mark.parametrize("ready", [True, False])
def test_a_later_attempt_of_an_executed_key_gets_its_result_in_any_state(ready, intake, take, world, propose):
    world.ready, world.complete = ready, False
    world.errors["majority"] = OUT_OF_REACH
    world.results[key(1).client, 1] = EXECUTED
    proposal = propose(key=key(1), attempt=2)
    assert take(proposal, room=AMPLE._replace(log_bytes=0)) == ([], [Known(proposal, EXECUTED)])
    assert proposal.answered and len(intake) == intake.queued.size == 0


def test_a_later_attempt_of_an_absent_key_is_logged(take, propose):
    assert take(propose(key=key(1), attempt=2), propose(attempt=2)) == ([[1, 2]], [])


def test_a_first_attempt_that_is_refused_gets_its_result_if_there_is_one(take, world, propose):
    world.errors["majority"] = OUT_OF_REACH
    world.results[key(1).client, 1] = EXECUTED
    assert told(take(propose(key=key(1)), propose(key=key(2)))[1]) == [(Known, 1), (Reject, 2)]


def test_what_was_executed_is_known_under_a_stronger_policy_once_that_is_met(take, world, propose):
    world.results[key(1).client, 1] = EXECUTED  # at LSN 7
    world.met["ack_n=2"] = 6
    assert take(propose("ack_n=2", key=key(1), attempt=2)) == ([[1]], [])  # once more, to wait for it
    world.met["ack_n=2"] = 7
    assert take(propose("ack_n=2", key=key(1), attempt=2)) == ([], [Known(propose.made[1], EXECUTED)])


@pytest.mark.parametrize("attempt", [1, 2])
def test_what_was_executed_is_never_refused_while_a_stronger_policy_is_not_met(attempt, take, world, propose):
    world.results[key(1).client, 1] = EXECUTED
    world.errors["ack_n=2"] = OUT_OF_REACH
    _, answers = take(propose("ack_n=2", key=key(1), attempt=attempt))
    assert told(answers) == [(Unconfirmed, 1)] and "an earlier attempt is committed" in answers[0].message


@pytest.mark.parametrize("deadline_ms", [10_000, 500])
@pytest.mark.parametrize(
    ("result", "told_of"),
    [(None, Reject), (EXECUTED, Unconfirmed), (FORGOTTEN, Reject), (Result(Fate.CLOSED), Reject)],
)
def test_a_later_attempt_by_a_policy_that_is_refused_is_first_looked_for(
    result, told_of, deadline_ms, take, intake, world, propose
):
    if result is not None:
        world.results[key(1).client, 1] = result
    world.met[str(POLICIES.floor)] = 7
    proposal = propose(key=key(1), attempt=2, deadline_ms=deadline_ms)
    proposal.policy = POLICIES.unjudged("ack_n=9")
    _, answers = take(proposal)
    assert told(answers) == [(told_of, 1)]
    assert "ack_n=9" in str(answers[0].message if told_of is Unconfirmed else answers[0].error) or result


def test_that_a_key_is_forgotten_is_believed_of_a_log_applied_to_its_end(take, world, propose):
    world.results[key(1).client, 1] = FORGOTTEN
    _, answers = take(propose(key=key(1), attempt=2))
    assert codes(answers) == [Code.KEY_EXPIRED]
    assert not answers[0].error.retry and propose.made[0].answered
    world.complete = False
    assert take(propose(key=key(1), attempt=2)) == ([[2]], [])  # apply decides


def test_a_forgotten_key_is_never_refused_for_certain_before_that(take, world, propose):
    world.results[key(1).client, 1], world.complete = FORGOTTEN, False
    world.errors["majority"] = OUT_OF_REACH
    assert told(take(propose(key=key(1), attempt=2))[1]) == [(Unconfirmed, 1)]


@pytest.mark.parametrize(
    ("attempt", "ready", "keyed", "answer"),
    [
        pytest.param(1, False, True, Reject, id="the first attempt"),
        pytest.param(1, True, False, Reject, id="the first attempt, without a key"),
        pytest.param(2, True, True, Reject, id="absent from a log that is applied"),
        pytest.param(2, False, True, Unconfirmed, id="the log is not applied"),
        pytest.param(2, True, False, Unconfirmed, id="nobody can look for it without a key"),
    ],
)
def test_a_refusal_is_certain_or_it_is_none(attempt, ready, keyed, answer, take, world, propose):
    world.ready, world.errors["majority"] = ready, OUT_OF_REACH
    proposal = propose(key=key(1) if keyed else None, attempt=attempt)
    (given,) = take(proposal)[1]
    assert type(given) is answer and proposal.answered
    if answer is Unconfirmed:
        assert given.flight is None and str(OUT_OF_REACH) in given.message


@pytest.mark.parametrize("place", ["in flight", "drafted", "held", "waiting", "other sequence", "answered"])
def test_a_later_attempt_is_refused_only_if_no_earlier_one_is_on_its_way(
    place, intake, take, world, fly, propose
):
    world.errors["ack_n=2"] = OUT_OF_REACH
    earlier = propose(key=key(1, oldest=9 if place == "other sequence" else 1))
    later = propose("ack_n=2", key=key(2 if place == "other sequence" else 1, oldest=1), attempt=2)
    match place:
        case "in flight" | "other sequence":
            world.flights.append(fly(None, earlier))
            _, answers = take(later)
        case "drafted":
            _, answers = take(earlier, later)
        case "held":
            world.errors["majority"], world.grace = OUT_OF_REACH, True
            take(earlier)
            world.grace = False
            _, answers = take(later)
        case "waiting":
            _, answers = take(later, earlier)
        case "answered":
            _, answers = take(later)
    certain = place in ("other sequence", "answered")
    assert told(answers) == [(Reject if certain else Unconfirmed, 2)]


def test_of_two_later_attempts_that_wait_neither_is_refused_for_certain(intake, take, world, propose):
    world.errors["majority"], world.grace = OUT_OF_REACH, True
    take(*(propose(key=key(1), attempt=attempt, deadline_ms=2_000) for attempt in (2, 3)))
    world.ms = 2_000
    assert told(intake.expired(world.turn())) == [(Unconfirmed, 1), (Unconfirmed, 2)]


def test_the_keys_on_their_way_are_counted_once_a_turn(intake, take, world, propose):
    class Counted(deque):
        walks = 0

        def __iter__(self):
            Counted.walks += 1
            return super().__iter__()

    intake.flights = Counted()
    world.errors["majority"] = OUT_OF_REACH
    _, answers = take(*(propose(key=key(number), attempt=2) for number in range(1, 50)))
    assert {type(answer) for answer in answers} == {Reject} and Counted.walks == 1


def test_a_later_attempt_under_a_closed_key_is_refused_for_good(intake, take, world, propose):
    closed = key(5)
    world.results[closed.client, closed.sequence] = Result(Fate.CLOSED, 3)
    proposal = propose(key=closed, attempt=2)
    batches, (answer,) = take(proposal)
    assert (batches, answer.proposal, answer.error.code) == ([], proposal, Code.KEY_CLOSED)

"""Writes that are tried again under their key (R9)."""

from __future__ import annotations

from cluster.effects import Fate, Result
from redwire.record import Key


def key(sequence: int) -> Key:
    return Key(b"c" * 16, sequence, 1)


def test_the_log_is_settled_when_it_is_applied_to_its_end(lead):
    primary = lead("eu-1", rule="local").serve()
    assert primary.core.complete
    primary.take(primary.propose())
    assert not primary.core.complete
    primary.durable()
    primary.apply()
    assert primary.core.complete


def test_a_later_attempt_is_answered_from_what_is_known(lead):
    primary = lead().serve()
    primary.known[b"c" * 16, 1] = known = Result(Fate.DUPLICATE, 1, bytes(9))
    (effect,) = primary.take(primary.propose(key=key(1), attempt=2))
    assert effect.result is known


def test_a_later_attempt_waits_for_the_stronger_policy_that_the_first_one_asked_for(lead, answers):
    primary = lead().serve()
    primary.take(primary.propose("ack_n=2", key=key(1)))
    primary.durable()
    primary.ack("us-1")
    primary.apply()  # by the commit rule
    first = primary.propose.made[0]
    primary.known[b"c" * 16, 1] = Result(Fate.DUPLICATE, primary.core.end.lsn, bytes(9))
    primary.take(primary.propose("ack_n=2", key=key(1), attempt=2))
    primary.durable()
    primary.ack("us-1")
    assert not answers(primary.apply()) and not first.answered
    released = primary.ack("ap-1")
    assert sorted(each for _, each in answers(released)) == [1, 2]

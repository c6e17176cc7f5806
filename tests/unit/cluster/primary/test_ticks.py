"""What happens because time passes: heartbeats, writes without an answer, waits for copies."""

from __future__ import annotations

import pytest

from cluster.ack_waits import Reached, TimedOut
from cluster.effects import Beat, Commit, Reject, Unconfirmed
from cluster.node import TICK_MIN_S, TICK_S, tick_in_s
from cluster.primary import BEAT_MS
from redwire.position import Lsn
from regions.errors import Timeout
from regions.quorum import QuorumConfig


def test_a_heartbeat_is_due_every_half_second(lead, of):
    primary = lead().serve()
    beats = [bool(of(Beat, primary.wait(100))) for _ in range(11)]
    assert beats == [True, *[False] * (BEAT_MS // 100 - 1), True, *[False] * (BEAT_MS // 100 - 1), True]


def test_a_write_that_is_not_confirmed_in_time_is_said_to_be_that_and_never_released(lead, of):
    primary = lead().serve()
    primary.take(primary.propose(deadline_ms=1_500))
    primary.durable()
    assert of(Unconfirmed, primary.wait(499)) == []
    (late,) = of(Unconfirmed, primary.wait(1))
    assert (late.proposal.correlation, late.flight.batch.first) == (1, 2)
    assert primary.ack("us-1") == [Commit(Lsn(2))]
    assert primary.apply() == []


def test_a_write_that_was_never_logged_in_time_is_refused(lead, answers):
    primary = lead()
    primary.begin()
    primary.take(primary.propose(deadline_ms=1_500))
    assert answers(primary.wait(500)) == [(Reject, 1)]
    assert primary.core.backlog.size == 0


def test_a_tick_comes_when_the_time_of_who_waits_is_up(lead, of):
    """Of 200 ms a client gives nine tenths: with the next look after them half of it would have gone by."""
    primary = lead()
    assert tick_in_s(primary.core, primary.now) == TICK_S
    primary.begin()
    primary.take(primary.propose(deadline_ms=1_180))
    assert tick_in_s(primary.core, primary.now) == TICK_S
    primary.wait(100)
    assert tick_in_s(primary.core, primary.now) == pytest.approx(0.08)
    primary.wait(79)
    assert tick_in_s(primary.core, primary.now) == pytest.approx(TICK_MIN_S, rel=0.01)
    assert len(of(Reject, primary.wait(1))) == 1
    assert tick_in_s(primary.core, primary.now) == TICK_S

    primary = lead().serve()
    primary.take(primary.propose(deadline_ms=1_180), primary.propose(deadline_ms=1_500))
    primary.durable()
    primary.wait(150)
    assert tick_in_s(primary.core, primary.now) == pytest.approx(0.03)
    assert len(of(Unconfirmed, primary.wait(30))) == 1
    assert tick_in_s(primary.core, primary.now) == TICK_S
    primary.wait(300)
    assert tick_in_s(primary.core, primary.now) == pytest.approx(0.02)


def test_a_look_at_many_comes_less_often(lead):
    primary = lead()
    primary.begin()
    primary.take(*(primary.propose(deadline_ms=1_001) for _ in range(2_000)))
    assert tick_in_s(primary.core, primary.now) == pytest.approx(3 * TICK_MIN_S, rel=0.01)
    primary.take(*(primary.propose(deadline_ms=1_001) for _ in range(20_000)))
    assert tick_in_s(primary.core, primary.now) == TICK_S


def test_time_settles_waits_for_copies_and_for_the_quorum(lead):
    primary = lead().serve()
    wait = primary.core.waiter.await_acks(Lsn(1), 3, primary.ms, 100)
    primary.core.coordinator.quorum = QuorumConfig.sync(2)
    quorum = primary.core.coordinator.wait_for_quorum(Lsn(2), primary.ms, 100)
    primary.wait(99)
    assert wait.outcome is None and not quorum.done
    primary.wait(1)
    assert wait.outcome == TimedOut(2, 3)
    assert isinstance(quorum.outcome, Timeout)


def test_an_ack_settles_waits_for_copies(lead):
    primary = lead().serve()
    primary.take(primary.propose())
    wait = primary.core.waiter.await_acks(Lsn(2), 1, primary.ms, 100)
    primary.ack("us-1")
    assert wait.outcome == Reached(1)

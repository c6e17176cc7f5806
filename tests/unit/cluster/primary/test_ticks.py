"""What happens because time passes: heartbeats, writes without an answer, waits for copies."""

from __future__ import annotations

from cluster.ack_waits import Reached, TimedOut
from cluster.effects import Beat, Commit, Reject, Unconfirmed
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

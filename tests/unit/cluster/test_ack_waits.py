"""Waits for copies of one LSN: settled by what the ack table says, or by the time."""

from __future__ import annotations

import pytest

from cluster.ack_waits import AckWaits, NotRequired, Reached, TimedOut
from redwire.position import Lsn


@pytest.fixture
def others() -> list[int]:
    """What the other voters hold."""
    return []


@pytest.fixture
def waits(others) -> AckWaits:
    return AckWaits(lambda lsn: sum(durable >= lsn for durable in others))


def test_a_wait_for_no_copy_is_over_at_once(waits):
    assert waits.add(Lsn(5), 0, 0, 100).outcome == NotRequired()
    assert len(waits) == 0


def test_a_wait_that_the_table_meets_already_is_over_at_once(waits, others):
    others[:] = [9, 5, 4]
    assert waits.add(Lsn(5), 2, 0, 100).outcome == Reached(2)


def test_a_wait_is_settled_by_the_copy_that_completes_it(waits, others):
    others[:] = [5, 0]
    wait, other = waits.add(Lsn(5), 2, 0, 100), waits.add(Lsn(9), 1, 0, 100)
    waits.settle(99)
    assert wait.outcome is None
    others[:] = [5, 6]
    waits.settle(99)
    assert (wait.outcome, other.outcome) == (Reached(2), None)
    waits.settle(100)
    assert other.outcome == TimedOut(0, 1)
    assert len(waits) == 0


def test_copies_that_are_there_at_the_deadline_count(waits, others):
    wait = waits.add(Lsn(5), 1, 0, 100)
    others[:] = [5]
    waits.settle(100)
    assert wait.outcome == Reached(1)


def test_a_wait_without_time_says_what_there_is(waits, others):
    others[:] = [5]
    assert waits.add(Lsn(5), 2, 7, 0).outcome == TimedOut(1, 2)


def test_the_end_of_the_reign_ends_waits(waits, others):
    others[:] = [5]
    met, unmet = waits.add(Lsn(6), 1, 0, 100), waits.add(Lsn(5), 2, 0, 100)
    others[:] = [6]
    waits.end()
    assert (met.outcome, unmet.outcome) == (Reached(1), TimedOut(1, 2))
    assert len(waits) == 0


def test_a_wait_that_nobody_waits_for_is_not_settled(waits):
    wait = waits.add(Lsn(5), 1, 0, 100)
    waits.forget(wait)
    waits.settle(1_000)
    assert wait.outcome is None
    waits.forget(wait)

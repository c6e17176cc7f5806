"""What one turn logs: batches that continue each other, within the room that there is (R1, R2)."""

from __future__ import annotations

from cluster.effects import Append, Reject
from cluster.log_room import LogRoom
from cluster.primary import FLIGHT_BYTES_MAX, refusal
from redwire.batch import BATCH_BYTES_SOFT, follows
from redwire.errors import Code


def test_a_turn_without_anything_is_nothing(lead):
    primary = lead().serve()
    assert primary.take() == primary.apply() == primary.durable() == []


def test_everything_that_waits_is_one_batch_and_one_append(lead):
    primary = lead().serve()
    (append,) = primary.take(primary.propose(count=2), primary.propose(size=7), primary.propose())
    assert (append.batch.first, append.batch.last, append.batch.watermark) == (2, 5, 1)
    assert bytes(append.batch.body) == b"".join(each.request for each in primary.propose.made)


def test_the_batches_of_a_reign_continue_each_other(lead, old_end):
    primary = lead(end=old_end, term=2).serve()
    for _ in range(3):
        primary.take(*(primary.propose(size=BATCH_BYTES_SOFT) for _ in range(2)))
        primary.durable()
    assert len(primary.log) == 7
    assert all(
        follows(later, batch.position) for batch, later in zip(primary.log, primary.log[1:], strict=False)
    )


def test_the_time_of_batches_rises_even_when_the_clock_does_not(lead):
    primary = lead("eu-1", rule="local")
    for at_ms in (1_000, 1_000, 400, 5_000):
        primary.ms = at_ms
        primary.begin() if not primary.log else primary.take(primary.propose())
        primary.durable()
        primary.apply()
    times = [batch.time_ms for batch in primary.log]
    assert times == [1_700_000_001_000, 1_700_000_001_001, 1_700_000_001_002, 1_700_000_005_000]


def test_our_disk_owes_two_batches_at_most(lead, of):
    primary = lead().serve()
    for size in (1_000, 5_000):
        assert len(of(Append, primary.take(primary.propose(size=size)))) == 1
    assert primary.take(primary.propose(size=50_000)) == []
    assert primary.durable(primary.log[-2].last) == []
    assert len(of(Append, primary.take())) == 1
    assert primary.take(primary.propose(size=500_000)) == []


def test_a_second_batch_is_made_when_it_is_as_large_as_the_first(lead, of):
    primary = lead().serve()
    (append,) = primary.take(primary.propose(size=1_000))
    assert primary.take() == []
    owed = len(append.batch.body)
    assert primary.take(primary.propose(size=owed - 1)) == []
    assert len(of(Append, primary.take(primary.propose(size=1)))) == 1


def test_what_is_not_applied_is_bounded_and_the_rest_waits(lead, of):
    primary = lead("eu-1", rule="local").serve()
    requests = FLIGHT_BYTES_MAX // (15 << 20) + 2
    for _ in range(requests):
        primary.take(primary.propose(size=15 << 20))
        primary.durable()
    assert FLIGHT_BYTES_MAX < primary.core.waiter.flight_bytes < FLIGHT_BYTES_MAX + (16 << 20)
    assert primary.core.backlog.size == 15 << 20
    primary.apply()
    assert len(of(Append, primary.take())) == 1


def test_what_the_log_has_no_room_for_is_refused_and_written_when_there_is(lead, of):
    primary = lead().serve()
    (reject,) = primary.take(primary.propose(), room=100)
    assert reject.error.code is Code.DISK_FULL
    assert len(of(Append, primary.take(primary.propose()))) == 1


def test_what_the_log_has_no_room_for_yet_waits_for_it(lead, of):
    primary = lead().serve()
    assert primary.take(primary.propose(), room=0, later=1_000) == []
    assert primary.core.backlog.requests == 1
    assert refusal(primary.core, LogRoom(0, 1_000), primary.now) is None
    assert len(of(Append, primary.take())) == 1


def test_without_room_whoever_waits_is_refused_however_much_is_not_applied(lead, of):
    primary = lead("eu-1", rule="local").serve()
    requests = FLIGHT_BYTES_MAX // (15 << 20) + 2
    for _ in range(requests):
        primary.take(primary.propose(size=15 << 20))
        primary.durable()
    assert primary.core.waiter.flight_bytes > FLIGHT_BYTES_MAX
    effects = primary.take(primary.propose(), room=0)
    assert [effect.error.code for effect in of(Reject, effects)] == [Code.DISK_FULL] * 2
    assert primary.core.backlog.size == 0


def test_early_answers_come_before_the_batches_of_the_turn(lead):
    primary = lead().serve()
    effects = primary.take(primary.propose(size=500), primary.propose(), room=600)
    assert [type(effect) for effect in effects] == [Reject, Append]

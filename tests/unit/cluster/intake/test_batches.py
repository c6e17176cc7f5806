"""What one turn makes batches of, and what has no room there, in flight or in the log (R1)."""

from __future__ import annotations

import pytest

from cluster.effects import Known, Reject
from cluster.intake import FRAMING_BYTES_MAX, Draft, Room
from redwire.batch import BATCH_BYTES_SOFT, BATCH_RECORDS_SOFT, HEADER_BYTES_MAX
from redwire.errors import Code
from tests.intake_world import AMPLE, EXECUTED, OUT_OF_REACH, codes, key, told

# Batches (R1)


def test_an_empty_intake_makes_no_batch_and_no_answer(intake, take, world):
    assert take() == ([], [])
    assert intake.expired(world.turn()) == intake.end() == []
    assert len(intake) == intake.queued.size == 0


def test_what_waits_at_once_is_one_batch_in_the_order_of_arrival(intake, take, propose):
    assert take(*(propose() for _ in range(5))) == ([[1, 2, 3, 4, 5]], [])
    assert len(intake) == intake.queued.size == 0


@pytest.mark.parametrize(
    ("sizes", "drafts"),
    [
        pytest.param([BATCH_BYTES_SOFT], [[1]], id="as large as a batch"),
        pytest.param([BATCH_BYTES_SOFT - 1, 1], [[1, 2]], id="to the last byte"),
        pytest.param([BATCH_BYTES_SOFT - 1, 2], [[1], [2]], id="a byte too many"),
        pytest.param([BATCH_BYTES_SOFT + 1, 1, 1], [[1], [2, 3]], id="a larger one first"),
        pytest.param([1, BATCH_BYTES_SOFT + 1, 1], [[1], [2], [3]], id="a larger one between"),
        pytest.param([15 << 20, 15 << 20], [[1], [2]], id="two of the largest"),
    ],
)
def test_a_batch_closes_at_a_mebibyte_and_a_larger_request_is_alone(sizes, drafts, take, propose):
    assert take(*(propose(size=size) for size in sizes)) == (drafts, [])


@pytest.mark.parametrize(
    ("counts", "drafts"),
    [
        ([BATCH_RECORDS_SOFT], [[1]]),
        ([BATCH_RECORDS_SOFT - 1, 1], [[1, 2]]),
        ([BATCH_RECORDS_SOFT - 1, 2], [[1], [2]]),
        ([10_000, 1], [[1], [2]]),
        ([1, 10_000, 1], [[1], [2], [3]]),
    ],
)
def test_a_batch_closes_at_4096_records_and_a_larger_request_is_alone(counts, drafts, take, propose):
    assert take(*(propose(count=count) for count in counts)) == (drafts, [])


def test_a_draft_counts_its_records_and_bytes(intake, world, propose):
    intake.add([propose(count=3, size=40), propose(count=2, size=2)])
    turn = world.turn()
    intake.take(turn, AMPLE)
    assert [(draft.records, draft.size) for draft in turn.drafts] == [(5, 42)]


def test_an_empty_draft_takes_whatever_comes(propose):
    assert not Draft().full_with(propose(size=15 << 20, count=10_000))


# Room


def test_without_a_batch_to_make_nobody_is_looked_at(intake, take, world, propose):
    world.errors["majority"] = OUT_OF_REACH
    assert take(propose(), room=AMPLE._replace(batches=0)) == ([], [])
    assert take(room=AMPLE._replace(batches=-1)) == ([], [])
    assert (len(intake), intake.queued.size, world.asked) == (1, 100, [])


def test_the_last_batch_that_may_be_made_is_filled(take, propose):
    assert take(*(propose() for _ in range(3)), room=AMPLE._replace(batches=1)) == ([[1, 2, 3]], [])


def test_no_more_batches_are_made_than_the_disk_may_owe(intake, take, propose):
    room = AMPLE._replace(batches=2)
    first = take(*(propose(size=BATCH_BYTES_SOFT) for _ in range(3)), propose(size=5), room=room)
    assert first == ([[1], [2]], [])
    assert (len(intake), intake.queued.size) == (2, BATCH_BYTES_SOFT + 5)
    assert take(room=room) == ([[3], [4]], [])


@pytest.mark.parametrize(("flight_bytes", "logged"), [(0, 0), (-5, 0), (1, 1), (100, 1), (101, 2), (200, 2)])
def test_what_flies_is_bounded_and_exceeded_by_one_request_at_most(
    flight_bytes, logged, intake, take, propose
):
    drafts, answers = take(*(propose() for _ in range(4)), room=AMPLE._replace(flight_bytes=flight_bytes))
    assert sum(map(len, drafts)) == logged and answers == []
    assert (len(intake), intake.queued.size) == (4 - logged, 100 * (4 - logged))


@pytest.mark.parametrize(
    ("log_bytes", "logged"),
    [
        (0, 0),
        (FRAMING_BYTES_MAX + 99, 0),
        (FRAMING_BYTES_MAX + 100, 1),
        (FRAMING_BYTES_MAX + 199, 1),
        (FRAMING_BYTES_MAX + 200, 2),
    ],
)
def test_what_the_log_has_no_room_for_is_refused_at_once(log_bytes, logged, intake, take, propose):
    drafts, answers = take(propose(), propose(), room=AMPLE._replace(log_bytes=log_bytes))
    assert sum(map(len, drafts)) == logged
    assert codes(answers) == [Code.DISK_FULL] * (2 - logged)
    assert all(answer.error.retry and answer.proposal.answered for answer in answers)
    assert len(intake) == intake.queued.size == 0


def test_each_batch_takes_its_framing_from_the_log(take, propose):
    largest = [propose(size=BATCH_BYTES_SOFT) for _ in range(2)]
    drafts, answers = take(
        *largest, room=AMPLE._replace(log_bytes=2 * (BATCH_BYTES_SOFT + FRAMING_BYTES_MAX) - 1)
    )
    assert (drafts, codes(answers)) == ([[1]], [Code.DISK_FULL])
    assert FRAMING_BYTES_MAX >= HEADER_BYTES_MAX


def test_a_smaller_request_may_have_room_where_a_larger_one_has_none(take, propose):
    drafts, answers = take(
        propose(size=5_000), propose(size=10), room=AMPLE._replace(log_bytes=FRAMING_BYTES_MAX + 10)
    )
    assert (drafts, told(answers)) == ([[2]], [(Reject, 1)])


def test_what_will_have_room_later_waits_and_all_behind_it_do(intake, take, propose):
    short = AMPLE._replace(log_bytes=FRAMING_BYTES_MAX + 500, later_bytes=FRAMING_BYTES_MAX + 5_000)
    drafts, answers = take(propose(size=400), propose(size=5_000), propose(size=10), room=short)
    assert (drafts, answers) == ([[1]], [])
    assert (len(intake), intake.queued.size) == (2, 5_010)
    assert take(room=short) == ([], [])
    assert take(room=AMPLE) == ([[2, 3]], [])
    assert len(intake) == intake.queued.size == 0


def test_what_will_never_have_room_is_refused_and_holds_nobody_up(intake, take, propose):
    short = AMPLE._replace(log_bytes=FRAMING_BYTES_MAX + 500, later_bytes=FRAMING_BYTES_MAX + 5_000)
    drafts, answers = take(propose(size=5_001), propose(size=10), room=short)
    assert (drafts, told(answers), codes(answers)) == ([[2]], [(Reject, 1)], [Code.DISK_FULL])


def test_who_waits_for_room_does_so_until_its_time_is_up(intake, take, world, propose):
    assert take(propose(deadline_ms=2_000), room=Room(0, 1 << 30, 100, 1 << 30)) == ([], [])
    world.ms = 2_000
    assert codes(intake.expired(world.turn())) == [Code.BUSY]
    assert len(intake) == intake.queued.size == 0


def test_a_key_is_looked_up_before_its_request_is_refused_for_want_of_room(take, world, propose):
    world.results[key(1).client, 1] = EXECUTED
    _, answers = take(propose(key=key(1)), propose(key=key(2)), room=AMPLE._replace(log_bytes=0))
    assert told(answers) == [(Known, 1), (Reject, 2)]


def test_who_is_out_of_reach_is_told_that_and_not_that_there_is_no_room(take, world, propose):
    world.errors["majority"] = OUT_OF_REACH
    assert codes(take(propose(), room=AMPLE._replace(log_bytes=0))[1]) == [Code.INSUFFICIENT_REPLICAS]


def test_an_answer_needs_no_room_in_the_batches(intake, take, world, propose):
    """Nor is anybody logged who was given one: there is no second batch yet, and ack_n=2 is refused now."""
    world.errors["ack_n=2"] = OUT_OF_REACH
    first = propose(size=BATCH_BYTES_SOFT), propose("ack_n=2"), propose(size=BATCH_BYTES_SOFT)
    drafts, answers = take(*first, room=AMPLE._replace(batches=1))
    assert (drafts, told(answers)) == ([[1]], [(Reject, 2)])
    world.errors.clear()
    assert take() == ([[3]], [])
    assert len(intake) == intake.queued.size == 0

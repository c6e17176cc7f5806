"""Before the log: what a turn logs, holds back or answers, and what it says of a key (R1, R8, R9)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.effects import Fate, Flight, Known, Now, Proposal, Reject, Result, Unconfirmed
from cluster.intake import FRAMING_BYTES_MAX, Draft, Intake, Room, Turn
from cluster.policies import Policies
from redwire.batch import BATCH_BYTES_SOFT, BATCH_RECORDS_SOFT, HEADER_BYTES_MAX
from redwire.errors import Code, RedwireError, Refused
from redwire.position import Lsn, NodeId, Region
from redwire.record import Key
from regions.binding import Member, Membership
from regions.commit_policy import LOCAL
from regions.errors import InsufficientReplicas

AMPLE = Room(1 << 30, 1 << 30, 100)
EXECUTED = Result(Fate.DUPLICATE, 7, bytes(9))
FORGOTTEN = Result(Fate.EXPIRED)
VOTERS = Membership(tuple(Member(NodeId(name), Region(name[:2])) for name in ("eu-1", "us-1", "ap-1")))
POLICIES = Policies(LOCAL, LOCAL, VOTERS, NodeId("eu-1"))


def key(sequence: int, oldest: int = 1) -> Key:
    return Key(b"c" * 16, sequence, oldest)


@dataclass
class World:
    """What an intake asks about: `results` of keys, and by policy who is out of reach."""

    ready: bool = True
    complete: bool = True
    grace: bool = False
    ms: int = 1_000
    results: dict[tuple[bytes, int], Result] = field(default_factory=dict)
    errors: dict[str, RedwireError] = field(default_factory=dict)
    flights: deque[Flight] = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)

    def lookup(self, asked: Key) -> Result | None:
        return self.results.get((asked.client, asked.sequence))

    def reached(self, policy: object) -> Lsn:
        return Lsn(self.met.get(str(policy), 0))

    def refusal(self, policy: object, now_ms: int) -> RedwireError | None:
        assert now_ms == self.ms
        self.asked.append(str(policy))
        return self.errors.get(str(policy))

    def turn(self) -> Turn:
        hold = None if self.ready else Refused(Code.NOT_READY, "not yet")
        return Turn(Now(self.ms * 1000, 0), hold, self.complete, self.grace)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def intake(world) -> Intake:
    return Intake(world.lookup, world.reached, world.refusal, world.flights, POLICIES)


@pytest.fixture
def take(intake, world):
    """A turn with these proposals: its drafts, by number, and its answers."""

    def taken(*proposals, room=AMPLE):
        intake.add(proposals)
        turn = world.turn()
        answers = intake.take(turn, room)
        return [[each.correlation for each in draft.proposals] for draft in turn.drafts], answers

    return taken


OUT_OF_REACH = InsufficientReplicas(1, 0)


def told(answers) -> list[tuple[type, int]]:
    return [(type(answer), answer.proposal.correlation) for answer in answers]


def codes(answers) -> list[Code]:
    return [answer.error.code for answer in answers]


# Batches (R1)


def test_an_empty_intake_makes_no_batch_and_no_answer(intake, take, world):
    assert take() == ([], [])
    assert intake.expired(world.turn()) == intake.end() == []
    assert len(intake) == intake.waiting_bytes == 0


def test_what_waits_at_once_is_one_batch_in_the_order_of_arrival(intake, take, propose):
    assert take(*(propose() for _ in range(5))) == ([[1, 2, 3, 4, 5]], [])
    assert len(intake) == intake.waiting_bytes == 0


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
    assert (len(intake), intake.waiting_bytes, world.asked) == (1, 100, [])


def test_the_last_batch_that_may_be_made_is_filled(take, propose):
    assert take(*(propose() for _ in range(3)), room=AMPLE._replace(batches=1)) == ([[1, 2, 3]], [])


def test_no_more_batches_are_made_than_the_disk_may_owe(intake, take, propose):
    room = AMPLE._replace(batches=2)
    first = take(*(propose(size=BATCH_BYTES_SOFT) for _ in range(3)), propose(size=5), room=room)
    assert first == ([[1], [2]], [])
    assert (len(intake), intake.waiting_bytes) == (2, BATCH_BYTES_SOFT + 5)
    assert take(room=room) == ([[3], [4]], [])


@pytest.mark.parametrize(("flight_bytes", "logged"), [(0, 0), (-5, 0), (1, 1), (100, 1), (101, 2), (200, 2)])
def test_what_flies_is_bounded_and_exceeded_by_one_request_at_most(
    flight_bytes, logged, intake, take, propose
):
    drafts, answers = take(*(propose() for _ in range(4)), room=AMPLE._replace(flight_bytes=flight_bytes))
    assert sum(map(len, drafts)) == logged and answers == []
    assert (len(intake), intake.waiting_bytes) == (4 - logged, 100 * (4 - logged))


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
    assert len(intake) == intake.waiting_bytes == 0


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
    assert len(intake) == intake.waiting_bytes == 0


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
    assert (len(intake), intake.waiting_bytes) == (1, 100)
    world.grace = False
    assert take() == ([], [])  # nothing was said to have changed
    intake.recheck()
    assert take() == ([], [Reject(propose.made[0], OUT_OF_REACH)])
    assert propose.made[0].answered
    assert len(intake) == intake.waiting_bytes == 0


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
    assert (len(intake), intake.waiting_bytes) == (2, 200)


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
    assert len(intake) == intake.waiting_bytes == len(intake.expired(world.turn())) == 0


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
    assert intake.waiting_bytes == 400
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


# Keys (R9)


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
    assert proposal.answered and len(intake) == intake.waiting_bytes == 0


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


# The end


def test_the_end_of_the_reign_answers_everybody_and_refuses_first_attempts_only(intake, take, world, propose):
    world.ready = False
    take(propose(key=key(1)), propose(key=key(2), attempt=2))
    intake.add([propose(), propose(key=key(3), attempt=3)])
    answers = intake.end()
    assert told(answers) == [(Reject, 1), (Unconfirmed, 2), (Reject, 3), (Unconfirmed, 4)]
    assert {answer.error.code for answer in answers if isinstance(answer, Reject)} == {Code.NOT_PRIMARY}
    assert all(proposal.answered for proposal in propose.made)
    assert len(intake) == intake.waiting_bytes == len(intake.end()) == 0
    intake.recheck()
    assert take() == ([], [])


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("propose"),
            st.tuples(
                st.sampled_from(["majority", "ack_n=2"]),
                st.sampled_from([10, 1_000, BATCH_BYTES_SOFT - 900]),
                st.integers(1, 6),
                st.integers(1, 2),
            ),
        ),
        st.tuples(
            st.just("take"),
            st.tuples(
                st.sampled_from([0, 3_000, 1 << 30]),
                st.sampled_from([0, 1_500, 1 << 30]),
                st.integers(0, 3),
            ),
        ),
        st.tuples(st.sampled_from(["ready", "grace", "reach", "recheck"]), st.booleans()),
        st.tuples(st.just("wait"), st.integers(0, 3)),
    ),
    max_size=60,
)


@given(steps=STEPS)
def test_every_proposal_is_logged_or_answered_once_and_its_bytes_are_counted(steps, makers):
    (_, propose), world = makers(), World(ready=False)
    intake = Intake(world.lookup, world.reached, world.refusal, world.flights, POLICIES)
    left: dict[int, Proposal] = {}

    def leave(proposal: Proposal, *, answered: bool) -> None:
        assert left.pop(proposal.correlation) is proposal
        assert proposal.answered is answered

    for step, what in steps:
        match step, what:
            case "propose", (policy, size, patience, attempt):
                number = len(propose.made) + 1
                made = propose(
                    policy, size=size, deadline_ms=world.ms + patience, key=key(number), attempt=attempt
                )
                left[made.correlation] = made
                intake.add([made])
            case "take", room:
                turn = world.turn()
                for answer in intake.take(turn, Room(*room)):
                    leave(answer.proposal, answered=True)
                assert len(turn.drafts) <= max(0, room[2])
                for draft in turn.drafts:
                    assert world.ready
                    assert draft.size <= BATCH_BYTES_SOFT or len(draft.proposals) == 1
                    for proposal in draft.proposals:
                        assert proposal.deadline_us > world.ms * 1000
                        assert proposal.policy.text not in world.errors
                        leave(proposal, answered=False)
            case "wait", ms:
                world.ms += ms
                for answer in intake.expired(world.turn()):
                    leave(answer.proposal, answered=True)
                assert all(proposal.deadline_us > world.ms * 1000 for proposal in left.values())
            case "recheck", _:
                intake.recheck()
            case "reach", reached:
                world.errors = {} if reached else {"ack_n=2": OUT_OF_REACH}
            case _:
                setattr(world, step, what)
        assert len(intake) == len(left)
        assert intake.waiting_bytes == sum(len(proposal.request) for proposal in left.values())
    for answer in intake.end():
        leave(answer.proposal, answered=True)
    assert not left

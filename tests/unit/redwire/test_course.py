"""The client's half of R8 and R9: what follows from what happened to a write."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.course import PAUSE_MAX_S, Again, Ask, Course, End, Rekey
from redwire.errors import (
    AuthenticationFailed,
    ChannelClosed,
    Code,
    DeadlineExceeded,
    NotConfirmed,
    RedwireError,
    Refused,
    RequestInvalid,
    UnknownOutcome,
)

BUSY, FORBIDDEN = Refused(Code.BUSY, "busy"), Refused(Code.FORBIDDEN, "no")
EXPIRED, INVALID = Refused(Code.KEY_EXPIRED, "gone"), RequestInvalid("bad")
LOST = ChannelClosed("broke")


def logged() -> NotConfirmed:
    """As a primary says it that has logged the request: with a receipt."""
    error = NotConfirmed("too few copies")
    error.receipt = object()
    return error


def final() -> NotConfirmed:
    """As no node of ours says it: another try cannot help."""
    error = NotConfirmed("cannot look back")
    error.retry = False
    return error


LOGGED, UNSETTLED, FINAL = logged(), NotConfirmed("cannot look back"), final()

TABLE = [
    # (what happened, in order; the kind of step that follows; the attempt of the next send)
    ([BUSY], Again, 1),
    ([FORBIDDEN], End, 1),
    ([INVALID], End, 1),
    ([LOGGED], End, 1),
    ([UNSETTLED], End, 1),
    ([EXPIRED], Rekey, 1),
    ([EXPIRED, EXPIRED], End, 1),
    (["lost"], Again, 2),
    (["lost", "lost"], Again, 3),
    (["lost", BUSY], Again, 2),
    (["lost", FORBIDDEN], Ask, 2),
    (["lost", LOGGED], End, 2),
    (["lost", UNSETTLED], Again, 2),
    (["lost", FINAL], Again, 2),
    (["lost", EXPIRED], End, 2),
    ([BUSY, "lost", INVALID], Ask, 2),
]


def walk(events: list[object]) -> tuple[Course, object]:
    course, step = Course(random.Random(1), in_flight=True), None
    for event in events:
        step = course.lost(LOST) if event == "lost" else course.failed(event)
        course.sent()
    return course, step


@pytest.mark.parametrize(("events", "step", "attempt"), TABLE)
def test_each_event_has_its_step(events, step, attempt) -> None:
    course, last = walk(events)
    assert isinstance(last, step)
    assert course.attempt == attempt


def test_an_expired_key_after_a_lost_attempt_is_an_unknown_outcome() -> None:
    _, step = walk(["lost", EXPIRED])
    assert isinstance(step.error, UnknownOutcome)
    _, step = walk([EXPIRED, EXPIRED])
    assert step.error is EXPIRED


@pytest.mark.parametrize(
    ("code", "lonely"),
    [(Code.INSUFFICIENT_REPLICAS, True), (Code.MISSING_REGIONS, True), (Code.BUSY, False)],
)
def test_a_primary_without_its_members_is_told_from_a_busy_one(code: Code, lonely: bool) -> None:
    course = Course(random.Random(1), in_flight=True)
    assert not course.lonely
    course.failed(Refused(code, "not now"))
    assert course.lonely == lonely


def test_a_primary_that_cannot_tell_of_an_earlier_attempt_may_be_cut_off() -> None:
    course, _ = walk(["lost"])
    assert not course.lonely
    course.failed(UNSETTLED)
    assert course.lonely


def test_asking_ends_with_the_refusal_only_when_the_key_is_absent() -> None:
    course, _ = walk(["lost", FORBIDDEN])
    assert isinstance(course.unanswered(LOST), Ask)
    assert isinstance(course.unanswered(UNSETTLED), Ask)
    assert course.absent() == End(FORBIDDEN)
    assert isinstance(course.unanswered(EXPIRED).error, UnknownOutcome)


def test_who_may_neither_write_any_more_nor_ask_is_told_so_at_once_and_no_refusal() -> None:
    course, _ = walk(["lost", FORBIDDEN])
    unknown = course.unanswered(FORBIDDEN).error
    assert isinstance(unknown, UnknownOutcome) and "FORBIDDEN" in unknown.message
    assert unknown.hint == "an administrator may ask for the key"
    course, _ = walk([UNSETTLED, FORBIDDEN])
    assert isinstance(course.unanswered(FORBIDDEN).error, NotConfirmed)


def test_who_is_let_in_nowhere_any_more_is_told_so_at_once_unless_another_try_may_help() -> None:
    stranger = AuthenticationFailed("the password is wrong")
    course, _ = walk(["lost", stranger])
    unknown = course.unanswered(stranger).error
    assert isinstance(unknown, UnknownOutcome) and "the password is wrong" in unknown.message
    stranger.retry = True
    assert isinstance(course.unanswered(stranger), Ask)


@pytest.mark.parametrize(
    ("events", "in_flight", "error"),
    [
        ([], True, UnknownOutcome),
        ([], False, DeadlineExceeded),
        ([BUSY], False, Refused),
        ([BUSY], True, UnknownOutcome),
        (["lost"], False, UnknownOutcome),
        (["lost", BUSY], False, UnknownOutcome),
        (["lost", UNSETTLED], False, NotConfirmed),
    ],
)
def test_the_deadline_says_what_is_known_and_no_more(events, in_flight, error) -> None:
    course, _ = walk(events)
    course.in_flight = in_flight
    outcome = course.timed_out("select", 0.5, "cannot connect")
    assert type(outcome) is error
    if error in (UnknownOutcome, DeadlineExceeded):
        assert outcome.phase == "select" and "0.5 s" in str(outcome) and "cannot connect" in str(outcome)


@pytest.mark.parametrize(
    ("events", "in_flight", "error"),
    [
        ([], True, UnknownOutcome),
        ([], False, ChannelClosed),
        ([BUSY], False, Refused),
        (["lost"], False, UnknownOutcome),
        (["lost", UNSETTLED], False, NotConfirmed),
    ],
)
def test_the_end_of_a_client_is_no_deadline(events, in_flight, error) -> None:
    course, _ = walk(events)
    course.in_flight = in_flight
    outcome = course.abandoned()
    assert type(outcome) is error
    if error in (UnknownOutcome, ChannelClosed):
        assert "before the client was closed" in str(outcome) and "within" not in str(outcome)


@given(st.lists(st.sampled_from(["lost", BUSY, FORBIDDEN, INVALID, UNSETTLED, LOGGED, EXPIRED]), max_size=12))
def test_what_may_be_in_the_log_is_never_called_refused(events) -> None:
    course = Course(random.Random(1), in_flight=True)
    doubt = False
    for event in events:
        step = course.lost(LOST) if event == "lost" else course.failed(event)
        doubt = doubt or event == "lost" or isinstance(event, NotConfirmed)
        if isinstance(step, End):
            certain: tuple[type[RedwireError], ...] = (NotConfirmed, UnknownOutcome)
            assert not doubt or isinstance(step.error, certain)
            return
        if isinstance(step, Again | Ask):
            assert 0 <= step.pause_s <= PAUSE_MAX_S
        course.sent()
    course.in_flight = False
    if doubt:
        assert isinstance(course.timed_out("answer", 1, ""), NotConfirmed | UnknownOutcome)


def test_what_an_attempt_was_lost_for_is_said_once() -> None:
    course, _ = walk(["lost"])
    course.in_flight = False
    assert str(course.timed_out("answer", 1, LOST.message)).count(LOST.message) == 1
    assert "eu-2 is down" in str(course.timed_out("answer", 1, f"{LOST.message}; eu-2 is down"))


def test_a_deadline_is_told_as_it_was_given() -> None:
    sent = Course(random.Random(7), in_flight=True)
    for told, given_s in (("0.03", 0.03), ("4", 4), ("12.5", 12.5), ("1e-09", 1e-9)):
        assert f"within {told} s" in str(sent.timed_out("answer", given_s, ""))


def test_pauses_double_up_to_a_second_and_half_of_each_is_chance() -> None:
    course = Course(random.Random(7), in_flight=True)
    pauses = [course.failed(BUSY).pause_s for _ in range(10)]
    for number, pause_s in enumerate(pauses):
        full = min(0.02 * 2**number, PAUSE_MAX_S)
        assert full / 2 <= pause_s <= full

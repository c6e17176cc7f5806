"""What is told of a line that is down."""

from __future__ import annotations

from cluster.links import SAY_AGAIN_S, Reasons


def test_a_reason_is_told_once_and_a_new_one_at_once() -> None:
    reasons = Reasons()
    assert [reasons.news("refused", at) for at in (0, 1, 10 * SAY_AGAIN_S)] == [True, False, False]
    assert reasons.news("no route", 10 * SAY_AGAIN_S + 1)


def test_reasons_that_take_turns_are_told_now_and_then_and_the_last_line_is_true_in_the_end() -> None:
    """As at a door that takes connections for a process that is gone: the reset comes sooner or later."""
    reasons = Reasons()
    told = [at for at in range(2 * int(SAY_AGAIN_S)) if reasons.news("reset" if at % 2 else "TLS", at)]
    assert told == [0, 1, SAY_AGAIN_S, SAY_AGAIN_S + 1]
    assert not reasons.news("TLS", 2 * SAY_AGAIN_S - 1)
    assert reasons.news("TLS", 2 * SAY_AGAIN_S)


def test_what_was_told_before_the_line_was_up_is_told_again() -> None:
    reasons = Reasons()
    assert reasons.news("refused", 0)
    reasons.over()
    assert reasons.news("refused", 1)

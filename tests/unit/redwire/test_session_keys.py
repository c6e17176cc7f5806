"""The window of open sequences: order is free, and nothing is let go of that somebody waits for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from redwire.record import OPEN_MAX
from redwire.session_keys import ANSWERED_MAX, SessionKeys, WriteKey

CLIENT = bytes(range(16))


def taken(count: int) -> SessionKeys:
    keys = SessionKeys(CLIENT)
    assert [keys.take() for _ in range(count)] == list(range(1, count + 1))
    return keys


def test_a_new_client_has_nothing_open() -> None:
    keys = SessionKeys(CLIENT)
    assert (keys.oldest, keys.full) == (1, False)


def test_the_oldest_moves_over_what_was_closed_out_of_order() -> None:
    keys = taken(5)
    keys.close(3)
    keys.close(2)
    assert keys.oldest == 1
    keys.close(1)
    assert keys.oldest == 4


def test_closing_twice_changes_nothing() -> None:
    keys = taken(3)
    for sequence in (1, 1, 3, 3, 1):
        keys.close(sequence)
    assert keys.oldest == 2


def test_a_full_window_has_no_place_until_the_oldest_is_closed() -> None:
    keys = taken(OPEN_MAX)
    keys.close(2)
    assert keys.full and keys.take() == 0
    keys.close(1)
    assert not keys.full and keys.oldest == 3
    assert [keys.take(), keys.take(), keys.take()] == [OPEN_MAX + 1, OPEN_MAX + 2, 0]


def test_what_is_only_kept_gives_its_place_when_it_is_needed() -> None:
    keys = taken(OPEN_MAX)
    keys.keep(1)
    assert keys.oldest == 1 and not keys.full
    assert keys.take() == OPEN_MAX + 1
    assert keys.oldest == 2
    keys.keep(1)  # already let go
    keys.keep(3)
    keys.close(2)
    assert keys.oldest == 3


def test_of_answers_to_keys_that_were_shown_the_last_ones_are_kept() -> None:
    keys = taken(ANSWERED_MAX + 3)
    for sequence in range(1, ANSWERED_MAX + 4):
        keys.show(sequence)
    for sequence in range(1, ANSWERED_MAX + 1):
        keys.answered(sequence)
    assert keys.oldest == 1 and not keys.stuck
    keys.answered(ANSWERED_MAX + 2)
    assert keys.oldest == 2
    keys.close(2)  # somebody has asked for it
    assert keys.oldest == 3
    keys.answered(ANSWERED_MAX + 1)
    keys.answered(ANSWERED_MAX + 3)
    assert keys.oldest == 4


def test_a_key_that_was_asked_for_may_be_asked_for_again_until_many_others_were() -> None:
    keys = taken(ANSWERED_MAX + 3)
    keys.resolved(1)  # its own call still waits
    keys.keep(1)
    for _ in range(2):
        for sequence in range(1, ANSWERED_MAX + 1):
            keys.keep(sequence)
            keys.resolved(sequence)
    assert keys.oldest == 1
    keys.keep(ANSWERED_MAX + 1)
    keys.resolved(ANSWERED_MAX + 1)
    assert keys.oldest == 2
    keys.resolved(1)  # already let go
    assert keys.oldest == 2


def test_an_answer_to_a_key_that_nobody_looked_at_before_is_not_kept() -> None:
    keys = taken(3)
    keys.answered(1)
    assert keys.oldest == 2
    keys.show(1)
    keys.answered(2)
    assert keys.oldest == 3


def test_a_closed_sequence_is_not_kept() -> None:
    keys = taken(OPEN_MAX)
    keys.close(2)
    keys.keep(2)
    keys.close(1)
    assert keys.oldest == 3


def test_a_key_carries_the_ids_and_never_an_oldest_above_itself() -> None:
    keys = taken(2)
    keys.close(1)
    keys.close(2)
    assert keys.key(2, ["a"], atomic=False) == WriteKey(CLIENT, 2, 2, ("a",), atomic=False)


@given(st.lists(st.tuples(st.sampled_from(["take", "close", "keep"]), st.integers(1, 40)), max_size=80))
def test_the_window_agrees_with_a_plain_set(steps) -> None:
    keys, open_, next_ = SessionKeys(CLIENT), set(), 1
    for step, sequence in steps:
        if step == "take":
            assert keys.take() == next_
            open_.add(next_)
            next_ += 1
        elif sequence < next_:
            if step == "close":
                keys.close(sequence)
                open_.discard(sequence)
            else:
                keys.keep(sequence)
        assert keys.oldest == min(open_, default=next_)

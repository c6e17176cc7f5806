"""Which word was probably meant."""

from __future__ import annotations

import pytest

from redwire.spelling import guess, nearest


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("regoin", "region"),
        ("REGION", "region"),
        ("rgion", "region"),
        ("regionn", "region"),
        ("xegion", "region"),
        ("rx", None),
        ("", None),
        ("xyz", None),
        ("i", "id"),
        ("reg", "region"),
        ("re", None),
    ],
)
def test_the_nearest_word_is_one_that_could_have_been_meant(word: str, meant: str | None) -> None:
    assert nearest(word, ["id", "region", "addr"]) == meant


def test_nothing_is_near_when_there_is_nothing() -> None:
    assert nearest("id", []) is None


def test_a_guess_is_a_question_and_without_one_there_is_something_else_to_say() -> None:
    assert guess("regoin", ["id", "region"], "there are two") == "did you mean region?"
    assert (guess("xyz", ["id", "region"], "there are two"), guess("xyz", [])) == ("there are two", "")

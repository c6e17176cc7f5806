"""Errors: what stays the same when somebody who knows the place by another name says them again."""

from __future__ import annotations

import pytest

from redwire.errors import Code, RequestInvalid, TooLarge


@pytest.mark.parametrize("to", [None, 0, 7])
@pytest.mark.parametrize(
    ("given", "facts"),
    [
        (RequestInvalid("the document is empty", 3, hint="an object"), {}),
        (TooLarge("rows", 12, 10, code=Code.BATCH_TOO_LARGE, record=3), {"size": 12, "limit": 10}),
    ],
    ids=["invalid", "too large"],
)
def test_a_refusal_at_another_place_differs_by_the_place_alone(
    given: RequestInvalid, facts: dict[str, object], to: int | None
) -> None:
    moved = given.at(to)
    place, fact = ("", {}) if to is None else (f"record {to}: ", {"record": to})
    assert moved.message == place + given.reason and str(moved) == f"{moved.message}; {given.hint}"
    assert (type(moved), moved.code, moved.hint) == (type(given), given.code, given.hint)
    assert (moved.record, moved.reason, moved.facts) == (to, given.reason, facts | fact)
    assert given.at(3).facts == given.facts


def test_what_a_server_said_beside_it_goes_along() -> None:
    given = RequestInvalid("busy with it", 0)
    given.retry = True
    given.facts["since"] = 5
    moved = given.at(None)
    assert moved.retry and moved.facts == {"since": 5}

"""The order in which many askers are served, beside a model that looks at all of them each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.turns import Turns


def turns(*items: str) -> Turns[str]:
    """What waits, each named by its asker and a number."""
    made = Turns[str](lambda item: item[0])
    for item in items:
        made.append(item)
    return made


def served(waiting: Turns[str]) -> list[str]:
    return [waiting.popleft() for _ in range(len(waiting))]


@pytest.mark.parametrize(
    ("came", "order"),
    [
        ([], []),
        (["a1"], ["a1"]),
        (["a1", "a2", "a3"], ["a1", "a2", "a3"]),
        (["a1", "a2", "a3", "b1"], ["a1", "b1", "a2", "a3"]),
        (["a1", "a2", "b1", "b2", "c1"], ["a1", "b1", "c1", "a2", "b2"]),
    ],
)
def test_each_asker_has_its_turn_and_its_own_come_in_their_order(came: list[str], order: list[str]) -> None:
    assert served(turns(*came)) == order


def test_whoever_comes_while_another_has_much_waiting_is_next_but_one_at_most() -> None:
    waiting = turns(*(f"a{n}" for n in range(100)))
    assert waiting.popleft() == "a0"
    waiting.append("b0")
    assert [waiting.popleft(), waiting.popleft()] == ["a1", "b0"]


def test_nothing_is_taken_from_nothing() -> None:
    with pytest.raises(KeyError):
        turns().popleft()


@given(st.lists(st.sampled_from(["a", "b", "c", None])))
def test_nothing_is_lost_and_nobody_waits_longer_than_a_round(steps: list[str | None]) -> None:
    waiting, model = turns(), list[str]()
    passed = dict[str, list[str]]()  # whom others were served before, since it began to wait
    for number, asker in enumerate(steps):
        if asker is not None:
            waiting.append(f"{asker}{number}")
            model.append(f"{asker}{number}")
            passed.setdefault(asker, [])
        elif model:
            item = waiting.popleft()
            assert item == next(other for other in model if other[0] == item[0])
            model.remove(item)
            del passed[item[0]]
            for overtaken in passed.values():
                overtaken.append(item[0])
                assert len(set(overtaken)) == len(overtaken)
            if any(other[0] == item[0] for other in model):
                passed[item[0]] = []
        assert len(waiting) == len(model)

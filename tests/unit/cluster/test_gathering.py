"""When a batch waits for others: never for long, never alone, and callers in a loop fall into step."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.gathering import ENOUGH, FEW, PATIENCE_SHARE, PATIENCE_US_MAX, Gathering

COMMIT_US = 2_000


def usual(level: int) -> Gathering:
    gathering = Gathering()
    gathering.made(level)
    return gathering


@pytest.mark.parametrize("under_way", [1, 2, FEW - 1])
def test_where_few_come_nobody_waits(under_way: int) -> None:
    gathering = Gathering()
    for now_us in range(0, 100_000, COMMIT_US):
        assert gathering.patience_us(1, COMMIT_US, now_us) == 0
        gathering.made(under_way)


def test_who_waits_for_others_does_so_for_a_part_of_a_commit_from_the_first_one_on() -> None:
    gathering = usual(8)
    assert gathering.patience_us(1, COMMIT_US, 10_000) == COMMIT_US // PATIENCE_SHARE
    assert gathering.patience_us(5, COMMIT_US, 10_300) == COMMIT_US // PATIENCE_SHARE - 300
    assert gathering.patience_us(7, COMMIT_US, 10_000 + COMMIT_US // PATIENCE_SHARE) == 0
    gathering.made(7)
    assert gathering.patience_us(1, COMMIT_US, 20_000) == COMMIT_US // PATIENCE_SHARE


@pytest.mark.parametrize(
    ("waiting", "level", "took_us", "patience_us"),
    [
        (8, 8, COMMIT_US, 0),
        (7, 8, COMMIT_US, COMMIT_US // PATIENCE_SHARE),
        (ENOUGH, 1_000, COMMIT_US, 0),
        (ENOUGH - 1, 1_000, COMMIT_US, COMMIT_US // PATIENCE_SHARE),
        (1, 8, 80_000, PATIENCE_US_MAX),
        (1, 8, 0, 0),
    ],
)
def test_all_who_usually_come_are_enough_and_nobody_waits_for_long(
    waiting: int, level: int, took_us: int, patience_us: int
) -> None:
    assert usual(level).patience_us(waiting, took_us, 5) == patience_us


def test_who_has_left_is_waited_for_less_and_less() -> None:
    gathering, waited = usual(64), 0
    for now_us in range(0, 1_000_000, 10_000):
        waited += gathering.patience_us(1, COMMIT_US, now_us) > 0
        gathering.made(1)
    assert 16 < waited < 60


@given(
    st.lists(
        st.tuples(st.integers(1, 200), st.integers(0, 200), st.integers(0, 50_000), st.integers(0, 20_000))
    )
)
def test_nobody_ever_waits_longer_than_the_patience_from_the_first_one_on(
    steps: list[tuple[int, int, int, int]],
) -> None:
    gathering, now_us, first_us = Gathering(), 0, None
    for waiting, under_way, took_us, passed_us in steps:
        now_us += passed_us
        first_us = now_us if first_us is None else first_us
        left_us = gathering.patience_us(waiting, took_us, now_us)
        assert 0 <= left_us <= max(0, first_us + min(took_us // PATIENCE_SHARE, PATIENCE_US_MAX) - now_us)
        if not left_us:
            gathering.made(waiting + under_way)
            first_us = None


@pytest.mark.parametrize("callers", [4, 8, 32])
def test_callers_who_each_wait_for_their_answer_share_their_batches(callers: int) -> None:
    """They come back one after the other, within a third of what a commit takes; each began at a time of its
    own. Without patience nearly every one of them has a batch for itself here, for ever.
    """
    chance = random.Random(3)
    gathering, waiting, under_way, now_us = Gathering(), 0, 0, 0
    coming = [(chance.randrange(10 * COMMIT_US), 1) for _ in range(callers)]
    heapq.heapify(coming)
    done: list[tuple[int, int]] = []
    sizes: list[int] = []
    while len(sizes) < 200:
        now_us += 20
        while done and done[0][0] <= now_us:
            _, answered = heapq.heappop(done)
            under_way -= answered
            for _ in range(answered):
                heapq.heappush(coming, (now_us + chance.randrange(COMMIT_US // 3), 1))
        while coming and coming[0][0] <= now_us:
            waiting += heapq.heappop(coming)[1]
        if waiting and gathering.patience_us(waiting, COMMIT_US, now_us) == 0:
            gathering.made(waiting + under_way)
            heapq.heappush(done, (now_us + COMMIT_US, waiting))
            sizes.append(waiting)
            waiting, under_way = 0, under_way + waiting
    assert sum(sizes[100:]) / 100 > callers / 5

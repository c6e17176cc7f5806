"""When a rising number passed a value: exact where it is fresh, never too young, bounded for ever."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from redwire.position import Lsn
from regions.trail import BUCKET_MS, BUCKETS_MAX, Trail


def test_a_number_that_has_not_moved_has_passed_nothing() -> None:
    trail = Trail(Lsn(10), 1000)
    assert trail.passed_ms(Lsn(10)) is None
    assert trail.size_above(Lsn(10)) == 0
    assert trail.value == 10


def test_a_value_was_passed_when_the_number_rose_above_it() -> None:
    trail = Trail(Lsn(10), 1000)
    trail.rise(Lsn(12), 2000, 200)
    trail.rise(Lsn(20), 3000, 800)
    assert [trail.passed_ms(Lsn(n)) for n in (10, 11, 12, 19, 20)] == [2000, 2000, 3000, 3000, None]
    assert [trail.size_above(Lsn(n)) for n in (10, 11, 12, 16, 19, 20, 21)] == [
        1000,
        900,
        800,
        400,
        100,
        0,
        0,
    ]


def test_lower_and_equal_numbers_change_nothing() -> None:
    trail = Trail(Lsn(10), 1000)
    trail.rise(Lsn(12), 2000, 5)
    trail.rise(Lsn(12), 3000, 5)
    trail.rise(Lsn(11), 3000, 5)
    assert (trail.value, trail.size, trail.passed_ms(Lsn(11))) == (12, 5, 2000)


def test_before_memory_the_earliest_known_time_stands() -> None:
    trail = Trail(Lsn(10), 1000)
    trail.rise(Lsn(12), 2000, 5)
    assert not trail.reaches(Lsn(9))
    assert trail.reaches(Lsn(10))
    assert trail.passed_ms(Lsn(3)) == 1000
    assert trail.size_above(Lsn(3)) is None


def test_moves_within_one_bucket_share_its_start() -> None:
    trail = Trail(Lsn(0), 0)
    trail.rise(Lsn(1), 100)
    trail.rise(Lsn(2), 100 + BUCKET_MS - 1)
    trail.rise(Lsn(3), 100 + BUCKET_MS)
    assert [trail.passed_ms(Lsn(n)) for n in (0, 1, 2)] == [100, 100, 150]


def test_memory_is_bounded_over_any_time_and_still_reaches_back() -> None:
    trail = Trail(Lsn(0), 0)
    for n in range(1, 50_001):
        trail.rise(Lsn(n), n * BUCKET_MS, 10)
    assert len(trail._starts) <= BUCKETS_MAX
    assert len(trail._starts) == len(trail._ends) == len(trail._sizes)
    assert trail._ends == sorted(set(trail._ends))
    now = 50_000 * BUCKET_MS
    for n in (0, 1, 100, 10_000, 40_000, 49_990, 49_999):
        true_age = now - (n + 1) * BUCKET_MS
        passed = trail.passed_ms(Lsn(n))
        assert passed is not None
        assert true_age <= now - passed <= true_age + true_age // 8 + BUCKET_MS
        assert trail.size_above(Lsn(n)) == 10 * (50_000 - n)


def test_a_history_that_does_not_fit_is_told_more_coarsely() -> None:
    trail, now = Trail(Lsn(0), 0), 0
    for n in range(1, 2 * BUCKETS_MAX):
        now += round(
            BUCKET_MS * 1.15 ** (2 * BUCKETS_MAX - n)
        )  # each step too long to be an eighth of its age
        trail.rise(Lsn(n), now)
        assert len(trail._starts) <= BUCKETS_MAX
    assert trail.passed_ms(Lsn(2 * BUCKETS_MAX - 2)) == now


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 50)), min_size=1, max_size=600))
def test_no_value_is_said_to_have_been_passed_later_than_it_was(steps: list[tuple[int, int]]) -> None:
    trail, now, value, truth = Trail(Lsn(0), 0), 0, 0, {}
    for wait_ms, records in steps:
        now += wait_ms
        for lsn in range(value, value + records):
            truth[lsn] = now
        value += records
        trail.rise(Lsn(value), now, records)
    for lsn, when in truth.items():
        passed = trail.passed_ms(Lsn(lsn))
        assert passed is not None
        assert 0 <= passed <= when
    sizes = [trail.size_above(Lsn(lsn)) for lsn in range(value + 1)]
    assert sizes[0] == value
    assert sizes[-1] == 0
    assert all(a is not None and b is not None and a >= b for a, b in pairwise(sizes))

"""When a moving number gets where."""

from __future__ import annotations

import pytest

from cluster.trend import POINTS_MAX, Trend


@pytest.mark.parametrize(
    ("points", "target", "left_ms"),
    [
        ([], 0, None),
        ([(0, 10)], 0, None),
        ([(0, 0)], 0, 0),
        ([(0, 100), (1_000, 90)], 0, 9_000),
        ([(0, 100), (1_000, 90), (2_000, 80)], 0, 8_000),
        ([(0, 90), (1_000, 100)], 0, None),
        ([(0, 50), (1_000, 50)], 0, None),
        ([(0, 50), (0, 40)], 0, None),
        ([(0, 100), (1_000, 0)], 0, 0),
    ],
)
def test_the_time_to_a_target_is_that_of_the_pace_so_far(points, target, left_ms) -> None:
    trend = Trend(10_000)
    for now_ms, value in points:
        trend.note(value, now_ms)
    assert trend.reaches_ms(target) == left_ms


def test_what_is_older_than_the_window_has_no_say() -> None:
    trend = Trend(1_000)
    for now_ms, value in ((0, 1_000_000), (5_000, 100), (6_000, 90)):
        trend.note(value, now_ms)
    assert trend.reaches_ms(0) == 9_000
    assert trend.per_second == -10


def test_a_rate_takes_two_points_and_any_number_of_points_is_kept_in_bounds() -> None:
    trend = Trend(1_000_000)
    assert trend.per_second == 0
    trend.note(0, 0)
    assert trend.per_second == 0
    for second in range(1, 3 * POINTS_MAX):
        trend.note(second * 500, second * 1_000)
    assert trend.per_second == 500


def test_a_long_window_is_judged_whole_however_often_the_number_is_told() -> None:
    trend = Trend(600_000)
    for second in range(3_601):
        trend.note(second if second < 3_300 else 3_300, second * 1_000)
    assert trend.per_second == 0
    assert 590 < trend.reaches_ms(3_600) // 1_000 <= 610  # half of it rose by one a second

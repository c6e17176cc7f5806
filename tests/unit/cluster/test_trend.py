"""When a moving number gets where."""

from __future__ import annotations

import pytest

from cluster.trend import POINTS_MAX, SIGHT, Forecast, Horizon, Trend


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


def horizon() -> Horizon:
    """A minute's look back from 10 s on, and an hour's from 10 min on."""
    return Horizon((Trend(60_000, least_ms=10_000), Trend(3_600_000, least_ms=600_000)))


def test_nothing_is_foretold_before_there_is_enough_to_look_back_on() -> None:
    fresh = horizon()
    assert fresh.reaches(0) == Forecast()
    for second in range(10):
        fresh.note(1_000 - 50 * second, second * 1_000)
    assert fresh.reaches(0) == Forecast(), "it is too early"
    fresh.note(500, 10_000)
    assert fresh.reaches(0) == Forecast(10_000, 10_000)


def test_what_is_too_far_ahead_for_the_look_back_is_not_foretold() -> None:
    slow = horizon()
    for second in range(601):
        slow.note(100_000 - second, second * 1_000)
        in_ms, over_ms = slow.reaches(0)
        assert in_ms is None and (over_ms is not None) == (second >= 10)
    soon = horizon()
    for second in range(3_601):
        soon.note(30_000 - second, second * 1_000)
    in_ms, over_ms = soon.reaches(0)
    assert over_ms is not None and over_ms > 3_000_000, "the minute does not see so far, the hour does"
    assert in_ms is not None and 26_000_000 < in_ms < SIGHT * over_ms


def test_what_has_begun_of_late_is_seen_by_the_short_look_back() -> None:
    burst = horizon()
    for second in range(3_601):
        burst.note(100_000 - 500 * max(0, second - 3_500), second * 1_000)
    in_ms, over_ms = burst.reaches(0)
    assert over_ms == 60_000 and in_ms == 100_000


def test_steps_that_come_now_and_then_do_not_make_a_forecast_jump() -> None:
    """A segment every hundred seconds: a look back of one minute sees one or none."""
    steps, told = horizon(), []
    for second in range(3 * 3_600):
        steps.note(64 * (108 - second // 100), second * 1_000)
        told.append((second, steps.reaches(0).in_ms))
    late = told[3_600:-600]
    assert all(
        in_ms is not None and 0.8 < in_ms / (10_800_000 - second * 1_000) < 1.3 for second, in_ms in late
    )


def test_what_came_once_is_not_taken_to_come_again() -> None:
    once = horizon()
    for second in range(60):
        once.note(1_000 if second < 20 else 200, second * 1_000)
    assert once.reaches(0) == Forecast(None, 59_000)

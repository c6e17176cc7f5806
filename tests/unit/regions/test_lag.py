"""Three states of lag, and health with its reason."""

from __future__ import annotations

import math

import pytest

from redwire.position import Lsn
from regions.lag import (
    DEFAULT_REPLICA_TIMEOUT_MS,
    LAG_MS_MAX,
    Behind,
    CaughtUp,
    Contact,
    Health,
    Lag,
    LagConfig,
    Progress,
    Unknown,
    health,
    lag_ms,
    measure,
)
from regions.trail import Trail

CONFIG = LagConfig()


def head() -> Trail:
    """50 when memory began, then 60 at 10 s and 100 at 20 s, ten bytes a record."""
    trail = Trail(Lsn(50), 1_000)
    trail.rise(Lsn(60), 10_000, 100)
    trail.rise(Lsn(100), 20_000, 400)
    return trail


def heard(acked_ms: int | None = 20_000) -> Contact:
    return Contact(connected=True, streaming=True, acked_ms=acked_ms)


def test_the_defaults_are_five_seconds_and_no_rate() -> None:
    assert LagConfig() == LagConfig(5_000, None)
    assert DEFAULT_REPLICA_TIMEOUT_MS == 5_000


@pytest.mark.parametrize(
    ("applied", "lag"),
    [
        (100, CaughtUp()),
        (101, CaughtUp()),
        (99, Behind(1, 10, 1_000)),
        (60, Behind(40, 400, 1_000)),
        (59, Behind(41, 410, 11_000)),
        (50, Behind(50, 500, 11_000)),
        (49, Behind(51, None, None)),
        (0, Behind(100, None, None)),
    ],
)
def test_lag_is_counted_in_records_bytes_and_the_age_of_the_oldest(applied: int, lag: Lag) -> None:
    assert measure(head(), Lsn(applied), heard(), CONFIG, 21_000) == lag


@pytest.mark.parametrize(
    ("rate", "ms"),
    [
        (2.0, 50),
        (3.0, 33),
        (1e-12, LAG_MS_MAX),
        (0.0, None),
        (-1.0, None),
        (math.inf, None),
        (math.nan, None),
    ],
)
def test_time_that_was_not_observed_is_estimated_by_the_rate_if_there_is_one(
    rate: float, ms: int | None
) -> None:
    config = LagConfig(records_per_ms=rate)
    assert measure(head(), Lsn(0), heard(), config, 21_000) == Behind(100, None, ms)
    assert measure(head(), Lsn(60), heard(), config, 21_000) == Behind(40, 400, 1_000)


@pytest.mark.parametrize(
    ("contact", "lag"),
    [
        (Contact(True, True, 15_000), CaughtUp()),  # the bound is inside
        (Contact(True, True, 14_999), Unknown(14_999)),
        (Contact(False, True, 20_000), Unknown(20_000)),
        (Contact(True, True, None), Unknown(None)),
        (Contact(True, True, 25_000), CaughtUp()),
        (Contact(True, True, 25_001), Unknown(25_001)),  # a clock that went back vouches for nobody
    ],
)
def test_a_member_that_was_not_heard_has_an_unknown_lag_however_idle_the_primary(
    contact: Contact, lag: Lag
) -> None:
    assert measure(head(), Lsn(100), contact, CONFIG, 20_000) == lag


@pytest.mark.parametrize(
    ("lag", "ms"),
    [
        (CaughtUp(), 0),
        (Behind(1, None, 7), 7),
        (Behind(1, None, LAG_MS_MAX + 5), LAG_MS_MAX),
        (Behind(1, None, None), None),
        (Unknown(3), None),
        (Unknown(), None),
    ],
)
def test_the_topology_gets_zero_only_for_caught_up_and_none_for_unknown(lag: Lag, ms: int | None) -> None:
    assert lag_ms(lag) == ms


@pytest.mark.parametrize(
    ("lag", "text"),
    [
        (CaughtUp(), "caught up"),
        (Behind(3, 40, 5), "3 records, 40 bytes, 5 ms behind"),
        (Behind(3), "3 records, ? bytes, ? ms behind"),
        (Unknown(), "unknown, never heard"),
        (Unknown(9), "unknown since 9 ms"),
    ],
)
def test_a_lag_prints_what_is_known(lag: Lag, text: str) -> None:
    assert str(lag) == text


def durable(position: int, moved_ms: int | None) -> tuple[Progress, ...]:
    return (Progress("durable", Lsn(position), moved_ms, head()),)


@pytest.mark.parametrize(
    ("contact", "progress", "reason"),
    [
        (Contact(False, True, 20_000), (), "not connected"),
        (Contact(True, True, None), (), "has not said where it stands"),
        (Contact(True, True, 10_000), (), "silent for 11000 ms"),
        (Contact(True, True, 31_000), (), "silent for 10000 ms"),
        (Contact(True, False, 20_000), (), "takes a snapshot or catches up"),
        (heard(), durable(59, 12_000), "no progress for 9000 ms: durable stands at 59, 100 is there"),
        (heard(), durable(59, None), "no progress for 11000 ms"),
        (
            heard(),
            durable(59, 3_000),
            "no progress for 11000 ms",
        ),  # idle time before there was more does not count
        (
            heard(),
            durable(7, 2_000),
            "no progress for 19000 ms",
        ),  # before memory: since memory began, at least
        (heard(), (*durable(100, 3_000), *durable(59, 3_000)), "no progress"),
    ],
)
def test_an_unhealthy_member_says_why(contact: Contact, progress: tuple[Progress, ...], reason: str) -> None:
    state = health(contact, progress, CONFIG, 21_000)
    assert not state.healthy
    assert reason in state.reason
    assert str(state) == f"unhealthy: {state.reason}"


@pytest.mark.parametrize(
    "progress",
    [
        durable(100, 3_000),  # nothing to move to
        durable(99, 3_000),  # there is more since a second
        durable(59, 16_000),  # far behind, and moving: exactly at the bound
    ],
)
def test_a_member_that_moves_or_has_nothing_to_move_to_is_healthy(progress: tuple[Progress, ...]) -> None:
    state = health(heard(), progress, CONFIG, 21_000)
    assert state == Health(True)
    assert str(state) == "healthy"

"""How long something took, in buckets."""

from __future__ import annotations

import pytest

from cluster.histogram import BOUNDS_US, Buckets, Histogram


def test_nothing_noted_is_nothing_in_every_bucket() -> None:
    assert Histogram().status() == Buckets((0,) * (len(BOUNDS_US) + 1), 0)


@pytest.mark.parametrize(
    ("took_us", "bucket"),
    [(0, 0), (500, 0), (501, 1), (1_000, 1), (10_000_000, len(BOUNDS_US) - 1), (10_000_001, len(BOUNDS_US))],
)
def test_a_bound_belongs_to_the_bucket_below_it(took_us: int, bucket: int) -> None:
    histogram = Histogram()
    histogram.note(took_us)
    found = histogram.status()
    assert [at for at, count in enumerate(found.counts) if count] == [bucket]
    assert found.sum_us == took_us


def test_a_snapshot_stays_as_it_was() -> None:
    histogram = Histogram()
    before = histogram.status()
    histogram.note(7)
    assert sum(before.counts) == 0 and sum(histogram.status().counts) == 1


def test_bounds_rise() -> None:
    assert list(BOUNDS_US) == sorted(set(BOUNDS_US))

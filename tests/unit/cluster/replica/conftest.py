"""What the tests of a replica share: one with nothing in its log, and one with a little."""

from __future__ import annotations

import pytest

from tests.follower import FIRST, Follower, batches


@pytest.fixture
def empty() -> Follower:
    return Follower()


@pytest.fixture
def grown() -> Follower:
    """Five records of the first reign, all of them durable, two known to be committed and applied."""
    return Follower(batches(5), FIRST, watermark=2, applied=2)

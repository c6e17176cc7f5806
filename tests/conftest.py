"""What every test gets: the event loop's backend and the amount of work that a property test does."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a shared machine is slow at times, and the timeout of the whole test stands guard already.
_COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("check", max_examples=20, derandomize=True, **_COMMON)
settings.register_profile("full", max_examples=100, **_COMMON)
settings.load_profile("full")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests written as coroutines run on asyncio, the only backend of a node."""
    return "asyncio"

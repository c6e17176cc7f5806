"""What every test gets: the event loop's backend and the amount of work that a property test does."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
LONGEST = ("test_operations.py", "test_demo.py", "test_catchup.py")
"""They take a minute or more: begun last they would be all that still runs at the end."""
PURE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]["include"]

# No deadline: a shared machine is slow at times, and the timeout of the whole test stands guard already.
_COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("check", max_examples=20, derandomize=True, **_COMMON)
settings.register_profile("full", max_examples=100, **_COMMON)
settings.load_profile("full")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests written as coroutines run on asyncio, the only backend of a node."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of pure modules, which are where a module's name says: their coverage is measured.
    Begin with what takes longest.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        folder, _, name = item.path.relative_to(ROOT / "tests").as_posix().rpartition("/")
        module = f"{folder.removeprefix('unit/')}/{name.removeprefix('test_')}"
        if folder == "golden" or any(fnmatch(module, pattern) for pattern in PURE):
            item.add_marker(pytest.mark.pure)

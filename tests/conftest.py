"""What every test gets: the event loop's backend and the amount of work that a property test does.

And what a run does but once: which tests it finds, in which order, and when it measures coverage.
"""

from __future__ import annotations

import gc
import tomllib
from collections.abc import Generator
from contextlib import nullcontext
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
LONGEST = (
    "test_operations.py",
    "test_catchup.py",
    "test_app.py",
    "test_dev.py",
    "test_demo.py",
    "test_disks.py",
    "test_command_line.py",
    "test_status.py",
    "test_reigns.py",
    "test_metrics.py",
    "test_every_verb.py",
)
"""Each takes a minute or so: begun last they would be all that still runs at the end. Those that wait most
are spread among the others.
"""
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


class Measuring:
    """Measures the coverage of the pure modules while they are imported, and while tests and fixtures run.

    What finds and reports the tests runs in between, and would take twice its time if it were traced.
    """

    def __init__(self, coverage: Coverage) -> None:
        self.coverage = coverage
        for path in sorted(path for pattern in PURE for path in ROOT.glob(pattern)):
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        coverage.stop()

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self) -> Generator[None, object, object]:
        with nullcontext() if Coverage.current() else self.coverage.collect():
            return (yield)

    pytest_fixture_setup = pytest_pyfunc_call  # also within a test, if it asks for a fixture by name


# Here, not in a hook: the conftest files below import what is measured.
_coverage = Coverage.current()
MEASURING = None if _coverage is None else Measuring(_coverage)


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "find only the tests of pure modules and golden conversations, or only all the others"
    parser.addoption("--only", choices=("pure", "shell"), help=words)


def pytest_configure(config: pytest.Config) -> None:
    if MEASURING is not None:
        config.pluginmanager.register(MEASURING)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of a pure module are the tests that are where its name says, in one file or in a folder of them."""
    only = config.getoption("--only")
    if only is None or collection_path.suffix != ".py":
        return None
    path = collection_path.relative_to(ROOT / "tests").as_posix().removeprefix("unit/")
    folder, _, name = path.rpartition("/")
    modules = (f"{folder}/{name.removeprefix('test_')}", f"{folder}.py")
    pure = folder == "golden" or any(fnmatch(module, pattern) for module in modules for pattern in PURE)
    return True if pure is not (only == "pure") else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nothing of what is made here is garbage before the end: it is not looked through for any."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest. Then tests that keep a core busy are spread evenly among those that wait
    for processes, so that side by side they use what cores there are.
    """
    files = dict.fromkeys(item.path for item in items)
    waiting = [path for path in files if path.is_relative_to(ROOT / "tests" / "cluster")]
    busy = [path for path in files if path not in waiting]
    place = {path: number / len(group) for group in (waiting, busy) for number, path in enumerate(group)}
    longest = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (longest.get(item.path.name, len(longest)), place[item.path], str(item.path)))

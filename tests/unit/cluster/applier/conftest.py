"""What the tests of apply share: a state, and an applier whose event loop is the test."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.applier import Applier
from cluster.state import State


class Loop:
    """Stands for the event loop: what is posted runs in the test's thread, when the test lets it."""

    def __init__(self) -> None:
        self._posted: queue.Queue[tuple[Any, tuple[Any, ...]]] = queue.Queue()
        self.applied: list[tuple[list[int], int]] = []
        self.errors: list[BaseException] = []

    def post(self, callback: Any, *args: Any) -> None:
        self._posted.put((callback, args))

    def run_one(self) -> None:
        callback, args = self._posted.get(timeout=10)
        callback(*args)

    def run_what_is_there(self) -> None:
        while not self._posted.empty():
            self.run_one()

    def on_applied(self, batches: Any, position: Any) -> None:
        self.applied.append(([batch.last for batch in batches], position.lsn))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path / "state.db")
    yield opened
    opened.close()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def applier(loop: Loop) -> Callable[..., Applier]:
    """`applier(state)` begins to apply to it; its clock stands still."""

    def begun(state: Any, clock: Callable[[], float] = lambda: 100.0) -> Applier:
        return Applier(state, loop.post, loop.on_applied, loop.errors.append, clock)

    return begun

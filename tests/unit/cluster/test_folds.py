"""When a fold begins, by whom, and what is waited for; what a fold does is in the tests of the state."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import space
from cluster.folds import FOLD_BYTES_SHORT, LOOK_BYTES, LOOK_EVERY, LOOK_RECORDS, Folds
from cluster.space import Space

ROOMY = 1 << 40


class Log:
    """A state and its SQLite log: `told` is what was asked of both. Folds beside wait for `release`."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.size, self.checkpoint_due, self.keys_due = 0, False, False
        self.release = threading.Event()
        self.release.set()
        self.sqlite_log = self
        self.way = SimpleNamespace(give_back=self.give_back)

    def size_bytes(self) -> int:
        return self.size

    def claim(self) -> None:
        self.told.append("claim")

    def give_back(self) -> None:
        self.told.append("give back")
        self.release.set()

    def fold_beside(self) -> None:
        assert self.release.wait(10)
        self.told.append("beside")

    def checkpoint(self, *, urgent: bool = False) -> int:
        self.told.append("urgent" if urgent else "rest")
        return 1


class Bed:
    """Folds of a log on a volume that has `free` bytes."""

    def __init__(self) -> None:
        self.free, self.log = ROOMY, Log()
        self.space = Space(Path("state.db"), lambda folder: self.free)
        self.folds = Folds(self.log, self.space)  # type: ignore[arg-type]

    def write(self, transactions: int, size: int = 0, records: int = 0) -> None:
        for _ in range(transactions):
            self.folds.wrote(size, records)

    def step(self) -> list[str]:
        """What one step led to, a fold beside it over."""
        self.folds.step()
        if self.folds.beside is not None:
            self.folds.beside.join(10)
        told, self.log.told = self.log.told, []
        return told


@pytest.fixture
def bed() -> Bed:
    return Bed()


@pytest.mark.parametrize(
    ("transactions", "size", "records"),
    [(LOOK_EVERY, 0, 0), (LOOK_EVERY // 2, LOOK_BYTES, 0), (LOOK_EVERY // 2, 0, LOOK_RECORDS)],
)
def test_it_is_looked_every_few_transactions_of_which_large_ones_count_for_several(
    bed: Bed, transactions: int, size: int, records: int
) -> None:
    for _ in range(2):
        bed.write(transactions - 1, size, records)
        assert not bed.folds.due
        bed.write(1, size, records)
        assert bed.folds.due
        assert bed.step() == [] and not bed.folds.due, "it was looked, and there was nothing to fold"


def test_a_fold_begins_beside_the_applies_and_the_next_step_ends_it(bed: Bed) -> None:
    bed.log.checkpoint_due = True
    assert bed.step() == []
    bed.write(LOOK_EVERY)
    assert bed.step() == ["claim", "beside"]
    assert bed.folds.due
    assert bed.step() == ["rest"]
    assert not bed.folds.due


def test_while_one_is_beside_the_applies_nothing_is_due(bed: Bed) -> None:
    bed.log.checkpoint_due = True
    bed.log.release.clear()
    bed.write(LOOK_EVERY)
    bed.folds.step()
    bed.write(LOOK_EVERY)
    assert not bed.folds.due
    bed.folds.step()
    assert bed.log.told == ["claim"]
    bed.log.release.set()
    assert bed.folds.beside is not None
    bed.folds.beside.join(10)
    assert bed.step() == ["claim", "beside", "rest"]


@pytest.mark.parametrize(("size", "worth"), [(FOLD_BYTES_SHORT - 1, False), (FOLD_BYTES_SHORT, True)])
def test_where_space_is_short_one_that_is_worth_it_is_early_and_one_only(
    bed: Bed, size: int, worth: bool
) -> None:
    bed.log.size, bed.folds.short = size, True
    assert bed.folds.due
    assert bed.step() == ["claim", "beside"] * worth
    assert bed.step() == ["rest"] * worth
    bed.write(LOOK_EVERY)
    assert bed.step() == [], "nobody has said again that it is short"


def test_as_long_as_there_is_no_space_a_step_is_due_and_looks_again(bed: Bed) -> None:
    bed.log.size, bed.free = 1, space.FOLD_FREE_BYTES
    bed.write(LOOK_EVERY)
    assert bed.step() == ["urgent"]
    assert bed.space.blocked == "" and not bed.folds.due, "the fold has left as much as there was"
    bed.free -= 1
    bed.write(LOOK_EVERY)
    assert bed.step() == ["urgent"]
    assert bed.space.blocked and bed.folds.due
    bed.free = ROOMY
    assert bed.step() == [] and not bed.folds.due


def test_one_for_space_ends_the_one_beside_first(bed: Bed) -> None:
    bed.log.checkpoint_due = True
    bed.log.release.clear()
    bed.write(LOOK_EVERY)
    bed.folds.step()
    bed.folds.for_space()
    assert bed.log.told == ["claim", "give back", "beside", "urgent"]
    assert bed.folds.beside is None
    bed.log.told.clear()
    bed.folds.end()
    assert bed.log.told == [], "there is none any more"

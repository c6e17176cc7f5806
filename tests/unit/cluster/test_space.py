"""The last of the space: when SQLite's log is folded for it, and when nothing more is logged."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.log_room import KEPT_FREE_BYTES
from cluster.space import FOLD_FREE_BYTES, Space


class Volume:
    """So much is free on it, and `gain` more after each fold."""

    def __init__(self, free: int | None, gain: int = 0) -> None:
        self.free, self.gain, self.folds = free, gain, 0
        self.space = Space(Path("/data/state.db"), self.measured)

    def measured(self, folder: Path) -> int | None:
        assert folder == Path("/data")
        return self.free

    def fold(self) -> None:
        self.folds += 1
        assert self.free is not None
        self.free += self.gain


@pytest.mark.parametrize("free", [None, FOLD_FREE_BYTES + 1, 1 << 40])
def test_with_enough_nothing_is_folded(free: int | None) -> None:
    volume = Volume(free)
    volume.space.look(1, volume.fold)
    assert (volume.folds, volume.space.blocked) == (0, "")


def test_a_fold_that_gives_enough_back_is_all_it_takes() -> None:
    volume = Volume(FOLD_FREE_BYTES - 1, gain=1)
    volume.space.look(1, volume.fold)
    assert (volume.folds, volume.space.blocked) == (1, "")


def test_it_is_folded_while_there_is_room_for_all_that_sqlites_log_holds() -> None:
    volume = Volume(FOLD_FREE_BYTES + 1_000)
    volume.space.look(1_000, volume.fold)
    assert volume.folds == 0
    volume.space.look(1_001, volume.fold)
    assert (volume.folds, volume.space.blocked) == (1, "")


def test_what_a_transaction_takes_is_none_of_what_is_kept_free() -> None:
    volume = Volume(FOLD_FREE_BYTES + 5_000)
    volume.space.look(1_000, volume.fold, 4_000)
    assert (volume.folds, volume.space.blocked) == (0, "")
    volume.space.look(1_000, volume.fold, 4_001)
    assert (volume.folds, volume.space.blocked) == (1, "")
    volume.space.look(1_000, volume.fold, 5_001)
    assert volume.folds == 2 and volume.space.blocked
    volume.space.look(1_000, volume.fold, 1)
    assert volume.space.blocked, "it is not clearly more"
    volume.free = KEPT_FREE_BYTES
    volume.space.look(1_000, volume.fold, KEPT_FREE_BYTES - FOLD_FREE_BYTES + 1)
    assert volume.space.blocked
    volume.space.look(1_000, volume.fold, KEPT_FREE_BYTES - FOLD_FREE_BYTES)
    assert volume.space.blocked == ""


def test_what_has_nothing_to_give_back_is_not_folded() -> None:
    volume = Volume(0)
    volume.space.look(0, volume.fold)
    assert volume.folds == 0 and volume.space.blocked


def test_with_too_little_it_is_blocked_until_there_is_clearly_more() -> None:
    volume = Volume(FOLD_FREE_BYTES - 2, gain=1)
    volume.space.look(1, volume.fold)
    assert volume.space.blocked == "/data/state.db: no space that is not kept for folding its log"
    volume.free = KEPT_FREE_BYTES - 2
    volume.space.look(1, volume.fold)
    assert (volume.folds, bool(volume.space.blocked)) == (2, True)
    volume.space.look(1, volume.fold)
    assert (volume.folds, volume.space.blocked) == (3, "")


def test_a_volume_that_does_not_answer_holds_nothing_up(tmp_path: Path) -> None:
    space = Space(tmp_path / "gone" / "state.db")
    space.look(1, lambda: pytest.fail("nothing is known to be short"))
    assert space.blocked == ""


def test_what_apply_met_stays_until_apply_says_otherwise_however_much_is_free() -> None:
    volume = Volume(1 << 40)
    volume.space.met("a quota")
    volume.space.look(1, volume.fold)
    assert volume.space.blocked == "a quota"


@pytest.mark.parametrize(
    ("free", "has"), [(None, True), (FOLD_FREE_BYTES + 9, True), (FOLD_FREE_BYTES + 8, False)]
)
def test_what_could_be_left_as_well_takes_none_of_what_is_kept_free(free: int | None, has: bool) -> None:
    assert Volume(free).space.has(9) is has

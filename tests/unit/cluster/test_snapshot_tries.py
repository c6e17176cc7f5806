"""When a snapshot is tried again, and when no more."""

from __future__ import annotations

import pytest

from cluster.snapshot_tries import IN_A_ROW_MAX, Fetch, GiveUp, SnapshotTries, StayAway
from redwire.position import Lsn

APPLIED = Lsn(40)


@pytest.fixture
def tries() -> SnapshotTries:
    """As many as may be in a row came to nothing."""
    tries = SnapshotTries()
    for _ in range(IN_A_ROW_MAX):
        assert tries.next(APPLIED) == Fetch()
        tries.arrived()
        tries.ended(APPLIED)
    return tries


def test_after_some_in_a_row_it_is_said_once_which_limit_to_raise(tries: SnapshotTries) -> None:
    given_up = tries.next(APPLIED)
    assert isinstance(given_up, GiveUp)
    assert given_up.text.startswith("2 snapshots in a row came too late to go on from: raise retention.")
    assert tries.next(APPLIED) == tries.next(APPLIED) == StayAway()


def test_a_state_that_was_applied_further_begins_anew(tries: SnapshotTries) -> None:
    assert isinstance(tries.next(APPLIED), GiveUp)
    assert tries.next(Lsn(APPLIED + 1)) == Fetch()
    for _ in range(IN_A_ROW_MAX):
        tries.arrived()
    tries.ended(Lsn(APPLIED + 1))
    assert isinstance(tries.next(Lsn(APPLIED + 1)), GiveUp), "and is told anew"


def test_what_was_installed_is_not_yet_what_was_applied_from_the_log() -> None:
    tries = SnapshotTries()
    for end in (APPLIED, Lsn(APPLIED + 9)):
        tries.arrived()
        tries.ended(end)
    assert isinstance(tries.next(Lsn(APPLIED + 9)), GiveUp)


def test_what_only_began_to_come_is_not_counted() -> None:
    tries = SnapshotTries()
    for _ in range(9):
        assert tries.next(APPLIED) == Fetch()


@pytest.mark.parametrize(("last", "told"), [(True, "look at the node that they came from"), (False, "raise")])
def test_the_last_one_says_what_to_do(last: bool, told: str) -> None:
    tries = SnapshotTries()
    for useless in (not last, last):
        tries.arrived()
        if useless:
            tries.unusable("state.db: it is damaged")
        tries.ended(APPLIED)
    given_up = tries.next(APPLIED)
    assert isinstance(given_up, GiveUp) and told in given_up.text
    assert ("state.db: it is damaged" in given_up.text) is last

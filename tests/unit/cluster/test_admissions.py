"""New lives of members: each is waited for until it has caught up, and given out once."""

from __future__ import annotations

from cluster.admissions import Admissions
from redwire.position import Incarnation, Lsn, NodeId

EU, US = NodeId("eu-1"), NodeId("us-1")
NEW, NEWER = Incarnation("1" * 32), Incarnation("2" * 32)


def awaited() -> Admissions:
    admissions = Admissions()
    admissions.expect(US, NEW, Lsn(10))
    return admissions


def test_a_new_life_is_due_once_when_it_holds_what_the_log_held_when_it_came() -> None:
    admissions = awaited()

    assert [admissions.due(US, Lsn(lsn)) for lsn in (9, 10, 11)] == [None, NEW, None]


def test_nobody_else_is_due() -> None:
    assert awaited().due(EU, Lsn(10)) is None


def test_a_life_that_is_forgotten_is_never_due() -> None:
    admissions = awaited()

    admissions.forget(US)
    admissions.forget(EU)

    assert admissions.due(US, Lsn(10)) is None


def test_a_newer_life_takes_the_place_of_the_one_before() -> None:
    admissions = awaited()

    admissions.expect(US, NEWER, Lsn(20))

    assert [admissions.due(US, Lsn(lsn)) for lsn in (10, 20)] == [None, NEWER]

"""Slots: one for each other member, with what it has by the ack table and when it was heard last."""

from __future__ import annotations

import pytest

from cluster.promises import Promises, slot_status
from cluster.retention import AtRisk, Evicted, Ok, Reason, Slot, SlotKind, SlotState
from redwire import status
from redwire.position import Lsn, NodeId, Region
from regions.binding import Member, MemberKind
from regions.lag import CaughtUp, Health
from regions.status import MemberStatus

STARTED_MS, NOW_MS = 1_000, 9_000
ME = Member(NodeId("eu-1"), Region("eu"), MemberKind.VOTER)
VOTER = Member(NodeId("us-1"), Region("us"), MemberKind.VOTER)
READER = Member(NodeId("us-2"), Region("us"), MemberKind.READER)
MEMBERS = (ME, VOTER, READER)


@pytest.fixture
def promises() -> Promises:
    return Promises(ME.id, STARTED_MS)


def row(member: Member, durable: int, acked_ms: int | None) -> MemberStatus:
    return MemberStatus(
        id=member.id,
        region=member.region,
        kind=member.kind,
        connected=True,
        streaming=True,
        uncounted="",
        incarnation=None,
        received=Lsn(durable + 2),
        durable=Lsn(durable),
        applied=Lsn(durable - 1),
        matched=Lsn(durable + 2),
        acked_ms=acked_ms,
        lag=CaughtUp(),
        health=Health(True),
    )


def test_of_members_that_were_not_heard_nothing_is_known_and_their_time_runs_from_the_start(
    promises: Promises,
) -> None:
    unknown = [
        Slot("us-1", SlotKind.VOTER, None, STARTED_MS),
        Slot("us-2", SlotKind.READER, None, STARTED_MS),
    ]
    assert promises.slots(MEMBERS, ()) == unknown
    assert promises.slots(MEMBERS, [row(ME, 50, None), row(VOTER, 50, None)]) == unknown


def test_who_has_acked_needs_what_follows_its_durable_log(promises: Promises) -> None:
    rows = [row(ME, 60, NOW_MS), row(VOTER, 50, NOW_MS), row(READER, 40, NOW_MS - 7)]
    assert promises.slots(MEMBERS, rows) == [
        Slot("us-1", SlotKind.VOTER, Lsn(50), NOW_MS),
        Slot("us-2", SlotKind.READER, Lsn(40), NOW_MS - 7),
    ]


def test_when_a_member_was_heard_outlives_the_reign_and_what_it_has_does_not(promises: Promises) -> None:
    promises.slots(MEMBERS, [row(VOTER, 50, NOW_MS)])
    voter, _ = promises.slots(MEMBERS, ())
    assert voter == Slot("us-1", SlotKind.VOTER, None, NOW_MS)


def test_who_is_no_member_any_more_is_promised_nothing(promises: Promises) -> None:
    assert promises.slots((ME, READER), [row(VOTER, 50, NOW_MS), row(READER, 40, NOW_MS)]) == [
        Slot("us-2", SlotKind.READER, Lsn(40), NOW_MS)
    ]
    assert promises.slots((ME,), ()) == []


def test_what_was_removed_of_a_log_that_nobody_knows_who_needs_is_not_kept_again(promises: Promises) -> None:
    leading = [row(ME, 60, NOW_MS), row(VOTER, 50, None), row(READER, 40, NOW_MS)]
    evicted, ok = Evicted(Reason.BYTES), Ok()

    def kept(rows: list[MemberStatus], voter: SlotState, reader: SlotState) -> list[SlotState]:
        found = promises.kept(promises.slots(MEMBERS, rows), {"us-1": voter, "us-2": reader})
        return [found["us-1"], found["us-2"]]

    assert kept(leading, ok, ok) == [ok, ok]
    assert kept(leading, evicted, evicted) == [evicted, evicted]
    assert kept(leading, AtRisk(Reason.BYTES, 0), ok) == [evicted, ok], (
        "of the reader it is known what it needs"
    )
    assert kept([*leading, row(VOTER, 55, NOW_MS)], ok, ok) == [ok, ok], "it was heard"
    assert kept(leading, evicted, ok) == [evicted, ok]
    assert kept([], ok, ok) == [ok, ok], "another reign has promises of its own"
    assert kept(leading, ok, ok) == [ok, ok]


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (Ok(), status.Slot(state="ok", held_bytes=700)),
        (
            AtRisk(Reason.BYTES, 5_000),
            status.Slot(state="at_risk", bound="bytes_max", eviction_ms=5_000, held_bytes=700),
        ),
        (AtRisk(Reason.AGE, None), status.Slot(state="at_risk", bound="age_max_s", held_bytes=700)),
        (Evicted(Reason.AGE), status.Slot(state="evicted", bound="age_max_s", held_bytes=0)),
    ],
)
def test_a_slot_shows_its_bound_and_what_it_holds_while_it_holds_anything(
    state: SlotState, shown: status.Slot
) -> None:
    assert slot_status(state, 700) == shown

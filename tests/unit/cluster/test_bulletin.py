"""What a node was told."""

from __future__ import annotations

import pytest

from cluster.bulletin import RTTS_KEPT, Bulletin, PrimaryState
from cluster.effects import Now
from cluster.events import Events
from redwire.position import NodeId
from redwire.status import Event, Primary, Status

EU, US = NodeId("eu-1"), NodeId("us-1")


@pytest.fixture
def bulletin() -> Bulletin:
    return Bulletin(Events(US))


def at(ms: int) -> Now:
    return Now(ms * 1_000, 1_000_000 + ms)


def test_a_round_trip_is_the_median_of_the_last_ones_and_gone_with_the_line(bulletin) -> None:
    assert bulletin.rtts_us == {}
    for took_us in (9, 9, 9, 500, 100, 90, 110, 95)[-RTTS_KEPT - 1 :]:
        bulletin.answered(EU, took_us)
    assert bulletin.rtts_us == {"eu-1": 100}
    bulletin.silent(EU)
    bulletin.silent(EU)
    assert bulletin.rtts_us == {}


def test_a_pace_tells_when_a_member_will_have_caught_up(bulletin) -> None:
    assert bulletin.catch_up_ms(EU) is None
    bulletin.falls_behind(EU, 1_000, at(0))
    bulletin.falls_behind(EU, 900, at(1_000))
    assert bulletin.catch_up_ms(EU) == 9_000
    bulletin.falls_behind(EU, None, at(2_000))
    assert bulletin.catch_up_ms(EU) is None


def test_who_is_lost_has_been_silent_since_its_last_word(bulletin, vital_report) -> None:
    assert bulletin.sees(PrimaryState.NONE, "", at(0)) is None
    bulletin.heard(vital_report("eu-1"), at(7_000))
    assert bulletin.sees(PrimaryState.LEADING, "eu-1", at(7_100)) == Primary(state="none")
    assert bulletin.sees(PrimaryState.LEADING, "eu-1", at(8_000)) is None
    bulletin.sees(PrimaryState.LOST, "eu-1", at(12_000))
    assert bulletin.primary == Primary(node="eu-1", state="lost", since_at_ms=1_007_000)


def test_one_that_was_never_heard_is_lost_since_nobody_knows_when(bulletin) -> None:
    bulletin.sees(PrimaryState.LOST, "eu-1", at(0))
    assert bulletin.primary == Primary(node="eu-1", state="lost", since_at_ms=None)


def test_events_come_with_reports_and_with_the_primarys_document(bulletin, vital_report) -> None:
    other = Event(node="ap-1", sequence=3, at_ms=5, kind="disk_full")
    bulletin.relayed(Status(events=(other,)), at(0))
    bulletin.heard(vital_report("eu-1", events=1), at(0))
    bulletin.heard(vital_report("ap-1", vitals=False), at(0))
    assert [event.node for event in bulletin.events.recent()] == ["eu-1", "ap-1"]

"""What happened of late."""

from __future__ import annotations

from cluster.events import YOUNG_MS, EventKind, Events, level, told_by
from redwire.message.vitals import EVENT_CHARS_MAX, EVENTS_CARRIED
from redwire.position import NodeId
from redwire.status import EVENTS_MAX, Event

EU, US = NodeId("eu-1"), NodeId("us-1")


def test_an_event_has_a_number_a_time_and_the_level_of_its_kind() -> None:
    events = Events(EU)
    events.add(EventKind.REIGN_BEGUN, "term 1", 1_000)
    events.add(EventKind.DISK_FULL, "x" * 1_000, 2_000)
    assert events.recent() == (
        Event(node="eu-1", sequence=1, at_ms=1_000, level="info", kind="reign_begun", text="term 1"),
        Event(
            node="eu-1",
            sequence=2,
            at_ms=2_000,
            level="error",
            kind="disk_full",
            text="x" * EVENT_CHARS_MAX,
        ),
    )


def test_levels_are_three_words() -> None:
    assert {level(kind) for kind in EventKind} == {"info", "warning", "error"}


def test_others_are_told_of_young_events_and_only_so_many() -> None:
    events = Events(EU)
    for number in range(2 * EVENTS_CARRIED):
        events.add(EventKind.MEMBER_JOINED, f"{number}", 1_000)
    young = events.young(1_000 + YOUNG_MS - 1)
    assert [note.text for note in young] == [f"{n}" for n in range(EVENTS_CARRIED, 2 * EVENTS_CARRIED)]
    assert events.young(1_000 + YOUNG_MS) == ()
    assert events.young(999) == ()  # the clock was put back: else it would be told until it is there again


def test_what_others_tell_again_is_heard_once_and_what_they_say_of_us_not_at_all() -> None:
    here, there = Events(EU), Events(US)
    there.add(EventKind.DISK_FULL, "full", 3_000)
    here.add(EventKind.REIGN_BEGUN, "term 1", 5_000)
    for _ in range(3):
        here.heard(told_by("us-1", there.young(3_000)))
        here.heard(here.recent())
        here.heard([Event(node="eu-1", sequence=99, kind="rumour")])
    assert [(event.node, event.kind) for event in here.recent()] == [
        ("us-1", "disk_full"),
        ("eu-1", "reign_begun"),
    ]


def test_the_eldest_go_when_there_are_too_many() -> None:
    events = Events(EU)
    for number in range(2 * EVENTS_MAX):
        events.add(EventKind.MEMBER_LEFT, "gone", number)
    recent = events.recent()
    assert len(recent) == EVENTS_MAX and recent[-1].sequence == 2 * EVENTS_MAX


def test_kinds_are_counted_here_and_not_those_that_others_told_of() -> None:
    events = Events(EU)
    assert set(events.counts().values()) == {0} and events.counts().keys() == set(EventKind)
    events.add(EventKind.DISK_FULL, "no room", 1_000)
    events.heard([Event(node="us-1", sequence=1, at_ms=1_000, kind="disk_full")])
    assert events.counts()[EventKind.DISK_FULL] == 1


def test_what_others_tell_again_every_second_drives_out_nothing_younger() -> None:
    """A follower comes back from a partition: what it saw there is younger than most of what it is told."""
    events = Events(US)
    told = [
        Event(node="eu-1", sequence=n, at_ms=n, kind="member_left", text="old") for n in range(EVENTS_MAX)
    ]
    for number in range(5):
        events.add(EventKind.PRIMARY_LOST, f"{number}", EVENTS_MAX + number)
    for _ in range(3):
        events.heard(told)
    recent = events.recent()
    assert [event.text for event in recent[-5:]] == ["0", "1", "2", "3", "4"]
    assert len(recent) == EVENTS_MAX and recent[0].at_ms == 5
    assert list(recent) == sorted(recent, key=lambda event: event.at_ms)

"""Lines of the audit log: what they hold, what cannot break out of them, and how many there are."""

from __future__ import annotations

import json

import pytest

from cluster.audit import LINES_WAITING_MAX
from cluster.audit_events import (
    ENDED_A_SECOND,
    LINES_A_SECOND,
    TEXT_CHARS_MAX,
    Accepted,
    Act,
    Actor,
    ActOutcome,
    Ended,
    Event,
    Lost,
    Part,
    Rejected,
    Tally,
    Unlisted,
    line,
    part_of,
)

OPS = Actor("127.0.0.1:1", "ops", "")
AT = "2026-01-02T03:04:05.678Z"


def accepted(kind: str = "user") -> Accepted:
    return Accepted(address="127.0.0.1:1", method="bearer", kind=kind, name="ann", role="read", token="t1")


def rejected(**fields: str) -> Rejected:
    plain = {"address": "", "method": "", "name": "", "certificate": "", "why": ""}
    return Rejected(**plain | fields)


def act(outcome: ActOutcome = ActOutcome.DONE) -> Act:
    put = Act(by=OPS, act="put_user", target="ann", detail={"role": "read"})
    return put.came_to(outcome, lsn=7, term=1)


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (
            accepted(),
            {
                "event": "accepted",
                "address": "127.0.0.1:1",
                "method": "bearer",
                "kind": "user",
                "name": "ann",
                "role": "read",
                "token": "t1",
            },
        ),
        (
            act(),
            {
                "event": "act",
                "by": {"address": "127.0.0.1:1", "name": "ops", "token": ""},
                "act": "put_user",
                "target": "ann",
                "outcome": "done",
                "detail": {"role": "read"},
                "lsn": 7,
                "term": 1,
                "why": "",
            },
        ),
        (
            Ended(session=OPS, why="removed"),
            {
                "event": "ended",
                "session": {"address": "127.0.0.1:1", "name": "ops", "token": ""},
                "why": "removed",
            },
        ),
        (Lost(lines=3), {"event": "lost", "lines": 3}),
    ],
)
def test_an_event_is_one_object_with_time_and_node_first(event: Event, fields: dict[str, object]) -> None:
    text = line(event, AT, "eu-1")
    assert json.loads(text) == {"time": AT, "node": "eu-1"} | fields
    assert list(json.loads(text))[:3] == ["time", "node", "event"]


@pytest.mark.parametrize("hostile", ["a\nb", '"}', "\x1b[2J", "\u202egnp", "\u2028", "\ud800", "\x00"])
def test_no_name_breaks_out_of_its_line(hostile: str) -> None:
    text = line(rejected(name=hostile, why=hostile), AT, "eu-1")
    assert text.isascii() and text.isprintable()
    assert json.loads(text)["name"] == hostile


def test_long_texts_are_cut_and_show_it_wherever_they_stand() -> None:
    long = "x" * (TEXT_CHARS_MAX + 1)
    shown = json.loads(line(rejected(name=long, why="y" * TEXT_CHARS_MAX), AT, "eu-1"))
    assert shown["name"] == "x" * (TEXT_CHARS_MAX - 1) + "…" and shown["why"] == "y" * TEXT_CHARS_MAX
    nested = Act(by=Actor("", long, ""), act="", target="", detail={"policy": long, "n": 1})
    shown = json.loads(line(nested, AT, "eu-1"))
    assert len(shown["by"]["name"]) == len(shown["detail"]["policy"]) == TEXT_CHARS_MAX


def test_beyond_a_number_a_second_events_are_counted_and_not_listed() -> None:
    tally = Tally()
    for event, sort in (
        (rejected(), "refused"),
        (accepted(), "accepted"),
        (act(ActOutcome.REFUSED), "acts_refused"),
    ):
        listed = [tally.lists(event) for _ in range(LINES_A_SECOND + 5)]
        assert listed == [True] * LINES_A_SECOND + [False] * 5, sort
    assert tally.next_second() == Unlisted(accepted=5, refused=5, acts_refused=5)
    assert tally.next_second() is None
    assert tally.lists(rejected())


def test_an_act_that_ends_very_many_sessions_leaves_lines_for_the_next_act() -> None:
    tally = Tally()
    ended = Ended(session=OPS, why="removed")
    assert sum(tally.lists(ended) for _ in range(ENDED_A_SECOND + 5)) == ENDED_A_SECOND
    assert ENDED_A_SECOND < LINES_WAITING_MAX / 5
    assert tally.next_second() == Unlisted(ended=5)


def test_strangers_do_not_use_up_the_lines_of_users() -> None:
    tally = Tally()
    for _ in range(LINES_A_SECOND + 1):
        tally.lists(accepted("anonymous"))
    assert tally.lists(accepted("user"))


def test_what_an_administrator_did_is_always_listed() -> None:
    tally = Tally()
    assert all(tally.lists(act()) for _ in range(LINES_A_SECOND * 3))
    assert tally.next_second() is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (act(), Part.ACTS),
        (act(ActOutcome.NOTHING), Part.ACTS),
        (act(ActOutcome.NOT_CONFIRMED), Part.ACTS),
        (Lost(lines=3), Part.ACTS),
        (accepted(), Part.SESSIONS),
        (accepted("node"), Part.SESSIONS),
        (Ended(session=OPS, why="removed"), Part.SESSIONS),
        (rejected(), Part.REFUSED),
        (accepted("anonymous"), Part.REFUSED),
        (act(ActOutcome.REFUSED), Part.REFUSED),
        (Unlisted(refused=3), Part.REFUSED),
    ],
)
def test_an_event_belongs_to_the_part_of_those_who_can_cause_any_number_of_it(
    event: Event, expected: Part
) -> None:
    assert part_of(event) is expected

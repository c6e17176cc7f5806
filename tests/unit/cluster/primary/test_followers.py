"""Followers come, go, and come back with less, or with a new data directory (R4, R11)."""

from __future__ import annotations

import pytest

from cluster.catchup import STREAMING_RECORDS
from cluster.effects import Append, Commit, Drop, Note
from redwire.errors import Code
from redwire.message.log import Admit
from redwire.position import Lsn, NodeId, Position, Reign, Term
from regions.coordinator import ProvedLess

# Sessions (R4)


def test_what_a_follower_proves_when_it_joins_counts(lead):
    primary = lead().serve()
    primary.leave("us-1")
    primary.take(primary.propose())
    primary.durable()
    assert primary.join("us-1", 2, matched=2) == [Commit(Lsn(2))]


def test_what_it_proved_counts_when_it_is_gone(lead):
    primary = lead().serve()
    primary.take(primary.propose())
    primary.ack("us-1")
    primary.leave("us-1")
    assert primary.durable() == [Commit(Lsn(2))]


@pytest.mark.parametrize(
    "reign", [Reign(Term(1), NodeId("eu-1")), Reign(Term(2), NodeId("us-1"))], ids=["older", "other"]
)
def test_who_joins_in_another_reign_is_sent_away(reign, lead):
    primary = lead(term=2).serve()
    (drop,) = primary.join("us-1", 2, matched=1, reign=reign)
    assert (drop.session, drop.error.code) == (2, Code.STALE_TERM)
    assert primary.ack("us-1", 1, session=2) == []


@pytest.mark.parametrize(
    ("node", "matched", "applied"), [("xx-1", 0, 0), ("eu-1", 0, 0), ("us-1", 2, 0), ("us-1", 1, 2)]
)
def test_a_join_that_cannot_be_ends_the_session(node, matched, applied, lead):
    primary = lead().serve()
    drop, note = primary.join(node, 2, matched=matched, applied=applied)
    assert isinstance(drop, Drop) and drop.session == 2
    assert isinstance(note, Note) and note.text == str(drop.error)


def test_who_proves_less_than_it_acked_is_told_of_and_counts_from_there_on(lead):
    primary = lead().serve()
    primary.take(primary.propose(count=3))
    primary.ack("us-1", 4)
    assert primary.join("us-1", 2, matched=1) == [ProvedLess(NodeId("us-1"), Lsn(4), Lsn(1))]
    assert primary.durable() == primary.ack("us-1", 3, session=2) == []
    assert primary.ack("us-1", 4, session=2) == [Commit(Lsn(4))]
    (release,) = primary.apply()
    assert [node for node, _ in release.flight.acks] == ["us-1", "eu-1"]


def test_an_old_session_that_ends_late_ends_nothing(lead):
    primary = lead().serve()
    primary.join("us-1", 2, matched=1)
    primary.leave("us-1", 1)
    primary.take(primary.propose())
    primary.durable()
    assert primary.ack("us-1", session=2) == [Commit(Lsn(2))]


def test_a_follower_far_behind_counts_and_is_in_reach_once_it_streams(lead):
    primary = lead("eu-1", "us-1", end=Position(Term(1), Lsn(50_000), b"o" * 16), term=2)
    primary.begin(50_000)
    primary.join("us-1", matched=0)
    primary.durable()
    near = 50_001 - STREAMING_RECORDS
    primary.ack("us-1", near - 1)
    assert primary.core.coordinator.refusal(None, primary.ms) is not None
    primary.ack("us-1", near)
    assert primary.core.coordinator.refusal(None, primary.ms) is None
    assert primary.ack("us-1") == [Commit(Lsn(50_001))]


# Lives (R11)


def test_the_first_life_of_a_member_is_admitted_when_it_joins_and_counts_from_there(lead, own_records):
    primary = lead(lives={"us-1": None, "ap-1": None})
    primary.begin()
    primary.durable()
    append, note = primary.join("us-1", matched=1)
    assert own_records(append.batch) == [Admit("us-1", primary.life("us-1"))]
    assert isinstance(note, Note) and note.text.startswith("us-1 is admitted as")
    assert primary.core.watermark == 0  # its record is not on its disk
    primary.durable()
    assert primary.ack("us-1", 1) == []
    assert primary.ack("us-1", 2) == [Commit(Lsn(2))]


def test_a_member_is_admitted_once(lead):
    primary = lead(lives={"us-1": None}).serve()
    assert primary.join("us-1", 2, matched=2) == []


def test_a_new_data_directory_counts_when_it_has_caught_up_and_its_admission_is_on_its_disk(
    lead, of, own_records
):
    primary = lead().serve()
    other = primary.life("us-1", 2)
    notes = primary.join("us-1", 2, life=other)
    assert of(ProvedLess, notes) == [ProvedLess(NodeId("us-1"), Lsn(1), Lsn(0))]
    (note,) = of(Note, notes)
    assert note.text == "us-1 comes with a new data directory: it counts again when it has caught up"
    primary.take(primary.propose())  # LSN 2
    primary.durable()
    append, note = primary.ack("us-1", 1, session=2)  # where the log ended when it joined
    assert own_records(append.batch) == [Admit("us-1", other)]
    assert isinstance(note, Note)
    primary.durable()
    assert primary.ack("us-1", 2, session=2) == []
    assert primary.ack("us-1", 3, session=2) == [Commit(Lsn(3))]


def test_a_new_data_directory_that_is_whole_is_admitted_at_once(lead):
    primary = lead().serve()
    effects = primary.join("us-1", 2, matched=1, life=primary.life("us-1", 2))
    assert [type(effect) for effect in effects] == [Note, Append, Note]


def test_a_life_that_is_gone_again_is_not_admitted(lead):
    primary = lead().serve()
    primary.join("us-1", 2, life=primary.life("us-1", 2))
    primary.leave("us-1", 2)
    assert primary.ack("us-1", 1, session=2) == []
    assert primary.join("us-1", 3, matched=1) == []  # the first one comes back
    primary.take(primary.propose())
    primary.durable()
    assert primary.ack("us-1", session=3) == [Commit(Lsn(2))]

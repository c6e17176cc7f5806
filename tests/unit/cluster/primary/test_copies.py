"""Whose copies commit, and which acks count for nothing (R6, R7)."""

from __future__ import annotations

import pytest

from cluster.effects import Commit, Drop, Note, Release
from redwire.position import Lsn, NodeId, Reign, Term


def test_a_lone_voter_commits_by_its_own_disk(lead, answers):
    primary = lead("eu-1", rule="local").serve()
    primary.take(primary.propose())
    assert primary.core.watermark == 1
    assert primary.durable() == [Commit(Lsn(2))]
    assert answers(primary.apply()) == [(Release, 1)]


@pytest.mark.parametrize("first", ["eu-1", "us-1"])
def test_a_majority_is_our_disk_and_one_more_in_any_order(first, lead):
    primary = lead().serve()
    primary.take(primary.propose())
    steps = [primary.durable, lambda: primary.ack("us-1")]
    assert (steps[0] if first == "eu-1" else steps[1])() == []
    assert (steps[1] if first == "eu-1" else steps[0])() == [Commit(Lsn(2))]
    (release,) = primary.apply()
    copies = [node for node, _ in release.flight.acks]
    assert copies == ["eu-1", "us-1"] if first == "eu-1" else copies == ["us-1", "eu-1"]
    assert release.flight.completing == 1


def test_the_watermark_never_passes_our_own_disk(lead):
    primary = lead().serve()
    primary.take(primary.propose())
    primary.ack("us-1")
    primary.ack("ap-1")
    assert primary.core.watermark == 1
    assert primary.durable() == [Commit(Lsn(2))]


def test_an_older_report_of_our_disk_takes_nothing_back(lead):
    primary = lead().serve()
    primary.take(primary.propose())
    primary.durable()
    assert primary.durable(1) == []
    assert primary.ack("us-1") == [Commit(Lsn(2))]


def test_regions_are_met_by_a_copy_in_each(lead):
    primary = lead("eu-1", "eu-2", "us-1", rule="regions(eu,us)").serve()
    primary.take(primary.propose())
    primary.durable()
    assert primary.ack("eu-2") == []
    assert primary.ack("us-1") == [Commit(Lsn(2))]


def test_a_readers_copy_is_not_one(lead):
    primary = lead("eu-1", "us-1", readers=["eu-9"]).serve()
    primary.take(primary.propose())
    primary.durable()
    assert primary.ack("eu-9") == []
    primary.ack("us-1")
    (release,) = primary.apply()
    assert [node for node, _ in release.flight.acks] == ["eu-1", "us-1"]


def test_copies_are_timed_from_the_making_of_the_batch(lead):
    primary = lead().serve()
    primary.take(primary.propose())
    primary.ms += 3
    primary.durable()
    primary.ms += 40
    primary.ack("us-1")
    (release,) = primary.apply()
    assert release.flight.acks == [("eu-1", 3_000), ("us-1", 43_000)]


def test_a_stronger_policy_delays_its_own_answer_only(lead, answers):
    primary = lead().serve()
    primary.take(primary.propose("ack_n=2"), primary.propose())
    primary.durable()
    primary.ack("us-1")
    assert answers(primary.apply()) == [(Release, 2)]
    (release,) = primary.ack("ap-1")
    assert answers([release]) == [(Release, 1)]
    assert [node for node, _ in release.flight.acks] == ["eu-1", "us-1", "ap-1"]


@pytest.mark.parametrize(
    "reign",
    [Reign(Term(1), NodeId("eu-1")), Reign(Term(2), NodeId("us-1")), Reign(Term(3), NodeId("eu-1"))],
    ids=["older", "same term, another primary", "newer"],
)
def test_an_ack_in_another_reign_changes_nothing(reign, lead):
    primary = lead(term=2).serve()
    primary.take(primary.propose())
    primary.durable()
    before = primary.core.coordinator.status()
    assert primary.ack("us-1", reign=reign) == []
    assert primary.core.coordinator.status() == before


@pytest.mark.parametrize(("node", "session"), [("xx-1", 1), ("us-1", 9), ("eu-1", 1)])
def test_an_ack_of_a_stranger_or_of_a_session_that_is_over_changes_nothing(node, session, lead):
    primary = lead().serve()
    primary.take(primary.propose())
    primary.durable()
    assert primary.ack(node, session=session) == []
    assert primary.ack(node, 99, session=session) == []
    assert primary.core.watermark == 1


def test_an_ack_that_says_nothing_new_says_nothing(lead):
    primary = lead().serve()
    assert primary.ack("us-1") == primary.ack("us-1", 0) == []


def test_an_ack_beyond_our_log_ends_the_session(lead):
    primary = lead().serve()
    drop, note = primary.ack("us-1", 2)
    assert isinstance(drop, Drop) and drop.session == 1
    assert isinstance(note, Note) and "us-1 claims LSN 2" in note.text
    assert primary.core.coordinator.durable(NodeId("us-1")) == 1

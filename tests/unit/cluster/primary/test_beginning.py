"""How a reign begins: its term-start record, and what it knows of the log before it (R3)."""

from __future__ import annotations

import pytest

from cluster.effects import Append, Applied, Commit, Note
from redwire.batch import follows
from redwire.message.log import TermStart
from redwire.position import Lsn, NodeId, Reign, Term


def test_a_reign_begins_with_its_term_start_record(lead, own_records):
    primary = lead(term=7)
    (effect,) = primary.begin()
    assert isinstance(effect, Append)
    assert own_records(effect.batch) == [TermStart("test")]
    assert (effect.batch.reign, effect.batch.first, effect.batch.last) == (
        Reign(Term(7), NodeId("eu-1")),
        1,
        1,
    )
    assert not primary.core.ready and primary.core.watermark == 0


def test_a_reign_says_who_was_given_up_for_it(lead, own_records):
    (effect,) = lead(term=7, without=("us-1", "us-2")).begin()
    assert own_records(effect.batch) == [TermStart("test", ("us-1", "us-2"))]


def test_a_new_cluster_is_described_by_the_record_behind_its_first_one(lead, cluster_record, own_records):
    record = cluster_record("eu-1")
    (effect,) = lead(record=record).begin()
    assert own_records(effect.batch) == [TermStart("test"), record]
    assert (effect.batch.first, effect.batch.last) == (1, 2)


def test_a_later_reign_goes_on_where_the_log_ends_and_says_what_is_known_committed(lead, old_end):
    primary = lead(end=old_end, term=2)
    (effect,) = primary.begin(known=3)
    assert follows(effect.batch, old_end)
    assert (effect.batch.first, effect.batch.watermark, primary.core.watermark) == (6, 3, 3)
    assert primary.core.coordinator.durable(NodeId("eu-1")) == 5


def test_what_is_known_committed_and_not_applied_is_applied_whoever_is_away(lead, of, old_end):
    """Else the primary itself would make no progress for as long as nobody follows."""
    primary = lead(end=old_end, term=2)
    primary.core.applied = Lsn(3)
    begun, known = primary.begin(known=4)
    assert isinstance(begun, Append) and known == Commit(Lsn(4))
    assert primary.step(Applied(Lsn(4), [])) == [] and not primary.core.ready
    primary.durable()
    primary.wait(6_000)
    assert primary.core.coordinator.status().member(NodeId("eu-1")).health.healthy
    for node in ("us-1", "ap-1"):
        primary.join(node, matched=5)
    assert of(Commit, primary.ack("us-1")) == [Commit(Lsn(6))]


def test_no_reign_begins_on_a_log_that_lacks_what_is_known_committed(lead, old_end):
    with pytest.raises(AssertionError, match="R5"):
        lead(end=old_end, term=2).begin(known=6)


def test_nothing_is_ready_before_the_reign_has_begun(lead, old_end):
    primary = lead(end=old_end, term=2)
    assert not primary.core.ready and not primary.core.complete


def test_what_an_earlier_term_wrote_is_not_committed_by_counting(lead, of, old_end):
    primary = lead(end=old_end, term=2)
    primary.begin(known=3)
    assert primary.join("us-1", matched=5) == primary.join("ap-1", matched=5) == []
    assert primary.durable() == primary.ack("us-1", 5) == []
    assert primary.core.watermark == 3
    assert of(Commit, primary.ack("us-1", 6)) == [Commit(Lsn(6))]


def test_no_write_is_logged_before_the_first_record_is_applied(lead, of):
    primary = lead()
    primary.begin()
    assert primary.take(primary.propose()) == []
    primary.join("us-1")
    primary.durable()
    primary.ack("us-1")
    assert primary.take() == []
    assert of(Note, primary.apply()) == [Note("term 1 serves writes from LSN 1")]
    (effect,) = primary.take()
    assert (effect.batch.first, effect.batch.last) == (2, 2)


def test_what_was_applied_before_the_reign_does_not_make_it_ready(lead, old_end):
    primary = lead(end=old_end, term=2)
    primary.begin(known=5)
    assert primary.apply() == []
    assert not primary.core.ready
    assert primary.take(primary.propose()) == []


def test_it_is_said_once_that_the_reign_is_ready(lead, of):
    primary = lead("eu-1", rule="local").serve()
    primary.take(primary.propose())
    primary.durable()
    assert of(Note, primary.apply()) == []

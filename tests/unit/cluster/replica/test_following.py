"""What a replica that follows takes into its log, acks and refuses, and when silence ends it (R4)."""

from __future__ import annotations

import pytest

from cluster.effects import Append, Applied, Drop, Durable, SourceLost, TailCut
from cluster.primary import BEAT_MS
from cluster.replica import SILENCE_MS, FollowerState
from redwire.batch import make_batch
from redwire.errors import ProtocolError
from redwire.position import Lsn, NodeId, Position, Reign, Term
from tests.follower import FIRST, RIVAL, SECOND, SOURCE, Follower, ack, batches, of

# Following


def test_batches_that_continue_the_log_are_appended_and_acked_when_they_are_on_disk(empty):
    empty.follow()
    made = batches(3)
    assert empty.receive(*made) == [Append(batch) for batch in made]
    assert empty.core.end == made[-1].position and empty.core.status().source_head == 3
    assert empty.step(Durable(Lsn(2))) == [ack(2, received=3, synced_us=1)]
    assert empty.step(Durable(Lsn(3))) == [ack(3, synced_us=1)]


def test_no_batches_are_nothing(empty):
    empty.follow()
    assert empty.receive() == []


@pytest.mark.parametrize("event", ["batches", "heartbeat", "loss"])
def test_what_another_session_says_is_not_heard(event, grown):
    grown.follow()
    before = grown.core.status()
    match event:
        case "batches":
            effects = grown.receive(*batches(1, after=grown.end), session=9)
        case "heartbeat":
            effects = grown.beat(head=99, watermark=5, session=9)
        case _:
            effects = grown.step(SourceLost(9))
    assert effects == [] and grown.core.status() == before


@pytest.mark.parametrize("settling", [True, False])
def test_before_it_follows_it_hears_nothing(settling, grown):
    if settling:
        grown.found(grown.end, reign=SECOND)
    assert grown.receive(*batches(1, SECOND, grown.end)) == grown.beat(reign=SECOND, watermark=5) == []
    assert grown.core.end.lsn == 5 and grown.core.watermark == 2


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(batches(7)[6], id="a gap"),
        pytest.param(batches(5)[4], id="what is there already"),
        pytest.param(
            make_batch(FIRST, Position(Term(1), Lsn(5), b"x" * 16), [b"r"], 1, 9, Lsn(0)), id="chain"
        ),
        pytest.param(batches(1, SECOND, batches(5)[-1].position)[0], id="a term above the reign"),
    ],
)
def test_a_batch_that_does_not_continue_the_log_ends_the_session(batch, grown):
    grown.follow()
    (drop,) = grown.receive(batch)
    assert drop.session == 1 and isinstance(drop.error, ProtocolError)
    assert grown.core.state is FollowerState.SEARCHING and grown.core.end.lsn == 5


def test_a_batch_of_an_older_term_than_the_log_ends_the_session():
    follower = Follower(batches(2, SECOND), SECOND).follow(reign=SECOND)
    (drop,) = follower.receive(*batches(1, FIRST, follower.end))
    assert "does not continue" in str(drop.error)


def test_a_batch_of_the_same_term_by_another_primary_ends_the_session(grown):
    """A term has one primary, also within a log that chains well (R3)."""
    grown.follow(reign=SECOND)
    (drop,) = grown.receive(*batches(1, RIVAL, grown.end))
    assert drop.error.message == "eu-1 sends a batch of 2:ap-1 within the reign 2:eu-1"


def test_what_came_before_a_bad_batch_stays_appended(grown):
    grown.follow()
    good = batches(2, after=grown.end)
    *appends, drop = grown.receive(*good, good[0])
    assert appends == [Append(batch) for batch in good] and isinstance(drop, Drop)
    assert grown.core.end == good[-1].position
    assert grown.receive(*batches(1, after=grown.end)) == []  # nobody is followed any more


def test_older_terms_are_caught_up_through_to_the_reigns_own(empty):
    empty.follow(reign=SECOND)
    old = batches(2, FIRST)
    own = batches(2, SECOND, old[-1].position)
    assert len(of(Append, empty.receive(*old, *own))) == 4


@pytest.mark.parametrize("reign", [SECOND, RIVAL, Reign(Term(0), NodeId(""))])
def test_a_heartbeat_of_another_reign_ends_the_session(reign, grown):
    grown.follow()
    (drop,) = grown.beat(reign=reign)
    assert isinstance(drop.error, ProtocolError)
    assert grown.core.state is FollowerState.SEARCHING


def test_a_heartbeat_says_the_head_and_is_answered_by_an_ack(grown):
    grown.follow()
    assert grown.beat(head=9) == [ack(5, applied=2)]
    assert grown.core.status().source_head == 9
    grown.beat(head=7)
    assert grown.core.status().source_head == 9


def test_a_source_that_is_lost_is_looked_for_and_the_log_stays(grown):
    grown.follow()
    assert grown.step(SourceLost(1)) == grown.step(SourceLost(1)) == []
    assert (grown.core.state, grown.core.session, grown.core.end.lsn) == (FollowerState.SEARCHING, None, 5)


def test_a_sync_and_an_apply_without_a_source_are_noted(grown):
    assert grown.step(Durable(Lsn(5))) == grown.step(Applied(Lsn(5), [])) == []
    assert (grown.core.durable, grown.core.applied) == (5, 5)


def test_a_sync_of_before_a_cut_that_is_reported_after_it_counts_for_what_is_left():
    follower = Follower(batches(5), FIRST, durable=2)
    follower.found(follower.at(3))
    follower.step(Durable(Lsn(5)))
    assert follower.core.durable == 3
    assert follower.step(TailCut()) == [ack(3)]


def test_an_ack_says_how_long_the_newest_batch_that_it_brings_took_to_the_disk(empty):
    empty.follow()
    first, second, third = batches(3)
    empty.receive(first, second)
    empty.ms += 5
    empty.receive(third)
    empty.ms += 2
    assert empty.step(Durable(Lsn(2))) == [ack(2, received=3, synced_us=7_000)]
    assert empty.step(Durable(Lsn(2))) == [ack(2, received=3)]
    assert empty.step(Durable(Lsn(3))) == [ack(3, synced_us=2_000)]


# Silence


def test_nine_heartbeats_may_be_lost_before_a_source_is_called_silent():
    assert SILENCE_MS >= 10 * BEAT_MS


def test_a_silent_source_is_tried_again(grown):
    assert grown.wait(10 * SILENCE_MS) == []  # nobody is followed
    grown.follow()
    assert grown.wait(SILENCE_MS - 1) == []
    (drop,) = grown.wait(1)
    assert drop.session == 1 and "eu-1 has been silent for 5000 ms" in str(drop.error)
    assert grown.core.state is FollowerState.SEARCHING
    assert grown.core.session is None and grown.core.leader is None
    assert grown.wait(SILENCE_MS) == []


@pytest.mark.parametrize("word", ["batches", "heartbeat", "a part of a batch"])
def test_every_word_of_the_source_breaks_the_silence(word, grown):
    grown.follow()
    grown.wait(SILENCE_MS - 1)
    grown.beat() if word == "heartbeat" else grown.receive(*batches(word == "batches", after=grown.end))
    assert grown.wait(SILENCE_MS - 1) == []
    assert len(of(Drop, grown.wait(1))) == 1


def test_a_source_is_not_called_silent_while_our_own_disk_keeps_it_waiting(grown):
    """It sends nothing before the first ack."""
    grown.found(grown.at(3), reign=SECOND)
    assert grown.wait(3 * SILENCE_MS) == []
    grown.settle()
    assert grown.core.state is FollowerState.FOLLOWING
    assert grown.wait(SILENCE_MS - 1) == []
    assert len(of(Drop, grown.wait(1))) == 1


def test_the_status_of_a_follower_without_a_source_says_so(empty, grown):
    status = empty.core.status()
    assert (status.state, status.reign, status.source, status.end) == (FollowerState.SEARCHING, None, None, 0)
    assert (status.durable, status.watermark, status.applied) == (0, 0, 0)
    assert status.source_head == 0
    grown.follow(head=8)
    status = grown.core.status()
    assert (status.state, status.reign, status.source, status.end) == (
        FollowerState.FOLLOWING,
        FIRST,
        SOURCE,
        5,
    )
    assert (status.durable, status.watermark, status.applied, status.source_head) == (5, 2, 2, 8)

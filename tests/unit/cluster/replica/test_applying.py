"""What a replica applies: announced, here, and on disk (R6)."""

from __future__ import annotations

import pytest

from cluster.effects import Applied, Commit, Durable, SourceLost
from redwire.position import Lsn
from tests.follower import FIRST, Follower, ack, batches, of


@pytest.mark.parametrize(
    ("announced", "durable", "commit"),
    [
        pytest.param(0, 5, None, id="nothing is known"),
        pytest.param(2, 5, None, id="nothing new"),
        pytest.param(4, 5, 4, id="the watermark"),
        pytest.param(9, 5, 5, id="the end of the log"),
        pytest.param(4, 3, 3, id="our own disk"),
        pytest.param(4, 2, None, id="our own disk is behind"),
    ],
)
def test_what_is_applied_is_announced_here_and_on_disk(announced, durable, commit):
    follower = Follower(batches(5), FIRST, watermark=2, applied=2, durable=durable).follow()
    commits = [] if commit is None else [Commit(Lsn(commit))]
    assert of(Commit, follower.beat(watermark=announced)) == commits
    assert of(Commit, follower.beat(watermark=announced)) == []  # ordered once


def test_a_batch_carries_the_watermark_too(grown):
    grown.follow()
    *_, commit = grown.receive(*batches(1, after=grown.end, watermark=4))
    assert commit == Commit(Lsn(4))


def test_the_watermark_waits_for_the_batches_and_they_for_the_disk(grown):
    grown.follow()
    assert of(Commit, grown.beat(watermark=7)) == [Commit(Lsn(5))]
    assert of(Commit, grown.receive(*batches(1, after=grown.end))) == []
    assert grown.core.watermark == 6
    assert of(Commit, grown.step(Durable(Lsn(6)))) == [Commit(Lsn(6))]


def test_a_watermark_that_falls_is_not_believed(grown):
    grown.follow()
    grown.beat(watermark=4)
    grown.beat(watermark=1)
    assert grown.core.watermark == 4
    grown.step(SourceLost(1))
    grown.follow(session=2)
    assert grown.core.watermark == 4


def test_what_was_ordered_and_is_not_applied_yet_is_not_ordered_again(grown):
    grown.follow()
    grown.beat(watermark=4)
    grown.step(SourceLost(1))
    assert of(Commit, grown.found(grown.end, session=2, watermark=4)) == []
    grown.step(Applied(Lsn(4), []))
    assert grown.beat(watermark=5, session=2) == [Commit(Lsn(5)), ack(5, applied=4, session=2)]


def test_that_all_is_applied_is_told_at_once_and_that_a_part_is_with_what_comes(grown):
    grown.follow()
    grown.beat(watermark=5)
    assert grown.step(Applied(Lsn(4), [])) == []
    assert grown.step(Applied(Lsn(5), [])) == [ack(5, applied=5)]
    grown.step(SourceLost(1))
    assert grown.step(Applied(Lsn(5), [])) == []


@pytest.mark.parametrize(
    ("known", "durable", "commit"), [(4, 5, 4), (9, 5, 5), (4, 3, 3), (2, 5, None), (4, 2, None)]
)
def test_what_is_known_committed_when_it_starts_is_applied_though_nobody_is_followed(known, durable, commit):
    follower = Follower(batches(5), FIRST, watermark=known, applied=2, durable=durable)
    assert follower.wait(100) == ([] if commit is None else [Commit(Lsn(commit))])
    assert follower.wait(100) == []  # ordered once


def test_what_is_known_committed_is_applied_once_it_is_on_disk_though_its_source_is_gone(grown):
    grown.follow()
    grown.receive(*batches(3, after=grown.end))
    assert of(Commit, grown.beat(watermark=7)) == [Commit(Lsn(5))]
    grown.step(SourceLost(1))
    assert grown.step(Durable(Lsn(6))) == [Commit(Lsn(6))]
    assert grown.step(Durable(Lsn(8))) == [Commit(Lsn(7))]

"""What only rises: commits with their stages, outcomes of requests, sessions."""

from __future__ import annotations

import msgspec
import pytest

from cluster.commit_times import Sample
from cluster.counts import Counts
from redwire.errors import Code
from redwire.position import NodeId
from redwire.status import STAGES, Commits, Stage

US = NodeId("us-1")


@pytest.fixture
def sample() -> Sample:
    """Three requests; completed abroad, and its remote sync was not told."""
    return Sample(0, 3, US, 1_000, 2_000, None, None, 4_000, 9_000)


def test_the_stages_are_those_of_the_status_document_and_of_a_sample_in_one_order() -> None:
    shown = tuple(field.name for field in msgspec.structs.fields(Commits) if field.type is Stage)
    assert shown == STAGES == tuple(Commits().stages)
    assert Sample._fields[-len(STAGES) :] == STAGES


def test_a_batch_counts_its_requests_and_each_stage_that_was_seen_once(sample) -> None:
    counts = Counts()
    counts.committed(sample)
    counts.committed(sample._replace(by=None, wire=5))
    found = counts.status()
    assert found.commits == 6 and found.completed == {US: 1}
    assert {stage: sum(buckets.counts) for stage, buckets in found.stages.items()} == {
        **dict.fromkeys(STAGES, 2),
        "wire": 1,
        "remote_fsync": 0,
    }
    assert found.stages["total"].sum_us == 18_000


def test_what_is_not_confirmed_is_never_counted_as_refused() -> None:
    counts = Counts()
    for code in (Code.NOT_CONFIRMED, Code.BUSY, Code.BUSY, Code.DISK_FULL):
        counts.answered(code)
    found = counts.status()
    assert found.not_confirmed == 1
    assert found.refused == {Code.BUSY: 2, Code.DISK_FULL: 1}


def test_sessions_go_down_again_and_their_number_does_not() -> None:
    counts = Counts()
    counts.session_begun()
    counts.session_begun()
    counts.session_ended()
    assert (counts.status().sessions, counts.status().sessions_begun) == (1, 2)

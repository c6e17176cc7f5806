"""Where the time of a commit goes, batch by batch."""

from __future__ import annotations

from cluster.commit_times import SAMPLES_MAX, SUMMARY_MS, WINDOW_MS, CommitTimes
from cluster.effects import Now
from redwire.position import NodeId
from redwire.status import Commits, Stage

EU, US = NodeId("eu-1"), NodeId("us-1")


def at(ms: float) -> Now:
    return Now(int(ms * 1_000), 0)


def one(us: int) -> Stage:
    return Stage(p50_us=us, p99_us=us)


def committed(fly, *proposals, by=1, remote_us=1_000, made_us=5_000):
    """A batch of `eu-1`: on its own disk after 2 ms, acked by `us-1` after 20 ms, committed after 21 ms."""
    flight = fly(*proposals, made_us=made_us)
    flight.acks += [(EU, 2_000), (US, 20_000)]
    flight.completing, flight.committed_us, flight.remote_us = by, made_us + 21_000, remote_us
    return flight


def arrived(propose, us: int):
    proposal = propose()
    proposal.arrived_us = us
    return proposal


def test_a_commit_is_split_into_its_stages_and_named_by_who_completed_it(fly, propose) -> None:
    times = CommitTimes()
    times.note(committed(fly, arrived(propose, 4_000), arrived(propose, 4_900)), at(30))
    found = times.summary(30)
    assert (found.queue, found.local_fsync) == (one(1_000), one(2_000))
    assert (found.wire, found.remote_fsync) == (one(19_000), one(1_000))
    assert (found.apply, found.total) == (one(4_000), one(26_000))
    assert found.completed_by == {"us-1": 1}
    assert (found.count, found.window_ms, found.rate) == (2, WINDOW_MS, 0.2)


def test_what_the_own_disk_completed_has_neither_wire_nor_a_remote_disk(fly, propose) -> None:
    times = CommitTimes()
    times.note(committed(fly, arrived(propose, 4_000), by=0), at(30))
    found = times.summary(30)
    assert found.wire == found.remote_fsync == Stage()
    assert found.local_fsync == one(2_000) and found.completed_by == {"eu-1": 1}


def test_what_was_not_seen_counts_in_no_percentile(fly, propose) -> None:
    times = CommitTimes()
    flight = fly(propose())
    times.note(flight, at(30))
    found = times.summary(30)
    assert found.count == 1 and found.completed_by == {}
    stages = (found.queue, found.local_fsync, found.wire, found.remote_fsync, found.apply, found.total)
    assert stages == (Stage(),) * 6


def test_the_nodes_own_records_are_no_commits_of_anybody(fly) -> None:
    times = CommitTimes()
    times.note(committed(fly, None), at(30))
    assert times.summary(30) == Commits(window_ms=WINDOW_MS, count=0, rate=0.0)


def test_a_summary_is_made_once_a_second_and_forgets_what_is_older_than_the_window(fly, propose) -> None:
    times = CommitTimes()
    assert times.summary(0).count == 0
    times.note(committed(fly, arrived(propose, 4_000)), at(30))
    assert times.summary(SUMMARY_MS - 1).count == 0
    assert times.summary(SUMMARY_MS).count == 1
    assert times.summary(30 + WINDOW_MS).count == 1
    assert times.summary(40 + WINDOW_MS + SUMMARY_MS).count == 0


def test_a_full_ring_says_how_short_its_window_is(fly, propose) -> None:
    times = CommitTimes()
    flight = committed(fly, arrived(propose, 4_000))
    for number in range(2 * SAMPLES_MAX):
        times.note(flight, at(number))
    found = times.summary(2 * SAMPLES_MAX)
    assert found.count == SAMPLES_MAX
    assert found.window_ms == SAMPLES_MAX and found.rate == 1_000.0


def test_a_young_reign_counts_from_its_beginning_on(fly, propose) -> None:
    times = CommitTimes()
    times.begin(5_000)
    times.note(committed(fly, *(arrived(propose, 4_000) for _ in range(400))), at(6_000))
    found = times.summary(7_000)
    assert (found.count, found.window_ms, found.rate) == (400, 2_000, 200.0)
    assert times.summary(5_000 + WINDOW_MS + 500).window_ms == WINDOW_MS


def test_percentiles_are_of_the_batches_in_the_window(fly, propose) -> None:
    times = CommitTimes()
    for number in range(100):
        times.note(committed(fly, arrived(propose, 5_000 - number)), at(30))
    assert times.summary(30).queue == Stage(p50_us=50, p99_us=99)


def test_whoever_counts_gets_every_sample(fly, propose) -> None:
    seen: list[object] = []
    times = CommitTimes(on_sample=seen.append)
    times.note(committed(fly, arrived(propose, 4_000), arrived(propose, 4_900)), at(30))
    times.note(committed(fly, None), at(30))
    assert seen == [], "many are made at once"
    times.settle()
    ((at_ms, requests, by, *_),) = seen
    assert (at_ms, requests, by) == (30, 2, US)

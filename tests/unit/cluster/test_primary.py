"""One reign: what it logs, whose copies it counts, whom it answers, and how it ends (R1 to R9)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ack_waits import Reached, TimedOut
from cluster.catchup import STREAMING_RECORDS
from cluster.effects import (
    Append,
    Beat,
    Commit,
    Deposed,
    Drop,
    EndReign,
    Fate,
    Note,
    Proposal,
    Reject,
    Release,
    Result,
    Unconfirmed,
)
from cluster.primary import BEAT_MS, FLIGHT_BYTES_MAX
from redwire import body
from redwire.batch import BATCH_BYTES_SOFT, follows
from redwire.errors import Code, Refused
from redwire.message.log import Admit, ClusterRecord, TermStart
from redwire.position import Lsn, NodeId, Position, Reign, Term
from redwire.record import REQUEST_HEADER, Key, RequestKind, request_heads
from regions.errors import Timeout
from regions.quorum import QuorumConfig

GRACE_MS = 5_000
OLD = Position(Term(1), Lsn(5), b"o" * 16)
"""The end of a log that an earlier reign wrote."""
DEPOSED = Deposed(Refused(Code.STALE_TERM, "term 9 has begun"))


def own_records(batch) -> list[object]:
    """The node's own records in a batch, decoded."""
    kinds = {RequestKind.TERM_START: TermStart, RequestKind.CONFIG: ClusterRecord, RequestKind.ADMIT: Admit}
    return [
        body.decode(head.data[REQUEST_HEADER.size :], kinds[head.kind]) for head in request_heads(batch.body)
    ]


def of(kind: type, effects) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


def answers(effects) -> list[tuple[type, int]]:
    """Who is answered how, by number and in order."""
    told: list[tuple[type, int]] = []
    for effect in effects:
        if isinstance(effect, Release):
            told += [(Release, proposal.correlation) for proposal, _ in effect.answers]
        elif isinstance(effect, Reject | Unconfirmed):
            told.append((type(effect), effect.proposal.correlation))
    return told


# The beginning (R3)


def test_a_reign_begins_with_its_term_start_record(lead):
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


def test_a_new_cluster_is_described_by_the_record_behind_its_first_one(lead, cluster_record):
    record = cluster_record("eu-1")
    (effect,) = lead(record=record).begin()
    assert own_records(effect.batch) == [TermStart("test"), record]
    assert (effect.batch.first, effect.batch.last) == (1, 2)


def test_a_later_reign_goes_on_where_the_log_ends_and_says_what_is_known_committed(lead):
    primary = lead(end=OLD, term=2)
    (effect,) = primary.begin(known=3)
    assert follows(effect.batch, OLD)
    assert (effect.batch.first, effect.batch.watermark, primary.core.watermark) == (6, 3, 3)
    assert primary.core.coordinator.durable(NodeId("eu-1")) == 5


def test_no_reign_begins_on_a_log_that_lacks_what_is_known_committed(lead):
    with pytest.raises(AssertionError, match="R5"):
        lead(end=OLD, term=2).begin(known=6)


def test_nothing_is_ready_before_the_reign_has_begun(lead):
    primary = lead(end=OLD, term=2)
    assert not primary.core.ready and not primary.core.complete


def test_what_an_earlier_term_wrote_is_not_committed_by_counting(lead):
    primary = lead(end=OLD, term=2)
    primary.begin(known=3)
    assert primary.join("us-1", matched=5) == primary.join("ap-1", matched=5) == []
    assert primary.durable() == primary.ack("us-1", 5) == []
    assert primary.core.watermark == 3
    assert of(Commit, primary.ack("us-1", 6)) == [Commit(Lsn(6))]


def test_no_write_is_logged_before_the_first_record_is_applied(lead):
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


def test_what_was_applied_before_the_reign_does_not_make_it_ready(lead):
    primary = lead(end=OLD, term=2)
    primary.begin(known=5)
    assert primary.apply() == []
    assert not primary.core.ready
    assert primary.take(primary.propose()) == []


def test_it_is_said_once_that_the_reign_is_ready(lead):
    primary = lead("eu-1", rule="local").serve()
    primary.take(primary.propose())
    primary.durable()
    assert of(Note, primary.apply()) == []


# Whose copies count (R6, R7)


def test_a_lone_voter_commits_by_its_own_disk(lead):
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


def test_a_stronger_policy_delays_its_own_answer_only(lead):
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
    (note,) = primary.join("us-1", 2, matched=1)
    assert note.text == "us-1 acked 4, proves only 1, counts again from 4"
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


def test_the_first_life_of_a_member_is_admitted_when_it_joins_and_counts_from_there(lead):
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


def test_a_new_data_directory_counts_when_it_has_caught_up_and_its_admission_is_on_its_disk(lead):
    primary = lead().serve()
    other = primary.life("us-1", 2)
    notes = primary.join("us-1", 2, life=other)
    assert [note.text for note in of(Note, notes)] == [
        "us-1 acked 1, proves only 0, counts again from 1",
        "us-1 comes with a new data directory: it counts again when it has caught up",
    ]
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


# A turn (R1, R2)


def test_a_turn_without_anything_is_nothing(lead):
    primary = lead().serve()
    assert primary.take() == primary.apply() == primary.durable() == []


def test_everything_that_waits_is_one_batch_and_one_append(lead):
    primary = lead().serve()
    (append,) = primary.take(primary.propose(count=2), primary.propose(size=7), primary.propose())
    assert (append.batch.first, append.batch.last, append.batch.watermark) == (2, 5, 1)
    assert bytes(append.batch.body) == b"".join(each.request for each in primary.propose.made)


def test_the_batches_of_a_reign_continue_each_other(lead):
    primary = lead(end=OLD, term=2).serve()
    for _ in range(3):
        primary.take(*(primary.propose(size=BATCH_BYTES_SOFT) for _ in range(2)))
        primary.durable()
    assert len(primary.log) == 7
    assert all(
        follows(later, batch.position) for batch, later in zip(primary.log, primary.log[1:], strict=False)
    )


def test_the_time_of_batches_rises_even_when_the_clock_does_not(lead):
    primary = lead("eu-1", rule="local")
    for at_ms in (1_000, 1_000, 400, 5_000):
        primary.ms = at_ms
        primary.begin() if not primary.log else primary.take(primary.propose())
        primary.durable()
        primary.apply()
    times = [batch.time_ms for batch in primary.log]
    assert times == [1_700_000_001_000, 1_700_000_001_001, 1_700_000_001_002, 1_700_000_005_000]


def test_our_disk_owes_two_batches_at_most(lead):
    primary = lead().serve()
    for size in (1_000, 5_000):
        assert len(of(Append, primary.take(primary.propose(size=size)))) == 1
    assert primary.take(primary.propose(size=50_000)) == []
    assert primary.durable(primary.log[-2].last) == []
    assert len(of(Append, primary.take())) == 1
    assert primary.take(primary.propose(size=500_000)) == []


def test_a_second_batch_is_made_when_it_is_as_large_as_the_first(lead):
    primary = lead().serve()
    (append,) = primary.take(primary.propose(size=1_000))
    assert primary.take() == []
    owed = len(append.batch.body)
    assert primary.take(primary.propose(size=owed - 1)) == []
    assert len(of(Append, primary.take(primary.propose(size=1)))) == 1


def test_what_is_not_applied_is_bounded_and_the_rest_waits(lead):
    primary = lead("eu-1", rule="local").serve()
    requests = FLIGHT_BYTES_MAX // (15 << 20) + 2
    for _ in range(requests):
        primary.take(primary.propose(size=15 << 20))
        primary.durable()
    assert FLIGHT_BYTES_MAX < primary.core.waiter.flight_bytes < FLIGHT_BYTES_MAX + (16 << 20)
    assert primary.core.backlog.size == 15 << 20
    primary.apply()
    assert len(of(Append, primary.take())) == 1


def test_what_the_log_has_no_room_for_is_refused_and_written_when_there_is(lead):
    primary = lead().serve()
    (reject,) = primary.take(primary.propose(), room=100)
    assert reject.error.code is Code.DISK_FULL
    assert len(of(Append, primary.take(primary.propose()))) == 1


def test_without_room_whoever_waits_is_refused_however_much_is_not_applied(lead):
    primary = lead("eu-1", rule="local").serve()
    requests = FLIGHT_BYTES_MAX // (15 << 20) + 2
    for _ in range(requests):
        primary.take(primary.propose(size=15 << 20))
        primary.durable()
    assert primary.core.waiter.flight_bytes > FLIGHT_BYTES_MAX
    effects = primary.take(primary.propose(), room=0)
    assert [effect.error.code for effect in of(Reject, effects)] == [Code.DISK_FULL] * 2
    assert primary.core.backlog.size == 0


def test_early_answers_come_before_the_batches_of_the_turn(lead):
    primary = lead().serve()
    effects = primary.take(primary.propose(size=500), primary.propose(), room=600)
    assert [type(effect) for effect in effects] == [Reject, Append]


# Early refusal (R8)


def refused(primary) -> bool:
    """Whether a write that comes now is refused before it is logged."""
    primary.take(primary.propose())
    return bool(of(Reject, primary.effects[-1:]))


def test_a_new_reign_waits_for_its_followers_and_then_refuses(lead):
    primary = lead()
    primary.begin()
    primary.durable()
    assert primary.take(primary.propose(deadline_ms=60_000)) == []
    primary.wait(GRACE_MS - 1)
    assert primary.take() == []
    primary.wait(1)
    (reject,) = primary.take()
    assert reject.error.code is Code.INSUFFICIENT_REPLICAS


def test_a_follower_that_drops_is_waited_for_and_then_missed(lead):
    primary = lead("eu-1", "us-1").serve()
    primary.ms += 2 * GRACE_MS  # the grace of the reign's beginning is long over
    primary.ack("us-1", 1)
    primary.leave("us-1")
    assert primary.take(primary.propose(deadline_ms=60_000)) == []
    primary.wait(GRACE_MS - 1)
    assert primary.take() == []
    primary.wait(1)
    assert answers(primary.take()) == [(Reject, 1)]
    assert refused(primary)


def test_what_waits_for_a_follower_is_logged_when_it_is_back(lead):
    primary = lead("eu-1", "us-1").serve()
    primary.leave("us-1")
    primary.take(primary.propose())
    primary.join("us-1", 2, matched=1)
    assert len(of(Append, primary.take())) == 1


def test_a_follower_that_has_fallen_silent_is_missed_without_having_left(lead):
    primary = lead("eu-1", "us-1").serve()
    primary.wait(GRACE_MS)
    assert not refused(primary)
    primary.durable()
    primary.ms += 1
    assert refused(primary)
    primary.ack("us-1", 1)
    assert not refused(primary)


def test_a_drop_that_leaves_enough_in_reach_holds_nobody_up(lead):
    primary = lead().serve()
    primary.leave("us-1")
    assert len(of(Append, primary.take(primary.propose()))) == 1


def test_a_missing_region_is_named(lead):
    primary = lead("eu-1", "us-1", "ap-1").serve()
    primary.leave("ap-1")
    primary.ms += GRACE_MS
    (reject,) = primary.take(primary.propose("majority & regions(ap)"))
    assert reject.error.code is Code.MISSING_REGIONS and reject.error.facts["missing"] == ["ap"]


def test_a_refusal_speaks_of_the_policy_that_was_asked_for_whatever_the_same_copies_meet(lead):
    primary = lead().serve()
    policies = primary.core.changes.policies
    policies.effective("ack_n=2")
    for node in ("us-1", "ap-1"):
        primary.leave(node)
    primary.wait(2 * GRACE_MS)
    proposal = primary.propose()
    proposal.policy = policies.effective("regions(eu,us,ap)")
    (reject,) = primary.take(proposal)
    assert reject.error.code is Code.MISSING_REGIONS and "ap,us" in str(reject.error)


def test_who_is_in_reach_has_no_say_in_what_is_committed(lead):
    primary = lead().serve()
    primary.take(primary.propose())
    primary.leave("us-1")
    primary.leave("ap-1")
    primary.wait(10 * GRACE_MS)
    primary.durable()
    assert primary.join("us-1", 2, matched=2) == [Commit(Lsn(2))]


# Time


def test_a_heartbeat_is_due_every_half_second(lead):
    primary = lead().serve()
    beats = [bool(of(Beat, primary.wait(100))) for _ in range(11)]
    assert beats == [True, *[False] * (BEAT_MS // 100 - 1), True, *[False] * (BEAT_MS // 100 - 1), True]


def test_a_write_that_is_not_confirmed_in_time_is_said_to_be_that_and_never_released(lead):
    primary = lead().serve()
    primary.take(primary.propose(deadline_ms=1_500))
    primary.durable()
    assert of(Unconfirmed, primary.wait(499)) == []
    (late,) = of(Unconfirmed, primary.wait(1))
    assert (late.proposal.correlation, late.flight.batch.first) == (1, 2)
    assert primary.ack("us-1") == [Commit(Lsn(2))]
    assert primary.apply() == []


def test_a_write_that_was_never_logged_in_time_is_refused(lead):
    primary = lead()
    primary.begin()
    primary.take(primary.propose(deadline_ms=1_500))
    assert answers(primary.wait(500)) == [(Reject, 1)]
    assert primary.core.backlog.size == 0


def test_time_settles_waits_for_copies_and_for_the_quorum(lead):
    primary = lead().serve()
    wait = primary.core.waiter.await_acks(Lsn(1), 3, primary.ms, 100)
    primary.core.coordinator.quorum = QuorumConfig.sync(2)
    quorum = primary.core.coordinator.wait_for_quorum(Lsn(2), primary.ms, 100)
    primary.wait(99)
    assert wait.outcome is None and not quorum.done
    primary.wait(1)
    assert wait.outcome == TimedOut(2, 3)
    assert isinstance(quorum.outcome, Timeout)


def test_an_ack_settles_waits_for_copies(lead):
    primary = lead().serve()
    primary.take(primary.propose())
    wait = primary.core.waiter.await_acks(Lsn(2), 1, primary.ms, 100)
    primary.ack("us-1")
    assert wait.outcome == Reached(1)


# Keys (R9)


def key(sequence: int) -> Key:
    return Key(b"c" * 16, sequence, 1)


def test_the_log_is_settled_when_it_is_applied_to_its_end(lead):
    primary = lead("eu-1", rule="local").serve()
    assert primary.core.complete
    primary.take(primary.propose())
    assert not primary.core.complete
    primary.durable()
    primary.apply()
    assert primary.core.complete


def test_a_later_attempt_is_answered_from_what_is_known(lead):
    primary = lead().serve()
    primary.known[b"c" * 16, 1] = known = Result(Fate.DUPLICATE, 1, bytes(9))
    (effect,) = primary.take(primary.propose(key=key(1), attempt=2))
    assert effect.result is known


def test_a_later_attempt_waits_for_the_stronger_policy_that_the_first_one_asked_for(lead):
    primary = lead().serve()
    primary.take(primary.propose("ack_n=2", key=key(1)))
    primary.durable()
    primary.ack("us-1")
    primary.apply()  # by the commit rule
    first = primary.propose.made[0]
    primary.known[b"c" * 16, 1] = Result(Fate.DUPLICATE, primary.core.end.lsn, bytes(9))
    primary.take(primary.propose("ack_n=2", key=key(1), attempt=2))
    primary.durable()
    primary.ack("us-1")
    assert not answers(primary.apply()) and not first.answered
    released = primary.ack("ap-1")
    assert sorted(each for _, each in answers(released)) == [1, 2]


# The end (R3, R5)


def test_the_end_of_the_reign_answers_everybody_and_then_is_said(lead):
    primary = lead().serve()
    primary.take(primary.propose())  # applied, and answered
    primary.durable()
    primary.ack("us-1")
    primary.apply()
    primary.take(primary.propose("ack_n=2"))  # applied, and held for a stronger policy
    primary.durable()
    primary.ack("us-1")
    primary.apply()
    primary.take(primary.propose())  # in flight
    primary.leave("us-1")
    primary.leave("ap-1")
    primary.take(primary.propose(), primary.propose(key=key(9), attempt=2))  # not logged
    *told, last = primary.step(DEPOSED)
    assert sorted(answers(told), key=lambda each: each[1]) == [
        (Unconfirmed, 2),
        (Unconfirmed, 3),
        (Reject, 4),
        (Unconfirmed, 5),
    ]
    assert last == EndReign(DEPOSED.error)
    assert {each.error.code for each in of(Reject, told)} == {Code.NOT_PRIMARY}
    assert primary.core.backlog.size == 0


def test_a_reign_that_nobody_waited_for_just_ends(lead):
    assert lead().serve().step(DEPOSED) == [EndReign(DEPOSED.error)]


def test_the_status_is_the_reign_at_a_glance(lead):
    primary = lead(term=4)
    primary.begin()
    status = primary.core.status()
    assert (status.reign, status.head, status.watermark, status.applied) == (primary.core.reign, 1, 0, 0)
    assert (status.ready, status.flights, primary.core.backlog) == (False, 1, (0, 0))
    primary.take(primary.propose())
    assert primary.core.backlog == (1, 100)
    served = lead().serve().core
    own = served.coordinator.status().members[0]
    assert (own.id, own.durable, own.applied) == ("eu-1", 1, 1)
    served = served.status()
    assert (served.ready, served.head, served.watermark, served.applied) == (True, 1, 1, 1)
    assert (served.flights, served.flight_bytes) == (0, 0)


# Any order of events

OTHERS = ("us-1", "ap-1")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("propose"), st.sampled_from(["majority", "ack_n=2"]), st.integers(1, 8)),
        st.tuples(st.just("sync"), st.just("eu-1"), st.integers(0, 3)),
        st.tuples(
            st.sampled_from(["ack", "ack", "leave", "join"]), st.sampled_from(OTHERS), st.integers(0, 3)
        ),
        st.tuples(st.sampled_from(["turn", "apply", "tick"]), st.just(""), st.integers(0, 4)),
    ),
    max_size=40,
)


@dataclass
class Model:
    """Three disks and what two policies say of them, the plain way: a log of an old term ends at 5."""

    start: int = 6
    disks: dict[str, int] = field(default_factory=lambda: {"eu-1": 5, "us-1": 0, "ap-1": 0})
    most: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OTHERS, 0))
    reached: dict[str, int] = field(default_factory=lambda: {"majority": 3, "ack_n=2": 0})

    def proves(self, node: str, lsn: int) -> None:
        self.disks[node] = lsn
        if node in self.most:
            self.most[node] = max(self.most[node], lsn)
        own = self.disks["eu-1"]
        others = sorted(self.disks[other] * (self.disks[other] == self.most[other]) for other in OTHERS)
        for policy, copies in (("majority", others[-1]), ("ack_n=2", others[0])):
            if min(own, copies) >= self.start:
                self.reached[policy] = max(self.reached[policy], min(own, copies))


@given(steps=STEPS)
def test_in_any_order_everybody_is_answered_once_and_nobody_too_early(steps, lead):
    primary, model = lead(end=OLD, term=2), Model()
    core, sessions = primary.core, {"us-1": 0, "ap-1": 0}
    answered: dict[int, type] = {}
    proposals: dict[int, Proposal] = {}

    def check(effects):
        for effect in effects:
            if isinstance(effect, Release):
                last = effect.flight.batch.last
                assert last <= core.applied <= core.watermark
                for proposal, _ in effect.answers:
                    assert last <= model.reached[proposal.policy.text]
        for kind, number in answers(effects):
            assert number not in answered
            answered[number] = kind
            if kind is Unconfirmed or kind is Reject:
                assert proposals[number].deadline_us <= primary.ms * 1000
        assert core.watermark == model.reached["majority"] <= model.disks["eu-1"]
        assert [effect.watermark for effect in of(Commit, primary.effects)] == sorted(
            {effect.watermark for effect in of(Commit, primary.effects)}
        )

    def sync(less: int) -> None:
        lsn = max(model.disks["eu-1"], core.end.lsn - less)
        model.proves("eu-1", lsn)
        check(primary.durable(lsn))

    def ack(node: str, less: int) -> None:
        if sessions[node]:
            lsn = max(model.disks[node], core.end.lsn - less)
            model.proves(node, lsn)
            check(primary.ack(node, lsn, session=sessions[node]))

    def join(node: str, less: int) -> None:
        """A new session, and what it proves may be less than before."""
        sessions[node] = max(sessions.values()) + 1
        lsn = max(0, min(core.end.lsn, model.most[node] - less))
        model.proves(node, lsn)
        check(primary.join(node, sessions[node], matched=lsn))

    primary.begin(known=3)
    for step, what, number in steps:
        match step:
            case "propose":
                made = primary.propose(what, deadline_ms=primary.ms + number)
                proposals[made.correlation] = made
                check(primary.take(made))
            case "sync":
                sync(number)
            case "ack":
                ack(what, number)
            case "join":
                join(what, number)
            case "leave" if sessions[what]:
                check(primary.leave(what, sessions[what]))
                sessions[what] = 0
            case "turn":
                check(primary.take())
            case "apply":
                check(primary.apply())
            case "tick":
                check(primary.wait(number))
    for _ in range(3):  # everybody comes back, and everything gets everywhere
        for node in OTHERS:
            join(node, 0) if not sessions[node] else ack(node, 0)
        sync(0)
        check(primary.apply())
        check(primary.take())
    assert core.ready and sorted(answered) == sorted(proposals)
    assert all(
        follows(later, batch.position) for batch, later in zip(primary.log, primary.log[1:], strict=False)
    )


@given(steps=STEPS, at=st.integers(0, 40))
def test_whenever_the_reign_ends_nobody_is_left_without_an_answer(steps, at, lead):
    primary = lead(end=OLD, term=2).serve()
    for step, what, number in steps[:at]:
        match step:
            case "propose":
                primary.take(primary.propose(what, deadline_ms=primary.ms + number))
            case "sync":
                primary.durable(max(0, primary.core.end.lsn - number))
            case "ack":
                primary.ack(what, max(0, primary.core.end.lsn - number))
            case "leave":
                primary.leave(what)
            case "apply":
                primary.apply()
            case "tick":
                primary.wait(number)
            case _:
                primary.take()
    primary.step(DEPOSED)
    told = [number for _, number in answers(primary.effects)]
    assert sorted(told) == [proposal.correlation for proposal in primary.propose.made]
    assert primary.effects[-1] == EndReign(DEPOSED.error)

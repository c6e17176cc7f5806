"""Who waits for the quorum, how that ends, and who is refused before."""

from __future__ import annotations

import re

import pytest

from redwire.errors import Code
from redwire.position import Lsn, Region
from regions.commit_policy import CommitPolicy
from regions.coordinator import QuorumCoordinator
from regions.errors import InsufficientReplicas, MissingRegions, Timeout
from regions.lag import LagConfig
from regions.quorum import QuorumConfig
from regions.waits import Cancelled, QuorumNotRequired, QuorumReached
from tests.ack_tables import THREE, A, B, acks, coordinator, joins, node


def test_an_async_quorum_is_had_at_once_and_promises_nothing() -> None:
    made = coordinator()
    assert made.has_quorum(Lsn(99))
    wait = made.wait_for_quorum(Lsn(99), 0)
    assert wait.done
    assert wait.result() == QuorumNotRequired()


def test_a_sync_quorum_with_too_few_in_reach_fails_at_once() -> None:
    made = coordinator(quorum=QuorumConfig.sync(2))
    joins(made, "us-1")
    joins(made, "sa-1")
    with pytest.raises(InsufficientReplicas) as caught:
        made.wait_for_quorum(Lsn(5), 0)
    assert (caught.value.required, caught.value.connected) == (2, 1)
    assert caught.value.code == Code.INSUFFICIENT_REPLICAS
    assert caught.value.retry


def test_a_dead_replica_is_not_among_the_connected() -> None:
    made = coordinator(quorum=QuorumConfig.sync(1))
    joins(made, "us-1")
    made.left(node("us-1"), 1, 1)
    with pytest.raises(InsufficientReplicas):
        made.wait_for_quorum(Lsn(5), 2)


def test_a_sync_quorum_is_reached_by_a_durable_ack() -> None:
    made = coordinator(quorum=QuorumConfig.sync(1))
    made.own_durable(Lsn(9), 0)
    joins(made, "us-1")
    wait = made.wait_for_quorum(Lsn(5), 100)
    assert not wait.done
    assert repr(wait) == "<QuorumWait lsn=5 waiting>"
    made.acked(node("us-1"), 1, Lsn(4), Lsn(9), Lsn(9), 110)
    assert not wait.done
    acks(made, "us-1", 6, now_ms=130)
    assert wait.result() == QuorumReached(Lsn(6), 30)
    assert made.has_quorum(Lsn(6))
    assert not made.has_quorum(Lsn(7))


def test_what_is_held_already_needs_nobody_in_reach() -> None:
    made = coordinator(quorum=QuorumConfig.sync(1))
    made.own_durable(Lsn(9), 0)
    joins(made, "us-1", 9)
    made.left(node("us-1"), 1, 1)
    assert made.wait_for_quorum(Lsn(9), 50_000).result() == QuorumReached(Lsn(9), 0)


def test_a_region_quorum_needs_all_of_them_and_names_the_missing() -> None:
    made = coordinator(quorum=QuorumConfig.regions(("ap", "us")))
    made.own_durable(Lsn(9), 0)
    joins(made, "us-1")
    with pytest.raises(MissingRegions, match="ap") as caught:
        made.wait_for_quorum(Lsn(5), 0)
    assert caught.value.missing == {"ap"}
    assert caught.value.code == Code.MISSING_REGIONS
    joins(made, "ap-1")
    wait = made.wait_for_quorum(Lsn(5), 0)
    acks(made, "us-1", 5)
    assert not wait.done
    acks(made, "ap-1", 5)
    assert wait.done


def test_after_unbinding_the_region_is_missing() -> None:
    made = coordinator(quorum=QuorumConfig.regions(("us",)))
    joins(made, "us-1")
    made.unbind_replica(node("us-1"))
    with pytest.raises(MissingRegions):
        made.wait_for_quorum(Lsn(5), 0)


def test_a_wait_ends_at_its_deadline_and_says_who_acked() -> None:
    made = coordinator(quorum=QuorumConfig.regions(("ap", "us")))
    made.own_durable(Lsn(9), 0)
    joins(made, "us-1")
    joins(made, "ap-1")
    wait = made.wait_for_quorum(Lsn(5), 1_000)
    acks(made, "us-1", 5, now_ms=2_000)
    made.tick(10_999)
    assert not wait.done
    made.tick(11_000)
    with pytest.raises(Timeout, match=re.escape("only in eu,us")) as caught:
        wait.result()
    error = caught.value
    assert (error.target_lsn, error.elapsed_ms, error.acked_regions) == (5, 10_000, {"eu", "us"})
    assert (error.code, error.retry) == (Code.NOT_CONFIRMED, True)
    acks(made, "ap-1", 5, now_ms=12_000)
    assert wait.outcome is error


@pytest.mark.parametrize(("given_ms", "last_ms"), [(None, 5_000), (70, 70)])
def test_a_wait_lasts_as_long_as_it_was_told_or_as_the_quorum_says(
    given_ms: int | None, last_ms: int
) -> None:
    made = coordinator(quorum=QuorumConfig.sync(1))
    joins(made, "us-1")
    wait = made.wait_for_quorum(Lsn(5), 0, given_ms)
    made.tick(last_ms - 1)
    assert not wait.done
    made.tick(last_ms)
    assert wait.done


@pytest.mark.parametrize("given_ms", [0, -1])
def test_a_wait_without_any_time_is_done_at_once(given_ms: int) -> None:
    made = coordinator(quorum=QuorumConfig.sync(1))
    joins(made, "us-1")
    wait = made.wait_for_quorum(Lsn(5), 7, given_ms)
    assert isinstance(wait.outcome, Timeout) and wait.outcome.elapsed_ms == 0
    made.own_durable(Lsn(5), 7)
    acks(made, "us-1", 5, now_ms=7)
    assert made.wait_for_quorum(Lsn(5), 7, given_ms).result() == QuorumReached(Lsn(5), 0)


def test_a_wait_without_timeout_outlasts_any_tick() -> None:
    made = coordinator(quorum=QuorumConfig.sync(1).without_timeout())
    joins(made, "us-1")
    wait = made.wait_for_quorum(Lsn(5), 0)
    made.tick(10**12)
    assert not wait.done


def test_a_wait_that_was_reached_is_not_timed_out_later() -> None:
    made = coordinator(quorum=QuorumConfig.sync(1))
    joins(made, "us-1")
    early, late = made.wait_for_quorum(Lsn(5), 0, 10), made.wait_for_quorum(Lsn(6), 0, 20)
    acks(made, "us-1", 6)
    made.own_durable(Lsn(5), 9)
    made.tick(15)
    assert early.result() == QuorumReached(Lsn(5), 9)
    assert not late.done
    made.tick(20)
    assert isinstance(late.outcome, Timeout)


def test_a_cancelled_wait_stays_cancelled() -> None:
    made = coordinator(quorum=QuorumConfig.sync(1))
    joins(made, "us-1")
    first, second = made.wait_for_quorum(Lsn(5), 0, 10), made.wait_for_quorum(Lsn(5), 0, 10)
    first.cancel()
    made.own_durable(Lsn(9), 1)
    acks(made, "us-1", 9, now_ms=1)
    made.tick(50)
    assert first.result() == Cancelled()
    assert second.result() == QuorumReached(Lsn(9), 1)
    second.cancel()
    assert second.result() == QuorumReached(Lsn(9), 1)


def test_waits_end_with_the_reign_since_their_lsns_may_become_other_records() -> None:
    made = coordinator(quorum=QuorumConfig.sync(1))
    joins(made, "us-1")
    wait, cancelled = made.wait_for_quorum(Lsn(90), 0), made.wait_for_quorum(Lsn(91), 0)
    cancelled.cancel()
    made.begin_reign(Lsn(60), 40)
    assert isinstance(wait.outcome, Timeout) and "on enough disks in 40 ms, in no region;" in str(
        wait.outcome
    )
    assert cancelled.outcome == Cancelled()
    made.tick(10**6)
    assert wait.outcome.elapsed_ms == 40


@pytest.mark.parametrize("event", ["bind", "admit", "join", "stream"])
def test_whatever_raises_the_quorum_settles_its_waits(event: str) -> None:
    members = THREE.admitted(node("us-1"), A)
    made = coordinator(members, quorum=QuorumConfig.regions(("us",)))
    made.own_durable(Lsn(9), 0)
    joins(made, "us-1", 3, incarnation=A)
    joins(made, "ap-1", 9)
    wait = made.wait_for_quorum(Lsn(5), 0)
    if event == "bind":
        made.bind_replica_region(node("ap-1"), Region("us"))
    elif event == "join":
        joins(made, "us-1", 9, session=2, incarnation=A)
    elif event == "admit":
        joins(made, "us-1", 9, session=2, incarnation=B)
        assert not wait.done
        made.admit(node("us-1"), B, Lsn(0))
    else:
        joins(made, "us-1", 9, session=2, incarnation=A, streaming=False)
        assert not wait.done
        acks(made, "us-1", 9, session=2, streaming=True)
    assert wait.result() == QuorumReached(Lsn(9), 0)


# Early refusal (R8)


def refusal(made: QuorumCoordinator, now_ms: int, rule: str | None = None) -> object:
    error = made.refusal(None if rule is None else CommitPolicy.parse(rule), now_ms)
    return None if error is None else error.code


def test_a_write_is_refused_while_too_few_are_in_reach() -> None:
    made = coordinator()
    assert refusal(made, 0) == Code.INSUFFICIENT_REPLICAS
    joins(made, "us-1")
    assert refusal(made, 0) is None
    assert refusal(made, 0, "ack_n=2") == Code.INSUFFICIENT_REPLICAS
    assert refusal(made, 0, "regions(ap)") == Code.MISSING_REGIONS
    assert refusal(made, 0, "local") is None


@pytest.mark.parametrize(
    ("floor", "policy", "reached", "less"),
    [
        ("majority", "regions(us)", "ap-1", "majority"),
        ("majority", "ack_n=2", "us-1", "majority"),
        ("ack_n=1", "ack_n=2", "us-1", "'ack_n=1'"),
        ("regions(us)", "regions(ap,us)", "us-1", "'regions(us)'"),
        ("regions(us)", None, "ap-1", None),
        ("regions(us)", "majority & regions(us)", "ap-1", None),
        ("ack_n=2", "regions(ap) & ack_n=2", "us-1", None),
    ],
)
def test_a_refusal_advises_the_floor_where_that_can_be_met_and_nothing_below_it(
    floor: str, policy: str | None, reached: str, less: str | None
) -> None:
    made = coordinator(rule=floor)
    joins(made, reached)
    error = made.refusal(None if policy is None else CommitPolicy.parse(policy), 0)
    assert error is not None
    first, *rest = error.hint.split(", or ask for fewer copies, as by --policy ")
    assert first.startswith("bring ") and rest == ([] if less is None else [less])


def test_reach_ends_with_the_session_or_with_silence() -> None:
    made = coordinator()
    joins(made, "us-1", now_ms=1_000)
    assert refusal(made, 6_000) is None
    assert refusal(made, 6_001) == Code.INSUFFICIENT_REPLICAS
    acks(made, "us-1", 0, now_ms=6_001)
    assert refusal(made, 6_001) is None
    made.left(node("us-1"), 1, 6_001)
    assert refusal(made, 6_001) == Code.INSUFFICIENT_REPLICAS


def test_who_takes_a_snapshot_or_was_not_admitted_is_not_in_reach() -> None:
    made = coordinator(THREE.admitted(node("us-1"), A))
    joins(made, "us-1", incarnation=B)
    assert refusal(made, 0) == Code.INSUFFICIENT_REPLICAS
    joins(made, "us-1", session=2, incarnation=A, streaming=False)
    assert refusal(made, 0) == Code.INSUFFICIENT_REPLICAS
    acks(made, "us-1", 0, session=2, streaming=True)
    assert refusal(made, 0) is None


def test_reach_says_nothing_about_what_is_committed() -> None:
    made = coordinator()
    joins(made, "us-1", 30)
    made.own_durable(Lsn(40), 90_000)
    assert refusal(made, 90_000) == Code.INSUFFICIENT_REPLICAS
    assert made.commit_watermark() == 30


def test_the_bound_of_reach_is_configured() -> None:
    made = QuorumCoordinator(THREE, node("eu-1"), lag=LagConfig(replica_timeout_ms=100))
    joins(made, "us-1")
    assert refusal(made, 100) is None
    assert refusal(made, 101) == Code.INSUFFICIENT_REPLICAS

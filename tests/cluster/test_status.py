"""The status document against what was done: from every node, with members killed, cut, stuck, given up."""

from __future__ import annotations

import time
from typing import Any

import pytest

from redwire import connect_sync
from redwire.status import NodeStatus, Status
from regions.trail import BUCKET_MS

pytestmark = pytest.mark.slow

NODES = ("eu-1", "us-1", "ap-1")
RTT_MS = {("eu", "us"): 8.0, ("ap", "eu"): 24.0, ("ap", "us"): 16.0}
TIMEOUT_MS = 2_000
WRITES = 30


def kinds(status: Status, node: str) -> list[str]:
    """What happened on one node, in order."""
    return [event.kind for event in status.events if event.node == node]


def row(status: Status, name: str) -> NodeStatus:
    found = status.node(name)
    assert found is not None
    return found


def is_well(status: Status) -> bool:
    """Whether a primary in sight calls everybody healthy and caught up."""
    others = [node for node in status.nodes if node.role != "primary"]
    return (
        status.primary.state == "leading"
        and len(others) == len(NODES) - 1
        and all(node.health == "healthy" and node.lag.state == "caught_up" for node in others)
    )


@pytest.fixture
def shop(fleet: Any) -> Any:
    """Three regions apart from each other, all well as every node sees it."""
    made = fleet(
        *NODES, rtt_ms=RTT_MS, policy="regions(eu,us)", floor="majority", replica_timeout_ms=TIMEOUT_MS
    )
    for node in NODES:
        made.until(lambda node=node: is_well(made.status(node)), f"{node} sees all well")
    return made


def test_every_node_answers_for_the_cluster_with_the_numbers_of_what_was_written(shop: Any) -> None:
    for number in range(WRITES):
        shop.db.put("c", f"{number}", {"n": number})
    head = shop.converge()
    for node in NODES:
        shop.until(lambda node=node: shop.status(node).commits.count == WRITES, f"{node} counts the commits")
        found = shop.status(node)
        assert (found.vantage.node, found.vantage.source) == (node, "eu-1")
        assert found.vantage.age_ms < TIMEOUT_MS and (found.vantage.age_ms == 0 or node != "eu-1")
        assert (found.primary.node, found.primary.state, found.term) == ("eu-1", "leading", 1)
        assert (found.settings.policy, found.settings.floor) == ("regions(eu,us)", "majority")
        assert found.settings.lsn > 0
        shop.until(lambda node=node: shop.status(node).head == head, f"{node} knows the head")
        found = shop.until(lambda node=node: _level(shop.status(node), head), f"{node} sees all level")
        assert (found.watermark, found.quorum.met, found.quorum.why) == (head, True, "")
        assert [(region.name, region.durable, region.holds_watermark) for region in found.regions] == [
            (name, head, True) for name in ("eu", "us", "ap")
        ]
        for each in found.nodes:
            assert each.declared == each.region == each.id.split("-")[0]
            assert each.disk.state == "working" and (each.disk.free_bytes or 0) > 0
            assert (each.disk.log_bytes or 0) > 0
            assert (each.certificate_ends_at_ms or 0) > found.vantage.at_ms
            assert each.version and len(each.incarnation) == 32
        _check_distances(found)


def _level(status: Status, head: int) -> Status | None:
    stands = {(node.received, node.durable, node.applied) for node in status.nodes}
    sent = {node.sent for node in status.nodes if node.role != "primary"}
    timed = all(node.disk.fsync_p50_us for node in status.nodes)  # told once a second
    return status if stands == {(head,) * 3} and sent == {head} and timed and is_well(status) else None


def _check_distances(found: Status) -> None:
    """Round trips are no shorter than the links, and a commit's way to `us` and back is one of them."""
    for (one, other), rtt_ms in RTT_MS.items():
        rtts_us = row(found, f"{one}-1").rtts_us
        if rtts_us:
            assert rtts_us[f"{other}-1"] >= 0.9 * rtt_ms * 1_000
    assert (row(found, "us-1").rtt_us or 0) >= 0.9 * RTT_MS["eu", "us"] * 1_000
    commits = found.commits
    assert sum(commits.completed_by.values()) == WRITES  # one batch each: they were written one by one
    assert (commits.wire.p50_us or 0) >= 0.9 * RTT_MS["eu", "us"] * 1_000
    assert (commits.local_fsync.p50_us or 0) > 0 and (commits.remote_fsync.p50_us or 0) > 0
    assert (commits.apply.p50_us or 0) > 0 and commits.queue.p50_us is not None
    total = commits.total.p50_us or 0
    assert total >= (commits.wire.p50_us or 0) and commits.total.p99_us is not None
    assert found.quorum.completed_by in commits.completed_by


def test_a_killed_member_is_unhealthy_and_its_lag_unknown_at_every_node_until_it_is_back(shop: Any) -> None:
    shop.kill("us-1")
    killed_ms = time.time() * 1_000
    for node in ("eu-1", "ap-1"):
        found = shop.until(
            lambda node=node: _when(shop.status(node), "us-1", "unhealthy"), f"{node} sees that us-1 is gone"
        )
        gone = row(found, "us-1")
        assert (gone.connected, gone.why) == (False, "not connected")
        assert gone.lag.state == "unknown" and abs((gone.lag.since_at_ms or 0) - killed_ms) < 5_000
        assert row(found, "ap-1").health == "healthy"
        assert found.quorum.met is False and "us" in found.quorum.why
    found = shop.until(
        lambda: (s := shop.status("ap-1")) and "quorum_lost" in kinds(s, "eu-1") and s, "ap-1 hears of it"
    )
    assert "member_left" in kinds(found, "eu-1")
    shop.start_node("us-1")
    for node in NODES:
        shop.until(lambda node=node: is_well(shop.status(node)), f"{node} sees us-1 back")
    shop.until(lambda: "quorum_regained" in kinds(shop.status("us-1"), "eu-1"), "us-1 hears of that too")
    back = kinds(shop.status("eu-1"), "eu-1")
    assert back.index("member_left") < len(back) - 1 - back[::-1].index("member_joined")


def _when(status: Status, name: str, health: str) -> Status | None:
    return status if row(status, name).health == health else None


@pytest.mark.parametrize("how", ["killed", "paused", "cut off"])
def test_a_lost_primary_is_said_to_be_lost_and_nobody_is_called_healthy(shop: Any, how: str) -> None:
    head = shop.status("us-1").watermark
    gone_ms = time.time() * 1_000
    {"killed": shop.kill, "paused": shop.pause, "cut off": shop.isolate}[how]("eu-1")
    for node in ("us-1", "ap-1"):
        found = shop.until(lambda node=node: _lost(shop.status(node)), f"{node} has lost eu-1")
        assert found.primary.node == "eu-1"
        assert abs((found.primary.since_at_ms or 0) - gone_ms) < 3_000
        assert found.quorum.met is None and found.vantage.source == node
        assert {each.lag.state for each in found.nodes} == {"unknown"}
        assert "healthy" not in {each.health for each in found.nodes}
        assert found.own.durable == head == found.watermark and found.head is None
        other = "ap-1" if node == "us-1" else "us-1"
        shop.until(  # which it says itself, once a second
            lambda node=node, other=other: row(shop.status(node), other).durable == head,
            f"{node} hears {other}",
        )
        shop.until(lambda node=node: _silent(shop.status(node), "eu-1"), f"{node} knows nothing of eu-1")
        assert "primary_lost" in kinds(found, node)
    {"killed": lambda node: None, "paused": shop.resume, "cut off": shop.heal}[how]("eu-1")
    if how == "cut off":
        for node in NODES:
            shop.until(lambda node=node: is_well(shop.status(node)), f"{node} sees all well again")


def _lost(status: Status) -> Status | None:
    return status if status.primary.state == "lost" else None


def _silent(status: Status, name: str) -> bool:
    gone = row(status, name)
    return gone.role == gone.health == "unknown" and gone.received is gone.durable is gone.applied is None


def test_a_client_of_a_silent_primary_is_told_by_another_node_in_seconds(shop: Any) -> None:
    assert shop.db.status().primary.state == "leading"
    shop.pause("eu-1")
    began = time.monotonic()
    found = shop.db.status()
    assert time.monotonic() - began < 5
    assert found.vantage.node in ("us-1", "ap-1")
    shop.resume("eu-1")


def test_a_member_that_was_given_up_is_shown_at_risk_and_then_evicted(fleet: Any) -> None:
    shop = fleet(*NODES, replica_timeout_ms=TIMEOUT_MS, sections={"retention": {"age_max_s": 8}})
    shop.until(lambda: is_well(shop.status("us-1")), "us-1 sees all well")
    assert row(shop.status("us-1"), "ap-1").slot.state == "ok"
    shop.kill("ap-1")
    seen = shop.until(lambda: _slot(shop.status("us-1"), "at_risk"), "the slot is at risk")
    assert seen.slot.bound == "age_max_s" and 0 < (seen.slot.eviction_ms or 0) <= 2_000
    gone = shop.until(lambda: _slot(shop.status("us-1"), "evicted"), "the slot is given up")
    assert (gone.slot.bound, gone.slot.held_bytes) == ("age_max_s", 0)
    told = shop.until(lambda: (k := kinds(shop.status("us-1"), "eu-1")) and "slot_evicted" in k and k, "told")
    assert told.index("slot_at_risk") < told.index("slot_evicted")


def _slot(status: Status, state: str) -> NodeStatus | None:
    found = row(status, "ap-1")
    return found if found.slot.state == state else None


def test_a_member_whose_disk_hangs_is_behind_by_what_it_lacks_and_unhealthy_with_a_reason(
    fleet: Any,
) -> None:
    shop = fleet(*NODES, faults=True, replica_timeout_ms=TIMEOUT_MS)
    shop.until(lambda: is_well(shop.status("eu-1")), "all are well")
    shop.disk("us-1", "sync /wal/ hang")
    for number in range(WRITES):
        shop.db.put("c", f"{number}", {"n": number})
    shop.until(lambda: row(shop.status("ap-1"), "ap-1").applied == shop.status("eu-1").head, "ap-1 has all")
    found = shop.until(lambda: _when(shop.status("eu-1"), "us-1", "unhealthy"), "us-1 is stuck")
    stuck = row(found, "us-1")
    assert found.head is not None and stuck.applied is not None and stuck.durable is not None
    assert stuck.lag.state == "behind"
    assert stuck.lag.records == found.head - stuck.applied >= WRITES - 1
    # it stands still by the watermark's trail, its age is by the head's: each knows a moment to a bucket
    assert (stuck.lag.bytes or 0) > 0 and (stuck.lag.ms or 0) > TIMEOUT_MS - BUCKET_MS
    assert stuck.sent == found.head and stuck.durable < found.head
    assert "no progress" in stuck.why and stuck.connected
    assert found.quorum.met and row(found, "ap-1").lag.state == "caught_up"
    shop.until(lambda: "member_unhealthy" in kinds(shop.status("ap-1"), "eu-1"), "ap-1 is told")
    shop.kill("us-1")
    shop.disk("us-1")


def test_who_may_not_see_the_others_is_told_that_and_nothing_of_them(shop: Any) -> None:
    shop.add_user("blind", "little", topology_read=False)
    shop.converge()
    for node in NODES:
        uri = shop.uri(node, user="blind", password="little", discovery="off")
        with connect_sync(uri) as db:
            found = db.status()
        assert found.vantage.hides_others and [each.id for each in found.nodes] == [node]
        assert found.regions == () and found.commits.completed_by == {}
        assert found.own.health == "healthy" and found.quorum.met

"""How members stand: the status of the table, and who is well."""

from __future__ import annotations

import pytest

from redwire.position import Lsn
from regions.lag import Behind, CaughtUp, Unknown
from tests.ack_tables import acks, cluster, coordinator, joins, node


def test_status_is_the_whole_table() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 1_000)
    made.own_applied(Lsn(60), 1_000)
    joins(made, "us-1", 60, now_ms=1_000)
    made.acked(node("us-1"), 1, Lsn(60), Lsn(40), Lsn(90), 1_200)
    status = made.status()
    assert (status.primary, status.head, status.watermark) == ("eu-1", 100, 60)
    assert [row.id for row in status.members] == ["eu-1", "us-1", "ap-1", "sa-1"]
    own, us1, ap1 = (status.member(node(name)) for name in ("eu-1", "us-1", "ap-1"))
    assert (own.connected, own.received, own.durable, own.applied, own.lag) == (
        True,
        100,
        100,
        60,
        CaughtUp(),
    )
    assert us1.lag == Behind(60, 600, 1_200)
    assert us1.health.healthy
    assert ap1.lag == Unknown(None)
    assert ap1.health.reason == "not connected"
    with pytest.raises(KeyError):
        status.member(node("xx-1"))


def test_status_is_printed_one_member_a_line() -> None:
    made = coordinator(cluster("eu-1", "us-1", readers=("sa-1",)))
    made.own_durable(Lsn(100), 1_000)
    made.own_applied(Lsn(100), 1_000)
    joins(made, "us-1", 100, now_ms=1_000)
    made.unbind_replica(node("us-1"))
    made.acked(node("us-1"), 1, Lsn(100), Lsn(100), Lsn(100), 1_000)
    assert str(made.status()).splitlines() == [
        "eu-1: head 100, watermark 100 by majority",
        "  eu-1 eu voter: received 100 durable 100 applied 100, caught up, healthy",
        "  us-1 unbound voter: received 100 durable 100 applied 100, caught up, healthy",
        "  sa-1 sa reader not counted (reader): received 0 durable 0 applied 0, unknown, never heard, "
        "unhealthy: not connected",
    ]


def test_a_follower_whose_disk_stands_still_is_unhealthy_and_says_so() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 40)
    acks(made, "us-1", 40, now_ms=5_000)
    assert made.status(5_000).member(node("us-1")).health.healthy
    acks(made, "us-1", 40, now_ms=6_000)
    health = made.status(6_000).member(node("us-1")).health
    assert health.reason == "no progress for 6000 ms: durable stands at 40, 100 is there"


def test_a_follower_whose_apply_stands_still_is_unhealthy_and_says_so() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 100)
    assert made.commit_watermark() == 100
    acks(made, "us-1", 100, now_ms=6_000)
    assert "applied stands at 0, 100 is there" in made.status(6_000).member(node("us-1")).health.reason


def test_a_primary_whose_apply_stands_still_is_behind_what_is_committed_and_unhealthy() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    made.own_applied(Lsn(40), 0)
    joins(made, "us-1", 60)
    own = made.status(5_000).member(node("eu-1"))
    assert own.lag == Behind(20, 200, 5_000)
    assert own.health.healthy
    own = made.status(6_000).member(node("eu-1"))
    assert own.health.reason == "no progress for 6000 ms: applied stands at 40, 60 is there"
    made.own_applied(Lsn(60), 6_100)
    own = made.status(6_100).member(node("eu-1"))
    assert own.lag == CaughtUp()
    assert own.health.healthy


def test_a_follower_that_waits_for_the_commit_of_others_is_not_stuck() -> None:
    made = coordinator(rule="ack_n=2")
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 100)
    acks(made, "us-1", 100, now_ms=60_000)
    row = made.status(60_000).member(node("us-1"))
    assert row.health.healthy
    assert row.lag == Behind(100, 1000, 60_000)

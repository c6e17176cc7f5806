"""The document of a node that leads, of one that follows, and of one that sees no primary."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cluster.bulletin import Bulletin, PrimaryState
from cluster.effects import Now
from cluster.events import EventKind, Events
from cluster.overview import (
    NO_PRIMARY,
    NOT_TOLD,
    ReignView,
    View,
    followed,
    for_followers,
    led,
    without_others,
)
from cluster.topology_advertiser import ReplicaView
from redwire.position import Incarnation, Lsn, NodeId, Region, Term
from redwire.status import Cluster, Commits, Lag, Settings, Slot
from regions.binding import Member, MemberKind, Membership
from regions.coordinator import QuorumCoordinator

EU, US, AP, SA = (NodeId(name) for name in ("eu-1", "us-1", "ap-1", "sa-1"))
MEMBERS = (
    Member(EU, Region("eu"), addr="eu:1"),
    Member(US, Region("us"), addr="us:1"),
    Member(AP, Region("ap"), addr="ap:1"),
    Member(SA, Region(""), MemberKind.READER, addr="sa:1"),
)
TIMEOUT_MS = 5_000
HEAD = 10


def at(ms: int) -> Now:
    return Now(ms * 1_000, 1_000_000 + ms)


def view(own, *, ms: int = 1_000) -> View:
    return View(
        own=own,
        cluster=Cluster(id=own.cluster, name="shop"),
        term=Term(1),
        epoch=3,
        watermark=Lsn(own.watermark),
        members=MEMBERS,
        settings=Settings(policy="majority", floor="majority"),
        timeout_ms=TIMEOUT_MS,
        bulletin=Bulletin(Events(NodeId(own.node))),
        now=at(ms),
    )


@pytest.fixture
def primary(vital_report):
    """`eu-1` leads: `us-1` has all, `ap-1` lacks four records, and nobody ever heard of `sa-1`."""
    seen = view(vital_report("eu-1", lsn=HEAD, role="primary"))
    seen.bulletin.sees(PrimaryState.LEADING, "eu-1", at(0))
    seen.bulletin.heard(vital_report("us-1", lsn=HEAD), at(900))
    seen.bulletin.heard(vital_report("ap-1", lsn=6), at(900))
    seen.bulletin.answered(US, 80_000)
    seen.bulletin.slots = {"ap-1": Slot(state="at_risk", bound="bytes_max", eviction_ms=60_000, held_bytes=9)}
    seen.bulletin.events.add(EventKind.REIGN_BEGUN, "term 1", 1_000_000)
    seen.bulletin.events.add(EventKind.MEMBER_JOINED, "us-1 follows", 1_000_500)
    for ms, records in ((0, 8), (1_000, 4)):
        seen.bulletin.falls_behind(AP, records, at(ms))
    return seen


@pytest.fixture
def table() -> QuorumCoordinator:
    made = QuorumCoordinator(Membership(MEMBERS), EU)
    made.begin_reign(Lsn(1), 0)
    made.extended(Lsn(HEAD), 100, 1_000)
    made.own_durable(Lsn(HEAD), 200)
    made.own_applied(Lsn(HEAD), 200)
    made.joined(US, 1, Lsn(0), Lsn(0), 0)
    made.joined(AP, 2, Lsn(0), Lsn(0), 0)
    made.acked(US, 1, Lsn(HEAD), Lsn(HEAD), Lsn(HEAD), 900)
    made.acked(AP, 2, Lsn(6), Lsn(6), Lsn(8), 950)
    return made


def reign(table: QuorumCoordinator, ms: int = 1_000, refusal: str = "") -> ReignView:
    commits = Commits(count=4, completed_by={"us-1": 3, "ap-1": 1})
    return ReignView(table.status(ms), {US: Lsn(HEAD), AP: Lsn(9)}, commits, refusal)


def test_a_primary_judges_every_member_by_its_ack_table(primary, table) -> None:
    found = led(primary, reign(table))
    assert (found.vantage.source, found.vantage.age_ms, found.vantage.at_ms) == ("eu-1", 0, 1_001_000)
    assert (found.term, found.epoch, found.head, found.watermark) == (1, 3, HEAD, HEAD)
    assert (found.primary.node, found.primary.state) == ("eu-1", "leading")
    us, ap, sa = (found.node(name) for name in ("us-1", "ap-1", "sa-1"))
    assert (us.role, us.health, us.connected, us.lag.state) == ("replica", "healthy", True, "caught_up")
    assert (us.lag.records, us.rtt_us, us.acked_at_ms) == (0, 80_000, 1_000_900)
    assert (ap.sent, ap.received, ap.durable, ap.applied) == (9, 8, 6, 6)
    assert (ap.lag.state, ap.lag.records, ap.lag.bytes, ap.lag.ms) == ("behind", 4, 400, 900)
    later = led(primary, reign(table, 2_000)).node("ap-1")
    assert (ap.lag.catch_up_ms, later.lag.ms, later.lag.catch_up_ms) == (900, 1_900, 1_000)
    assert ap.slot == primary.bulletin.slots["ap-1"] and ap.rtt_us is None
    assert (sa.health, sa.why, sa.role, sa.durable, sa.version) == (
        "unhealthy",
        "not connected",
        "unknown",
        None,
        "",
    )
    assert sa.lag == Lag() and sa.uncounted == "reader"
    assert found.own.role == "primary" and found.own.health == "healthy" and found.own.durable == HEAD


def test_a_member_knows_of_all_that_is_applied_there_that_it_is_committed(primary, table) -> None:
    """It tells of both, of one of them with each ack and of the other once a second."""
    table.acked(AP, 2, Lsn(8), Lsn(8), Lsn(8), 960)
    ap = led(primary, reign(table)).node("ap-1")
    assert (ap.applied, ap.watermark) == (8, 8)


def test_regions_say_what_they_hold_and_whose_commits_they_complete(primary, table) -> None:
    found = led(primary, reign(table))
    assert [(r.name, r.nodes, r.voters, r.durable) for r in found.regions] == [
        ("eu", ("eu-1",), 1, HEAD),
        ("us", ("us-1",), 1, HEAD),
        ("ap", ("ap-1",), 1, 6),
    ]
    assert [(r.holds_watermark, r.completes) for r in found.regions] == [
        (True, 0.0),
        (True, 0.75),
        (False, 0.25),
    ]
    assert found.quorum.met and found.quorum.completed_by == "us-1"


def test_a_quorum_that_is_not_met_says_why(primary, table) -> None:
    found = led(primary, reign(table, refusal="no voter in us"))
    assert (found.quorum.met, found.quorum.why) == (False, "no voter in us")


def test_a_member_that_is_gone_keeps_what_it_proved_and_its_lag_is_unknown(primary, table) -> None:
    table.left(US, 1, 2_000)
    found = led(replace(primary, now=at(9_000)), reign(table, 9_000)).node("us-1")
    assert (found.health, found.why, found.connected, found.role) == (
        "unhealthy",
        "not connected",
        False,
        "unknown",
    )
    assert found.durable == HEAD and found.disk.state == "unknown"
    assert found.lag == Lag(since_at_ms=1_000_900)


def test_what_a_member_proved_is_not_said_of_the_disk_in_the_place_of_the_one_that_held_it(
    primary, table, vital_report
) -> None:
    report = vital_report("us-1", lsn=0, role="rebuilding")
    table.joined(US, 3, Lsn(HEAD), Lsn(HEAD), 900, incarnation=Incarnation(report.incarnation))
    table.acked(US, 3, Lsn(HEAD), Lsn(HEAD), Lsn(HEAD), 900)
    table.left(US, 3, 950)
    primary.bulletin.heard(report, at(990))
    assert led(primary, reign(table)).node("us-1").durable == HEAD, "it is the same one"
    primary.bulletin.heard(replace(report, incarnation="0f" * 16), at(990))
    found = led(primary, reign(table))
    us = found.node("us-1")
    assert (us.received, us.durable, us.applied, us.incarnation) == (0, 0, 0, "0f" * 16)
    assert [region.durable for region in found.regions if region.name == "us"] == [0]


def test_a_member_with_a_full_disk_is_not_healthy_in_status_nor_topology(
    primary, table, vital_report
) -> None:
    report, row = vital_report("us-1", lsn=HEAD, disk="full"), table.status(1_000).member(US)
    assert ReplicaView.of(row, primary.said("us-1"), report).healthy
    primary.bulletin.heard(report, at(950))
    assert not ReplicaView.of(row, primary.said("us-1"), report).healthy
    found = led(primary, reign(table)).node("us-1")
    assert (found.health, found.why) == ("unhealthy", "its disk is full")
    assert report.vitals is not None
    primary.bulletin.heard(replace(report, vitals=replace(report.vitals, free_inodes=0)), at(950))
    found = led(primary, reign(table)).node("us-1")
    assert (found.disk.free_inodes, found.why) == (0, "its disk is full: no inode is left")


@pytest.fixture
def follower(primary, table, vital_report) -> View:
    """`us-1`, which was told by the primary at 1,000 and has moved on by itself to 12."""
    seen = view(vital_report("us-1", lsn=12), ms=1_400)
    seen.bulletin.sees(PrimaryState.LEADING, "eu-1", at(0))
    seen.bulletin.heard(vital_report("eu-1", lsn=12, role="primary"), at(1_300))
    seen.bulletin.heard(vital_report("ap-1", lsn=7, role="rebuilding"), at(1_300))
    seen.bulletin.relayed(for_followers(led(primary, reign(table))), at(1_000))
    return seen


def test_a_follower_passes_the_primarys_judgement_on_with_its_age_and_its_own_numbers(follower) -> None:
    found = followed(follower, Lsn(13))
    assert (found.vantage.node, found.vantage.source, found.vantage.age_ms) == ("us-1", "eu-1", 400)
    assert (found.primary.node, found.primary.state, found.head, found.watermark) == (
        "eu-1",
        "leading",
        13,
        12,
    )
    assert found.quorum.met and found.commits.count == 4 and len(found.regions) == 3
    assert (found.own.received, found.own.durable, found.own.applied) == (12, 12, 12)
    assert (found.own.health, found.own.rtt_us) == ("healthy", 80_000)
    ap = found.node("ap-1")
    assert (ap.health, ap.lag.records, ap.durable) == ("healthy", 4, 6)  # as judged, beside that judgement
    assert (ap.role, ap.version, ap.rtts_us) == ("rebuilding", "0.1", {"ap-1": 30})  # at first hand


def test_a_judgement_is_older_by_the_way_that_it_took(follower) -> None:
    follower.bulletin.answered(EU, 80_400)
    assert followed(follower, Lsn(13)).vantage.age_ms == 481


@pytest.mark.parametrize("how", ["lost", "too old"])
def test_without_a_primary_in_sight_no_stale_row_is_called_healthy(follower, how) -> None:
    if how == "lost":
        follower.bulletin.sees(PrimaryState.LOST, "eu-1", at(2_000))
        seen, why = replace(follower, now=at(2_000)), NO_PRIMARY
    else:
        seen, why = replace(follower, now=at(1_000 + TIMEOUT_MS + 1)), NOT_TOLD
    found = followed(seen, Lsn(0))
    assert found.vantage.source == "us-1" and found.vantage.age_ms == 0
    assert found.head is None and found.commits == Commits()
    assert (found.quorum.met, found.quorum.why) == (None, why)
    assert {node.health for node in found.nodes} & {"healthy"} == set()
    assert {node.lag.state for node in found.nodes} == {"unknown"}
    assert {node.slot for node in found.nodes} == {Slot()}
    assert {region.holds_watermark for region in found.regions} == {None}
    assert found.watermark == 12


def test_a_row_without_a_judge_holds_what_its_node_said_within_the_timeout(follower) -> None:
    follower.bulletin.sees(PrimaryState.LOST, "eu-1", at(2_000))
    found = followed(replace(follower, now=at(6_000)), Lsn(0))
    assert (found.node("ap-1").durable, found.node("ap-1").why) == (7, NO_PRIMARY)
    assert found.node("ap-1").lag.since_at_ms == 1_001_300
    assert found.own.health == "unknown" and found.own.lag.since_at_ms == 1_001_300
    later = followed(replace(follower, now=at(6_301)), Lsn(0))
    for name in ("ap-1", "eu-1", "sa-1"):
        row = later.node(name)
        assert (row.role, row.health, row.why) == ("unknown", "unknown", "not heard")
        assert row.received is row.durable is row.applied is row.disk.free_bytes is None
    assert later.own.durable == 12


def test_another_primary_than_the_one_that_told_has_not_told_yet(follower) -> None:
    follower.bulletin.sees(PrimaryState.LEADING, "ap-1", at(1_200))
    found = followed(follower, Lsn(0))
    assert (found.primary.node, found.quorum.why, found.own.health) == ("ap-1", NOT_TOLD, "unknown")


def test_a_member_that_was_added_since_is_a_row_of_its_own(follower) -> None:
    new = Member(NodeId("af-1"), Region("af"), addr="af:1")
    found = followed(replace(follower, members=(*MEMBERS, new)), Lsn(0)).node("af-1")
    assert (found.region, found.health, found.durable) == ("af", "unknown", None)


def test_a_report_without_vitals_says_where_the_log_stands(primary, table, vital_report) -> None:
    primary.bulletin.heard(vital_report("sa-1", lsn=3, vitals=False), at(950))
    found = led(primary, reign(table)).node("sa-1")
    assert (found.received, found.durable, found.applied, found.disk.state) == (3, None, 3, "unknown")


def test_who_may_not_see_the_others_sees_one_node_and_is_told_so(primary, table) -> None:
    found = without_others(led(primary, reign(table, refusal="no voter in us")))
    assert found.vantage.hides_others
    assert [node.id for node in found.nodes] == ["eu-1"]
    assert (found.quorum.met, found.quorum.why, found.quorum.completed_by) == (False, "", "")
    assert found.regions == () and found.commits.completed_by == {} and found.own.rtts_us == {}
    assert [event.kind for event in found.events] == ["reign_begun"]
    primary.bulletin.events.add(EventKind.REIGN_ENDED, "the reign ends: us-1 leads term 5", 1_000_600)
    found = without_others(led(primary, reign(table)))
    for name in ("us-1", "ap-1", "sa-1"):
        assert name.encode() not in found.encode()

"""Topologies: numbered by the primary, cut for strangers."""

from __future__ import annotations

import msgspec
import pytest

from cluster.topology_advertiser import ReplicaView, TopologyAdvertiser, TopologyAuthGate
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.node_role import NodeRole
from redwire.position import Lsn, NodeId, Region, Term
from redwire.topology import Endpoint, ReplicaEntry
from regions.binding import Member, Membership
from regions.coordinator import QuorumCoordinator

MEMBERS = tuple(
    Member(NodeId(node), Region(node[:2]), addr=f"{node}.example.net:5050")
    for node in ("eu-1", "us-1", "ap-1")
)
WELL = ReplicaView(True, 0, Lsn(5), False)
READER = Principal(PrincipalKind.USER, "app", Role.READ, True)
OTHER = Principal(PrincipalKind.USER, "app", Role.READ, False)


def advertiser(term: int = 3) -> TopologyAdvertiser:
    return TopologyAdvertiser(Term(term), NodeId("eu-1"), MEMBERS)


def test_addresses_are_dialable_and_unknown_replicas_are_unhealthy():
    topology = advertiser().current
    assert topology.primary == Endpoint("eu-1.example.net:5050", "eu")
    assert topology.replicas == (
        ReplicaEntry("us-1.example.net:5050", "us", False, None, 0, False),
        ReplicaEntry("ap-1.example.net:5050", "ap", False, None, 0, False),
    )
    assert topology.epoch == 3 << 24


def test_a_change_of_health_begins_an_epoch_and_progress_does_not():
    told = advertiser()
    assert told.observe({NodeId("us-1"): WELL}, 1_000)
    assert told.current.epoch == (3 << 24) + 1
    assert not told.observe({NodeId("us-1"): ReplicaView(True, 7, Lsn(9), False)}, 2_000)
    assert told.current.replicas[0].last_applied_lsn == 9
    assert told.current.epoch == (3 << 24) + 1
    assert told.observe({NodeId("us-1"): ReplicaView(True, 7, Lsn(9), True)}, 3_000)


def test_a_member_that_takes_a_snapshot_is_being_rebuilt_and_says_where_clients_reach_it(vital_report):
    table = QuorumCoordinator(Membership(MEMBERS), NodeId("eu-1"))
    row = table.status(0).member(NodeId("us-1"))
    report = msgspec.structs.replace(vital_report("us-1", role=NodeRole.REBUILDING), advertise="us:1")
    assert ReplicaView.of(row, None, report) == ReplicaView(False, None, Lsn(0), True, "us:1")
    assert ReplicaView.of(row, None, None) == ReplicaView(False, None, Lsn(0), False, None)


def test_changes_are_coalesced_to_ten_a_second():
    told = advertiser()
    assert told.observe({NodeId("us-1"): WELL}, 1_000)
    assert not told.observe({}, 1_099)
    assert told.observe({}, 1_100)


def test_a_later_reign_has_later_epochs():
    old = advertiser(3)
    for n in range(50):
        old.observe({NodeId("us-1"): WELL} if n % 2 else {}, 1_000 * n)
    assert advertiser(4).current.epoch > old.current.epoch


@pytest.mark.parametrize(("principal", "replicas"), [(None, 0), (OTHER, 0), (READER, 2)])
def test_strangers_and_the_denied_see_the_primary_with_the_real_epoch(principal, replicas):
    seen = TopologyAuthGate.view(advertiser().current, principal)
    assert (len(seen.replicas), seen.epoch) == (replicas, 3 << 24)


def addresses(told: TopologyAdvertiser) -> list[str]:
    return [told.current.primary.addr, *(replica.addr for replica in told.current.replicas)]


def seen_at(advertise: str | None) -> dict[NodeId, ReplicaView]:
    return {NodeId("us-1"): ReplicaView(True, 0, Lsn(5), False, advertise)}


def test_an_advertised_address_stands_in_the_place_of_the_members():
    public = {NodeId("eu-1"): "eu.example.com:443", NodeId("us-1"): "us.example.com:443", NodeId("ap-1"): ""}
    told = TopologyAdvertiser(Term(3), NodeId("eu-1"), MEMBERS, public)
    assert addresses(told) == ["eu.example.com:443", "us.example.com:443", "ap-1.example.net:5050"]


def test_a_member_that_advertises_another_address_begins_an_epoch():
    told = advertiser()
    told.observe(seen_at(""), 1_000)
    assert told.observe(seen_at("us.example.com:443"), 2_000)
    assert told.current.replicas[0].addr == "us.example.com:443"
    assert told.observe(seen_at(""), 3_000)
    assert told.current.replicas[0].addr == "us-1.example.net:5050"


def test_the_address_of_a_member_that_is_silent_is_the_one_it_gave_last():
    told = advertiser()
    told.observe(seen_at("us.example.com:443"), 1_000)
    told.observe({}, 2_000)
    assert told.current.replicas[0].addr == "us.example.com:443"
    told.observe(seen_at(None), 3_000)
    assert told.current.replicas[0].addr == "us.example.com:443"

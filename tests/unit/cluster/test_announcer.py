"""Which topology a node tells: its own while it leads, the primary's unchanged while it follows (R12)."""

from __future__ import annotations

import pytest

from cluster.announcer import Announcer, Epochs
from cluster.topology_advertiser import ReplicaView, TopologyAdvertiser
from redwire.errors import TopologyInvalid
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.message.client import TopologyNotice
from redwire.position import Lsn, NodeId, Region, Term
from redwire.topology import Endpoint, Topology, decode
from regions.binding import Member

MEMBERS = tuple(
    Member(NodeId(node), Region(node[:2]), addr=f"{node}.example.net:5050") for node in ("eu-1", "us-1")
)
WELL = {NodeId("us-1"): ReplicaView(True, 0, Lsn(5), False)}
READER = Principal(PrincipalKind.USER, "app", Role.READ, True)
STRANGER = None


def advertiser(term: int = 3) -> TopologyAdvertiser:
    return TopologyAdvertiser(Term(term), NodeId("eu-1"), MEMBERS)


def topology(term: int) -> Topology:
    return advertiser(term).current


class Heard:
    times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def announcer() -> Announcer:
    return Announcer(Region("us"))


@pytest.fixture
def heard(announcer) -> Heard:
    listener = Heard()
    announcer.listen(listener)
    return listener


def lost(announcer: Announcer) -> bool:
    return TopologyNotice.decode(announcer.body(READER)).primary_lost


def test_a_node_that_has_heard_nothing_knows_no_primary_and_says_so(announcer):
    assert announcer.current == Topology(0, Endpoint("", "us"), ())
    assert lost(announcer)
    assert decode(announcer.blob(STRANGER)).primary.addr == ""


def test_who_knows_only_a_node_that_has_heard_nothing_finds_the_others_there(heard):
    announcer = Announcer(Region("us"), MEMBERS[:1])
    announcer.members_changed(MEMBERS)
    told = decode(announcer.blob(READER))
    assert [(entry.addr, entry.region, entry.healthy, entry.lag_ms) for entry in told.replicas] == [
        ("eu-1.example.net:5050", "eu", False, None),
        ("us-1.example.net:5050", "us", False, None),
    ]
    assert (told.epoch, told.primary.addr) == (0, "") and lost(announcer)
    assert not decode(announcer.blob(STRANGER)).replicas
    announcer.relay(topology(1).encode())
    announcer.members_changed(MEMBERS[:1])
    assert announcer.current == topology(1)


def test_a_node_that_leads_tells_what_its_advertiser_numbers(announcer, heard):
    own = advertiser()
    announcer.lead(own)
    assert announcer.current == own.current and not lost(announcer)
    announcer.observe(WELL, 1_000)
    assert announcer.current == own.current and announcer.current.replicas[0].healthy
    assert heard.times == 2


def test_a_step_forward_rides_along_and_rings_no_bell(announcer, heard):
    announcer.lead(advertiser())
    announcer.observe(WELL, 1_000)
    announcer.observe({NodeId("us-1"): ReplicaView(True, 7, Lsn(9), False)}, 2_000)
    assert announcer.current.replicas[0].last_applied_lsn == 9
    assert heard.times == 2


@pytest.mark.parametrize("lost_primary", [True, False])
def test_a_node_that_leads_never_says_that_the_primary_is_lost(lost_primary, announcer, heard):
    announcer.lead(advertiser())
    announcer.lost_primary(lost_primary)
    assert not lost(announcer) and heard.times == 1


def test_a_node_that_leads_relays_nothing(announcer, heard):
    announcer.lead(advertiser())
    announcer.relay(topology(9).encode())
    assert announcer.current == topology(3) and heard.times == 1


def test_a_node_that_follows_numbers_nothing(announcer, heard):
    announcer.relay(topology(3).encode())
    announcer.observe(WELL, 1_000)
    assert announcer.current == topology(3) and heard.times == 1


def test_a_node_that_follows_relays_byte_for_byte(announcer):
    announcer.relay(topology(3).encode())
    assert announcer.blob(READER) == topology(3).encode()
    assert TopologyNotice.decode(announcer.body(READER)) == TopologyNotice(False, topology(3).encode())


def test_a_stranger_sees_the_primary_alone(announcer):
    announcer.relay(topology(3).encode())
    seen = decode(announcer.blob(STRANGER))
    assert (seen.epoch, seen.primary, seen.replicas) == (3 << 24, topology(3).primary, ())


def test_that_the_primary_is_lost_is_said_beside_the_topology_and_once(announcer, heard):
    announcer.relay(topology(3).encode())
    for lost_primary in (False, True, True):
        announcer.lost_primary(lost_primary)
    assert TopologyNotice.decode(announcer.body(READER)) == TopologyNotice(True, topology(3).encode())
    assert heard.times == 2
    announcer.lost_primary(False)
    assert not lost(announcer) and heard.times == 3


@pytest.mark.parametrize(("term", "told", "times"), [(2, 3, 1), (3, 3, 1), (4, 4, 2)])
def test_only_a_newer_epoch_is_news(term, told, times, announcer, heard):
    announcer.relay(topology(3).encode())
    announcer.relay(topology(term).encode())
    assert announcer.current == topology(told) and heard.times == times


def test_progress_within_an_epoch_is_relayed_and_rings_no_bell(announcer, heard):
    source = advertiser()
    source.observe(WELL, 1_000)
    announcer.relay(source.current.encode())
    source.observe({NodeId("us-1"): ReplicaView(True, 7, Lsn(9), False)}, 2_000)
    announcer.relay(source.current.encode())
    assert announcer.current.replicas[0].last_applied_lsn == 9 and heard.times == 1


def test_a_topology_of_a_later_version_is_left_alone(announcer, heard):
    announcer.relay(b"\x07" + bytes(10))
    assert announcer.current.epoch == 0 and heard.times == 0


def test_a_broken_topology_is_refused_and_changes_nothing(announcer, heard):
    announcer.relay(topology(3).encode())
    with pytest.raises(TopologyInvalid):
        announcer.relay(topology(4).encode()[:-1])
    assert announcer.current == topology(3) and heard.times == 1


def test_a_node_that_stops_to_lead_keeps_what_it_told_until_it_hears_more(announcer, heard):
    announcer.lead(advertiser())
    announcer.follow()
    assert announcer.current == topology(3) and lost(announcer)
    announcer.observe(WELL, 1_000)
    assert announcer.current == topology(3)
    announcer.relay(topology(5).encode())
    assert announcer.current == topology(5) and not lost(announcer)
    assert heard.times == 3


def test_who_does_not_listen_any_more_is_not_told(announcer, heard):
    announcer.unlisten(heard)
    announcer.unlisten(heard)
    announcer.relay(topology(3).encode())
    assert heard.times == 0


def test_a_listener_may_leave_while_all_are_told(announcer, heard):
    def once() -> None:
        announcer.unlisten(once)

    announcer.listen(once)
    announcer.relay(topology(3).encode())
    assert heard.times == 1


def test_a_session_is_told_an_epoch_once_and_forgotten_when_it_has_ended() -> None:
    told = Epochs()
    assert told.behind([1, 2], 7) == [1, 2]
    assert told.behind([1, 2, 3], 7) == [3]
    assert told.behind([3], 8) == [3] and len(told) == 1
    for session in range(100):
        assert told.behind([session], 9) == [session]
    assert len(told) == 1

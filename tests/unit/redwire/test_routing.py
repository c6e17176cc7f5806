"""Routing: what is believed, where writes go, and how reads spread."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from redwire.position import Term
from redwire.routing import (
    BACKOFF_MAX_MS,
    SAMPLE_AGE_MAX_MS,
    SEEK_MAX_MS,
    AddressStatus,
    AnyNode,
    InRegion,
    Nearest,
    Primary,
    ReadMode,
    Router,
)
from redwire.topology import Endpoint, ReplicaEntry, Topology, epoch_of


def replica(addr: str, region: str = "eu", *, healthy: bool = True, rebuilding: bool = False) -> ReplicaEntry:
    return ReplicaEntry(addr, region, healthy, 0, 1, rebuilding)


def topology(epoch: int, *replicas: ReplicaEntry, primary: str = "p:1", region: str = "eu") -> Topology:
    return Topology(epoch, Endpoint(primary, region), replicas)


def router(*seeds: str, region: str | None = None, discovery: bool = True) -> Router:
    return Router(seeds or ("s:1",), region, discovery, random.Random(1))


def reads(chosen: Router, mode: ReadMode, count: int, now_ms: int = 0) -> list[str]:
    return [chosen.read_candidates(mode, now_ms)[0] for _ in range(count)]


def retry_ms(chosen: Router, addr: str) -> int:
    return next(node.retry_ms for node in chosen.status().nodes if node.addr == addr)


def longest_run(addrs: list[str]) -> int:
    longest = run = 1
    for one, other in pairwise(addrs):
        run = run + 1 if one == other else 1
        longest = max(longest, run)
    return longest


# what is believed


def test_before_any_topology_only_the_seeds_are_known() -> None:
    fresh = router("a:1", "b:1", "a:1")
    assert fresh.topology is None
    assert fresh.primary() is None
    assert fresh.dial_order(0) == ["a:1", "b:1"]
    assert fresh.read_candidates(Primary(), 0) == []
    assert fresh.status().epoch == -1


def test_a_newer_epoch_replaces_an_older_one_and_never_the_reverse() -> None:
    chosen = router()
    assert chosen.update(topology(5, replica("r:1")))
    assert not chosen.update(topology(4, replica("r:2"), primary="old:1"))
    assert chosen.primary() == "p:1"
    assert chosen.update(topology(6, primary="q:1"))
    assert chosen.primary() == "q:1"
    assert chosen.topology == topology(6, primary="q:1")


def test_an_older_topology_comes_back_when_the_newer_one_is_given_up() -> None:
    chosen = router("a:1", "lost:1")
    chosen.update(topology(epoch_of(Term(8)), replica("q:1"), primary="lost:1"))
    chosen.met("lost:1", "eu", 8, leads=True)
    older = topology(epoch_of(Term(6)), replica("r:1"), primary="a:1")
    chosen.revert(older)
    assert (chosen.topology, chosen.primary()) == (older, "a:1")
    assert chosen.dial_order(0) == ["a:1", "r:1", "lost:1"]
    assert chosen.update(topology(epoch_of(Term(7)), primary="r:1"))


def test_at_one_epoch_the_fuller_view_wins_in_either_order() -> None:
    full, narrow = topology(5, replica("r:1")), topology(5)
    first_narrow = router()
    assert first_narrow.update(narrow)
    assert not first_narrow.update(narrow)
    assert first_narrow.update(full)
    first_full = router()
    assert first_full.update(full)
    assert not first_full.update(narrow)
    assert first_full.topology == full


def test_seeds_stay_whatever_the_cluster_says() -> None:
    chosen = router("a:1", "b:1")
    chosen.update(topology(1, replica("r:1")))
    chosen.update(topology(2, replica("r:2")))
    assert chosen.dial_order(0) == ["p:1", "r:2", "a:1", "b:1"]


def test_what_was_measured_survives_an_update_and_leaves_with_the_node() -> None:
    chosen = router()
    chosen.update(topology(1, replica("r:1"), replica("r:2")))
    chosen.observed("r:1", 700, 0)
    chosen.observed("r:2", 900, 0)
    chosen.update(topology(2, replica("r:1")))
    chosen.observed("r:2", 900, 0)
    assert {node.addr: node.rtt_us for node in chosen.status().nodes} == {
        "s:1": None,
        "p:1": None,
        "r:1": 700,
    }


def test_without_discovery_only_seeds_are_dialled() -> None:
    chosen = router("a:1", "b:1", discovery=False)
    chosen.update(topology(1, replica("r:1")))
    assert chosen.primary() is None
    assert chosen.dial_order(0) == ["a:1", "b:1"]
    assert chosen.read_candidates(AnyNode(), 0) == ["a:1", "b:1"]
    chosen.update(topology(2, replica("r:1"), primary="b:1"))
    assert chosen.primary() == "b:1"


# the primary


def test_a_node_that_says_it_leads_is_the_primary_while_no_topology_names_one() -> None:
    chosen = router("a:1", "b:1", discovery=False)
    chosen.met("b:1", "eu", 3, leads=True)
    assert chosen.primary() == "b:1"
    assert chosen.dial_order(0) == ["b:1", "a:1"]
    chosen.met("a:1", "eu", 2, leads=True)
    assert chosen.primary() == "b:1"
    chosen.met("a:1", "eu", 4, leads=True)
    assert chosen.primary() == "a:1"
    chosen.met("b:1", "eu", 4, leads=False)
    assert chosen.primary() == "a:1"
    chosen.met("a:1", "eu", 5, leads=False)
    assert chosen.primary() is None


def test_a_leader_of_a_newer_term_beats_an_older_topology() -> None:
    chosen = router("a:1")
    chosen.update(topology(epoch_of(Term(3)), replica("r:1")))
    chosen.met("r:1", "eu", 3, leads=True)
    assert chosen.primary() == "p:1"
    chosen.met("r:1", "eu", 4, leads=True)
    assert chosen.primary() == "r:1"
    chosen.update(topology(epoch_of(Term(4)), replica("p:1"), primary="r:1"))
    assert chosen.primary() == "r:1"


def test_an_address_that_nobody_named_cannot_become_primary() -> None:
    chosen = router("a:1")
    chosen.met("x:1", "eu", 9, leads=True)
    assert chosen.primary() is None


def test_a_leader_that_left_the_cluster_is_forgotten() -> None:
    chosen = router("a:1")
    chosen.update(topology(1, replica("r:1")))
    chosen.met("r:1", "eu", 9, leads=True)
    chosen.update(topology(2, replica("r:2"), primary=""))
    assert chosen.primary() is None


# reads


def test_reads_from_the_primary_go_nowhere_else() -> None:
    chosen = router()
    chosen.update(topology(1, replica("r:1"), replica("r:2")))
    assert Counter(reads(chosen, Primary(), 300)) == {"p:1": 300}
    chosen.failed("p:1", 0)
    assert chosen.read_candidates(Primary(), 0) == ["p:1"]


def test_reads_anywhere_spread_over_the_replicas_and_spare_the_primary() -> None:
    chosen = router("p:1")
    chosen.update(topology(1, replica("r:1"), replica("r:2"), replica("r:3")))
    chosen.observed("r:1", 1_000, 0)
    chosen.observed("r:2", 2_000_000, 0)
    served = reads(chosen, AnyNode(), 300)
    assert Counter(served) == {"r:1": 100, "r:2": 100, "r:3": 100}
    assert longest_run(served) == 1
    assert chosen.read_candidates(AnyNode(), 0)[-1] == "p:1"


def test_the_primary_reads_when_no_replica_can() -> None:
    chosen = router("p:1")
    chosen.update(topology(1, replica("r:1", healthy=False), replica("r:2", rebuilding=True)))
    assert chosen.read_candidates(AnyNode(), 0) == ["p:1", "r:1"]
    chosen.update(topology(2))
    assert chosen.read_candidates(AnyNode(), 0) == ["p:1"]


@pytest.mark.parametrize("mode", [Nearest(), AnyNode(), InRegion("eu")])
def test_a_replica_that_is_being_rebuilt_is_never_read(mode: ReadMode) -> None:
    chosen = router()
    chosen.update(
        topology(
            1, replica("r:1", rebuilding=True), replica("r:2", rebuilding=True, healthy=False), replica("r:3")
        )
    )
    assert set(chosen.read_candidates(mode, 0)) == {"r:3", "p:1"}


def test_the_nearest_node_reads_and_those_as_near_take_turns() -> None:
    chosen = router()
    chosen.update(topology(1, replica("near:1"), replica("near:2"), replica("far:1", "us")))
    for addr, rtt_us in (("near:1", 10_000), ("near:2", 12_000), ("far:1", 80_000), ("p:1", 90_000)):
        chosen.observed(addr, rtt_us, 0)
    served = reads(chosen, Nearest(), 200)
    assert Counter(served) == {"near:1": 100, "near:2": 100}
    assert longest_run(served) == 1
    assert chosen.read_candidates(Nearest(), 0)[2:] == ["far:1", "p:1"]


def test_a_node_that_was_never_measured_gets_one_turn() -> None:
    chosen = router()
    chosen.update(topology(1, replica("near:1"), replica("new:1")))
    chosen.observed("near:1", 1_000, 0)
    chosen.observed("p:1", 50_000, 0)
    assert "new:1" in reads(chosen, Nearest(), 2)
    chosen.observed("new:1", 80_000, 0)
    assert set(reads(chosen, Nearest(), 50)) == {"near:1"}


def test_the_own_region_comes_first_however_near_others_are() -> None:
    chosen = router(region="us")
    chosen.update(topology(1, replica("us:1", "us"), replica("eu:1", "eu")))
    chosen.observed("us:1", 90_000, 0)
    chosen.observed("eu:1", 100, 0)
    assert chosen.read_candidates(Nearest(), 0)[:2] == ["us:1", "p:1"]


def test_reads_in_a_region_stay_there_or_nowhere() -> None:
    chosen = router()
    chosen.update(
        topology(1, replica("us:1", "us"), replica("us:2", "us", healthy=False), replica("eu:1", "eu"))
    )
    assert chosen.read_candidates(InRegion("us"), 0) == ["us:1", "us:2"]
    assert set(chosen.read_candidates(InRegion("eu"), 0)) == {"eu:1", "p:1"}
    assert chosen.read_candidates(InRegion("ap"), 0) == []


def test_a_seeds_region_is_known_once_it_answered() -> None:
    chosen = router("a:1", discovery=False)
    assert chosen.read_candidates(InRegion("eu"), 0) == []
    chosen.met("a:1", "eu", 1, leads=False)
    assert chosen.read_candidates(InRegion("eu"), 0) == ["a:1"]


def test_mixed_modes_do_not_make_a_favourite() -> None:
    chosen = router()
    chosen.update(topology(1, replica("r:1"), replica("r:2")))
    served = [chosen.read_candidates(mode, 0)[0] for _ in range(100) for mode in (AnyNode(), InRegion("eu"))]
    counted = Counter(served)
    assert max(counted.values()) <= 101
    assert longest_run(served) <= 2


# round trips


def test_round_trips_are_averaged_with_a_fifth_for_the_newest() -> None:
    chosen = router("a:1")
    assert [chosen.status().nodes[0].rtt_us] == [None]
    for rtt_us, average_us in ((1_000, 1_000), (2_000, 1_200), (1_200, 1_200), (0, 960)):
        chosen.observed("a:1", rtt_us, 0)
        assert chosen.status().nodes[0].rtt_us == average_us


def test_a_node_that_was_slow_once_is_tried_again_after_a_minute() -> None:
    chosen = router()
    chosen.update(topology(1, replica("r:1"), replica("r:2")))
    for addr, rtt_us in (("r:1", 1_000), ("p:1", 90_000), ("r:2", 5_000_000)):
        chosen.observed(addr, rtt_us, 0)
    assert set(reads(chosen, Nearest(), 10)) == {"r:1"}
    later = SAMPLE_AGE_MAX_MS + 1
    chosen.observed("r:1", 1_000, later)
    assert "r:2" in reads(chosen, Nearest(), 3, later)
    chosen.observed("r:2", 1_200, later)
    assert {node.addr: node.rtt_us for node in chosen.status().nodes}["r:2"] == 1_200


# failures


def test_back_off_doubles_to_its_limit_with_half_of_it_chance() -> None:
    chosen = router("a:1")
    now_ms, pauses = 1_000_000, []
    for _ in range(30):
        until_ms = chosen.failed("a:1", now_ms)
        pauses.append(until_ms - now_ms)
        now_ms = until_ms
    for count, pause_ms in enumerate(pauses):
        whole_ms = min(100 << count, BACKOFF_MAX_MS)
        assert whole_ms / 2 <= pause_ms <= whole_ms
    assert len(set(pauses[10:])) > 10


def test_who_holds_calls_up_is_left_alone_for_as_long_at_least() -> None:
    chosen = router("a:1")
    for held_ms in (100, 2_000, 5_000, 60_000):
        pause_ms = chosen.failed("a:1", 1_000_000, held_ms) - 1_000_000
        whole_ms = min(2 * held_ms, BACKOFF_MAX_MS)
        assert whole_ms / 2 <= pause_ms <= whole_ms


def test_a_short_failure_does_not_end_a_long_pause() -> None:
    chosen = router("a:1")
    until_ms = chosen.failed("a:1", 1_000, 2_000)
    assert chosen.failed("a:1", 1_010, 50) == until_ms


def test_a_failed_node_comes_last_until_its_pause_ends_by_itself() -> None:
    chosen = router()
    chosen.update(topology(1, replica("r:1"), replica("r:2")))
    until_ms = chosen.failed("r:1", 0)
    assert set(reads(chosen, AnyNode(), 10)) == {"r:2"}
    assert chosen.read_candidates(AnyNode(), 0)[-1] == "r:1"
    assert retry_ms(chosen, "r:1") == until_ms
    assert "r:1" in reads(chosen, AnyNode(), 2, until_ms)


def test_an_answer_ends_the_back_off() -> None:
    chosen = router("a:1")
    chosen.failed("a:1", 0)
    chosen.failed("a:1", 0)
    chosen.observed("a:1", 500, 10)
    assert retry_ms(chosen, "a:1") == 0
    assert chosen.failed("a:1", 1_000) <= 1_100


def test_who_waits_for_a_primary_tries_all_about_once_a_second_however_long_they_were_away() -> None:
    chosen = router("p:1")
    for _ in range(30):
        away_ms = chosen.failed("p:1", 0)
    assert away_ms == retry_ms(chosen, "p:1") >= BACKOFF_MAX_MS / 2
    assert SEEK_MAX_MS / 2 <= chosen.seek_ms("p:1") <= SEEK_MAX_MS
    chosen.observed("p:1", 500, 10)
    assert chosen.seek_ms("p:1") == 0
    chosen.failed("p:1", 0)
    assert chosen.seek_ms("p:1") == retry_ms(chosen, "p:1")


def test_when_all_failed_the_first_to_be_free_is_tried_first() -> None:
    chosen = router("a:1", "b:1", "c:1")
    for _ in range(8):
        chosen.failed("a:1", 0)
    for _ in range(4):
        chosen.failed("c:1", 0)
    chosen.failed("b:1", 0)
    assert chosen.dial_order(0) == ["b:1", "c:1", "a:1"]
    assert chosen.dial_order(20_000) == ["a:1", "b:1", "c:1"]


def test_a_failure_of_an_address_that_left_changes_nothing() -> None:
    chosen = router("a:1")
    before = chosen.status()
    assert chosen.failed("gone:1", 100) > 100
    assert chosen.status() == before


def test_the_status_shows_every_node_once() -> None:
    chosen = router("s:1", "r:1")
    chosen.update(topology(7, replica("r:1", "us")))
    chosen.observed("r:1", 640, 0)
    status = chosen.status()
    assert (status.epoch, status.primary) == (7, "p:1")
    assert status.nodes == (
        AddressStatus("s:1", None, None, 0, 0, True),
        AddressStatus("r:1", "us", 640, 0, 0, True),
        AddressStatus("p:1", "eu", None, 0, 0, False),
    )

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cluster.credentials import DAY_MS
from redwire.status import (
    Disk,
    Lag,
    NodeStatus,
    Primary,
    Quorum,
    RegionStatus,
    Settings,
    Slot,
    Status,
    Vantage,
)
from tools.condition.foresight import if_region_goes
from tools.condition.problems import find
from tools.condition.tone import Tone
from tools.condition.trouble import Kind, ahead, unknown

WELL = NodeStatus(id="us-1", region="us", declared="us", role="replica", health="healthy")


def status(*nodes: NodeStatus, **fields: object) -> Status:
    regions = (RegionStatus(name="us", nodes=tuple(node.id for node in nodes)),)
    leading = Primary(node="eu-1", state="leading")
    return replace(Status(primary=leading, quorum=Quorum(met=True), regions=regions, nodes=nodes), **fields)


def texts(document: Status, growing: frozenset[str] = frozenset()) -> list[str]:
    return [problem.text for problem in find(document, growing)]


def test_a_cluster_that_is_well_has_no_problems() -> None:
    assert find(status(WELL)) == []


def test_a_view_is_old_when_a_silent_node_would_be_lost() -> None:
    seen = status(WELL, vantage=Vantage(node="us-1", source="eu-1", age_ms=9_000))
    assert texts(seen) == ["the view of eu-1 is 9.0 s old"]
    assert texts(replace(seen, settings=Settings(replica_timeout_ms=10_000))) == []


def test_the_worst_stands_first() -> None:
    sick = replace(WELL, declared="ap", disk=Disk(state="full"))
    assert texts(status(sick)) == ["us-1: disk full", "us-1 declares ap, is bound to us"]
    damaged = replace(WELL, disk=Disk(state="damaged"), health="unhealthy", why="its disk is damaged")
    assert texts(status(damaged)) == ["us-1 is unhealthy: its disk is damaged", "us-1: disk damaged"]
    inodeless = replace(WELL, disk=Disk(state="full", free_inodes=0))
    assert texts(status(inodeless)) == ["us-1: disk full, no inode is left"]


def test_a_region_whose_nodes_are_all_out_is_one_problem() -> None:
    nodes = [replace(WELL, id=f"us-{n}", health="unhealthy", why="silent", acked_at_ms=n) for n in (1, 2)]
    (problem,) = find(status(*nodes))
    assert (problem.text, problem.since_at_ms, problem.tone) == ("region us is out: silent", 2, Tone.BAD)


def test_one_sick_node_of_two_is_named_with_its_last_ack() -> None:
    sick = replace(WELL, id="us-2", health="unhealthy", why="no ack", acked_at_ms=7)
    (problem,) = find(status(WELL, sick))
    assert (problem.text, problem.since_at_ms) == ("us-2 is unhealthy: no ack", 7)


def test_a_word_that_is_not_known_is_shown_as_it_is() -> None:
    assert texts(status(WELL, replace(WELL, id="us-2", health="radiant"))) == ["us-2 is radiant"]
    assert texts(status(WELL, primary=Primary(node="eu-1", state="yielding"))) == ["primary: yielding"]


def test_a_lost_primary_and_an_unmet_quorum_are_told_with_their_reasons() -> None:
    lost = Primary(node="eu-1", state="lost", since_at_ms=5)
    document = status(WELL, primary=lost, quorum=Quorum(met=False, why="no voter in us"))
    assert texts(document) == ["primary eu-1 is lost", "quorum not met: no voter in us"]
    assert find(document)[0].since_at_ms == 5
    assert texts(status(WELL, primary=Primary(state="none"), quorum=Quorum())) == ["nobody leads"]


def test_nodes_that_are_hidden_are_not_taken_for_none() -> None:
    document = status(WELL, vantage=Vantage(node="us-1", source="us-1", hides_others=True))
    assert texts(document) == ["the other nodes are hidden from this user, who lacks cluster:topology:read"]
    assert if_region_goes(document, "us").writes is None


def test_the_rest_that_can_be_wrong() -> None:
    sick = replace(
        WELL,
        role="rebuilding",
        uncounted="not admitted",
        slot=Slot(state="evicted", bound="bytes"),
        lag=Lag(state="behind", records=3),
    )
    document = status(
        sick,
        settings=Settings(pending="policy majority"),
        vantage=Vantage(node="us-1", source="eu-1", age_ms=9_000),
    )
    assert texts(document, frozenset({"us-1"})) == [
        "us-1: evicted from its slot: bytes",
        "the view of eu-1 is 9.0 s old",
        "us-1 is rebuilding",
        "us-1 is behind and comes no nearer",
        "us-1 does not count: not admitted",
        "change not committed yet: policy majority",
    ]


def test_trouble_is_sorted_by_soonest_whatever_it_is() -> None:
    late = replace(WELL, id="b", slot=Slot(state="at_risk", bound="time", eviction_ms=9_000_000))
    soon = replace(
        WELL, id="a", disk=Disk(floor_ms=60_000, floor_bytes=10**10), certificate_ends_at_ms=40 * DAY_MS
    )
    stuck = replace(WELL, id="c", lag=Lag(state="behind", records=41))
    found = ahead(status(late, soon, stuck), 0, {"c"})
    assert [(each.in_ms, each.node, each.kind, each.tone) for each in found] == [
        (0, "c", Kind.LAG, Tone.WARN),
        (60_000, "a", Kind.DISK, Tone.BAD),
        (9_000_000, "b", Kind.EVICTION, Tone.WARN),
        (40 * DAY_MS, "a", Kind.CERTIFICATE, Tone.PLAIN),
    ]


def test_a_volume_that_fills_is_told_once_for_all_who_are_on_it() -> None:
    def on(name: str, volume: str, floor_ms: int | None) -> NodeStatus:
        disk = Disk(floor_ms=floor_ms, floor_over_ms=1_200_000, floor_bytes=10**10, volume=volume)
        return replace(WELL, id=name, disk=disk)

    shared = [on("a", "v", 900_000), on("b", "v", 600_000), on("c", "v", None), on("d", "w", 700_000)]
    found = ahead(status(*shared, on("e", "", 800_000), on("f", "", 800_000)), 0)
    assert [(each.in_ms, each.node, each.text) for each in found] == [
        (600_000, "b", "disk (a, c too) reaches its floor of 10.0 GB, by its last 20 min 00 s"),
        (700_000, "d", "disk reaches its floor of 10.0 GB, by its last 20 min 00 s"),
        (800_000, "e", "disk reaches its floor of 10.0 GB, by its last 20 min 00 s"),
        (800_000, "f", "disk reaches its floor of 10.0 GB, by its last 20 min 00 s"),
    ]


@pytest.mark.parametrize(("left_ms", "tone"), [(30 * DAY_MS - 1, Tone.WARN), (30 * DAY_MS, Tone.PLAIN)])
def test_a_certificate_is_warned_of_when_its_node_warns_of_it(left_ms: int, tone: Tone) -> None:
    assert [each.tone for each in ahead(status(replace(WELL, certificate_ends_at_ms=left_ms)), 0)] == [tone]


def test_what_has_come_is_now() -> None:
    node = replace(WELL, slot=Slot(state="evicted"), certificate_ends_at_ms=5)
    assert [(each.in_ms, each.tone) for each in ahead(status(node), 6)] == [(0, Tone.BAD), (0, Tone.BAD)]


def test_a_follower_that_will_catch_up_is_no_trouble() -> None:
    node = replace(WELL, lag=Lag(state="behind", records=41, catch_up_ms=900))
    assert ahead(status(node), 0, {"us-1"}) == []
    assert ahead(status(replace(node, lag=Lag(state="behind", records=41))), 0, frozenset()) == []


def test_what_cannot_be_foreseen_is_said() -> None:
    assert unknown(status(WELL)) == ["slot of us-1", "disk of us-1", "certificate of us-1"]
    assert unknown(status(replace(WELL, role="primary"))) == ["disk of us-1", "certificate of us-1"]
    assert ahead(status(replace(WELL, certificate_ends_at_ms=5)), None) == [], "what time it is nobody knows"

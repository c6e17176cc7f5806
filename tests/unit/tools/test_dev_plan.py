"""What people type to describe a cluster on their machine, and what a second start may change."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tools.dev.plan import (
    DEFAULT_REGIONS,
    DEFAULT_RTT_MS,
    ClusterPlan,
    NodePlan,
    Wanted,
    meant,
    parse_pair,
    parse_region,
    parse_rtt,
    plan_nodes,
    plan_rtts,
)
from tools.errors import PlanInvalid, RttInvalid

REGIONS = ("eu", "us", "ap")


@pytest.mark.parametrize(
    ("text", "region"), [("eu:2", ("eu", 2)), ("eu", ("eu", 1)), ("eu-west:12", ("eu-west", 12))]
)
def test_a_region_is_a_name_and_a_number_of_nodes(text: str, region: tuple[str, int]) -> None:
    assert parse_region(text) == region


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no region name"),
        ("EU:2", "'EU' is no region name"),
        ("eu:", "'eu:' does not say how many nodes; write eu:2"),
        ("eu:0", "does not say how many"),
        ("eu:two", "does not say how many"),
        ("eu:2:3", "does not say how many"),
        ("eu:-1", "does not say how many"),
        ("a" * 61, "is no region name"),
    ],
)
def test_a_region_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanInvalid, match=message):
        parse_region(text)


def test_a_round_trip_is_a_pair_and_a_time() -> None:
    assert parse_rtt("eu-us=80ms") == ("eu-us", 80)


@pytest.mark.parametrize("text", ["", "eu-us", "=80ms", "eu-us=", "eu-us=soon"])
def test_a_round_trip_that_is_none_is_refused(text: str) -> None:
    with pytest.raises((PlanInvalid, RttInvalid)):
        parse_rtt(text)


@pytest.mark.parametrize(
    ("text", "regions", "pair"),
    [
        ("eu-us", REGIONS, ("eu", "us")),
        ("us-eu", REGIONS, ("us", "eu")),
        ("eu-west-us-east", ("eu-west", "us-east"), ("eu-west", "us-east")),
        ("eu-eu-2", ("eu", "eu-2"), ("eu", "eu-2")),
    ],
)
def test_a_pair_is_two_regions_in_the_order_they_are_written(
    text: str, regions: tuple[str, ...], pair: tuple[str, str]
) -> None:
    assert parse_pair(text, regions) == pair


def test_a_pair_that_is_none_gets_the_nearest_one() -> None:
    with pytest.raises(RttInvalid, match=r"'eu-as' is no pair of regions; did you mean eu-ap\?"):
        parse_pair("eu-as", REGIONS)


def test_a_region_and_itself_are_no_pair() -> None:
    with pytest.raises(PlanInvalid, match="eu-eu is one region and itself"):
        parse_pair("eu-eu", REGIONS)


def test_the_nearest_name_is_meant_and_else_all_names_are_told() -> None:
    assert meant("eu-3", ["eu-1", "us-1"], "nodes") == "did you mean eu-1?"
    assert meant("paris", ["eu-1", "us-1"], "nodes") == "nodes are eu-1, us-1"
    assert meant("paris", [], "nodes") == "there are no nodes"


def test_nodes_are_numbered_in_their_region_and_the_first_leads() -> None:
    nodes = plan_nodes([("eu", 2), ("us", 1)])
    assert nodes == (NodePlan("eu-1", "eu"), NodePlan("eu-2", "eu"), NodePlan("us-1", "us"))
    plan = ClusterPlan(nodes)
    assert (plan.leader.id, plan.regions) == ("eu-1", ("eu", "us"))


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([("eu", 1), ("us", 1), ("eu", 2)], "the region eu is named 2 times"),
        ([("eu", 33)], "that makes 33 nodes, 32 is the most"),
        ([("a", 1), ("b-a", 1), ("a-b", 1)], "a-b-a could be two pairs"),
    ],
)
def test_regions_that_cannot_stand_together_are_refused(regions: list[tuple[str, int]], message: str) -> None:
    with pytest.raises(PlanInvalid, match=message):
        plan_nodes(regions)


def test_pairs_that_nobody_named_lie_the_default_apart() -> None:
    assert plan_rtts(REGIONS, [("us-eu", 80.0), ("eu-ap", 0.0)]) == {
        ("us", "eu"): 80.0,
        ("eu", "ap"): 0.0,
        ("us", "ap"): DEFAULT_RTT_MS,
    }
    assert plan_rtts(("eu",), []) == {}


@pytest.mark.parametrize("again", ["eu-us", "us-eu"])
def test_a_pair_that_is_named_twice_is_refused(again: str) -> None:
    with pytest.raises(PlanInvalid, match="given twice"):
        plan_rtts(REGIONS, [("eu-us", 80.0), (again, 90.0)])


def test_a_direction_takes_half_of_a_round_trip_either_way() -> None:
    plan = ClusterPlan(
        plan_nodes([("eu", 1), ("us", 1), ("ap", 1)]), rtt_ms={("eu", "us"): 80, ("ap", "us"): 0}
    )
    assert plan.one_way_ms("eu", "us") == plan.one_way_ms("us", "eu") == 40
    assert plan.one_way_ms("us", "ap") == 0
    assert plan.one_way_ms("eu", "ap") is None
    assert plan.one_way_ms("eu", "eu") is None


FIRST = Wanted("dev", (("eu", 2), ("us", 1)), (("eu-us", 80.0),), 5.0, {"policy": "regions(eu,us)"}).plan(
    None
)


def test_a_first_start_makes_what_is_asked_for() -> None:
    assert [node.id for node in FIRST.nodes] == ["eu-1", "eu-2", "us-1"]
    assert (FIRST.rtt_ms, FIRST.jitter_ms) == ({("eu", "us"): 80.0}, 5.0)
    assert FIRST.settings == {"policy": "regions(eu,us)"}


def test_a_first_start_without_words_makes_three_regions() -> None:
    plan = Wanted().plan(None)
    assert plan.name == "dev"
    assert plan.nodes == plan_nodes(DEFAULT_REGIONS)
    assert set(plan.rtt_ms.values()) == {DEFAULT_RTT_MS}


def test_a_second_start_takes_what_is_there_and_new_distances() -> None:
    assert Wanted("dev").plan(FIRST) == FIRST
    assert Wanted("dev", settings={"floor": None}).plan(FIRST) == FIRST, "it has none"
    shop = replace(FIRST, name="shop")
    assert Wanted().plan(shop) == shop
    assert Wanted("dev", (("eu", 2), ("us", 1)), settings={"policy": "regions(eu,us)"}).plan(FIRST) == FIRST
    again = Wanted("dev", rtts=(("us-eu", 10.0),), jitter_ms=0.0).plan(FIRST)
    assert (again.rtt_ms, again.jitter_ms) == ({("us", "eu"): 10.0}, 0.0)
    wide = Wanted("dev", (("eu", 1), ("us", 1), ("ap", 1)), rtts=(("eu-us", 80.0), ("eu-ap", 120.0))).plan(
        None
    )
    again = Wanted("dev", rtts=(("us-eu", 20.0),)).plan(wide)
    assert again.rtt_ms == {("us", "eu"): 20.0, ("eu", "ap"): 120.0, ("us", "ap"): DEFAULT_RTT_MS}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("shop"), "is called dev, not shop"),
        (Wanted("dev", (("eu", 3),)), "consists of eu-1, eu-2, us-1"),
        (Wanted("dev", settings={"policy": "majority"}), r"policy regions\(eu,us\), not majority"),
        (Wanted("dev", settings={"floor": "local"}), "was made with floor by default, not local"),
        (Wanted("dev", settings={"policy": None}), r"policy regions\(eu,us\), not none"),
        (Wanted("dev", rtts=(("eu-ap", 1.0),)), "'eu-ap' is no pair"),
    ],
)
def test_a_second_start_cannot_make_another_cluster_of_it(wanted: Wanted, message: str) -> None:
    with pytest.raises((PlanInvalid, RttInvalid), match=message):
        wanted.plan(FIRST)

from __future__ import annotations

import pytest
from msgspec.structs import replace

from redwire.status import NodeStatus, Primary, Settings, Status
from tools.condition.foresight import if_region_goes

HOMES = {"eu-1": "eu", "eu-2": "eu", "us-1": "us", "us-2": "us", "ap-1": "ap"}


def status(policy: str, **health: str) -> Status:
    return Status(
        primary=Primary(node="eu-1", state="leading"),
        settings=Settings(policy=policy),
        nodes=tuple(
            NodeStatus(id=name, region=region, health=health.get(name.replace("-", ""), "healthy"))
            for name, region in HOMES.items()
        ),
    )


@pytest.mark.parametrize(
    ("policy", "region", "writes"),
    [
        ("local", "us", True),
        ("majority", "us", True),
        ("regions(eu,us)", "us", False),
        ("regions(eu,us)", "ap", True),
        ("regions(2 of eu,us,ap)", "us", True),
        ("regions(eu,us,ap)", "ap", False),
        ("ack_n=3", "us", False),
        ("ack_n=2", "us", True),
        ("local", "eu", False),
    ],
)
def test_whether_writes_go_on_without_a_region(policy: str, region: str, writes: bool) -> None:
    assert if_region_goes(status(policy), region).writes is writes


def test_nodes_that_are_out_already_do_not_help() -> None:
    assert if_region_goes(status("majority", eu2="unhealthy"), "us").writes is False


def test_a_copy_that_does_not_count_does_not_help() -> None:
    document = status("regions(eu,us)")
    nodes = tuple(
        replace(node, uncounted="other incarnation") if node.region == "us" else node
        for node in document.nodes
    )
    assert if_region_goes(replace(document, nodes=nodes), "ap").writes is False


def test_what_hangs_on_an_unknown_node_is_unknown_and_names_it() -> None:
    forecast = if_region_goes(status("majority", eu2="unknown"), "us")
    assert forecast.writes is None and forecast.why == "depends on eu-2"
    assert if_region_goes(status("local", eu2="unknown"), "us").writes is True


def test_nothing_is_foretold_without_a_primary_in_sight() -> None:
    document = replace(status("majority"), primary=Primary(node="eu-1", state="lost"))
    assert if_region_goes(document, "us").writes is None


@pytest.mark.parametrize("policy", ["", "moons(3)", "remote_wal", "quorum"])
def test_a_policy_that_is_not_understood_is_unknown(policy: str) -> None:
    assert if_region_goes(status(policy), "us").writes is None


def test_an_empty_document_is_unknown() -> None:
    assert if_region_goes(Status(primary=Primary(node="eu-1", state="leading")), "us").writes is None


def test_why_writes_stop_is_said() -> None:
    assert if_region_goes(status("regions(eu,us)"), "us").why == "no voter in reach in us"
    assert if_region_goes(status("regions(us,ap)"), "eu").why == "until another node leads"
    assert if_region_goes(status("local"), "eu").why == "no safe successor"
    assert if_region_goes(status("regions(eu,us)"), "eu").why == "policy not met", "whoever leads then"


def test_confirmed_writes_that_were_in_one_region_only_go_with_it() -> None:
    assert if_region_goes(status("local"), "eu").kept is False
    assert if_region_goes(status("local"), "us").kept is True
    assert if_region_goes(status("majority"), "eu").kept is True

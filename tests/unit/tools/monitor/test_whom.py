from __future__ import annotations

from msgspec.structs import replace

from redwire.status import NodeStatus, Primary, Settings, Status, Vantage
from tools.monitor.whom import Whom, sees


def test_others_are_the_seeds_and_the_named_nodes_each_once_and_the_passed_ones_last() -> None:
    whom = Whom(("10.0.0.1:5050", "10.0.0.2:5050"), discovery=True)
    nodes = tuple(NodeStatus(id=name, addr=f"{name}:5050") for name in ("eu-1", "us-1", "ap-1"))
    whom.answered("10.0.0.1:5050", Status(vantage=Vantage(node="eu-1"), nodes=nodes))
    assert whom.others() == ["10.0.0.2:5050", "us-1:5050", "ap-1:5050"], "eu-1 is the one that is asked"
    whom.passed("10.0.0.2:5050")
    assert whom.others() == ["us-1:5050", "ap-1:5050", "10.0.0.2:5050"]
    whom.passed("us-1:5050")
    assert whom.others()[0] == "ap-1:5050"


def test_without_discovery_only_the_seeds_are_asked() -> None:
    whom = Whom(("a:1", "b:1"), discovery=False)
    whom.answered("a:1", Status(vantage=Vantage(node="x"), nodes=(NodeStatus(id="y", addr="y:1"),)))
    assert whom.others() == ["b:1"]


def test_a_node_sees_who_leads_while_its_word_of_him_is_fresh() -> None:
    leading = Status(primary=Primary(node="eu-1", state="leading"))
    assert sees(leading)
    assert not sees(replace(leading, vantage=Vantage(age_ms=5_001)))
    patient = replace(leading, settings=Settings(replica_timeout_ms=30_000))
    assert sees(replace(patient, vantage=Vantage(age_ms=30_000)))
    assert not sees(replace(patient, vantage=Vantage(age_ms=30_001)))
    assert not sees(Status())

"""What all members agree on: what a `cluster:` section means, and what is said of one that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from cluster.cluster_config import ClusterConfig, parse_cluster_config
from cluster.comparison import Comparison, compare
from redwire.errors import ConfigInvalid
from redwire.position import ClusterId, Incarnation, NodeId
from tests.edits import edited

FILE = "/etc/redwire/node.yaml"
CLUSTER = ClusterId("ab" * 16)
SECRET = b"s" * 32
INCARNATION = Incarnation("cd" * 16)

SHOP: dict[str, Any] = {
    "name": "shop",
    "members": [
        {"id": "eu-1", "region": "eu", "addr": "eu-1.example.net:5050"},
        {"id": "us-1", "region": "us", "addr": "us-1.example.net:5050", "kind": "voter"},
        {"id": "ap-1", "region": "ap", "addr": "[2001:db8::1]:5050", "kind": "reader"},
    ],
    "admins": ["ops"],
}


def parse(path: str = "", value: object = None) -> ClusterConfig:
    return parse_cluster_config(edited(SHOP, path, value) if path else SHOP, FILE)


def test_without_a_policy_several_voters_commit_by_majority_and_one_by_itself() -> None:
    assert str(parse().default_policy) == "majority"
    assert str(parse("members", SHOP["members"][:1]).default_policy) == "local"


def test_the_floor_is_the_commit_rule_and_unless_set_the_policy_is() -> None:
    regional = edited(SHOP, "policy", "regions(us,eu)")
    for floor, rule in ((..., "regions(eu,us)"), (None, "regions(eu,us)"), ("local", "local")):
        data = regional if floor is ... else {**regional, "floor": floor}
        assert str(parse_cluster_config(data, FILE).commit_rule) == rule


@pytest.mark.parametrize(
    ("path", "value", "where", "message"),
    [
        ("members[2].regoin", "eu", "cluster.members[2].regoin", "unknown key"),
        ("members[2].region", ..., "cluster.members[2].region", "is missing"),
        ("members[1].kind", "votre", "cluster.members[1].kind", "did you mean voter?"),
        ("members[1].kind", 3, "cluster.members[1].kind", "expected voter or reader, not 3"),
        ("members[1].id", "US_1", "cluster.members[1].id", "expected a DNS label"),
        ("members[1].id", False, "cluster.members[1].id", "not false; quote it"),
        ("members[1].id", "eu-1", "cluster.members[1].id", "cluster.members[0].id already"),
        ("members[1].addr", "eu-1.example.net:5050", "cluster.members[1].addr", "already"),
        ("members[1].addr", 5050, "cluster.members[1].addr", "expected text, not 5050"),
        ("members", [], "cluster.members", "names 0, 1 to 64"),
        ("members", {"eu-1": {}}, "cluster.members", "expected a list, not a mapping"),
        ("members[0]", "eu-1", "cluster.members[0]", "a mapping with id, region, addr, kind"),
        ("name", "Shop", "cluster.name", "expected a DNS label"),
        ("name", "shop\n", "cluster.name", "expected a DNS label"),
        ("admins", "ops", "cluster.admins", "expected a list, not 'ops'"),
        ("admins[0]", "o p s", "cluster.admins[0]", "expected a user name"),
        ("admins", ["ops", "ops"], "cluster.admins[1]", "already"),
        ("admins", [f"a{n}" for n in range(65)], "cluster.admins", "names 65"),
        ("policy", "majorty", "cluster.policy", "did you mean majority?"),
        ("policy", 2, "cluster.policy", "expected text"),
        ("policy", "regions(eu,sa)", "cluster.policy", "no voter in sa"),
        ("policy", "regions(ap)", "cluster.policy", "no voter in ap"),
        ("policy", "ack_n=2", "cluster.policy", "1 voters stand beside the primary"),
        ("policy", "remote_wal", "cluster.policy", "no archive"),
        ("policy", "quorum", "cluster.policy", "write majority"),
        ("floor", "ack_n=2", "cluster.floor", "can never be met"),
        ("policy_timeout_ms", "10s", "cluster.policy_timeout_ms", "1 to 3600000, not '10s'"),
        ("policy_timeout_ms", -1, "cluster.policy_timeout_ms", "not -1"),
        ("policy_timeout_ms", True, "cluster.policy_timeout_ms", "not true"),
        ("policy_timeout_ms", 1.5, "cluster.policy_timeout_ms", "not 1.5"),
        ("replica_timeout_ms", 10, "cluster.replica_timeout_ms", "1000 to 600000, not 10"),
        ("replica_timeout_ms", None, "cluster.replica_timeout_ms", "not nothing"),
    ],
)  # fmt: skip
def test_an_error_names_file_place_and_what_would_be_right(
    path: str, value: object, where: str, message: str
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse(path, value)
    assert caught.value.path == where
    assert str(caught.value).startswith(f"{FILE}: {where}: ")
    assert message in str(caught.value)


def test_a_policy_that_can_be_met_without_the_floor_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="cluster.policy: local can be met without the floor majority"):
        parse_cluster_config({**SHOP, "floor": "majority", "policy": "local"}, FILE)


def test_a_cluster_of_readers_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="no member is a voter"):
        parse("members", [{"id": "eu-1", "region": "eu", "addr": "h:1", "kind": "reader"}])


def test_a_file_must_name_the_region_of_every_member() -> None:
    with pytest.raises(ConfigInvalid, match=r"cluster\.members\[1\]\.region: is empty"):
        parse("members[1].region", "")


def test_members_are_found_by_id() -> None:
    cluster = parse()
    found = cluster.member(NodeId("us-1"))
    assert found is not None and found.region == "us"
    assert cluster.member(NodeId("us-9")) is None


def test_a_cluster_reads_back_from_its_record() -> None:
    for path, value in (("", None), ("floor", "local"), ("policy", "regions(us,eu)")):
        cluster = parse(path, value)
        record = cluster.to_record(CLUSTER, SECRET, {NodeId("us-1"): INCARNATION})
        assert [member.incarnation for member in record.members] == [None, INCARNATION, None]
        logged = ClusterConfig.from_record(record)
        assert compare(cluster, [logged]) == Comparison((), ())
        assert logged.membership == cluster.membership
        assert logged.commit_rule == cluster.commit_rule


def test_a_record_that_cannot_be_a_cluster_is_refused() -> None:
    record = parse("floor", "local").to_record(CLUSTER, SECRET, {})
    with pytest.raises(ConfigInvalid, match="the cluster's record: policy: "):
        ClusterConfig.from_record(replace(record, policy="ack_n=7"))

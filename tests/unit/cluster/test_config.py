"""Configuration: what a file means, and what is said about one that cannot be used."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from cluster.address import Address
from cluster.cluster_config import ClusterConfig
from cluster.comparison import Comparison, compare
from cluster.config import (
    AnonymousAccess,
    AuditConfig,
    NodeConfig,
    Off,
    ReplicationRole,
    TlsConfig,
    parse_node_config,
)
from cluster.metrics_config import MetricsTls
from redwire.errors import ConfigInvalid
from redwire.node_role import NodeRole
from redwire.position import ClusterId, Incarnation, NodeId
from regions.commit_policy import CommitPolicy

FILE = "/etc/redwire/node.yaml"
CLUSTER = ClusterId("ab" * 16)
SECRET = b"s" * 32
INCARNATION = Incarnation("cd" * 16)

PLAIN: dict[str, Any] = {
    "node": {"id": "eu-1", "region": "eu", "role": "primary", "listen": "0.0.0.0:5050", "data_dir": "data"},
    "tls": {"ca": "ca.pem", "cert": "/certs/eu-1.pem", "key": "eu-1.key"},
    "cluster": {
        "name": "shop",
        "members": [
            {"id": "eu-1", "region": "eu", "addr": "eu-1.example.net:5050"},
            {"id": "us-1", "region": "us", "addr": "us-1.example.net:5050", "kind": "voter"},
            {"id": "ap-1", "region": "ap", "addr": "[2001:db8::1]:5050", "kind": "reader"},
        ],
        "admins": ["ops"],
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    """The valid file with `value` at `path`; an Ellipsis takes the key away."""
    data = copy.deepcopy(PLAIN)
    *parents, last = path.replace("]", "").replace("[", ".").split(".")
    place: Any = data
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return data


def parse(path: str = "", value: object = None) -> NodeConfig:
    return parse_node_config(changed(path, value) if path else PLAIN, FILE)


def alone(listen: str, tls: object = "off") -> dict[str, Any]:
    data = changed("cluster.members", [{"id": "eu-1", "region": "eu", "addr": "127.0.0.1:5050"}])
    data["node"]["listen"] = listen
    data["tls"] = tls
    return data


def test_a_file_says_only_what_differs_from_the_defaults() -> None:
    config = parse()
    assert config.node.role is ReplicationRole.PRIMARY
    assert config.auth.anonymous is AnonymousAccess.OFF
    assert config.cluster.policy_timeout_ms == 10_000
    assert config.cluster.replica_timeout_ms == 5_000
    assert config.retention.age_max_s == 86_400
    assert config.replication.role is ReplicationRole.PRIMARY
    assert config.replication.replica_timeout_ms == 5_000


def test_relative_paths_are_relative_to_the_file() -> None:
    config = parse()
    assert config.tls == TlsConfig(
        ca="/etc/redwire/ca.pem", cert="/certs/eu-1.pem", key="/etc/redwire/eu-1.key"
    )
    assert config.node.data_dir == "/etc/redwire/data"
    assert parse_node_config(PLAIN, "node.yaml").node.data_dir == "data"


def test_a_peer_may_be_dialled_elsewhere_than_at_its_member_address() -> None:
    assert [member.addr for member in parse().cluster.members[1:]] == [
        Address("us-1.example.net", 5050),
        Address("2001:db8::1", 5050),
    ]
    assert parse("node.dial", {"us-1": "127.0.0.1:7001"}).node.dial == {"us-1": Address("127.0.0.1", 7001)}


def test_the_advertised_address_may_be_another_than_the_members() -> None:
    assert parse().node.advertise is None
    assert str(parse("node.advertise", "db.example.net:443").node.advertise) == "db.example.net:443"


def test_without_a_policy_several_voters_commit_by_majority_and_one_by_itself() -> None:
    assert str(parse().cluster.default_policy) == "majority"
    assert str(parse_node_config(alone("127.0.0.1:5050"), FILE).cluster.default_policy) == "local"


def test_the_floor_is_the_commit_rule_and_unless_set_the_policy_is() -> None:
    assert str(parse("cluster.policy", "regions(us,eu)").cluster.commit_rule) == "regions(eu,us)"
    data = changed("cluster.policy", "regions(us,eu)")
    data["cluster"]["floor"] = "local"
    assert str(parse_node_config(data, FILE).cluster.commit_rule) == "local"
    data["cluster"]["floor"] = None
    assert str(parse_node_config(data, FILE).cluster.commit_rule) == "regions(eu,us)"


@pytest.mark.parametrize("off", [False, "off"])
def test_yaml_reads_off_as_false_and_both_mean_off(off: object) -> None:
    assert parse("auth", {"anonymous": off}).auth.anonymous is AnonymousAccess.OFF
    assert parse_node_config(alone("[::1]:5050", off), FILE).tls is None


@pytest.mark.parametrize(
    ("path", "value", "where", "message"),
    [
        ("cluster.members[2].regoin", "eu", "cluster.members[2].regoin", "unknown key"),
        ("cluster.members[2].region", ..., "cluster.members[2].region", "is missing"),
        ("cluster.members[1].kind", "votre", "cluster.members[1].kind", "did you mean voter?"),
        ("cluster.members[1].kind", 3, "cluster.members[1].kind", "expected voter or reader, not 3"),
        ("cluster.members[1].id", "US_1", "cluster.members[1].id", "expected a DNS label"),
        ("cluster.members[1].id", False, "cluster.members[1].id", "not false; quote it"),
        ("cluster.members[1].id", "eu-1", "cluster.members[1].id", "cluster.members[0].id already"),
        ("cluster.members[1].addr", "eu-1.example.net:5050", "cluster.members[1].addr", "already"),
        ("cluster.members[1].addr", 5050, "cluster.members[1].addr", "expected text, not 5050"),
        ("cluster.members", [], "cluster.members", "names 0, 1 to 64"),
        ("cluster.members", {"eu-1": {}}, "cluster.members", "expected a list, not a mapping"),
        ("cluster.members[0]", "eu-1", "cluster.members[0]", "a mapping with id, region, addr, kind"),
        ("cluster.name", "Shop", "cluster.name", "expected a DNS label"),
        ("cluster.name", "shop\n", "cluster.name", "expected a DNS label"),
        ("cluster.admins", "ops", "cluster.admins", "expected a list, not 'ops'"),
        ("cluster.admins[0]", "o p s", "cluster.admins[0]", "expected a user name"),
        ("cluster.admins", ["ops", "ops"], "cluster.admins[1]", "already"),
        ("cluster.admins", [f"a{n}" for n in range(65)], "cluster.admins", "names 65"),
        ("cluster.policy", "majorty", "cluster.policy", "did you mean 'majority'?"),
        ("cluster.policy", 2, "cluster.policy", "expected text"),
        ("cluster.policy", "regions(eu,sa)", "cluster.policy", "no voter in sa"),
        ("cluster.policy", "regions(ap)", "cluster.policy", "no voter in ap"),
        ("cluster.policy", "ack_n=2", "cluster.policy", "1 voters stand beside the primary"),
        ("cluster.policy", "remote_wal", "cluster.policy", "no archive"),
        ("cluster.policy", "quorum", "cluster.policy", "write majority"),
        ("cluster.floor", "ack_n=2", "cluster.floor", "can never be met"),
        ("cluster.policy_timeout_ms", "10s", "cluster.policy_timeout_ms", "1 to 3600000, not '10s'"),
        ("cluster.policy_timeout_ms", -1, "cluster.policy_timeout_ms", "not -1"),
        ("cluster.policy_timeout_ms", True, "cluster.policy_timeout_ms", "not true"),
        ("cluster.policy_timeout_ms", 1.5, "cluster.policy_timeout_ms", "not 1.5"),
        ("cluster.replica_timeout_ms", 10, "cluster.replica_timeout_ms", "1000 to 600000, not 10"),
        ("cluster.replica_timeout_ms", None, "cluster.replica_timeout_ms", "not nothing"),
        ("cluster", "shop", "cluster", "expected a mapping with name, members"),
        ("auht", {}, "auht", "did you mean auth?"),
        ("clutser", {}, "clutser", "valid keys: node"),
        ("zebra", {}, "zebra", "valid keys: node, tls, cluster, auth, retention"),
        ("tls", ..., "tls", "is missing"),
        ("tls", None, "tls", "is empty: expected a mapping or off"),
        ("tls", True, "tls", "expected off, not true"),
        ("tls", "off", "tls", "loopback only, and this node listens on 0.0.0.0:5050"),
        ("tls.ca", "", "tls.ca", "expected a path"),
        ("tls.kay", "x", "tls.kay", "unknown key"),
        ("node.id", "eu-2", "node.id", "did you mean eu-1?"),
        ("node.id", "frankfurt", "node.id", "members are eu-1, us-1, ap-1"),
        ("node.region", "us", "node.region", "eu-1 is in eu"),
        ("node.role", "leader", "node.role", "expected primary or replica, not 'leader'"),
        ("node.dial", {"us-2": "h:1"}, "node.dial.us-2", "did you mean"),
        ("node.dial", {"elsewhere": "h:1"}, "node.dial.elsewhere", "is no member"),
        ("node.dial", {"eu-1": "h:1"}, "node.dial.eu-1", "does not dial itself"),
        ("node.dial", {"us-1": "h"}, "node.dial.us-1", "expected host:port"),
        ("node.dial", {1: "h:1"}, "node.dial.1", "expected a DNS label"),
        ("node.dial", ["us-1"], "node.dial", "expected a mapping, not a list"),
        ("auth", {"anonymous": "raed"}, "auth.anonymous", "did you mean read?"),
        ("retention", {"bytes_max": -1}, "retention.bytes_max", "expected a whole number of bytes, not -1"),
        ("retention", {"age_max_s": "1d"}, "retention.age_max_s", "whole seconds"),
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


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_a_file_that_holds_no_mapping_is_refused(data: object) -> None:
    with pytest.raises(ConfigInvalid, match="expected a mapping with node, tls, cluster"):
        parse_node_config(data, FILE)


def test_a_policy_that_can_be_met_without_the_floor_is_refused() -> None:
    data = changed("cluster.floor", "majority")
    data["cluster"]["policy"] = "local"
    with pytest.raises(ConfigInvalid, match="cluster.policy: local can be met without the floor majority"):
        parse_node_config(data, FILE)


def test_a_cluster_of_readers_is_refused() -> None:
    data = changed("cluster.members", [{"id": "eu-1", "region": "eu", "addr": "h:1", "kind": "reader"}])
    with pytest.raises(ConfigInvalid, match="no member is a voter"):
        parse_node_config(data, FILE)


def test_what_a_node_can_be_told_to_do_is_among_what_nodes_do() -> None:
    assert {role.value for role in ReplicationRole} < {role.value for role in NodeRole}


def test_a_reader_cannot_be_told_to_lead() -> None:
    data = changed("node", {**PLAIN["node"], "id": "ap-1", "region": "ap"})
    with pytest.raises(ConfigInvalid, match="node.role: ap-1 is a reader"):
        parse_node_config(data, FILE)


def test_without_tls_a_node_has_no_peers() -> None:
    data = changed("node.listen", "127.0.0.1:5050")
    with pytest.raises(ConfigInvalid, match="several members"):
        parse_node_config({**data, "tls": False}, FILE)


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("localhost:1", Address("localhost", 1), True),
        ("127.0.0.1:5050", Address("127.0.0.1", 5050), True),
        ("[::1]:65535", Address("::1", 65_535), True),
        ("0.0.0.0:5050", Address("0.0.0.0", 5050), False),
        ("[::]:5050", Address("::", 5050), False),
        ("127.example.net:1", Address("127.example.net", 1), False),
    ],
)
def test_an_address_reads_as_it_prints(text: str, address: Address, loopback: bool) -> None:
    assert Address.parse(text) == address
    assert str(address) == text
    assert address.is_loopback is loopback


@pytest.mark.parametrize(
    "text", ["", "h", "h:", ":1", "h:0", "h:65536", "h:1x", "h:-1", "h:²", "::1:5", "[h]:1", "a b:1", "[]:1",
             "h:99999999999999999999", "user@h:1", "a/b:1", "a\0b:1", "a\nb:1", "a\u2028b:1"]
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Address.parse(text)


def test_a_cluster_reads_back_from_its_record() -> None:
    for path, value in (("", None), ("cluster.floor", "local"), ("cluster.policy", "regions(us,eu)")):
        cluster = parse(path, value).cluster
        record = cluster.to_record(CLUSTER, SECRET, {NodeId("us-1"): INCARNATION})
        assert [member.incarnation for member in record.members] == [None, INCARNATION, None]
        logged = ClusterConfig.from_record(record)
        assert compare(cluster, [logged]) == Comparison((), ())
        assert logged.membership == cluster.membership
        assert logged.commit_rule == cluster.commit_rule


def test_a_record_that_cannot_be_a_cluster_is_refused() -> None:
    record = parse("cluster.floor", "local").cluster.to_record(CLUSTER, SECRET, {})
    with pytest.raises(ConfigInvalid, match="the cluster's record: policy: "):
        ClusterConfig.from_record(type(record)(**{**_fields(record), "policy": "ack_n=7"}))


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_a_file_must_name_the_region_of_every_member() -> None:
    with pytest.raises(ConfigInvalid, match=r"cluster\.members\[1\]\.region: is empty"):
        parse("cluster.members[1].region", "")


def test_members_are_found_by_id() -> None:
    cluster = parse().cluster
    found = cluster.member(NodeId("us-1"))
    assert found is not None and found.region == "us"
    assert cluster.member(NodeId("us-9")) is None
    assert CommitPolicy.parse("majority") == cluster.default_policy


def test_the_audit_log_stands_in_the_data_directory_unless_it_is_told_where_or_off() -> None:
    assert parse().audit == AuditConfig(file="/etc/redwire/data/audit.log", bytes_max=16 << 20, files=5)
    assert parse("audit.bytes_max", 4096).audit.file == "/etc/redwire/data/audit.log"
    assert parse("audit.file", "log/a").audit.file == "/etc/redwire/log/a"
    assert parse("audit.file", "/var/log/a").audit.file == "/var/log/a"
    for off in ("off", False):  # YAML reads a bare off as false
        assert parse("audit.file", off).audit.file is Off.OFF


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("audit.file", True, "audit.file: expected a path, not true"),
        ("audit.file", "", "audit.file: expected a path, not ''"),
        ("audit.bytes_max", 4095, "audit.bytes_max: expected a whole number of bytes, at least 4096"),
        ("audit.files", 1, "audit.files: expected a whole number, 2 to 1000"),
        ("audit.flie", "x", "audit.flie: unknown key; did you mean file?"),
    ],
)
def test_an_audit_section_that_cannot_be_used_is_told_where(path: str, value: object, said: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        parse(path, value)
    assert said in str(refused.value)


def test_a_bare_on_and_off_are_words_of_the_metrics_port() -> None:
    listen = {"listen": "127.0.0.1:9464"}
    assert parse("metrics", {**listen, "tls": True}).metrics.tls is MetricsTls.ON
    assert parse("metrics", {**listen, "tls": False}).metrics.tls is MetricsTls.OFF
    assert parse().metrics.listen is None
    with pytest.raises(ConfigInvalid, match=r"metrics\.tls: off is for loopback only"):
        parse("metrics", {"listen": "0.0.0.0:9464"})

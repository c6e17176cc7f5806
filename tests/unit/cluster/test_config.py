"""A node's configuration: what a file means, and what is said about one that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.address import Address
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
from tests.edits import edited

FILE = "/etc/redwire/node.yaml"

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
    """The valid file with `value` at `path`."""
    return edited(PLAIN, path, value)


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


@pytest.mark.parametrize("off", [False, "off"])
def test_yaml_reads_off_as_false_and_both_mean_off(off: object) -> None:
    assert parse("auth", {"anonymous": off}).auth.anonymous is AnonymousAccess.OFF
    assert parse_node_config(alone("[::1]:5050", off), FILE).tls is None


@pytest.mark.parametrize(
    ("path", "value", "where", "message"),
    [
        ("cluster.members[1].id", "eu-1", "cluster.members[1].id", "cluster.members[0].id already"),
        ("cluster", "shop", "cluster", "expected a mapping with name, members"),
        ("auht", {}, "auht", "did you mean auth?"),
        ("clutser", {}, "clutser", "valid keys: node"),
        ("zebra", {}, "zebra", "valid keys: node, tls, cluster, auth, retention"),
        ("tls", ..., "tls", "is missing"),
        ("tls", None, "tls", "is empty: expected a mapping or off"),
        ("tls", True, "tls", "expected off, not true"),
        ("tls", "off", "tls", "loopback only, and this node listens on 0.0.0.0:5050"),
        ("tls.ca", "", "tls.ca", "expected a path"),
        ("node.data_dir", "a\0b", "node.data_dir", "expected a path, not 'a\\x00b'"),
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


def test_what_a_node_can_be_told_to_do_is_among_what_nodes_do() -> None:
    assert {role.value for role in ReplicationRole} < {role.value for role in NodeRole}


def test_a_reader_cannot_be_told_to_lead() -> None:
    data = changed("node", {**PLAIN["node"], "id": "ap-1", "region": "ap"})
    with pytest.raises(ConfigInvalid, match="node.role: ap-1 is a reader") as caught:
        parse_node_config(data, FILE)
    assert "if it was promoted since (redwire members list), write kind: voter there" in str(caught.value)


def test_without_tls_a_node_has_no_peers() -> None:
    data = changed("node.listen", "127.0.0.1:5050")
    with pytest.raises(ConfigInvalid, match="several members"):
        parse_node_config({**data, "tls": False}, FILE)


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

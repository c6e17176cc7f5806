"""A node's own file beside the log: what is outdated, what the log never said, and who may start with it."""

from __future__ import annotations

import pytest

from cluster.cluster_config import ClusterConfig
from cluster.comparison import OUTDATED, UNHEARD, Comparison, check_file, compare
from cluster.config import NodeConfig, parse_node_config
from redwire.errors import ConfigInvalid

EU = {"id": "eu-1", "region": "eu", "addr": "eu-1.example.net:5050"}
US = {"id": "us-1", "region": "us", "addr": "us-1.example.net:5050", "kind": "voter"}
AP = {"id": "ap-1", "region": "ap", "addr": "[2001:db8::1]:5050", "kind": "reader"}


def config(role: str, **changed: object) -> NodeConfig:
    """What a node's file says, with these keys of its cluster section changed."""
    section = {"name": "shop", "members": [EU, US, AP], "admins": ["ops"]}
    node = {"id": "eu-1", "region": "eu", "role": role, "listen": "127.0.0.1:5050", "data_dir": "d"}
    tls = {"ca": "a", "cert": "b", "key": "c"}
    return parse_node_config({"node": node, "tls": tls, "cluster": section | changed}, "node.yaml")


def cluster(**changed: object) -> ClusterConfig:
    return config("primary", **changed).cluster


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "store"}, ["cluster.name is store here, is shop in the log"]),
        ({"policy": "majority"}, []),
        ({"policy": "regions(eu,us)"}, [
            "cluster.policy is regions(eu,us) here, is majority in the log",
            "cluster.floor is regions(eu,us) here, is majority in the log",
        ]),
        ({"floor": "local"}, ["cluster.floor is local here, is majority in the log"]),
        ({"replica_timeout_ms": 9_000}, [
            "cluster.replica_timeout_ms is 9000 here, is 5000 in the log",
        ]),
        ({"admins": ["dev"]}, [
            "cluster.admins: dev stands here, is missing in the log",
            "cluster.admins: ops is missing here, stands in the log",
        ]),
        ({"members": [EU, US | {"region": "sa"}, AP]}, [
            "cluster.members: us-1 is a voter in sa at us-1.example.net:5050 here, "
            "is a voter in us at us-1.example.net:5050 in the log",
        ]),
        ({"members": [EU, US, AP | {"kind": "voter"}]}, [
            "cluster.members: ap-1 is a voter in ap at [2001:db8::1]:5050 here, "
            "is a reader in ap at [2001:db8::1]:5050 in the log",
        ]),
    ],
)  # fmt: skip
def test_what_the_log_never_said_is_told_in_words(changed: dict[str, object], words: list[str]) -> None:
    found = compare(cluster(**changed), [cluster()])
    assert [*map(str, found.unheard)] == words


def test_what_the_log_said_once_is_outdated_not_wrong() -> None:
    first, second = cluster(), cluster(policy="regions(eu,us)")
    found = compare(first, [first, second])
    assert found.unheard == ()
    assert (*map(str, found.outdated),) == (
        "cluster.floor is majority here, is regions(eu,us) in the log",
        "cluster.policy is majority here, is regions(eu,us) in the log",
    )
    assert compare(second, [first, second]) == Comparison((), ())


def test_a_member_that_joined_later_is_outdated_and_one_that_never_did_is_unheard() -> None:
    small = cluster(members=[EU, US])
    assert compare(small, [small, cluster()]).unheard == ()
    assert (*map(str, compare(small, [small, cluster()]).outdated),) == (
        "cluster.members: ap-1 is missing here, is a reader in ap at [2001:db8::1]:5050 in the log",
    )
    assert len(compare(cluster(), [small]).unheard) == 1


def test_what_only_the_log_says_is_told_in_its_order() -> None:
    logged = cluster(admins=["zoe", "ann", "mia", "bob"])
    found = compare(cluster(admins=[]), [logged]).unheard
    assert [each.name.split()[1] for each in found] == ["zoe", "ann", "mia", "bob"]


def test_before_there_is_a_record_nothing_differs() -> None:
    assert compare(cluster(), []) == Comparison((), ())


def test_what_the_log_never_said_is_refused_on_the_primary_and_warned_of_on_a_replica() -> None:
    logged = [cluster(policy="regions(eu,us)")]
    assert check_file(config("primary", policy="regions(eu,us)"), logged) == ()
    with pytest.raises(
        ConfigInvalid, match=r"cluster\.policy is majority here, is regions\(eu,us\) in the log"
    ):
        check_file(config("primary", policy="majority"), logged)
    warned = check_file(config("replica", policy="majority"), logged)
    assert any(str(each).startswith(f"{UNHEARD}: cluster.policy ") for each in warned)
    with pytest.raises(ConfigInvalid, match=r"cluster\.name is store here"):
        check_file(config("replica", name="store"), logged)


def test_what_the_log_has_left_behind_is_warned_of_on_every_node() -> None:
    logged = [cluster(), cluster(policy="ack_n=1")]
    for role in ("primary", "replica"):
        warned = check_file(config(role), logged)
        assert warned and all(each.what.startswith(OUTDATED) for each in warned)

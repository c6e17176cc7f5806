"""Bodies of the log's own records."""

from __future__ import annotations

import cbor2
import msgspec
import pytest

from redwire.errors import BodyInvalid
from redwire.message.log import Admit, ClusterRecord, MemberRecord, TermStart

EU = MemberRecord(id="eu-1", region="eu", addr="eu-1.example.net:5050", kind="voter", incarnation="0b" * 16)
US = MemberRecord(id="us-1", region="us", addr="us-1.example.net:5050", kind="reader")
CLUSTER = ClusterRecord(
    cluster="0a" * 16,
    name="shop",
    members=(EU, US),
    admins=("ops",),
    policy="majority",
    floor=None,
    policy_timeout_ms=10_000,
    replica_timeout_ms=5_000,
    secret=bytes(32),
)


def test_record_bodies_come_back_as_they_were() -> None:
    assert ClusterRecord.decode(CLUSTER.encode()) == CLUSTER
    assert TermStart.decode(TermStart("0.1.0").encode()) == TermStart("0.1.0")
    assert TermStart.decode(TermStart("0.1.0", ("us-1",)).encode()) == TermStart("0.1.0", ("us-1",))
    assert Admit.decode(Admit("us-1", "0c" * 16).encode()) == Admit("us-1", "0c" * 16)


def test_the_bytes_of_a_record_do_not_change() -> None:
    assert TermStart("0.1.0").encode() == bytes.fromhex("a1 6776657273696f6e 65302e312e30")
    admit = bytes.fromhex("a2 646e6f6465 6475732d31 6b696e6361726e6174696f6e 7820") + b"0c" * 16
    assert Admit("us-1", "0c" * 16).encode() == admit


def test_the_commit_rule_is_the_floor_or_else_the_policy() -> None:
    assert CLUSTER.commit_rule == "majority"
    assert msgspec.structs.replace(CLUSTER, floor="local").commit_rule == "local"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"members": []}, r"\$.members"),
        ({"policy": ""}, r"\$.policy"),
        ({"floor": ""}, r"\$.floor"),
        ({"secret": bytes(31)}, r"\$.secret"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_a_cluster_out_of_bounds_is_refused_by_its_path(change: dict[str, object], what: str) -> None:
    fields = msgspec.to_builtins(CLUSTER, builtin_types=(bytes,)) | change
    with pytest.raises(BodyInvalid, match=what):
        ClusterRecord.decode(cbor2.dumps(fields))


def test_a_member_of_an_unknown_kind_is_refused() -> None:
    data = CLUSTER.encode().replace(b"freader", b"gwitness")
    with pytest.raises(BodyInvalid, match=r"\$.members\[1\].kind"):
        ClusterRecord.decode(data)


def test_two_members_with_one_id_are_refused() -> None:
    fields = msgspec.to_builtins(CLUSTER, builtin_types=(bytes,))
    fields["members"][1]["id"] = "eu-1"
    with pytest.raises(BodyInvalid, match="two members"):
        ClusterRecord.decode(cbor2.dumps(fields))

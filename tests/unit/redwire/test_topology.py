"""The v1 topology blob, byte for byte."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire import topology
from redwire.body import TERM_MAX
from redwire.errors import TopologyInvalid
from redwire.position import Term
from redwire.topology import Endpoint, ReplicaEntry, Topology, epoch_of

GOLDEN = Topology(
    0xDEADBEEFCAFEBABE,
    Endpoint("primary.example.com:5050", "us-east-1"),
    (
        ReplicaEntry("replica-a.example.com:5050", "us-east-1", True, 12, 4242),
        ReplicaEntry("replica-b.example.com:5050", "us-west-2", False, 999, 4100, rebootstrapping=True),
    ),
)
GOLDEN_BYTES = bytes.fromhex(
    "01a7000000bebafecaefbeadde180000007072696d6172792e6578616d706c652e636f6d3a353035"
    "300900000075732d656173742d31"
    "020000001a0000007265706c6963612d612e6578616d706c652e636f6d3a35303530090000007573"
    "2d656173742d31010c0000009210"
    "0000000000001a0000007265706c6963612d622e6578616d706c652e636f6d3a3530353009000000"
    "75732d776573742d3200e7030000"
    "04100000000000000001"
)
EMPTY = Topology(0, Endpoint("", "local"))
UNKNOWN_LAG = Topology(1, Endpoint("a:1", "x"), (ReplicaEntry("b:1", "x", True, None, 0),))

TABLE = [
    (GOLDEN, GOLDEN_BYTES),
    (EMPTY, bytes.fromhex("0119000000000000000000000000000000050000006c6f63616c00000000")),
    (
        UNKNOWN_LAG,
        bytes.fromhex(
            "0132000000 0100000000000000 03000000613a31 0100000078 01000000"
            "03000000623a31 0100000078 01 ffffffff 0000000000000000 00"
        ),
    ),
]


@pytest.mark.parametrize(("value", "blob"), TABLE, ids=["golden", "empty", "unknown lag"])
def test_a_topology_and_its_blob_are_the_same_both_ways(value: Topology, blob: bytes) -> None:
    assert value.encode() == blob
    assert topology.decode(blob) == topology.decode(memoryview(blob)) == value


def test_the_golden_blob_has_172_bytes_and_the_empty_one_its_known_base64() -> None:
    assert len(GOLDEN_BYTES) == 172
    assert base64.b64encode(EMPTY.encode()) == b"ARkAAAAAAAAAAAAAAAAAAAAFAAAAbG9jYWwAAAAA"


@pytest.mark.parametrize(("value", "blob"), TABLE, ids=["golden", "empty", "unknown lag"])
def test_a_blob_that_is_cut_anywhere_is_refused(value: Topology, blob: bytes) -> None:
    for end in range(len(blob)):
        with pytest.raises(TopologyInvalid):
            topology.decode(blob[:end])


def with_body(body: bytes, tag: int = 1) -> bytes:
    return bytes((tag,)) + len(body).to_bytes(4, "little") + body


def test_bytes_behind_the_body_are_ignored() -> None:
    assert topology.decode(GOLDEN_BYTES + b"later") == GOLDEN


def test_fields_behind_the_known_ones_are_ignored() -> None:
    assert topology.decode(with_body(GOLDEN_BYTES[5:] + b"later")) == GOLDEN


@pytest.mark.parametrize("flags", [b"", b"\0"])
def test_missing_or_partial_rebuild_flags_read_as_not_being_rebuilt(flags: bytes) -> None:
    decoded = topology.decode(with_body(GOLDEN_BYTES[5:-2] + flags))
    assert decoded is not None
    assert [replica.rebootstrapping for replica in decoded.replicas] == [False, False]
    assert decoded.replicas[1].addr == GOLDEN.replicas[1].addr


def test_bytes_behind_the_body_are_no_rebuild_flags() -> None:
    decoded = topology.decode(with_body(GOLDEN_BYTES[5:-2]) + b"\1\1")
    assert decoded is not None
    assert [replica.rebootstrapping for replica in decoded.replicas] == [False, False]


def test_an_unknown_tag_is_no_topology_and_no_error() -> None:
    assert topology.decode(with_body(b"whatever", tag=2)) is None
    assert topology.decode(b"\xff\xff\xff\xff\xff") is None


def test_tag_zero_reads_as_version_one() -> None:
    assert topology.decode(with_body(GOLDEN_BYTES[5:], tag=0)) == GOLDEN


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (EMPTY.encode()[5:-4] + b"\xff\xff\xff\xff", "replica count is 4294967295 with 0 bytes left"),
        (EMPTY.encode()[5:-4] + b"\2\0\0\0" + bytes(41), "replica count is 2 with 41 bytes left"),
        (bytes(8) + b"\xff\xff\xff\xff" + bytes(8), "primary address takes 4294967295 bytes"),
        (bytes(8) + b"\1\0\0\0\xff" + bytes(8), "primary address is not UTF-8"),
        (EMPTY.encode()[5:-4] + b"\1\0\0\0" + b"\xff\0\0\0" + bytes(17), "replica address takes 255 bytes"),
    ],
)
def test_a_body_that_lies_is_refused_before_it_is_believed(body: bytes, what: str) -> None:
    with pytest.raises(TopologyInvalid, match=what):
        topology.decode(with_body(body))


def test_strangers_see_the_primary_and_the_real_epoch() -> None:
    assert GOLDEN.primary_only() == Topology(GOLDEN.epoch, GOLDEN.primary)


def test_a_lag_too_long_for_its_field_stays_known() -> None:
    late = Topology(1, Endpoint("a:1", "x"), (ReplicaEntry("b:1", "x", False, 1 << 40, 0),))
    decoded = topology.decode(late.encode())
    assert decoded is not None
    assert decoded.replicas[0].lag_ms == 0xFFFF_FFFE


def test_a_topology_prints_on_one_line() -> None:
    assert str(UNKNOWN_LAG) == "epoch 1: a:1 (x), 1/1 healthy"
    assert str(EMPTY) == "epoch 0: no primary (local), 0/0 healthy"


@given(st.integers(0, TERM_MAX), st.integers(0, (1 << 24) - 1), st.integers(0, (1 << 24) - 1))
def test_an_epoch_has_its_term_and_a_later_term_s_is_higher_whatever_the_counters(
    term: int, counter: int, other: int
) -> None:
    epoch = epoch_of(Term(term), counter)
    assert Topology(epoch, Endpoint("", "")).term == term
    assert epoch < epoch_of(Term(term + 1), other) < 1 << 53


NAMES = st.text(max_size=12)
REPLICAS = st.builds(
    ReplicaEntry,
    addr=NAMES,
    region=NAMES,
    healthy=st.booleans(),
    lag_ms=st.none() | st.integers(0, 0xFFFF_FFFE),
    last_applied_lsn=st.integers(0, (1 << 64) - 1),
    rebootstrapping=st.booleans(),
)


@given(
    st.integers(0, (1 << 64) - 1),
    st.builds(Endpoint, NAMES, NAMES),
    st.lists(REPLICAS, max_size=5),
    st.binary(max_size=8),
)
def test_any_topology_survives_the_wire(
    epoch: int, primary: Endpoint, replicas: list[ReplicaEntry], tail: bytes
) -> None:
    value = Topology(epoch, primary, tuple(replicas))
    assert topology.decode(value.encode() + tail) == value

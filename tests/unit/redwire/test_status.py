from __future__ import annotations

import msgspec
import pytest

from redwire.errors import BodyInvalid
from redwire.status import STATUS_BYTES_MAX, Lag, NodeStatus, RegionStatus, Status, decode

STATUS = Status(
    term=3,
    regions=(RegionStatus(name="eu", nodes=("eu-1",), voters=1, durable=41, holds_watermark=True),),
    nodes=(NodeStatus(id="eu-1", region="eu", role="primary", lag=Lag(state="caught_up")),),
)


def test_a_document_comes_back_as_it_was() -> None:
    assert decode(STATUS.encode()) == STATUS


def test_nodes_and_regions_are_found_by_name() -> None:
    assert STATUS.node("eu-1") == STATUS.nodes[0] and STATUS.node("us-1") is None
    assert STATUS.region("eu") == STATUS.regions[0] and STATUS.region("us") is None


def test_a_newer_document_is_read_as_far_as_it_is_known() -> None:
    plain = msgspec.json.decode(STATUS.encode()) | {"schema": 99, "moons": 4}
    plain["nodes"][0] |= {"health": "radiant", "mass": {"kg": 1}}
    read = decode(msgspec.json.encode(plain))
    assert read.schema == 99
    assert read.nodes[0].health == "radiant"
    assert read.nodes[0].lag == Lag(state="caught_up")


def test_what_is_missing_is_unknown_and_never_zero() -> None:
    read = decode(b'{"nodes": [{"id": "eu-1"}]}')
    node = read.nodes[0]
    assert (node.role, node.health, node.lag.state, node.slot.state) == ("unknown",) * 4
    assert node.durable is node.applied is node.rtt_us is read.term is read.quorum.met is None


@pytest.mark.parametrize("data", [b"", b"[]", b'{"nodes": 7}', b"\xff"])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(BodyInvalid):
        decode(data)


def test_a_document_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(BodyInvalid):
        decode(b'{"zzz":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


def test_a_document_over_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(BodyInvalid, match="at most"):
        decode(b'{"zzz":"' + b"x" * STATUS_BYTES_MAX + b'"}')


def test_texts_that_come_in_are_one_line_and_command_no_terminal() -> None:
    hostile = NodeStatus(id="eu-1", role="replica\n2026 error forged \x1b[2J\x9b1m", why="a\x00b\u2028c")
    (read,) = decode(Status(nodes=(hostile,)).encode()).nodes
    assert read.role == "replica 2026 error forged  [2J 1m"
    assert read.why == "a b c"

"""What nodes say to each other."""

from __future__ import annotations

import cbor2
import msgspec
import pytest

from redwire.body import TERM_MAX
from redwire.errors import BodyInvalid
from redwire.message.peer import (
    CHUNK_BYTES_MAX,
    REPORT_TERMS_MAX,
    Ack,
    Following,
    Heartbeat,
    Report,
    SnapshotChunk,
    SnapshotFetch,
    SnapshotManifest,
    report_terms,
)
from redwire.node_role import NodeRole
from redwire.position import EMPTY, Lsn, NodeId, Position, Reign, Term, TermEntry, TermList

CHAIN = bytes(range(16))
REPORT = Report(
    cluster="0a" * 16,
    name="shop",
    node="us-1",
    region="us",
    incarnation="0b" * 16,
    process="0c" * 16,
    role="replica",
    term=3,
    primary="eu-1",
    last_term=2,
    last_lsn=40,
    last_chain=CHAIN,
    watermark=38,
    applied=37,
    base=10,
    advertise="[2001:db8::1]:5050",
    terms=((1, 1, 5), (2, 30, (1 << 32) - 1)),
)
NEW = msgspec.structs.replace(
    REPORT,
    cluster="",
    term=0,
    primary="",
    last_term=0,
    last_lsn=0,
    last_chain=bytes(16),
    watermark=0,
    applied=0,
    base=0,
    advertise="",
    terms=(),
)


def test_a_role_is_its_word_on_the_wire_and_one_that_is_new_here_is_read_as_none_of_ours() -> None:
    said = msgspec.structs.replace(REPORT, role=NodeRole.REPLICA)
    assert said.encode() == REPORT.encode()
    assert Report.decode(said.encode()).role == NodeRole.REPLICA
    newer = Report.decode(msgspec.structs.replace(REPORT, role="witnessing").encode())
    assert newer.role == "witnessing"
    assert newer.role not in set(NodeRole)


@pytest.mark.parametrize("report", [REPORT, NEW], ids=["grown", "new"])
def test_a_report_comes_back_as_it_was(report: Report) -> None:
    assert Report.decode(report.encode()) == report


def test_a_report_speaks_in_positions() -> None:
    assert REPORT.end == Position(Term(2), Lsn(40), CHAIN)
    assert REPORT.reign == Reign(Term(3), NodeId("eu-1"))
    assert REPORT.term_list == TermList(
        (TermEntry(Term(1), Lsn(1), 5), TermEntry(Term(2), Lsn(30), (1 << 32) - 1))
    )


def test_a_new_node_reports_an_empty_log_and_no_reign() -> None:
    assert NEW.end == EMPTY
    assert NEW.reign is None
    assert NEW.term_list == TermList()


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("format", 1, r"\$.format"),
        ("cluster", "0a", r"\$.cluster"),
        ("incarnation", "", r"\$.incarnation"),
        ("last_chain", bytes(15), r"\$.last_chain"),
        ("last_lsn", 1 << 63, r"\$.last_lsn"),
        ("watermark", -1, r"\$.watermark"),
        ("node", "n" * 65, r"\$.node"),
        ("advertise", "db.example.net", r"\$.advertise"),
        ("advertise", ":5050", r"\$.advertise"),
        ("advertise", "me@db.example.net:5050", r"\$.advertise"),
        ("advertise", "db.example.net:5050\n", r"\$.advertise"),
    ],
)
def test_a_report_out_of_bounds_is_refused_by_its_path(field: str, value: object, what: str) -> None:
    with pytest.raises(BodyInvalid, match=what):
        Report.decode(msgspec.structs.replace(REPORT, **{field: value}).encode())


def test_a_report_without_an_advertised_address_leaves_it_to_the_members() -> None:
    fields = msgspec.to_builtins(REPORT, builtin_types=(bytes,))
    del fields["advertise"]
    assert Report.decode(cbor2.dumps(fields)).advertise == ""


@pytest.mark.parametrize("terms", [((1, 1), (1, 5)), ((2, 1), (1, 5)), ((1, 5), (2, 5)), ((1, 5), (2, 4))])
def test_terms_that_do_not_rise_are_refused(terms: tuple[tuple[int, int], ...]) -> None:
    fields = msgspec.to_builtins(REPORT, builtin_types=(bytes,)) | {"terms": [(*entry, 0) for entry in terms]}
    with pytest.raises(BodyInvalid, match="terms of a report rise"):
        Report.decode(cbor2.dumps(fields))


def test_a_report_carries_the_last_thousand_terms_of_a_long_history() -> None:
    terms = TermList(
        tuple(TermEntry(Term(n + (1 << 28)), Lsn(n + (1 << 40)), (1 << 32) - 1) for n in range(1, 1_502))
    )
    report = msgspec.structs.replace(REPORT, terms=report_terms(terms))
    assert len(report.terms) == REPORT_TERMS_MAX
    assert report.terms[-1] == terms.entries[-1]
    assert Report.decode(report.encode()) == report
    with pytest.raises(BodyInvalid, match=r"\$.terms"):
        Report.decode(msgspec.structs.replace(REPORT, terms=terms.entries[:1_001]).encode())


def test_following_names_the_common_point_and_the_reign() -> None:
    following = Following(
        term=3,
        primary="eu-1",
        leads=True,
        common_term=2,
        common_lsn=40,
        common_chain=CHAIN,
        head=50,
        watermark=45,
    )
    assert Following.decode(following.encode()) == following
    assert following.common == Position(Term(2), Lsn(40), CHAIN)
    assert following.reign == Reign(Term(3), NodeId("eu-1"))


FIXED: list[tuple[Ack | Heartbeat | SnapshotChunk, str]] = [
    (
        Ack(3, 40, 37, 41, "eu-1", 1_500),
        "0300000000000000 2800000000000000 2500000000000000 2900000000000000 dc050000 04 65752d31",
    ),
    (Ack(0, 0, 0, 0, ""), "00" * 37),
    (
        Heartbeat(3, 50, 45, 1_700_000_000_000, "eu-1"),
        "0300000000000000 3200000000000000 2d00000000000000 0068e5cf8b010000 04 65752d31",
    ),
]


@pytest.mark.parametrize(("value", "text"), FIXED)
def test_ack_and_heartbeat_and_their_bytes_are_the_same_both_ways(value: Ack | Heartbeat, text: str) -> None:
    data = bytes.fromhex(text)
    assert value.encode() == data
    assert type(value).decode(data) == type(value).decode(memoryview(data)) == value


@pytest.mark.parametrize(("value", "text"), FIXED)
def test_ack_and_heartbeat_that_are_cut_or_go_on_are_refused(value: Ack | Heartbeat, text: str) -> None:
    data = bytes.fromhex(text)
    for end in range(len(data)):
        with pytest.raises(BodyInvalid, match=type(value).__name__):
            type(value).decode(data[:end])
    with pytest.raises(BodyInvalid, match="a primary of"):
        type(value).decode(data + b"\0")


def test_a_primary_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(BodyInvalid, match="Ack: the primary is not UTF-8 at byte 38"):
        Ack.decode(bytes(36) + b"\x02a\xff")


def test_snapshot_requests_come_back_as_they_were() -> None:
    fetch = SnapshotFetch("", 0)
    assert SnapshotFetch.decode(fetch.encode()) == fetch
    manifest = SnapshotManifest(snapshot="3-40.db", lsn=40, term=3, chain=CHAIN, size=9, sha256=bytes(32))
    assert SnapshotManifest.decode(manifest.encode()) == manifest
    assert manifest.position == Position(Term(3), Lsn(40), CHAIN)


@pytest.mark.parametrize("name", ["../state.db", "a/b", ".", ".hidden", "a\n", "x" * 129])
def test_a_snapshot_name_cannot_lead_elsewhere(name: str) -> None:
    with pytest.raises(BodyInvalid, match=r"\$.snapshot"):
        SnapshotFetch.decode(SnapshotFetch(name, 0).encode())


@pytest.mark.parametrize("data", [b"", b"data", bytes(CHUNK_BYTES_MAX)], ids=["last", "some", "most"])
def test_a_chunk_comes_back_with_its_offset(data: bytes) -> None:
    chunk = SnapshotChunk.decode(SnapshotChunk(1 << 40, data).encode())
    assert (chunk.offset, bytes(chunk.data)) == (1 << 40, data)


def test_a_chunk_whose_data_changed_on_the_way_is_refused() -> None:
    data = bytearray(SnapshotChunk(7, b"data").encode())
    data[-1] ^= 1
    with pytest.raises(BodyInvalid, match="file offset 7 fails its hash"):
        SnapshotChunk.decode(bytes(data))


@pytest.mark.parametrize("size", [0, 39, 40 + CHUNK_BYTES_MAX + 1])
def test_a_chunk_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(BodyInvalid, match=f"SnapshotChunk: {size} bytes, not 40 to"):
        SnapshotChunk.decode(bytes(size))


def test_a_term_that_would_not_fit_an_epoch_is_refused_where_it_is_read() -> None:
    for name in ("term", "last_term"):
        assert Report.decode(msgspec.structs.replace(REPORT, **{name: TERM_MAX}).encode())
        with pytest.raises(BodyInvalid, match=name):
            Report.decode(msgspec.structs.replace(REPORT, **{name: TERM_MAX + 1}).encode())


@pytest.mark.parametrize("addr", ["h\x9b1m:5050", "a b:1", "\U0001f600:1", "h\n:1", "h"])
def test_what_is_no_address_is_not_advertised(addr: str) -> None:
    with pytest.raises(BodyInvalid, match="advertise"):
        Report.decode(msgspec.structs.replace(REPORT, advertise=addr).encode())

"""Writes, their answers, and the session bodies of our own client."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.errors import BodyInvalid, RequestInvalid
from redwire.message.client import (
    RESULT,
    AckBlock,
    CopyAck,
    Open,
    Opened,
    Outcome,
    RecordStatus,
    Resolve,
    TopologyNotice,
    WrittenEntry,
    decode_ack_block,
    decode_write,
    decode_written,
    encode_ack_block,
    encode_entry,
    encode_write_frame_body,
    join_written,
)

WRITES = [
    ((1_000, 1, "", b"REQ"), "e8030000 0100 00 524551"),
    ((0, 2, "majority", b""), "00000000 0200 08 6d616a6f72697479"),
    ((4_294_967_295, 65_535, "é", b"\x00"), "ffffffff ffff 02 c3a9 00"),
]


@pytest.mark.parametrize(("fields", "text"), WRITES)
def test_a_write_and_its_bytes_are_the_same_both_ways(fields: tuple[int, int, str, bytes], text: str) -> None:
    data = bytes.fromhex(text)
    assert encode_write_frame_body(*fields) == data
    for payload in (data, memoryview(data)):
        write = decode_write(payload)
        assert (write.remaining_ms, write.attempt, write.policy, bytes(write.request)) == fields
        assert isinstance(write.request, memoryview)


@pytest.mark.parametrize(("fields", "text"), WRITES)
def test_a_write_that_is_cut_inside_its_envelope_is_refused(
    fields: tuple[int, int, str, bytes], text: str
) -> None:
    data = bytes.fromhex(text)
    for end in range(len(data) - len(fields[3])):
        with pytest.raises(BodyInvalid, match="Write"):
            decode_write(data[:end])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("e8030000 0000 00 41", "attempt 0"),
        ("e8030000 0100 02 ff fe", "policy is not UTF-8 at byte 7"),
        ("e8030000 0100 05 61", "policy of 5 bytes, 1 bytes left"),
    ],
)
def test_a_write_whose_envelope_cannot_be_is_refused(text: str, what: str) -> None:
    with pytest.raises(BodyInvalid, match=what):
        decode_write(bytes.fromhex(text))


def test_deadlines_and_attempts_beyond_their_fields_are_sent_as_the_highest() -> None:
    write = decode_write(encode_write_frame_body(1 << 40, 1 << 20, "", b""))
    assert (write.remaining_ms, write.attempt) == (0xFFFF_FFFF, 0xFFFF)


def test_a_policy_text_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(RequestInvalid, match="256, at most 255"):
        encode_write_frame_body(1, 1, "p" * 256, b"")


EU, US = CopyAck("eu-1", "eu", 850), CopyAck("us-1", "us", 81_000)
BLOCKS = [
    (AckBlock(0, 0, "local", (), None, ()), "0000000000000000 0000000000000000 056c6f63616c 00 ff 00"),
    (
        AckBlock(3, 42, "majority", ("majority", "regions(eu,us)"), 1, (EU, US)),
        "0300000000000000 2a00000000000000 086d616a6f72697479"
        "02 086d616a6f72697479 0e726567696f6e732865752c757329"
        "01 02 0465752d31 026575 52030000 0475732d31 027573 683c0100",
    ),
]


@pytest.mark.parametrize(("block", "text"), BLOCKS)
def test_an_ack_block_and_its_bytes_are_the_same_both_ways(block: AckBlock, text: str) -> None:
    data = bytes.fromhex(text)
    assert encode_ack_block(block) == data
    assert decode_ack_block(data) == decode_ack_block(memoryview(data)) == block
    for end in range(len(data)):
        with pytest.raises(BodyInvalid, match="ack block"):
            decode_ack_block(data[:end])
    with pytest.raises(BodyInvalid, match="1 bytes follow"):
        decode_ack_block(data + b"\0")


def test_a_completing_ack_that_is_not_in_the_block_is_refused() -> None:
    data = encode_ack_block(AckBlock(1, 1, "local", (), 0, (EU,)))
    at = data.index(b"\x00\x01\x04eu-1")
    with pytest.raises(BodyInvalid, match="completing is 1 of 1 acks"):
        decode_ack_block(data[:at] + b"\x01" + data[at + 1 :])


def test_an_ack_later_than_an_hour_is_sent_as_the_latest() -> None:
    block = AckBlock(1, 1, "local", (), None, (CopyAck("n", "r", 1 << 40),))
    assert decode_ack_block(encode_ack_block(block)).acks[0].after_us == 0xFFFF_FFFF


PAIR = RESULT.pack(0, 42) + RESULT.pack(3, 7)
ENTRIES = [
    (
        WrittenEntry(9, Outcome.COMMITTED, 1, False, 42, PAIR, 2),
        "0900000000000000 00 01 00 00 2a00000000000000 0200 002a00000000000000 030700000000000000",
    ),
    (
        WrittenEntry(10, Outcome.COMMITTED, 0, True, 5, RESULT.pack(1, 4), 1),
        "0a00000000000000 00 00 01 00 0500000000000000 0100 010400000000000000",
    ),
    (
        WrittenEntry(11, Outcome.NOT_CONFIRMED, 0, False, 43, b"", 0),
        "0b00000000000000 01 00 00 00 2b00000000000000 0000",
    ),
]
BLOCK = encode_ack_block(BLOCKS[1][0])


def entry_bytes(entry: WrittenEntry) -> bytes:
    return encode_entry(
        entry.correlation,
        entry.outcome,
        entry.policy_index,
        entry.duplicate,
        entry.first_lsn,
        entry.items,
        entry.count,
    )


@pytest.mark.parametrize(("entry", "text"), ENTRIES)
def test_an_entry_and_its_bytes_are_the_same_both_ways(entry: WrittenEntry, text: str) -> None:
    data = bytes.fromhex(text)
    assert entry_bytes(entry) == data
    assert decode_written(join_written(BLOCK, [data])) == (BLOCK, [entry])


def test_many_entries_share_one_block_and_keep_their_order() -> None:
    entries = [entry for entry, _ in ENTRIES]
    data = join_written(BLOCK, [entry_bytes(entry) for entry in entries])
    assert decode_written(memoryview(data)) == (BLOCK, entries)
    assert entries[0].results == [(RecordStatus.APPLIED, 42), (RecordStatus.EXISTS, 7)]
    for end in range(len(data)):
        with pytest.raises(BodyInvalid, match="Written"):
            decode_written(data[:end])
    with pytest.raises(BodyInvalid, match="1 bytes follow the last entry"):
        decode_written(data + b"\0")


def test_a_written_without_entries_is_empty() -> None:
    assert decode_written(join_written(b"", [])) == (b"", [])


def test_the_block_is_not_opened_with_the_frame() -> None:
    block, entries = decode_written(join_written(b"rubbish", [entry_bytes(ENTRIES[0][0])]))
    assert len(entries) == 1
    with pytest.raises(BodyInvalid):
        decode_ack_block(block)


@pytest.mark.parametrize(
    ("at", "value", "what"),
    [
        (8, 2, "outcome 2"),
        (10, 2, "flags 2"),
        (11, 1, "in the entry at byte 0"),
        (20, 3, "3 results"),
        (21, 255, "results in the entry"),
        (22, 6, "unknown record status"),
        (8, 1, "outcome 1, flags 0, 2 results"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(at: int, value: int, what: str) -> None:
    data = bytearray(entry_bytes(ENTRIES[0][0]))
    data[at] = value
    with pytest.raises(BodyInvalid, match=what):
        decode_written(join_written(BLOCK, [bytes(data)]))


def test_a_lying_entry_count_is_refused_before_it_is_believed() -> None:
    with pytest.raises(BodyInvalid, match="entry count is 4294967295 with 0 bytes left"):
        decode_written(bytes(4) + b"\xff\xff\xff\xff")


def test_an_entry_count_that_swallows_results_is_refused() -> None:
    data = (0).to_bytes(4, "little") + (2).to_bytes(4, "little") + entry_bytes(ENTRIES[0][0]) + bytes(10)
    with pytest.raises(BodyInvalid, match="end inside the one at byte 40"):
        decode_written(data)


@given(st.binary(max_size=80))
def test_whatever_the_bytes_of_a_written_only_body_invalid_comes_out(data: bytes) -> None:
    try:
        block, entries = decode_written(data)
    except BodyInvalid:
        return
    assert join_written(block, [entry_bytes(entry) for entry in entries]) == data


def test_a_resolve_is_a_deadline_a_client_and_a_sequence() -> None:
    resolve = Resolve(bytes(range(24)), 7, 9_000)
    data = bytes.fromhex("28230000 000102030405060708090a0b0c0d0e0f1011121314151617 0700000000000000")
    assert Resolve(bytes(24), 7, 1 << 40).encode() == Resolve(bytes(24), 7).encode()
    assert resolve.encode() == data
    assert Resolve.decode(memoryview(data)) == resolve
    for end in range(len(data)):
        with pytest.raises(BodyInvalid, match="Resolve"):
            Resolve.decode(data[:end])
    with pytest.raises(BodyInvalid, match="1 bytes follow"):
        Resolve.decode(data + b"\0")


@pytest.mark.parametrize(
    ("notice", "data"), [(TopologyNotice(False, b""), b"\0"), (TopologyNotice(True, b"blob"), b"\1blob")]
)
def test_a_topology_notice_is_a_flag_and_a_blob(notice: TopologyNotice, data: bytes) -> None:
    assert notice.encode() == data
    assert TopologyNotice.decode(data) == notice


@pytest.mark.parametrize("data", [b"", b"\2blob"])
def test_a_topology_notice_without_its_flag_is_refused(data: bytes) -> None:
    with pytest.raises(BodyInvalid, match="Topology: flags"):
        TopologyNotice.decode(data)


OPENED = Opened(
    node="eu-1",
    region="eu",
    role="primary",
    cluster="0f" * 16,
    name="shop",
    term=3,
    client_id=bytes(24),
    policy="majority",
    floor="majority",
    policy_timeout_ms=10_000,
    topology=b"\1",
)


def test_open_and_opened_come_back_as_they_were() -> None:
    assert Open.decode(Open("app", True).encode()) == Open("app", True)
    assert Opened.decode(OPENED.encode()) == OPENED


def test_opened_by_a_node_whose_role_is_new_here_is_read() -> None:
    newer = Opened.decode(msgspec.structs.replace(OPENED, role="witnessing").encode())
    assert newer.role == "witnessing"


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("cluster", "0F" * 16, r"\$.cluster"),
        ("cluster", "0f" * 16 + "\n", r"\$.cluster"),
        ("client_id", bytes(23), r"\$.client_id"),
        ("client_id", bytes(25), r"\$.client_id"),
        ("node", "n" * 65, r"\$.node"),
        ("policy", "p" * 256, r"\$.policy"),
        ("term", 1 << 63, r"\$.term"),
        ("term", -1, r"\$.term"),
    ],
)
def test_an_opened_out_of_bounds_is_refused_by_its_path(field: str, value: object, what: str) -> None:
    with pytest.raises(BodyInvalid, match=what):
        Opened.decode(msgspec.structs.replace(OPENED, **{field: value}).encode())

from __future__ import annotations

import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from redwire.errors import FrameInvalid
from redwire.frame import (
    COMPRESSED,
    FRAME_BYTES_MAX,
    FRAME_BYTES_UNAUTHENTICATED,
    HEADER_BYTES,
    Frame,
    FrameDecoder,
    FrameEncoder,
    Kind,
    declared_bytes,
    encode_frame,
    encode_header,
    expanded,
    kind_name,
)

TABLE = [
    (Frame(Kind.PING, 0, 0, 5, b""), "10000000 17 00 0000 0500000000000000"),
    (Frame(Kind.QUERY, 0, 0, 7, b"SELECT 1"), "18000000 01 00 0000 0700000000000000 53454c4543542031"),
    (Frame(Kind.BATCH, 0, 0x0201, 2**64 - 1, b"\x00"), "11000000 64 00 0102 ffffffffffffffff 00"),
    (Frame(0x99, 0, 0, 0, b"?"), "11000000 99 00 0000 0000000000000000 3f"),
]
CASES = [(frame, bytes.fromhex(text)) for frame, text in TABLE]
WHOLE = b"".join(data for _, data in CASES)
FRAMES = [frame for frame, _ in CASES]


def compressed(kind: int, payload: bytes, flags: int = 0x01) -> bytes:
    return struct.pack("<IBBHQ", HEADER_BYTES + len(payload), kind, flags, 0, 1) + payload


def without_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


@pytest.mark.parametrize(("frame", "data"), CASES)
def test_a_frame_is_its_bytes_both_ways(frame: Frame, data: bytes) -> None:
    header = encode_header(frame.kind, len(frame.payload), frame.correlation, frame.stream)
    assert header + frame.payload == data
    assert FrameDecoder().receive_data(data) == [frame]


def test_a_whole_frame_is_its_header_and_its_payload() -> None:
    frame, data = CASES[1]
    assert encode_frame(frame.kind, frame.payload, frame.correlation) == data


def test_all_frames_of_one_read_come_out_at_once() -> None:
    decoder = FrameDecoder()
    assert decoder.receive_data(WHOLE) == FRAMES
    assert decoder.held_bytes == 0


def test_frames_come_out_byte_by_byte_too() -> None:
    decoder = FrameDecoder()
    assert [frame for byte in WHOLE for frame in decoder.receive_data(bytes([byte]))] == FRAMES
    assert decoder.held_bytes == 0


@pytest.mark.parametrize("tail", range(1, 18))
def test_a_tail_waits_for_its_rest(tail: int) -> None:
    last = CASES[1][1]
    decoder = FrameDecoder()
    assert decoder.receive_data(WHOLE + last[:tail]) == FRAMES
    assert decoder.held_bytes == tail
    assert decoder.receive_data(b"") == []
    assert decoder.receive_data(last[tail:]) == [FRAMES[1]]
    assert decoder.held_bytes == 0


@given(
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40), st.integers(0, 2**64 - 1)), max_size=8),
    st.data(),
)
def test_any_cut_of_the_bytes_gives_the_same_frames(
    messages: list[tuple[int, bytes, int]], data: st.DataObject
) -> None:
    stream = b"".join(encode_frame(*message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder = FrameDecoder()
    received = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.receive_data(stream[begin:end])
    assert received == [Frame(kind, 0, 0, correlation, payload) for kind, payload, correlation in messages]


def test_the_largest_frame_passes_and_its_pieces_are_held_uncopied() -> None:
    payload = bytes(range(256)) * ((FRAME_BYTES_MAX - HEADER_BYTES) // 256) + b"x" * 240
    data = encode_frame(Kind.BATCH, payload) + CASES[0][1]
    assert len(payload) == FRAME_BYTES_MAX - HEADER_BYTES
    decoder = FrameDecoder()
    received = []
    for at in range(0, len(data), 65536):
        piece = data[at : at + 65536]
        received += decoder.receive_data(piece)
        assert received or decoder._parts[-1] is piece
    assert received == [Frame(Kind.BATCH, 0, 0, 0, payload), FRAMES[0]]


def test_a_frame_that_trickles_in_is_held_in_few_pieces() -> None:
    decoder = FrameDecoder()
    data = encode_frame(Kind.BATCH, bytes(100_000))
    for at in range(0, len(data) - 2, 2):
        assert decoder.receive_data(data[at : at + 2]) == []
    assert len(decoder._parts) < 30
    assert decoder.receive_data(data[-2:]) == [Frame(Kind.BATCH, 0, 0, 0, bytes(100_000))]


@pytest.mark.parametrize("length", [0, 15, FRAME_BYTES_MAX + 1, 2**32 - 1])
@pytest.mark.parametrize("prefix", [b"", WHOLE])
@pytest.mark.parametrize("held", [4, 8, 16, 20])
def test_an_impossible_length_is_refused_as_soon_as_it_is_read(length: int, prefix: bytes, held: int) -> None:
    data = struct.pack("<IBBHQI", length, 1, 0, 0, 0, 0)[:held]
    with pytest.raises(FrameInvalid, match=f"frame length {length} is not between 16 and 16777216"):
        FrameDecoder().receive_data(prefix + data)


def test_the_limit_counts_the_header_and_can_be_raised() -> None:
    largest = encode_frame(Kind.HELLO, bytes(FRAME_BYTES_UNAUTHENTICATED - HEADER_BYTES))
    larger = encode_frame(Kind.HELLO, bytes(FRAME_BYTES_UNAUTHENTICATED - HEADER_BYTES + 1))
    decoder = FrameDecoder(FRAME_BYTES_UNAUTHENTICATED)
    assert len(decoder.receive_data(largest)) == 1
    with pytest.raises(FrameInvalid, match="8193"):
        FrameDecoder(FRAME_BYTES_UNAUTHENTICATED).receive_data(larger)
    decoder.frame_bytes_max = FRAME_BYTES_MAX
    assert len(decoder.receive_data(larger)) == 1


@pytest.mark.parametrize(
    ("kind", "flags", "allow", "says"),
    [
        (Kind.QUERY, 0x02, True, r"QUERY \(0x01\) frame carries MORE_FRAMES"),
        (Kind.QUERY, 0x03, True, "MORE_FRAMES"),
        (Kind.QUERY, 0x04, True, "unknown flag bits 0x04"),
        (Kind.QUERY, 0x81, True, "unknown flag bits 0x81"),
        (0x99, 0x80, True, "^0x99 frame"),
        (Kind.HELLO, 0x01, True, r"HELLO \(0x10\) frame carries COMPRESSED, which this kind never may"),
        (Kind.PONG, 0x01, True, "never may"),
        (Kind.QUERY, 0x01, False, "COMPRESSED before authentication"),
    ],
)
def test_flags_that_may_not_be_are_refused(kind: int, flags: int, allow: bool, says: str) -> None:
    payload = zstandard.ZstdCompressor().compress(b"hello")
    data = compressed(kind, payload, flags)
    with pytest.raises(FrameInvalid, match=says):
        FrameDecoder(allow_compressed=allow).receive_data(data)
    with pytest.raises(FrameInvalid, match=says):  # before the payload is there
        FrameDecoder(allow_compressed=allow).receive_data(data[:HEADER_BYTES])


@pytest.mark.parametrize("kind", [k for k in Kind if not Kind.HELLO <= k <= Kind.PONG])
def test_every_other_kind_may_be_compressed(kind: Kind) -> None:
    data = compressed(kind, zstandard.ZstdCompressor().compress(b"hello"))
    assert FrameDecoder().receive_data(data) == [Frame(kind, 1, 0, 1, b"hello")]


@pytest.mark.parametrize("plain", [b"", b"x", b"hello" * 1000, bytes(FRAME_BYTES_MAX)])
@pytest.mark.parametrize("compress", [zstandard.ZstdCompressor().compress, without_size])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_compressed_payload_comes_out_plain(plain: bytes, compress: object, pieces: int) -> None:
    data = compressed(Kind.WRITE, compress(plain))  # type: ignore[operator]
    decoder = FrameDecoder()
    half = 20 if pieces == 2 else 0
    frames = decoder.receive_data(data[:half]) + decoder.receive_data(data[half:])
    assert frames == [Frame(Kind.WRITE, 1, 0, 1, plain)]


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "not zstd"),
        (b"SELECT 1", "not zstd"),
        (zstandard.ZstdCompressor().compress(bytes(FRAME_BYTES_MAX + 1)), "declares more than 16777216"),
        (without_size(bytes(FRAME_BYTES_MAX + 1)), "expands to more than 16777216"),
        (without_size(bytes(256 << 20)), "expands to more than 16777216"),
        (zstandard.ZstdCompressor().compress(b"hello" * 99)[:-3], "ends inside"),
        (without_size(b"hello" * 99)[:-3], "ends inside"),
        (zstandard.ZstdCompressor().compress(b"hello") + b"x", "goes on after"),
        (without_size(b"hello") + b"x", "goes on after"),
        (zstandard.ZstdCompressor().compress(b"") + b"x", "goes on after"),
        (without_size(b"hello") + bytes(1000), "goes on after"),
        (without_size(b"hello") * 2, "goes on after"),
    ],
)
def test_a_compressed_payload_that_is_not_one_small_zstd_frame_is_refused(payload: bytes, says: str) -> None:
    with pytest.raises(FrameInvalid, match=says):
        FrameDecoder().receive_data(compressed(Kind.WRITE, payload))
    (frame,) = FrameDecoder(expand=False).receive_data(compressed(Kind.WRITE, payload))
    with pytest.raises(FrameInvalid, match=says):
        expanded(frame)


def test_a_decoder_may_leave_payloads_as_they_came_and_others_expand_them() -> None:
    payload = zstandard.ZstdCompressor().compress(b"hello")
    data = compressed(Kind.WRITE, payload) + WHOLE
    compact, *others = FrameDecoder(expand=False).receive_data(data)
    assert compact.payload == payload and expanded(compact).payload == b"hello"
    assert [expanded(frame) for frame in others] == others == FrameDecoder().receive_data(WHOLE)
    with pytest.raises(FrameInvalid, match="MORE_FRAMES"):  # flags are looked at all the same
        FrameDecoder(expand=False).receive_data(compressed(Kind.WRITE, payload, 0x03))


def test_a_zstd_frame_that_wants_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    payload = stream.compress(b"hello") + stream.flush()
    with pytest.raises(FrameInvalid, match="too much memory"):
        FrameDecoder().receive_data(compressed(Kind.WRITE, payload))


def test_a_declared_size_that_lies_does_not_lift_the_limit() -> None:
    honest = bytearray(zstandard.ZstdCompressor().compress(bytes(64 << 20)))
    assert honest[4] == 0x80  # a window of one byte follows, then a size of four
    honest[6:10] = struct.pack("<I", 1000)
    assert zstandard.frame_content_size(bytes(honest)) == 1000
    with pytest.raises(FrameInvalid):
        FrameDecoder().receive_data(compressed(Kind.WRITE, bytes(honest)))


def test_what_waits_leaves_once_and_in_order() -> None:
    encoder = FrameEncoder()
    encoder.send(Kind.AUTH_OK, bytes(9_000), 7)
    encoder.send(Kind.BYE)
    assert encoder.data_to_send() == [encode_frame(Kind.AUTH_OK, bytes(9_000), 7), encode_frame(Kind.BYE)]
    assert encoder.data_to_send() == []


def test_a_frame_over_the_limit_is_a_mistake_of_ours() -> None:
    encode_header(Kind.RESULT, FRAME_BYTES_MAX - HEADER_BYTES, 0)
    with pytest.raises(AssertionError):
        encode_header(Kind.RESULT, FRAME_BYTES_MAX - HEADER_BYTES + 1, 0)


def test_kinds_are_named_with_their_number() -> None:
    assert kind_name(0x17) == "PING (0x17)"
    assert kind_name(0x1F) == "0x1f"
    assert len(Kind) == 27 + 18 + 16 + 2 + 4 + 11


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 16, 17, 100_000])
def test_a_payload_for_which_nobody_looks_is_not_kept_and_what_follows_it_is_read(size: int) -> None:
    decoder = FrameDecoder(expand=False)
    decoder.limits = {Kind.PING: 10}
    unwanted = bytearray(encode_frame(Kind.BULK_INSERT, bytes(50_000), 5))
    unwanted[5] = COMPRESSED
    data = encode_frame(Kind.PING, b"a", 1) + unwanted + encode_frame(Kind.PING, b"b", 2)
    frames, most = [], 0
    for piece in pieces(data, size):
        frames += decoder.receive_data(piece)
        most = max(most, decoder.kept_bytes)
    assert [(frame.kind, frame.correlation, frame.payload) for frame in frames] == [
        (Kind.PING, 1, b"a"),
        (Kind.BULK_INSERT, 5, b""),
        (Kind.PING, 2, b"b"),
    ]
    assert most <= 32 and decoder.held_bytes == decoder.kept_bytes == 0


@pytest.mark.parametrize("cut", [HEADER_BYTES, 20, 200])
def test_a_payload_longer_than_its_kind_may_have_is_refused_at_its_header(cut: int) -> None:
    decoder = FrameDecoder()
    decoder.limits = {Kind.GET: 99}
    decoder.receive_data(encode_frame(Kind.GET, bytes(99)))
    with pytest.raises(FrameInvalid, match="GET .* payload has 100 bytes, at most 99"):
        decoder.receive_data(encode_frame(Kind.GET, bytes(100))[:cut])


@pytest.mark.parametrize("declared", [True, False])
def test_a_payload_expands_to_no_more_than_it_may(declared: bool) -> None:
    compress = zstandard.ZstdCompressor(write_content_size=declared).compress
    fits, bomb = (Frame(Kind.GET, COMPRESSED, 0, 0, compress(bytes(size))) for size in (1000, 16 << 20))
    assert expanded(fits, 1000).payload == bytes(1000)
    for frame, limit in ((fits, 999), (bomb, 64 << 10)):
        with pytest.raises(FrameInvalid, match=f"(declares|expands to) more than {limit} bytes"):
            expanded(frame, limit)
    assert declared_bytes(fits.payload) == (1000 if declared else None)
    assert declared_bytes(b"no zstd at all") is None

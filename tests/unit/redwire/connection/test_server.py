"""A server's side: what it takes before and after authentication, and how it refuses the rest."""

from __future__ import annotations

import json
import struct
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from redwire.frame import (
    FRAME_BYTES_MAX,
    FRAME_BYTES_UNAUTHENTICATED,
    HEADER_BYTES,
    Frame,
    Kind,
    encode_frame,
    encode_header,
    expanded,
)
from tests.handshakes import (
    HELLO,
    FakeAuthenticator,
    a_server,
    a_server_after,
    an_open_server,
    said,
)


@pytest.mark.parametrize(
    "data", [b"G", b"GET / HTTP/1.1\r\n", b"\x15\x03\x01", b"\x00", b"\xfe\x02", b"\xfe\xff"]
)
@pytest.mark.parametrize("step", [1, 100])
def test_whoever_does_not_begin_like_a_client_gets_no_frame(data: bytes, step: int) -> None:
    server = a_server()
    for at in range(0, len(data), step):
        assert server.receive_data(data[at : at + step]) == []
    assert server.closing
    assert server.data_to_send() == []


@pytest.mark.parametrize("step", [1, 100])
def test_whoever_begins_with_tls_is_told_so_in_its_own_words(step: int) -> None:
    server, data = a_server(), b"\x16\x03\x01\x02\x00"
    for at in range(0, len(data), step):
        assert server.receive_data(data[at : at + step]) == []
    assert server.closing
    assert server.data_to_send() == [bytes.fromhex("15030100020246")]


def test_minor_version_zero_is_taken() -> None:
    server = a_server()
    server.receive_data(b"\xfe\x00" + encode_frame(Kind.HELLO, HELLO, 1))
    assert [frame.kind for frame in said(server)] == [Kind.HELLO_ACK]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (encode_frame(Kind.HELLO, b"{", 9), "Hello body: "),
        (encode_frame(Kind.HELLO, b"\xff", 9), "Hello body: "),
        (
            encode_frame(Kind.HELLO, b'{"versions":[],"auth_methods":["anonymous"]}', 9),
            "no common version: []",
        ),
        (
            encode_frame(Kind.HELLO, b'{"versions":[2],"auth_methods":["anonymous"]}', 9),
            "no common version: [2]",
        ),
        (
            encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":[]}', 9),
            "no common authentication method",
        ),
        (
            encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":["oauth-jwt","certificate"]}', 9),
            "no common authentication method: we accept scram-sha-256, bearer, anonymous",
        ),
        (encode_frame(Kind.QUERY, b"SELECT 1", 9), "QUERY (0x01) frame in state HELLO"),
        (encode_frame(Kind.AUTH_RESPONSE, b"", 9), "AUTH_RESPONSE (0x13) frame in state HELLO"),
        (encode_frame(Kind.PING, b"", 9), "PING (0x17) frame in state HELLO"),
        (encode_frame(0x99, b"", 9), "0x99 frame in state HELLO"),
        (encode_frame(Kind.HELLO, HELLO, 9) * 2, "more than one frame before authentication"),
        (encode_frame(Kind.HELLO, HELLO, 9) + b"\x10", "more than one frame before authentication"),
    ],
)
def test_a_bad_hello_is_refused_with_its_reason_and_id(frame: bytes, reason: str) -> None:
    server, answers = a_server_after(frame)
    assert [(answer.kind, answer.correlation) for answer in answers] == [(Kind.AUTH_FAIL, 9)]
    assert json.loads(answers[0].payload)["reason"].startswith(reason)
    assert server.closing


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (encode_frame(Kind.WRITE, b"", 2), "WRITE (0x40) frame in state CREDENTIALS"),
        (encode_frame(Kind.HELLO, HELLO, 2), "HELLO (0x10) frame in state CREDENTIALS"),
        (encode_frame(Kind.AUTH_OK, b"{}", 2), "AUTH_OK (0x14) frame in state CREDENTIALS"),
        (encode_frame(Kind.AUTH_RESPONSE, b"", 2) + encode_frame(Kind.GET, b"", 3), "more than one frame"),
    ],
)
def test_a_command_before_authentication_ends_it(frame: bytes, reason: str) -> None:
    server, answers = a_server_after(encode_frame(Kind.HELLO, HELLO, 1), frame)
    assert [(answer.kind, answer.correlation) for answer in answers] == [(Kind.AUTH_FAIL, 2)]
    assert json.loads(answers[0].payload)["reason"].startswith(reason)
    assert server.closing
    assert server.principal is None


def test_a_bearer_body_that_is_none_is_refused() -> None:
    _, answers = a_server_after(
        encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":["bearer"]}', 1),
        encode_frame(Kind.AUTH_RESPONSE, b"right", 2),
    )
    assert json.loads(answers[0].payload)["reason"].startswith("BearerBody body: ")


LIMIT = FRAME_BYTES_UNAUTHENTICATED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack("<I", LIMIT + 1), b"PROTOCOL: frame length 8193 is not between 16 and 8192"),
        (struct.pack("<I", 0), b"PROTOCOL: frame length 0 is not between 16 and 8192"),
        (struct.pack("<IBBHQ", 16, Kind.HELLO, 2, 0, 0), b"PROTOCOL: HELLO (0x10) frame carries MORE_FRAMES"),
        (
            struct.pack("<IBBHQ", 16, Kind.QUERY, 1, 0, 0),
            b"PROTOCOL: QUERY (0x01) frame carries COMPRESSED before",
        ),
    ],
)
def test_broken_framing_before_authentication_gets_one_error_and_the_end(data: bytes, reason: bytes) -> None:
    server, answers = a_server_after(data)
    assert [answer.kind for answer in answers] == [Kind.ERROR]
    assert answers[0].payload.startswith(reason)
    assert server.closing


def test_frames_of_the_largest_handshake_size_pass() -> None:
    padding = b" " * (LIMIT - HEADER_BYTES - len(HELLO))
    _, answers = a_server_after(encode_frame(Kind.HELLO, HELLO + padding, 1))
    assert [answer.kind for answer in answers] == [Kind.HELLO_ACK]


def test_after_authentication_every_frame_is_passed_up_as_it_came() -> None:
    server = an_open_server()
    frames = [
        Frame(Kind.QUERY, 0, 0, 4, b"x" * (1 << 20)),
        Frame(Kind.HELLO, 0, 0, 5, HELLO),
        Frame(Kind.RESULT, 0, 0, 6, b""),
        Frame(0x99, 0, 3, 7, b"?"),
    ]
    data = b"".join(
        encode_header(frame.kind, len(frame.payload), frame.correlation, frame.stream) + frame.payload
        for frame in frames
    )
    assert server.receive_data(data) == frames
    payload = zstandard.ZstdCompressor().compress(b"SELECT 1")
    data = struct.pack("<IBBHQ", HEADER_BYTES + len(payload), Kind.QUERY, 1, 0, 8) + payload
    assert server.receive_data(data) == [Frame(Kind.QUERY, 1, 0, 8, payload)]
    assert server.data_to_send() == []


def test_what_was_compressed_is_held_as_it_came_until_its_turn() -> None:
    """Fifty frames of 16 MiB fit into one read."""
    server = an_open_server()
    payload = zstandard.ZstdCompressor().compress(bytes(FRAME_BYTES_MAX))
    data = struct.pack("<IBBHQ", HEADER_BYTES + len(payload), Kind.QUERY, 1, 0, 8) + payload
    tracemalloc.start()
    frames = server.receive_data(data * 8)
    assert [len(expanded(frame).payload) for frame in frames] == [FRAME_BYTES_MAX] * 8
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * FRAME_BYTES_MAX


def test_broken_framing_after_authentication_gets_one_error_and_the_end() -> None:
    server = an_open_server()
    assert server.receive_data(bytes(16)) == []
    assert said(server) == [
        Frame(Kind.ERROR, 0, 0, 0, b"PROTOCOL: frame length 0 is not between 16 and 16777216")
    ]
    assert server.closing
    assert server.receive_data(encode_frame(Kind.PING)) == []


def test_answers_leave_in_order() -> None:
    server, large = an_open_server(), bytes(100_000)
    server.send(Kind.PONG, correlation=4)
    server.send(Kind.RESULT, large, 5)
    assert server.data_to_send() == [encode_frame(Kind.PONG, b"", 4), encode_frame(Kind.RESULT, large, 5)]


def test_a_session_may_close_and_still_say_goodbye() -> None:
    server = an_open_server()
    server.send(Kind.BYE, correlation=4)
    server.close()
    assert server.closing
    assert [frame.kind for frame in said(server)] == [Kind.BYE]


def test_a_shell_can_refuse_a_handshake_that_takes_too_long() -> None:
    server, _ = a_server_after(encode_frame(Kind.HELLO, HELLO, 1))
    server.refuse("too slow")
    assert [json.loads(frame.payload) for frame in said(server)] == [{"reason": "too slow"}]
    assert server.closing
    silent = a_server()
    silent.refuse("too slow")
    assert silent.closing
    assert silent.data_to_send() == []


FRAMES = st.builds(
    encode_frame,
    st.sampled_from([Kind.HELLO, Kind.AUTH_RESPONSE, Kind.QUERY]),
    st.sampled_from([b'{"versions":[1],"auth_methods":["scram-sha-256"]}', b"n,,n=ann,r=abc", b"{}"])
    | st.binary(max_size=60),
)


@given(st.lists(FRAMES | st.binary(max_size=60), max_size=6))
def test_no_bytes_make_a_server_raise_or_authenticate(pieces: list[bytes]) -> None:
    server = a_server(FakeAuthenticator(available=["scram-sha-256", "bearer"]))
    server.receive_data(b"\xfe\x01")
    for piece in pieces:
        assert server.receive_data(piece) == []
    assert server.principal is None

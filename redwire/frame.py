"""Frames: how every message of the protocol is cut out of a stream of bytes.

A frame is a 16-byte header and a payload; docs/PROTOCOL.md, section 1, is the specification. This layer knows
lengths, flags and compression. What a kind means, and whether it is known at all, is for those above to say.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import zstandard

from redwire.errors import FrameInvalid

HEADER = struct.Struct("<IBBHQ")
"""Length of the whole frame, kind, flags, stream, correlation."""
HEADER_BYTES = HEADER.size
FRAME_BYTES_MAX = 16 << 20
"""Fixed by the protocol; also the most that a compressed payload may expand to."""
PAYLOAD_BYTES_MAX = FRAME_BYTES_MAX - HEADER_BYTES
"""What one frame carries."""
FRAME_BYTES_UNAUTHENTICATED = 8192
"""Room for any handshake message, and little for a stranger to make us hold."""

COMPRESSED = 0x01
"""The payload is one zstd frame."""
MORE_FRAMES = 0x02
"""Reserved in RedDB's protocol, where nobody joins frames by it: refused."""

_LENGTH = struct.Struct("<I")
_PIECE_BYTES = 4096
"""A page: below it an object of its own would weigh as much as what it holds."""
_BLOCK_BYTES_MIN, _BLOCK_EXPANDED_MAX = 4, 128 << 10
"""A zstd block of so few bytes can expand to so many."""


class Kind(IntEnum):
    """Every kind that has a name; those between nodes and of our own client begin at 0x40."""

    # as RedDB's drivers speak them
    QUERY = 0x01
    RESULT = 0x02
    ERROR = 0x03
    BULK_INSERT = 0x04
    BULK_OK = 0x05
    BULK_INSERT_BINARY = 0x06
    QUERY_BINARY = 0x07
    BULK_INSERT_PREVALIDATED = 0x08
    BULK_STREAM_START = 0x09
    BULK_STREAM_ROWS = 0x0A
    BULK_STREAM_COMMIT = 0x0B
    BULK_STREAM_ACK = 0x0C
    PREPARE = 0x0D
    PREPARED_OK = 0x0E
    EXECUTE_PREPARED = 0x0F
    HELLO = 0x10
    HELLO_ACK = 0x11
    AUTH_REQUEST = 0x12
    AUTH_RESPONSE = 0x13
    AUTH_OK = 0x14
    AUTH_FAIL = 0x15
    BYE = 0x16
    PING = 0x17
    PONG = 0x18
    GET = 0x19
    DELETE = 0x1A
    DELETE_OK = 0x1B
    CANCEL = 0x20
    COMPRESS = 0x21
    SET_SESSION = 0x22
    NOTICE = 0x23
    ROW_DESCRIPTION = 0x24
    STREAM_END = 0x25
    VECTOR_SEARCH = 0x26
    GRAPH_TRAVERSE = 0x27
    QUERY_WITH_PARAMS = 0x28
    OPEN_STREAM = 0x29
    OPEN_ACK = 0x2A
    STREAM_CHUNK = 0x2B
    STREAM_ERROR = 0x2C
    STREAM_CANCEL = 0x2D
    QUEUE_WAIT_OPEN = 0x2E
    QUEUE_EVENT_PUSH = 0x2F
    QUEUE_WAIT_TIMEOUT = 0x30
    MOVED_REDIRECT = 0x31
    # our own client
    WRITE = 0x40
    WRITTEN = 0x41
    FETCH = 0x42
    FETCHED = 0x43
    SCAN = 0x44
    SCANNED = 0x45
    OPEN = 0x46
    OPENED = 0x47
    RESOLVE = 0x48
    TOPOLOGY_REQUEST = 0x4A
    TOPOLOGY = 0x4B
    STATUS_REQUEST = 0x4C
    STATUS = 0x4D
    ACCOUNT = 0x4E
    FAILURE = 0x4F
    ACCOUNT_DONE = 0x50
    ACCOUNTS_REQUEST = 0x54
    ACCOUNTS = 0x55
    SETTINGS_REQUEST = 0x58
    SETTINGS = 0x59
    CHANGE_SETTINGS = 0x5A
    SETTINGS_CHANGED = 0x5B
    # between nodes
    PEER_HELLO = 0x60
    PEER_WELCOME = 0x61
    FOLLOW = 0x62
    FOLLOWING = 0x63
    BATCH = 0x64
    ACK = 0x65
    HEARTBEAT = 0x66
    SNAPSHOT_FETCH = 0x67
    SNAPSHOT_MANIFEST = 0x68
    SNAPSHOT_CHUNK = 0x69
    CLUSTER_STATUS = 0x6A


SERVER_ONLY = frozenset(
    (
        *(Kind.RESULT, Kind.ERROR, Kind.BULK_OK, Kind.BULK_STREAM_ACK, Kind.PREPARED_OK, Kind.HELLO_ACK),
        *(Kind.AUTH_REQUEST, Kind.AUTH_OK, Kind.AUTH_FAIL, Kind.PONG, Kind.DELETE_OK, Kind.NOTICE),
        *(Kind.ROW_DESCRIPTION, Kind.STREAM_END, Kind.OPEN_ACK, Kind.STREAM_ERROR, Kind.QUEUE_EVENT_PUSH),
        *(Kind.QUEUE_WAIT_TIMEOUT, Kind.MOVED_REDIRECT, Kind.WRITTEN, Kind.FETCHED, Kind.SCANNED),
        *(Kind.OPENED, Kind.TOPOLOGY, Kind.STATUS, Kind.FAILURE, Kind.ACCOUNT_DONE, Kind.ACCOUNTS),
        *(Kind.SETTINGS, Kind.SETTINGS_CHANGED),
    )
)
"""What a client is told and never says."""
NEVER_COMPRESSED = range(Kind.HELLO, Kind.PONG + 1)
"""The handshake and the pings: who reads them need not know zstd."""


def kind_name(kind: int) -> str:
    """How messages and logs name a kind, known or not: `HELLO (0x10)`, `0x99`."""
    return f"{Kind(kind).name} (0x{kind:02x})" if kind in Kind._value2member_map_ else f"0x{kind:02x}"


class Frame(NamedTuple):
    """One received frame. `payload` is plain, unless its decoder left that to `expanded`. `kind` may be
    unknown.
    """

    kind: int
    flags: int
    stream: int
    correlation: int
    payload: bytes


def encode_header(kind: int, payload_len: int, correlation: int, stream: int = 0) -> bytes:
    """The header alone, for a payload that exists already and is sent after it without a copy."""
    length = HEADER_BYTES + payload_len
    assert length <= FRAME_BYTES_MAX, f"a frame of {length} bytes"
    return HEADER.pack(length, kind, 0, stream, correlation)


def encode_frame(kind: int, payload: bytes = b"", correlation: int = 0) -> bytes:
    """One whole frame, never compressed."""
    return encode_header(kind, len(payload), correlation) + payload


class FrameEncoder:
    """Frames that wait to be sent."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def send(self, kind: int, payload: bytes = b"", correlation: int = 0) -> None:
        """Queue one frame."""
        self._chunks.append(encode_frame(kind, payload, correlation))

    def data_to_send(self) -> list[bytes]:
        """What was queued since the last call, in order; the caller owns it."""
        chunks, self._chunks = self._chunks, []
        return chunks


class FrameDecoder:
    """Cuts frames out of received bytes.

    Holds at most one incomplete frame, whose length is checked before more of it is kept. `frame_bytes_max`,
    which counts the header, and `allow_compressed` may be changed between calls. Without `expand` compressed
    payloads stay as they are, see `expanded`.

    With `limits` a payload has at most so many bytes by its kind, and those of kinds that are not in it, for
    which nobody looks, are not kept: such a frame has none.
    """

    def __init__(
        self, frame_bytes_max: int = FRAME_BYTES_MAX, *, allow_compressed: bool = True, expand: bool = True
    ) -> None:
        assert HEADER_BYTES <= frame_bytes_max <= FRAME_BYTES_MAX
        self.frame_bytes_max = frame_bytes_max
        self.allow_compressed = allow_compressed
        self._expand = expand
        self._parts: list[bytes] = []
        self._held = 0
        self._wanted = 0  # of the held frame, once its length is known
        self._kept = True
        self.limits: Mapping[int, int] | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of an incomplete frame; 0 exactly when everything received was whole frames."""
        return self._held

    @property
    def kept_bytes(self) -> int:
        """What an incomplete frame takes in memory."""
        return self._held if self._kept else HEADER_BYTES

    def receive_data(self, data: bytes) -> list[Frame]:
        """All frames that `data` completes, in order.

        A payload is copied once, and once more only where a read ended inside its header.

        Raises `FrameInvalid` for the first thing that cannot be; what came before it in the same read is lost
        with it, and the decoder must not be used again.
        """
        frames: list[Frame] = []
        at = 0
        if self._held:
            if self._held + len(data) < self._wanted:
                self._add(data)
                return frames
            if self._wanted:
                at = self._complete(data, frames)
            else:
                data = self._parts.pop() + data
                self._held = 0
        end = len(data)
        unpack, make, plain, limits = HEADER.unpack_from, tuple.__new__, self._plain, self.limits
        while end - at >= HEADER_BYTES:
            length, kind, flags, stream, correlation = unpack(data, at)
            if not HEADER_BYTES <= length <= self.frame_bytes_max:
                raise self._length_invalid(length)
            stop = at + length
            if stop > end:
                break
            short = limits is None or length - HEADER_BYTES <= limits.get(kind, -1)  # as nearly all are
            payload = data[at + HEADER_BYTES : stop] if short or self._is_kept(kind, length) else b""
            if flags:
                payload = plain(kind, flags, payload)
            frames.append(make(Frame, (kind, flags, stream, correlation, payload)))
            at = stop
        if at < end:
            self._hold(data, at)
        return frames

    def _add(self, data: bytes) -> None:
        """Keep the next piece of the held frame. Tiny ones are joined: objects would outweigh bytes."""
        self._held += len(data)
        if not self._kept:
            return
        if len(data) < _PIECE_BYTES and len(self._parts[-1]) < _PIECE_BYTES:
            self._parts[-1] += data
        else:
            self._parts.append(data)

    def _complete(self, data: bytes, frames: list[Frame]) -> int:
        """Finish the held frame with the beginning of `data`; how much of it that took."""
        taken = self._wanted - self._held
        first, *rest = self._parts
        _, kind, flags, stream, correlation = HEADER.unpack_from(first)
        payload = b""
        if self._kept:
            payload = b"".join((memoryview(first)[HEADER_BYTES:], *rest, memoryview(data)[:taken]))
        self._parts, self._held, self._wanted, self._kept = [], 0, 0, True
        if flags:
            payload = self._plain(kind, flags, payload)
        frames.append(Frame(kind, flags, stream, correlation, payload))
        return taken

    def _hold(self, data: bytes, at: int) -> None:
        """Keep what begins at `at`, as soon as its length and flags say that it may become a frame."""
        held = len(data) - at
        if held >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            if not HEADER_BYTES <= length <= self.frame_bytes_max:
                raise self._length_invalid(length)
        if held >= HEADER_BYTES:
            length, kind, flags, _, _ = HEADER.unpack_from(data, at)
            self._check_flags(kind, flags)
            self._wanted = length
            self._kept = self.limits is None or self._is_kept(kind, length)
        self._parts, self._held = [data[at:] if self._kept else data[at : at + HEADER_BYTES]], held

    def _is_kept(self, kind: int, length: int) -> bool:
        """Whether somebody will look at the payload of a frame. Raises `FrameInvalid` for one too long."""
        assert self.limits is not None
        limit = self.limits.get(kind)
        if limit is not None and length - HEADER_BYTES > limit:
            name = kind_name(kind)
            raise FrameInvalid(f"{name} payload has {length - HEADER_BYTES} bytes, at most {limit}")
        return limit is not None

    def _plain(self, kind: int, flags: int, payload: bytes) -> bytes:
        self._check_flags(kind, flags)
        return _inflate(kind, payload, FRAME_BYTES_MAX) if self._expand else payload

    def _check_flags(self, kind: int, flags: int) -> None:
        if flags & ~(COMPRESSED | MORE_FRAMES):
            raise FrameInvalid(f"{kind_name(kind)} frame carries unknown flag bits 0x{flags:02x}")
        if flags & MORE_FRAMES:
            raise FrameInvalid(f"{kind_name(kind)} frame carries MORE_FRAMES, which is not supported")
        if flags & COMPRESSED and kind in NEVER_COMPRESSED:
            raise FrameInvalid(f"{kind_name(kind)} frame carries COMPRESSED, which this kind never may")
        if flags & COMPRESSED and not self.allow_compressed:
            raise FrameInvalid(f"{kind_name(kind)} frame carries COMPRESSED before authentication")

    def _length_invalid(self, length: int) -> FrameInvalid:
        return FrameInvalid(f"frame length {length} is not between {HEADER_BYTES} and {self.frame_bytes_max}")


def expanded(frame: Frame, limit: int = FRAME_BYTES_MAX) -> Frame:
    """The frame with a plain payload of `limit` bytes at most, from a decoder that does not expand. Raises
    `FrameInvalid`.

    One at a time, when it is used: a single read can bring fifty payloads of 16 MiB each.
    """
    if not frame.flags & COMPRESSED:
        return frame
    return frame._replace(payload=_inflate(frame.kind, frame.payload, limit))


def declared_bytes(payload: bytes) -> int | None:
    """How long a compressed payload says that it is; None where it does not, and where it is not zstd."""
    try:
        size = zstandard.frame_content_size(payload)
    except zstandard.ZstdError:
        return None
    return None if size < 0 else size


def _inflate(kind: int, payload: bytes, limit: int) -> bytes:
    """Expand one zstd frame to `limit` bytes at most, whatever size it declares. Raises `FrameInvalid`.

    The one-shot call of zstandard obeys the declared size instead of our limit, and does not see what follows
    a frame without one, so the payload goes through the streaming decoder in steps whose output is bounded:
    one overshoots the limit by half of that, or 1 MiB.
    """
    name = kind_name(kind)
    step_bytes = max(limit // 2, 1 << 20) // _BLOCK_EXPANDED_MAX * _BLOCK_BYTES_MIN
    try:
        if zstandard.frame_content_size(payload) > limit:
            raise FrameInvalid(f"{name} payload declares more than {limit} bytes")
        decoder = zstandard.ZstdDecompressor(max_window_size=FRAME_BYTES_MAX).decompressobj()
        pieces, size, at = [], 0, 0
        while at < len(payload) and not decoder.eof:
            piece = decoder.decompress(payload[at : at + step_bytes])
            at += step_bytes
            size += len(piece)
            if size > limit:
                raise FrameInvalid(f"{name} payload expands to more than {limit} bytes")
            pieces.append(piece)
    except zstandard.ZstdError as error:
        raise FrameInvalid(f"{name} payload is not zstd: {error}") from error
    if not decoder.eof:
        raise FrameInvalid(f"{name} payload ends inside its zstd frame")
    if at < len(payload) or decoder.unused_data:
        raise FrameInvalid(f"{name} payload goes on after its zstd frame")
    return b"".join(pieces)

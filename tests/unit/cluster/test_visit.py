"""An accepted connection until it is known who has come, and what it is told as it ends."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest
import zstandard

from cluster.accounts import Accounts
from cluster.announcer import Announcer
from cluster.audit_events import Accepted, Rejected
from cluster.auth import Authenticator
from cluster.cluster_config import ClusterConfig
from cluster.config import AnonymousAccess
from cluster.strangers import Stay
from cluster.visit import INLINE_BYTES_MAX, Visit
from redwire.errors import ChannelClosed, FrameInvalid, ProtocolError
from redwire.frame import COMPRESSED, HEADER, HEADER_BYTES, FrameDecoder, Kind, encode_frame
from redwire.handshake import ANONYMOUS_NAME, PREFACE
from redwire.position import Region
from redwire.stream import Channel

HELLO = encode_frame(Kind.HELLO, b'{"versions":[1],"auth_methods":["anonymous"],"features":0}', 1)
CREDENTIALS = encode_frame(Kind.AUTH_RESPONSE, b"", 2)
HONEST = (PREFACE + HELLO, CREDENTIALS)
PING = encode_frame(Kind.PING, b"", 3)
BYE = encode_frame(Kind.BYE, b"", 3)
BROKEN = HEADER.pack(HEADER_BYTES - 1, Kind.PING, 0, 0, 0)


class Line:
    """In the place of a `Channel`: brings what it was given, then the end, and keeps what was written."""

    def __init__(self, *coming: bytes) -> None:
        self.name = "127.0.0.1:9"
        self.ssl_object = None
        self.coming = [*coming]
        self.written = b""
        self.closed = False
        self.stays = False

    async def receive(self) -> bytes:
        if self.stays:
            await anyio.sleep_forever()
        return self.coming.pop(0) if self.coming else b""

    def write(self, *chunks: bytes, now: bool = False) -> None:
        self.written += b"".join(chunks)

    async def drain_below(self, limit_bytes: int) -> None:
        """Everything has left."""

    def close(self) -> None:
        self.closed = True

    @property
    def kinds(self) -> list[int]:
        """What was sent, by kind."""
        return [frame.kind for frame in FrameDecoder().receive_data(self.written)]


def come(*coming: bytes, anonymous: AnonymousAccess = AnonymousAccess.READ) -> tuple[Visit, Line]:
    """A visit that says this, at a node that lets strangers in as told."""
    line, announcer = Line(*coming), Announcer(Region("eu"))
    cluster = cast(ClusterConfig, None)  # nobody has a certificate here
    authenticator = Authenticator(lambda: cluster, anonymous, Accounts, lambda: bytes(32), announcer, str)
    return Visit(cast(Channel, line), authenticator, cast(Stay, None)), line


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_whoever_keeps_to_the_handshake_is_in_and_has_a_line(size: int) -> None:
    pieces = [part[at : at + size] for part in HONEST for at in range(0, len(part), size)]
    visit, line = come(*pieces, PING)
    event = await visit.shake_hands()
    assert visit.principal is not None and visit.principal.name == ANONYMOUS_NAME
    assert isinstance(event, Accepted) and event.address == visit.peer == line.name
    assert line.kinds == [Kind.HELLO_ACK, Kind.AUTH_OK]
    (frame,) = await visit.frames()
    assert frame.kind == Kind.PING, "what comes behind the handshake is the session's"


async def test_whoever_is_not_let_in_is_told_and_has_a_line() -> None:
    visit, line = come(*HONEST, anonymous=AnonymousAccess.OFF)
    event = await visit.shake_hands()
    assert visit.principal is None and line.kinds == [Kind.AUTH_FAIL]
    assert isinstance(event, Rejected) and "no common authentication method" in event.why


async def test_whoever_was_refused_may_still_say_goodbye_and_goes_first() -> None:
    visit, line = come(*HONEST, BYE, anonymous=AnonymousAccess.OFF)
    await visit.shake_hands()
    assert line.coming == [CREDENTIALS, BYE]
    await visit.see_off()
    assert line.coming == [] and line.kinds == [Kind.AUTH_FAIL], "read to the end, and nothing answered"


async def test_whoever_was_refused_and_says_more_than_goodbye_is_not_heard_out() -> None:
    visit, line = come(HONEST[0], *([bytes(4_096)] * 100), anonymous=AnonymousAccess.OFF)
    await visit.shake_hands()
    await visit.see_off()
    assert len(line.coming) == 98


async def test_whoever_was_refused_and_stays_is_left_after_a_moment() -> None:
    visit, line = come(HONEST[0], anonymous=AnonymousAccess.OFF)
    await visit.shake_hands()
    line.stays = True
    with anyio.fail_after(10):
        await visit.see_off()


@pytest.mark.parametrize("coming", [(b"GET /", PING), (*HONEST, PING)], ids=["no preface", "let in"])
async def test_nothing_is_waited_for_where_nobody_was_refused_in_words(coming: tuple[bytes, ...]) -> None:
    visit, line = come(*coming)
    await visit.shake_hands()
    await visit.see_off()
    assert line.coming == [PING]


async def test_a_request_in_one_breath_with_the_credentials_lets_nobody_in() -> None:
    visit, line = come(HONEST[0], CREDENTIALS + PING)
    assert isinstance(await visit.shake_hands(), Rejected)
    assert visit.principal is None and line.kinds == [Kind.HELLO_ACK, Kind.AUTH_FAIL]


@pytest.mark.parametrize("coming", [(), (PREFACE,), HONEST[:1]], ids=["nothing", "preface", "hello"])
async def test_whoever_goes_away_within_the_handshake_is_nobody_and_has_no_line(coming: Any) -> None:
    visit, _ = come(*coming)
    assert await visit.shake_hands() is None and visit.principal is None


async def test_the_end_and_broken_framing_end_the_visit_and_only_the_second_is_told() -> None:
    visit, line = come(*HONEST)
    await visit.shake_hands()
    with pytest.raises(ChannelClosed):
        await visit.frames()
    before = line.kinds
    line.coming.append(BROKEN)
    with pytest.raises(ProtocolError):
        await visit.frames()
    assert line.kinds == [*before, Kind.ERROR]


async def test_a_payload_is_expanded_when_asked_for_and_one_that_is_none_is_told() -> None:
    good, bad = zstandard.compress(b"payload"), b"not zstd"
    packed = [
        HEADER.pack(HEADER_BYTES + len(data), Kind.WRITE, COMPRESSED, 0, 1) + data for data in (good, bad)
    ]
    visit, line = come(*HONEST, b"".join(packed))
    await visit.shake_hands()
    first, second = await visit.frames()
    heavy = anyio.CapacityLimiter(1)
    assert first.payload == good and (await visit.plain(first, heavy)).payload == b"payload"
    before = line.kinds
    with pytest.raises(FrameInvalid):
        await visit.plain(second, heavy)
    assert line.kinds == [*before, Kind.ERROR]


@pytest.mark.parametrize("size", [100, INLINE_BYTES_MAX + 1])
async def test_a_payload_is_expanded_as_far_as_its_kind_may_be_long(size: int) -> None:
    data = zstandard.compress(bytes(size))
    frame = HEADER.pack(HEADER_BYTES + len(data), Kind.WRITE, COMPRESSED, 0, 1) + data
    visit, line = come(*HONEST, frame * 2)
    await visit.shake_hands()
    first, second = await visit.frames()
    heavy = anyio.CapacityLimiter(1)
    visit.narrow({Kind.WRITE: size})
    assert (await visit.plain(first, heavy)).payload == bytes(size)
    visit.narrow({Kind.WRITE: size - 1})
    with pytest.raises(FrameInvalid, match=f"more than {size - 1} bytes"):
        await visit.plain(second, heavy)
    assert line.kinds[-1] == Kind.ERROR


async def test_what_is_held_of_a_client_is_its_frame_that_is_not_whole_and_the_one_in_work() -> None:
    part = HEADER.pack(1 << 20, Kind.WRITE, 0, 0, 1) + bytes(1_000)
    visit, _ = come(*HONEST, part, part)
    await visit.shake_hands()
    assert visit.held_bytes == 0
    assert await visit.frames() == []
    assert visit.held_bytes == len(part)
    visit.in_work_bytes = 500
    assert visit.held_bytes == len(part) + 500


async def test_nothing_follows_the_last_word_and_the_channel_ends_with_the_visit() -> None:
    visit, line = come(*HONEST)
    visit.send(Kind.PONG, b"", 1)
    visit.hush()
    visit.send(Kind.PONG, b"", 2)
    assert line.kinds == [Kind.PONG]
    visit.close()
    assert line.closed

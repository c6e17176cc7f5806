from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from redwire.arrivals import BARREN_MAX
from redwire.errors import AuthenticationFailed, ChannelClosed, ConnectFailed
from redwire.handshake import PREFACE, TLS_ONLY, WRONG_TRANSPORT, Identity, PrincipalKind
from redwire.pipe import AHEAD_BYTES, PIECES_MAX, Pipe
from redwire.stream import (
    ASK_EVERY_S,
    ASKED_MAX,
    LAST_WORD_S,
    QUIET_S,
    RECEIVE_BYTES_MAX,
    SEND_BYTES_MAX,
    Channel,
    accept,
    connect,
    incoming,
)
from redwire.tls import certificate_identities, client_context, server_context

pytestmark = pytest.mark.anyio
NODE = "redwire://shop/node/eu-1"
LOOP_READS_BYTES = 256 << 10
"""What an event loop hands over at once, at most."""
Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops that a node may run on: their transports differ in what they do when."""
    return "asyncio", {"use_uvloop": request.param}


class FakeTransport(asyncio.Transport):
    """A transport that records what it is sent; while it is `shut` it holds every byte of it."""

    def __init__(self, *, shut: bool = False) -> None:
        super().__init__()
        self.sends: list[bytes] = []
        self.closed = False
        self.shut = shut
        self._held_bytes = 0
        self.pipe = Pipe(None)
        self.pipe.connection_made(self)

    def write(self, data: bytes) -> None:
        self.sends.append(bytes(data))
        if self.shut:
            self._held_bytes += len(data)
            self.pipe.pause_writing()

    def open(self, *, again_shut: bool = False) -> None:
        """Let what is held go, and from now on everything, or again nothing."""
        self.shut = again_shut
        self._held_bytes = 0
        self.pipe.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def get_write_buffer_size(self) -> int:
        return self._held_bytes

    def pause_reading(self) -> None:
        pass

    def write_eof(self) -> None:
        pass

    def abort(self) -> None:
        self.closed = True


def a_channel(transport: FakeTransport, **how: int) -> Channel:
    return Channel(transport.pipe, "peer", **how)


@pytest.fixture
def tls_contexts(authority: Any) -> Contexts:
    """The server's and the client's context, of two nodes."""
    one = authority.sign("one", NODE)
    return (
        server_context(authority.ca, one.cert, one.key),
        client_context(authority.ca, one.cert, one.key, peer=True),
    )


@pytest.fixture(params=["tcp", "tls"])
def contexts(request: pytest.FixtureRequest, tls_contexts: Contexts) -> Contexts:
    """The same for a connection without and with TLS."""
    return (None, None) if request.param == "tcp" else tls_contexts


@asynccontextmanager
async def a_pair(server: ssl.SSLContext | None, client: ssl.SSLContext | None) -> AsyncIterator[Any]:
    """Two channels over the loopback whose writers run."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepted: list[Channel] = []

        async def serve() -> None:
            accepted.append(await accept(await incoming(listener), server))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            near = await connect(*listener.getsockname(), client, server_hostname="localhost")
        yield near, accepted[0]
        near.close()
        accepted[0].close()


async def read(channel: Channel, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await channel.receive()
        assert piece
        assert len(piece) <= RECEIVE_BYTES_MAX
        data += piece
    return bytes(data)


async def test_bytes_go_both_ways_in_order(contexts: Contexts) -> None:
    async with a_pair(*contexts) as (near, far):
        near.write(b"hello ", b"there")
        near.write(b"!")
        assert await read(far, 12) == b"hello there!"
        far.write(b"x" * 3_000_000)
        assert await read(near, 3_000_000) == b"x" * 3_000_000
        await far.drain_below(1)
        assert far.buffered_bytes == 0


async def test_a_large_frame_passes_both_ways_at_once(contexts: Contexts) -> None:
    frame = bytes(range(256)) * (16 << 12)
    async with a_pair(*contexts) as (near, far):
        near.write(frame)
        far.write(frame)
        received: dict[Channel, bytes] = {}

        async def read_all(channel: Channel) -> None:
            received[channel] = await read(channel, len(frame))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_all, near)
            tasks.start_soon(read_all, far)
        assert received[near] == received[far] == frame


async def test_an_end_reads_as_nothing_and_goes_on_reading_so(contexts: Contexts) -> None:
    async with a_pair(*contexts) as (near, far):
        near.write(b"last words")
        await near.drain_below(1)
        near.close()
        assert await read(far, 10) == b"last words"
        assert await far.receive() == b""
        assert await far.receive() == b""


async def test_an_end_that_only_tls_tells_is_one_though_the_socket_stays_open(tls_contexts: Contexts) -> None:
    """asyncio's own TLS says goodbye, and keeps its socket until the other side has closed."""
    server, client = tls_contexts
    ends: list[bytes] = []

    async def serve(sock: socket.socket) -> None:
        channel = await accept(sock, server)
        with anyio.move_on_after(5):
            ends.extend([await channel.receive() for _ in range(3)])
        channel.close()

    async with a_listener(serve) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
        writer.write(b"last words")
        writer.close()
        await writer.wait_closed()
    assert ends == [b"last words", b"", b""]


async def test_what_is_closed_here_says_so_to_its_reader_and_drops_writes(contexts: Contexts) -> None:
    async with a_pair(*contexts) as (near, far):
        caught: list[ChannelClosed] = []

        async def reader() -> None:
            try:
                await near.receive()
            except ChannelClosed as error:
                caught.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            near.close()
        assert "closed on this side" in str(caught[0])
        near.write(b"too late")
        assert near.buffered_bytes == 0
        for wait in (near.receive, lambda: near.drain_below(1)):
            with pytest.raises(ChannelClosed, match="closed on this side"):
                await wait()
        near.close()
        assert await far.receive() == b""


async def test_a_peer_that_never_reads_is_dropped_and_nobody_waits_for_it(contexts: Contexts) -> None:
    async with a_pair(*contexts) as (near, _far):
        near.write(b"x" * (60 << 20))
        with anyio.move_on_after(0.2):  # until what the operating system takes is gone
            await near.drain_below(1 << 20)
        assert near.buffered_bytes > 8 << 20
        waiting = anyio.Event()
        caught: list[ChannelClosed] = []

        async def wait_for_room() -> None:
            waiting.set()
            try:
                await near.drain_below(1 << 20)
            except ChannelClosed as error:
                caught.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_room)
            await waiting.wait()
            near.write(b"x" * (60 << 20))
            near.write(b"x")
        assert "does not read" in str(caught[0])
        assert near.buffered_bytes == 0
        with pytest.raises(ChannelClosed, match=r"127\.0\.0\.1:\d+: it does not read"):
            await near.receive()


async def test_no_more_is_read_than_is_asked_for(contexts: Contexts) -> None:
    async with a_pair(*contexts) as (near, far):
        near.write(b"x" * (60 << 20))
        with anyio.move_on_after(0.2):
            await near.drain_below(1)
        assert far._pipe._incoming.pending <= AHEAD_BYTES + LOOP_READS_BYTES
        await read(far, 60 << 20)  # and all of it is read when it is asked for


@pytest.mark.parametrize(("sessions", "taken"), [(BARREN_MAX - 2, True), (4 * BARREN_MAX, False)])
async def test_who_sends_tls_messages_without_data_is_not_listened_to_for_long(
    contexts: Contexts, sessions: int, taken: bool
) -> None:
    server, client = contexts
    if server is None:
        pytest.skip("plain text has no such messages")
    server.num_tickets = sessions  # each is a record of its own, sent after the handshake
    async with a_pair(server, client) as (near, far):
        far.write(b"x")
        if taken:
            assert await near.receive() == b"x"
        else:
            assert await near.receive() == b"", "a connection that breaks before its first byte has ended"
            with pytest.raises(ChannelClosed, match="TLS messages that hold no data"):
                await near.drain_below(1)


async def test_writes_of_one_pass_leave_in_one_send() -> None:
    transport = FakeTransport()
    channel = a_channel(transport)
    for number in range(100):
        channel.write(bytes([number]), b".")
    channel.write()
    assert transport.sends == []
    await channel.drain_below(1)
    assert transport.sends == [b"".join(bytes([number]) + b"." for number in range(100))]


async def test_a_write_that_is_to_leave_now_takes_with_it_what_waits_and_leaves_once() -> None:
    transport = FakeTransport()
    channel = a_channel(transport)
    channel.write(b"a")
    channel.write(b"b", now=True)
    assert transport.sends == [b"ab"] and channel.buffered_bytes == 0
    channel.write(b"c")
    await channel.drain_below(1)
    assert transport.sends == [b"ab", b"c"]


async def test_what_is_to_leave_now_waits_for_a_transport_that_takes_no_more() -> None:
    transport = FakeTransport(shut=True)
    channel = a_channel(transport)
    channel.write(b"a", now=True)
    channel.write(b"b", now=True)
    assert transport.sends == [b"a"], "it is shut behind the first one"
    transport.open()
    await channel.drain_below(1)
    assert transport.sends == [b"a", b"b"]


async def test_a_last_word_has_a_moment_to_leave_and_no_more() -> None:
    for transport in (FakeTransport(), FakeTransport(shut=True)):
        channel = a_channel(transport)
        channel.write(b"bye")
        with anyio.fail_after(LAST_WORD_S + 5):
            await channel.let_out()
        assert (transport.sends, channel.buffered_bytes > 0) == ([b"bye"], transport.shut)


async def test_urgent_writes_overtake_and_no_write_is_torn() -> None:
    transport = FakeTransport(shut=True)
    channel = a_channel(transport)
    large = b"L" * (3 * SEND_BYTES_MAX + 1)
    channel.write(b"first")
    await anyio.lowlevel.checkpoint()  # it is in the hands of the transport
    channel.write(b"b" * SEND_BYTES_MAX)
    channel.write(b"head", large)
    channel.write(b"tail")
    channel.write(b"urgent 1", b"!", urgent=True)
    channel.write(b"urgent 2", urgent=True)
    await anyio.lowlevel.checkpoint()
    assert transport.sends == [b"first"]
    transport.open()
    await channel.drain_below(1)
    data = b"".join(transport.sends)
    assert data == b"firsturgent 1!urgent 2" + b"b" * SEND_BYTES_MAX + b"head" + large + b"tail"
    assert max(map(len, transport.sends)) <= SEND_BYTES_MAX


async def test_an_urgent_write_waits_for_the_write_that_is_on_its_way_only() -> None:
    transport = FakeTransport(shut=True)
    channel = a_channel(transport)
    channel.write(b"a" * (2 * SEND_BYTES_MAX))
    channel.write(b"b" * SEND_BYTES_MAX)
    await anyio.lowlevel.checkpoint()
    channel.write(b"!", urgent=True)
    transport.open()
    await channel.drain_below(1)
    data = b"".join(transport.sends)
    assert data == b"a" * (2 * SEND_BYTES_MAX) + b"!" + b"b" * SEND_BYTES_MAX


async def test_a_waiter_is_woken_as_soon_as_there_is_room() -> None:
    transport = FakeTransport(shut=True)
    channel = a_channel(transport)
    channel.write(b"a" * (4 * SEND_BYTES_MAX))
    await channel.drain_below(4 * SEND_BYTES_MAX + 1)
    assert transport.sends == []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.drain_below, 3 * SEND_BYTES_MAX + 1)
        await anyio.wait_all_tasks_blocked()
        assert len(transport.sends) == 1
        transport.open(again_shut=True)
    assert len(transport.sends) <= 2


@pytest.mark.parametrize("end", ["taken", "closed"])
async def test_who_asks_hears_once_when_little_waits_or_nothing_will_leave(end: str) -> None:
    transport, calls = FakeTransport(shut=True), list[int]()
    channel = a_channel(transport)
    channel.write(b"x" * 100, now=True)
    channel.when_below(100, lambda: calls.append(channel.buffered_bytes))
    channel.write(b"y")
    await anyio.lowlevel.checkpoint()
    assert calls == []
    if end == "taken":
        transport.open()
    else:
        channel.close()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    channel.write(b"z", now=True)
    assert len(calls) == 1


async def test_the_bound_on_the_buffer_is_exact() -> None:
    transport = FakeTransport()
    channel = a_channel(transport, buffered_bytes_max=10)
    channel.write(b"12345", b"67890")
    assert channel.buffered_bytes == 10
    channel.write(b"1")
    with pytest.raises(
        ChannelClosed, match="connection to peer: it does not read, and over 10 bytes wait for it"
    ):
        await channel.drain_below(1)
    assert transport.closed


async def test_what_the_transport_holds_counts_as_buffered() -> None:
    transport = FakeTransport(shut=True)
    channel = a_channel(transport, buffered_bytes_max=10)
    channel.write(b"1234567890")
    await anyio.lowlevel.checkpoint()
    assert (transport.sends, channel.buffered_bytes) == ([b"1234567890"], 10)
    channel.write(b"1")
    with pytest.raises(ChannelClosed, match="does not read"):
        await channel.drain_below(1)


@pytest.mark.parametrize("error", [None, ConnectionResetError(104, "Connection reset by peer")])
async def test_a_broken_connection_wakes_who_waits_and_drops_what_was_written(
    error: Exception | None,
) -> None:
    transport = FakeTransport(shut=True)
    channel = a_channel(transport)
    channel.write(b"x" * (2 * SEND_BYTES_MAX))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.lowlevel.checkpoint)
        asyncio.get_running_loop().call_soon(transport.pipe.connection_lost, error)
        with pytest.raises(
            ChannelClosed, match="connection to peer: (the other side closed it|Connection reset)"
        ):
            await channel.drain_below(1)
    channel.write(b"more")
    assert channel.buffered_bytes == 0


async def test_what_came_before_a_connection_broke_is_read_first() -> None:
    transport = FakeTransport()
    channel = a_channel(transport)
    transport.pipe.data_received(b"last words")
    transport.pipe.connection_lost(ConnectionResetError(104, "Connection reset by peer"))
    assert await channel.receive() == b"last words"
    with pytest.raises(ChannelClosed, match="connection to peer: Connection reset by peer"):
        await channel.receive()


async def test_a_connection_that_breaks_reads_as_ended_before_its_first_byte_only() -> None:
    early, late = FakeTransport(), FakeTransport()
    early.pipe.connection_lost(ConnectionResetError(104, "reset"))
    late.pipe.data_received(b"x")
    late.pipe.connection_lost(ConnectionResetError(104, "reset"))
    assert await a_channel(early).receive() == b""
    channel = a_channel(late)
    assert await channel.receive() == b"x"
    with pytest.raises(ChannelClosed, match="connection to peer: "):
        await channel.receive()


async def test_a_reset_that_the_first_words_meet_reads_as_an_end_too() -> None:
    transport = FakeTransport()
    channel = a_channel(transport)
    channel.write(b"hello")
    transport.pipe.connection_lost(BrokenPipeError(32, "Broken pipe"))
    assert await channel.receive() == b""
    channel.close()
    with pytest.raises(ChannelClosed, match="Broken pipe"):
        await channel.receive()


async def test_both_ends_know_each_other_by_certificate(contexts: Contexts) -> None:
    async with a_pair(*contexts) as (near, far):
        expected = Identity("shop", PrincipalKind.NODE, "eu-1") if contexts[0] else None
        assert certificate_identities(far.ssl_object) == expected
        assert certificate_identities(near.ssl_object) == expected
        for channel in (near, far):
            raw = channel._pipe._transport.get_extra_info("socket")
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_of_either_end_the_system_asks_whether_the_other_is_still_there(contexts: Contexts) -> None:
    async with a_pair(*contexts) as ends:
        for channel in ends:
            raw = channel._pipe._transport.get_extra_info("socket")
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            asked = [raw.getsockopt(socket.IPPROTO_TCP, name) for name in names]
            assert asked == [QUIET_S, ASK_EVERY_S, ASKED_MAX]


@asynccontextmanager
async def a_listener(handler: Callable[[socket.socket], Any]) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def serve() -> None:
            while True:
                tasks.start_soon(handler, await incoming(listener))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            yield listener.getsockname()[1]
            tasks.cancel_scope.cancel()


async def heard(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    return await asyncio.get_running_loop().sock_recv(sock, 65_536)


async def refused(port: int, context: ssl.SSLContext | None, hostname: str = "localhost") -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        await connect("127.0.0.1", port, context, server_hostname=hostname)
    return caught.value


async def test_a_port_where_nobody_listens_is_worth_another_try() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = await refused(taken.getsockname()[1], None)
    assert error.retry
    assert "cannot connect to 127.0.0.1:" in str(error)
    assert "efused" in str(error)


@pytest.mark.parametrize("host", ["no such host", "a" * 64, "x..y"])
async def test_a_name_that_cannot_be_found_is_a_typed_error(host: str) -> None:
    with pytest.raises(ConnectFailed, match="cannot find .*:1: .*; check the name of the host") as failed:
        await connect(host, 1, None)
    assert not failed.value.retry


async def test_a_server_that_we_must_not_trust_is_refused_for_good(authority: Any, stranger: Any) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)
    failures: list[ConnectFailed] = []

    async def serve(sock: socket.socket) -> None:
        with pytest.raises(ConnectFailed) as caught:
            await accept(sock, server)
        failures.append(caught.value)

    async with a_listener(serve) as port:
        foreign = await refused(port, client_context(stranger.ca, peer=False))
        misnamed = await refused(port, client_context(authority.ca, peer=False), "example.net")
        with anyio.fail_after(5):
            while len(failures) < 2:
                await anyio.sleep(0.01)
    assert "is not accepted: self-signed certificate" in str(foreign) or "unable to get" in str(foreign)
    assert "no authority that is trusted here issued it" in foreign.hint
    assert "is not accepted: Hostname mismatch" in str(misnamed)
    assert "dial a name that it has" in misnamed.hint
    assert not foreign.retry
    assert not misnamed.retry
    assert [failure.message.startswith("TLS handshake with 127.0.0.1:") for failure in failures] == [
        True,
        True,
    ]


async def test_a_server_without_tls_is_named_as_such(authority: Any) -> None:
    async def serve(sock: socket.socket) -> None:
        with sock:
            await heard(sock)
            sock.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with a_listener(serve) as port:
        error = await refused(port, client_context(authority.ca, peer=False))
    assert not error.retry
    assert "wrong version number" in str(error)


@pytest.mark.parametrize(
    ("first", "answer"),
    [(PREFACE + bytes(40), TLS_ONLY), (bytes(42), WRONG_TRANSPORT)],
    ids=["like a client", "like nobody"],
)
async def test_who_speaks_no_tls_is_told_so_in_what_it_speaks(
    authority: Any, first: bytes, answer: bytes
) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)

    async def serve(sock: socket.socket) -> None:
        with pytest.raises(ConnectFailed, match="TLS handshake"):
            await accept(sock, server)

    async with a_listener(serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first[:2])
        await writer.drain()
        writer.write(first[2:])
        with anyio.fail_after(5):
            assert await reader.read() == answer
        writer.close()
        await writer.wait_closed()


async def test_a_server_that_hangs_up_in_the_handshake_is_worth_another_try(authority: Any) -> None:
    async def serve(sock: socket.socket) -> None:
        await heard(sock)
        sock.close()

    async with a_listener(serve) as port:
        error = await refused(port, client_context(authority.ca, peer=False))
    assert error.retry
    assert "TLS handshake with 127.0.0.1" in str(error)


@pytest.mark.parametrize("hello", [b"", b"\xfe\x01" + bytes(100)])
async def test_a_refused_client_certificate_reads_as_an_end_or_a_refusal(
    authority: Any, stranger: Any, hello: bytes
) -> None:
    one, foreign = authority.sign("one", NODE), stranger.sign("foreign", NODE)
    server = server_context(authority.ca, one.cert, one.key)

    async def serve(sock: socket.socket) -> None:
        with pytest.raises(ConnectFailed, match="certificate of .* is not accepted"):
            await accept(sock, server)

    async with a_listener(serve) as port:
        context = client_context(authority.ca, foreign.cert, foreign.key, peer=True)
        channel = await connect("127.0.0.1", port, context, server_hostname="localhost")
        channel.write(hello)
        try:
            assert await channel.receive() == b""  # a reset took the alert with it
        except AuthenticationFailed as error:
            assert "refused our certificate" in str(error)
            assert "no authority that the other side trusts" in error.hint
            assert "unknown ca" in str(error.facts["alert"])
        channel.close()


async def test_a_client_that_gives_up_in_the_tls_handshake_leaves_nothing_behind(authority: Any) -> None:
    one = authority.sign("one", NODE)
    closed = anyio.Event()

    async def serve(sock: socket.socket) -> None:
        with sock:
            await heard(sock)  # and no answer
            assert await heard(sock) == b""
            closed.set()

    async with a_listener(serve) as port:
        with anyio.move_on_after(0.1) as scope:
            await connect("127.0.0.1", port, client_context(authority.ca, one.cert, one.key, peer=True))
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            await closed.wait()


async def test_a_client_that_is_gone_before_it_is_served_is_a_typed_error(authority: Any) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)
    done = anyio.Event()

    async def serve(sock: socket.socket) -> None:
        await anyio.wait_readable(sock)  # the reset has arrived
        with pytest.raises(ConnectFailed):
            await accept(sock, server)
        done.set()

    async with a_listener(serve) as port:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with anyio.fail_after(5):
            await done.wait()


async def test_many_records_that_have_arrived_come_in_one_read(tls_contexts: Contexts) -> None:
    async with a_pair(*tls_contexts) as (near, far):
        near.write(b"x" * 60_000)
        await near.drain_below(1)
        await anyio.wait_all_tasks_blocked()
        assert len(await far.receive()) > 16_384


async def test_a_connection_that_was_reset_before_we_looked_fails_like_any_other(contexts: Contexts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        taken, _ = server.accept()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.close()
        if contexts[0] is None:
            channel = await accept(near, None)
            assert await channel.receive() == b""
            channel.close()
        else:
            with pytest.raises(ConnectFailed) as failed:
                await accept(near, contexts[0])
            assert failed.value.retry


@pytest.mark.parametrize("passes", range(1, 9))
async def test_who_gives_up_at_any_step_of_an_opening_leaves_a_closed_socket(
    tls_contexts: Contexts, passes: int
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as far,
    ):
        near, _ = server.accept()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept, near, tls_contexts[0])
            for _ in range(passes):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        far.settimeout(5)
        assert near.fileno() == -1
        assert far.recv(1) == b""


@pytest.mark.parametrize("how", ["closed here", "reset there"])
async def test_what_an_ended_connection_held_is_free_at_once(contexts: Contexts, how: str) -> None:
    """A node's garbage collector looks at all that is old only once in a long while."""
    kept = []
    gc.disable()
    try:
        async with a_pair(*contexts) as (near, far):
            far.write(b"hello")
            assert await read(near, 5) == b"hello"
            kept += [weakref.ref(near), weakref.ref(near._pipe)]
            sock = None
            if how == "reset there":
                sock = far._pipe._transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                far._pipe._transport.abort()
                with pytest.raises(ChannelClosed):
                    await near.receive()
            near.close()
            await anyio.sleep(0.05)
        del near, far, sock
        await anyio.sleep(0.05)
        assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()


async def test_who_sends_a_byte_in_each_record_leaves_others_their_turn(tls_contexts: Contexts) -> None:
    server, client = tls_contexts
    async with a_pair(server, client) as (near, far):
        tls = near.ssl_object
        for _ in range(4 * PIECES_MAX):
            tls.write(b"x")
        near._pipe._send()
        await anyio.sleep(0.05)
        turns, taken = 0, [await far.receive()]

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            while sum(map(len, taken)) < 4 * PIECES_MAX:
                taken.append(await far.receive())
            tasks.cancel_scope.cancel()
        assert max(map(len, taken)) == PIECES_MAX
        assert turns >= 3, "between one read and the next"


async def test_who_sends_much_in_small_records_is_no_storm(tls_contexts: Contexts) -> None:
    """The last record of a read is there in part: TLS finds no data in it yet."""
    server, client = tls_contexts
    async with a_pair(server, client) as (near, far):
        tls, pipe = near.ssl_object, near._pipe
        for _ in range(PIECES_MAX - 20):
            tls.write(b"x")
        data = pipe._outgoing.read()
        pipe._transport.write(data[:-5])
        taken = await far.receive()
        while len(taken) < PIECES_MAX - 21:
            taken += await far.receive()
        pipe._transport.write(data[-5:])
        assert await far.receive() == b"x"

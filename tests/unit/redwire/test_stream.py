from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.abc import SocketAttribute

from redwire.errors import AuthenticationFailed, ChannelClosed, ConnectFailed
from redwire.handshake import Identity, PrincipalKind
from redwire.stream import RECEIVE_BYTES_MAX, SEND_BYTES_MAX, Channel, accept, connect
from redwire.tls import certificate_identities, client_context, server_context

pytestmark = pytest.mark.anyio
NODE = "redwire://shop/node/eu-1"
Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


class FakeTransport(anyio.abc.ByteStream):
    """A transport that records what it is sent, and sends only while `gate` is open."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.sends: list[bytes] = []
        self.closed = False
        self.incoming: list[bytes | Exception] = []

    async def send(self, item: bytes) -> None:
        await self.gate.wait()
        self.sends.append(item)
        await anyio.lowlevel.checkpoint()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        item = self.incoming.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    async def send_eof(self) -> None:
        raise AssertionError("nobody half-closes")

    async def aclose(self) -> None:
        self.closed = True


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
    accepted: list[Channel] = []
    ready = anyio.Event()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        accepted.append(await accept(stream, server))
        ready.set()
        await accepted[0].run_writer()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            near = await connect("127.0.0.1", port, client, server_hostname="localhost")
            tasks.start_soon(near.run_writer)
            await ready.wait()
            yield near, accepted[0]
            await near.aclose()
            await accepted[0].aclose()
            tasks.cancel_scope.cancel()


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
        await near.aclose()
        assert await read(far, 10) == b"last words"
        assert await far.receive() == b""
        assert await far.receive() == b""


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
            await near.aclose()
        assert "closed on this side" in str(caught[0])
        near.write(b"too late")
        assert near.buffered_bytes == 0
        for wait in (near.receive, lambda: near.drain_below(1)):
            with pytest.raises(ChannelClosed, match="closed on this side"):
                await wait()
        await near.aclose()
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
        inner = getattr(far._transport, "transport_stream", far._transport)
        assert sum(map(len, inner._protocol.read_queue)) < 1 << 20


async def test_writes_of_one_turn_leave_in_one_send() -> None:
    transport = FakeTransport()
    transport.gate.set()
    channel = Channel(transport, "peer")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.run_writer)
        await anyio.wait_all_tasks_blocked()
        for number in range(100):
            channel.write(bytes([number]), b".")
        channel.write()
        await channel.drain_below(1)
        tasks.cancel_scope.cancel()
    assert transport.sends == [b"".join(bytes([number]) + b"." for number in range(100))]


async def test_urgent_writes_overtake_and_no_write_is_torn() -> None:
    transport = FakeTransport()
    channel = Channel(transport, "peer")
    large = b"L" * (3 * SEND_BYTES_MAX + 1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.run_writer)
        channel.write(b"first")
        await anyio.wait_all_tasks_blocked()  # it is in the hands of the transport
        channel.write(b"b" * SEND_BYTES_MAX)
        channel.write(b"head", large)
        channel.write(b"tail")
        channel.write(b"urgent 1", b"!", urgent=True)
        channel.write(b"urgent 2", urgent=True)
        transport.gate.set()
        await channel.drain_below(1)
        tasks.cancel_scope.cancel()
    data = b"".join(transport.sends)
    assert data == b"firsturgent 1!urgent 2" + b"b" * SEND_BYTES_MAX + b"head" + large + b"tail"
    assert max(map(len, transport.sends)) <= SEND_BYTES_MAX


async def test_an_urgent_write_waits_for_the_write_that_is_on_its_way_only() -> None:
    transport = FakeTransport()
    channel = Channel(transport, "peer")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.run_writer)
        channel.write(b"a" * (2 * SEND_BYTES_MAX))
        channel.write(b"b" * SEND_BYTES_MAX)
        await anyio.wait_all_tasks_blocked()
        channel.write(b"!", urgent=True)
        transport.gate.set()
        await channel.drain_below(1)
        tasks.cancel_scope.cancel()
    data = b"".join(transport.sends)
    assert data == b"a" * (2 * SEND_BYTES_MAX) + b"!" + b"b" * SEND_BYTES_MAX


async def test_a_waiter_is_woken_as_soon_as_there_is_room() -> None:
    transport = FakeTransport()
    channel = Channel(transport, "peer")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.run_writer)
        channel.write(b"a" * (4 * SEND_BYTES_MAX))
        await channel.drain_below(4 * SEND_BYTES_MAX + 1)
        assert transport.sends == []
        transport.gate.set()
        await channel.drain_below(3 * SEND_BYTES_MAX + 1)
        assert len(transport.sends) == 1
        tasks.cancel_scope.cancel()


async def test_the_bound_on_the_buffer_is_exact() -> None:
    transport = FakeTransport()
    channel = Channel(transport, "peer", buffered_bytes_max=10)
    channel.write(b"12345", b"67890")
    assert channel.buffered_bytes == 10
    channel.write(b"1")
    with pytest.raises(
        ChannelClosed, match="connection to peer: it does not read, and over 10 bytes wait for it"
    ):
        await channel.drain_below(1)
    await channel.run_writer()
    assert transport.closed


@pytest.mark.parametrize(
    "error",
    [anyio.BrokenResourceError(), anyio.EndOfStream(), ConnectionResetError(104, "Connection reset by peer")],
)
async def test_a_failing_send_closes_the_transport_and_wakes_who_waits(error: Exception) -> None:
    class Failing(FakeTransport):
        async def send(self, item: bytes) -> None:
            await anyio.lowlevel.checkpoint()
            raise error

    transport = Failing()
    channel = Channel(transport, "peer")
    channel.write(b"x" * (2 * SEND_BYTES_MAX))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.run_writer)
        with pytest.raises(
            ChannelClosed, match="connection to peer: (the other side closed it|Connection reset)"
        ):
            await channel.drain_below(1)
    assert transport.closed
    assert transport.sends == []


ALERT = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
ALERT.reason = "TLSV1_ALERT_UNKNOWN_CA"
OTHER_ALERT = ssl.SSLError(1, "[SSL: SSLV3_ALERT_BAD_RECORD_MAC]")
OTHER_ALERT.reason = "SSLV3_ALERT_BAD_RECORD_MAC"


@pytest.mark.parametrize(
    "error",
    [
        anyio.BrokenResourceError(),
        ConnectionResetError(104, "reset"),
        anyio.BusyResourceError("x"),
        OTHER_ALERT,
    ],
)
async def test_a_connection_that_breaks_reads_as_ended_before_its_first_byte_only(error: Exception) -> None:
    early, late = FakeTransport(), FakeTransport()
    early.incoming = [error]
    late.incoming = [b"x", error]
    assert await Channel(early, "peer").receive() == b""
    channel = Channel(late, "peer")
    assert await channel.receive() == b"x"
    with pytest.raises(ChannelClosed, match="connection to peer: "):
        await channel.receive()


async def test_a_reset_that_the_first_words_meet_reads_as_an_end_too() -> None:
    class Failing(FakeTransport):
        async def send(self, item: bytes) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    channel = Channel(Failing(), "peer")
    channel.write(b"hello")
    await channel.flush()
    assert await channel.receive() == b""
    await channel.aclose()
    with pytest.raises(ChannelClosed, match="Broken pipe"):
        await channel.receive()


async def test_flush_sends_everything_without_a_writer() -> None:
    transport = FakeTransport()
    transport.gate.set()
    channel = Channel(transport, "peer")
    channel.write(b"x" * SEND_BYTES_MAX)
    channel.write(b"y")
    channel.write(b"!", urgent=True)
    await channel.flush()
    assert b"".join(transport.sends) == b"!" + b"x" * SEND_BYTES_MAX + b"y"
    assert channel.buffered_bytes == 0


async def test_an_alert_about_our_certificate_is_a_refusal() -> None:
    transport = FakeTransport()
    transport.incoming = [ALERT]
    with pytest.raises(AuthenticationFailed, match="peer refused our certificate: tlsv1 alert unknown ca"):
        await Channel(transport, "peer").receive()


async def test_both_ends_know_each_other_by_certificate(contexts: Contexts) -> None:
    async with a_pair(*contexts) as (near, far):
        expected = Identity("shop", PrincipalKind.NODE, "eu-1") if contexts[0] else None
        assert certificate_identities(far.ssl_object) == expected
        assert certificate_identities(near.ssl_object) == expected
        for channel in (near, far):
            raw = channel._transport.extra(SocketAttribute.raw_socket)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@asynccontextmanager
async def a_listener(handler: Callable[[Any], Any]) -> AsyncIterator[int]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


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
    with pytest.raises(ConnectFailed, match="cannot connect to"):
        await connect(host, 1, None)


async def test_a_server_that_we_must_not_trust_is_refused_for_good(authority: Any, stranger: Any) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)
    failures: list[ConnectFailed] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        with pytest.raises(ConnectFailed) as caught:
            await accept(stream, server)
        failures.append(caught.value)

    async with a_listener(serve) as port:
        foreign = await refused(port, client_context(stranger.ca, peer=False))
        misnamed = await refused(port, client_context(authority.ca, peer=False), "example.net")
        with anyio.fail_after(5):
            while len(failures) < 2:
                await anyio.sleep(0.01)
    assert "is not accepted: self-signed certificate" in str(foreign) or "unable to get" in str(foreign)
    assert "is not accepted: Hostname mismatch" in str(misnamed)
    assert not foreign.retry
    assert not misnamed.retry
    assert [failure.message.startswith("TLS handshake with 127.0.0.1:") for failure in failures] == [
        True,
        True,
    ]


async def test_a_server_without_tls_is_named_as_such(authority: Any) -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with a_listener(serve) as port:
        error = await refused(port, client_context(authority.ca, peer=False))
    assert not error.retry
    assert "wrong version number" in str(error)


async def test_a_server_that_hangs_up_in_the_handshake_is_worth_another_try(authority: Any) -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        await stream.receive()
        await stream.aclose()

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

    async def serve(stream: anyio.abc.SocketStream) -> None:
        with pytest.raises(ConnectFailed, match="certificate of .* is not accepted"):
            await accept(stream, server)

    async with a_listener(serve) as port:
        context = client_context(authority.ca, foreign.cert, foreign.key, peer=True)
        channel = await connect("127.0.0.1", port, context, server_hostname="localhost")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.run_writer)
            channel.write(hello)
            assert await channel.receive() == b""
            await channel.aclose()


async def test_a_client_that_gives_up_in_the_tls_handshake_leaves_nothing_behind(authority: Any) -> None:
    one = authority.sign("one", NODE)
    closed = anyio.Event()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()  # and no answer
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
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

    async def serve(stream: anyio.abc.SocketStream) -> None:
        await anyio.sleep(0.05)
        with pytest.raises(ConnectFailed):
            await accept(stream, server)
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


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": fast}) for fast in (False, True)])
async def test_a_connection_that_was_reset_before_we_looked_fails_like_any_other(
    anyio_backend: object, contexts: Contexts
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = await anyio.connect_tcp(*server.getsockname())
        taken, _ = server.accept()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.close()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()
        with pytest.raises(ConnectFailed) as failed:
            await accept(stream, contexts[0])
        assert failed.value.retry

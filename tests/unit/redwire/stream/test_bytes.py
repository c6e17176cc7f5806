"""Bytes between two channels: in order, within bounds, and to the end of either."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import weakref

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from redwire.arrivals import BARREN_MAX
from redwire.errors import ChannelClosed
from redwire.handshake import Identity, PrincipalKind
from redwire.pipe import AHEAD_BYTES, HEAR_OUT_S, PIECES_MAX
from redwire.stream import ASK_EVERY_S, ASKED_MAX, QUIET_S, Channel, accept
from redwire.tls import certificate_identities
from tests.channels import Contexts, a_listener, a_pair, read

pytestmark = pytest.mark.anyio
LOOP_READS_BYTES = 256 << 10
"""What an event loop hands over at once, at most."""


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


async def test_who_is_in_the_middle_of_a_send_reads_the_last_word_behind_it(contexts: Contexts) -> None:
    async with a_pair(*contexts) as (near, far):
        near.write(bytes(4 * AHEAD_BYTES))
        await read(far, 1)
        far.write(b"too much")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(far.hear_out)
            await near.drain_below(1)
            near.write(bytes(LOOP_READS_BYTES))
            await near.drain_below(1)
            assert await read(near, 8) == b"too much"
            assert await near.receive() == b""
            near.close()
            began_s = anyio.current_time()
        assert anyio.current_time() - began_s < HEAR_OUT_S / 2


async def test_what_is_written_behind_a_last_word_is_dropped_and_cuts_nobody_off(contexts: Contexts) -> None:
    async with a_pair(*contexts) as (near, far):
        far.write(b"last word")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(far.hear_out)
            assert await read(near, 9) == b"last word"
            assert await near.receive() == b""
            far.write(b"of a commit", now=True)
            far.write(b"of another")
            await anyio.sleep(0.05)
            assert not far.ended
            near.close()


async def test_nobody_is_heard_out_for_ever(contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redwire.pipe.HEAR_OUT_S", 0.2)
    async with a_pair(*contexts) as (near, far):
        with anyio.fail_after(2):
            await far.hear_out()
        assert await near.receive() == b""


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


async def test_who_closes_says_so_in_the_words_of_tls(tls_contexts: Contexts) -> None:
    """An end without them may be somebody's who cut the connection, and some libraries call it an error."""
    server, client = tls_contexts
    assert client is not None
    client.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    heard: list[bytes] = []

    async def serve(sock: socket.socket) -> None:
        channel = await accept(sock, server)
        channel.write(b"last words")
        await channel.let_out()
        channel.close()

    def listen(port: int) -> None:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            client.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
        ):
            heard.extend([sock.recv(100), sock.recv(100)])

    async with a_listener(serve) as port:
        await anyio.to_thread.run_sync(listen, port)
    assert heard == [b"last words", b""]


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


async def test_many_records_that_have_arrived_come_in_one_read(tls_contexts: Contexts) -> None:
    async with a_pair(*tls_contexts) as (near, far):
        near.write(b"x" * 60_000)
        await near.drain_below(1)
        await anyio.wait_all_tasks_blocked()
        assert len(await far.receive()) > 16_384


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

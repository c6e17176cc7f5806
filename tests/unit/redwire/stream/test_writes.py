"""What a channel hands to its transport: when, in which order, and what waits; and how that breaks."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from redwire.errors import ChannelClosed
from redwire.stream import LAST_WORD_S, SEND_BYTES_MAX
from tests.channels import FakeTransport, a_channel

pytestmark = pytest.mark.anyio


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

"""Channels over the loopback and over a transport that only records, made for tests."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from redwire.pipe import Pipe
from redwire.stream import RECEIVE_BYTES_MAX, Channel, accept, connect, incoming
from redwire.tls import may_have_certificate

NODE = "redwire://shop/node/eu-1"
Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


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


@asynccontextmanager
async def a_pair(server: ssl.SSLContext | None, client: ssl.SSLContext | None) -> AsyncIterator[Any]:
    """Two channels over the loopback whose writers run."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepted: list[Channel] = []

        async def serve() -> None:
            accepted.append(await accept(await incoming(listener), server, asks=may_have_certificate))

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

"""Both ends of a line of the network: a node's services that take whoever dials, and who has dialled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
from machines import HERE

from cluster.node import Node
from cluster.server import Server
from cluster.service import Service
from redwire.errors import ChannelClosed, RedwireError
from redwire.frame import Frame, FrameDecoder, encode_header, expanded
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.position import NodeId
from redwire.stream import Channel


class SimulatedNode(Node):
    """A node that its machine knows of."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        HERE.get().node = self


class SimulatedService(Service):
    """A service that its machine knows of."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        HERE.get().service = self


class SimulatedServer(Server):
    """Serves members, and clients, over lines of the network."""

    async def serve(self, listener: object) -> None:
        machine = HERE.get()
        machine.server = self
        try:
            await anyio.sleep_forever()
        finally:
            if machine.server is self:
                machine.server = None

    async def serve_member(self, channel: Channel, member: NodeId) -> None:
        """Serve one connection to its end."""
        try:
            await self._serve_member(Visitor(channel), member)  # type: ignore[arg-type]
        except* RedwireError:
            pass
        finally:
            channel.close()

    async def serve_client(self, channel: Channel, name: str) -> None:
        """The same for an application."""
        who = Principal(PrincipalKind.USER, name, Role.WRITE, topology_read=True)
        try:
            await self._serve_client(Visitor(channel), who)  # type: ignore[arg-type]
        except* RedwireError:
            pass
        finally:
            channel.close()


class Visitor:
    """An accepted connection of somebody who has proved who it is."""

    certificate = stay = None

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.peer = channel.name
        self._decoder = FrameDecoder(expand=False)
        self.in_work_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        return self.channel.buffered_bytes

    @property
    def gone(self) -> bool:
        return self.channel.ended

    def when_below(self, limit_bytes: int, call: Callable[[], None]) -> None:
        self.channel.when_below(limit_bytes, call)

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        self.channel.write(encode_header(kind, len(payload), correlation, stream), payload)

    async def frames(self, before: Callable[[], Awaitable[None]] | None = None) -> list[Frame]:
        data = await self.channel.receive()
        if not data:
            raise ChannelClosed("it has gone")
        if before is not None:
            await before()
        return self._decoder.receive_data(data)

    def narrow(self, limits: Mapping[int, int]) -> None:
        self._decoder.limits = limits

    @property
    def held_bytes(self) -> int:
        return self._decoder.kept_bytes

    async def plain(self, frame: Frame, heavy: object) -> Frame:
        return expanded(frame) if frame.flags else frame


class Dialled:
    """A dialled connection."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._decoder = FrameDecoder()

    async def receive(self) -> list[Frame]:
        data = await self.channel.receive()
        if not data:
            raise ChannelClosed(f"{self.channel.name} closed the connection")
        return self._decoder.receive_data(data)

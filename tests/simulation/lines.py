"""Lines between simulated machines: streams with a delay, which can stand still, break, or lose their end.

A line that is cut holds what is on its way, as TCP does, and delivers it once it is mended: old frames come
late, and in order. A machine that loses its power says nothing; one whose process is killed breaks its lines.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Protocol

from redwire.errors import ConnectFailed
from redwire.handshake import HANDSHAKE_S
from redwire.pipe import Pipe
from redwire.stream import Channel

HELD_BYTES_MAX = 256 << 10
"""What a line takes while nothing leaves: beyond it whoever writes is told to wait."""


class Place(Protocol):
    """A machine as the network sees it. `number` is the life of its process, raised at every start."""

    name: str
    number: int
    context: Context

    @property
    def listening(self) -> bool:
        """Whether its process accepts connections."""

    @property
    def powered(self) -> bool:
        """Whether the machine answers at all, if only by a refusal."""

    def accept(self, channel: Channel, dialler: str) -> None:
        """Serve a connection."""

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run `work` as part of its process."""


class Network:
    """All lines of one simulated cluster. `rtt_s` is that of two machines; `cut` holds one-way pairs."""

    def __init__(self, chance: random.Random, rtt_s: dict[frozenset[str], float]) -> None:
        self.places: dict[str, Place] = {}
        self.cut: set[tuple[str, str]] = set()
        self._chance = chance
        self._rtt_s = rtt_s
        self._ends: list[End] = []
        self._mended_s: dict[frozenset[str], float] = {}

    def disturbed_s(self, one: str, other: str) -> float:
        """When something last stood between the two; now, if it does."""
        if {(one, other), (other, one)} & self.cut:
            return asyncio.get_running_loop().time()
        return self._mended_s.get(frozenset((one, other)), 0.0)

    def delay_s(self, source: str, to: str) -> float:
        """How long the next bytes take: half of the round trip, and now and then far more."""
        base = self._rtt_s[frozenset((source, to))] / 2
        late = self._chance.random()
        return base * self._chance.uniform(1.0, 1.3) + (self._chance.expovariate(5.0) if late < 0.01 else 0.0)

    async def dial(self, source: Place, to: str) -> Channel:
        """A new connection from `source`, once the other side has accepted it. Raises `ConnectFailed`."""
        target, until_s = self.places[to], asyncio.get_running_loop().time() + HANDSHAKE_S
        ways = {(source.name, to), (to, source.name)}
        while ways & self.cut or not target.powered:
            if asyncio.get_running_loop().time() >= until_s:
                raise ConnectFailed(f"{to} did not take the connection within {HANDSHAKE_S:g} s", retry=True)
            await asyncio.sleep(self._chance.uniform(0.05, 0.5))  # as TCP tries again by itself
        await asyncio.sleep(2 * (self.delay_s(source.name, to) + self.delay_s(to, source.name)))
        if not target.listening or ways & self.cut:
            raise ConnectFailed(f"cannot connect to {to}: connection refused", retry=True)
        near, far = End(self, source, to), End(self, target, source.name)
        near.other, far.other = far, near
        self._ends = [end for end in self._ends if end.open] + [near, far]
        target.accept(Channel(far.pipe, source.name), source.name)
        return Channel(near.pipe, to)

    def separate(self, source: str, to: str) -> None:
        """From now on nothing gets from `source` to `to`."""
        self.cut.add((source, to))

    def mend(self, source: str, to: str) -> None:
        """What was held is delivered, and what follows."""
        self.cut.discard((source, to))
        self._mended_s[frozenset((source, to))] = asyncio.get_running_loop().time()
        for end in self._ends:
            if end.place.name == source and end.peer == to:
                end.resume()

    def reset(self, one: str, other: str) -> None:
        """Break all connections between two machines; what is on its way is lost."""
        for end in self._ends:
            if {end.place.name, end.peer} == {one, other}:
                end.lost(ConnectionResetError("reset"))

    def died(self, name: str, *, power: bool) -> None:
        """The process of a machine is gone. Its peers learn of that unless the `power` is."""
        for end in self._ends:
            if end.place.name == name and end.open:
                end.vanish(told=not power)


class End(asyncio.Transport):
    """One end of a connection: the transport under a `Pipe` of a node."""

    other: End

    def __init__(self, network: Network, place: Place, peer: str) -> None:
        super().__init__()
        self.place = place
        self.peer = peer
        self.open = True
        self._life = place.number
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._free_s = 0.0  # what is sent now arrives no earlier than this
        self._held: deque[bytes | None] = deque()  # None is the end of the stream
        self._held_bytes = 0
        self._blocked = False
        self._paused = False
        self._unread: deque[bytes | None] = deque()
        self.pipe = Pipe(None)
        self.pipe.connection_made(self)

    # --- what the pipe calls

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As if the limit were always the same."""

    def get_write_buffer_size(self) -> int:
        """What does not leave."""
        return self._held_bytes

    def write(self, data: Any) -> None:
        """Send bytes."""
        if self.open and data:
            self._send(bytes(data))

    def write_eof(self) -> None:
        """Send the end."""
        if self.open:
            self._send(None)

    def abort(self) -> None:
        """Close at once; what was written before still arrives."""
        if self.open:
            self.open = False
            self._loop.call_soon(self.pipe.connection_lost, None, context=self.place.context)

    def pause_reading(self) -> None:
        """Deliver nothing for now."""
        self._paused = True

    def resume_reading(self) -> None:
        """Deliver what has come."""
        self._paused = False
        while self._unread and not self._paused:
            self._hand(self._unread.popleft())

    # --- what the network calls

    def resume(self) -> None:
        """The line is mended: what was held arrives after all, before anything else."""
        held, self._held, self._held_bytes = self._held, deque(), 0
        for data in held:
            self._loop.call_soon(self._arrive, data, context=self.other.place.context)
        if self._blocked:
            self._blocked = False
            self._call(self.pipe.resume_writing)

    def lost(self, error: Exception | None) -> None:
        """The connection broke; nothing that is under way arrives."""
        if self.open:
            self.open = False
            self._held.clear()
            self._call(self.pipe.connection_lost, error)

    def vanish(self, *, told: bool) -> None:
        """The process of this end is gone. The other end hears of it by and by, if `told`."""
        self.open = False
        if told:
            self._later(self.other.lost, ConnectionResetError("reset"))

    def _send(self, data: bytes | None) -> None:
        self._later(self._arrive, data)

    def _later(self, callback: Any, argument: Any) -> None:
        arrives_s = self._loop.time() + self._network.delay_s(self.place.name, self.peer)
        self._free_s = max(self._free_s + 1e-6, arrives_s)  # of two at one moment either could be first
        self._loop.call_at(self._free_s, callback, argument, context=self.other.place.context)

    def _arrive(self, data: bytes | None) -> None:
        if (self.place.name, self.peer) in self._network.cut:
            self._held.append(data)
            self._held_bytes += len(data or b"")
            if self._held_bytes > HELD_BYTES_MAX and not self._blocked:
                self._blocked = True
                self._call(self.pipe.pause_writing)
            return
        other = self.other
        if other.open:
            other._take(data)
        elif other.place.powered and other.place.number != other._life and self.open:
            self.lost(ConnectionResetError("reset"))  # a later process knows nothing of this connection

    def _take(self, data: bytes | None) -> None:
        if self._paused or self._unread:
            self._unread.append(data)
        else:
            self._hand(data)

    def _hand(self, data: bytes | None) -> None:
        if data is None:
            self.pipe.eof_received()
        else:
            self.pipe.data_received(data)

    def _call(self, callback: Any, *arguments: Any) -> None:
        if self.place.number == self._life:
            self._loop.call_soon(callback, *arguments, context=self.place.context)

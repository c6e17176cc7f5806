"""A link between regions on one machine: a TCP proxy that adds delay, and that can be cut.

It listens on loopback and carries each connection to its target. Every chunk waits its one-way delay in a
queue, so a link has latency and no rate of its own; the queue is bounded, and a full one stops reading, as a
full pipe would. What was sent first arrives first, the end of a stream travels behind its data, and a reset
stays a reset: that is why the sockets are plain ones, which can be closed with nothing but a reset.
"""

from __future__ import annotations

import random
import socket
import struct
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskStatus

from tools.errors import LinkInvalid

CHUNK_BYTES = 1 << 16
"""Four of TLS's records: what comes in one reading leaves in one."""
QUEUE_BYTES_MAX = 32 << 20
"""Per direction of a connection: 500 MB/s over 60 ms, more than a proxy in Python carries."""
DELAY_MS_MAX = 60_000
"""A minute: further away nothing works that there is to try."""
WAKING_MS = 0.3
"""What waking up takes, before it was measured. A chunk waits for it twice, when it comes and when its time
has come, and leaves that much early.
"""
WAKING_MS_MAX = 0.6
"""On a busy machine it may take any time: links do not try to make up for that."""

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
DelayMs = Annotated[float, msgspec.Meta(ge=0, le=DELAY_MS_MAX)]


class LinkSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One link: who dials it is in the region `here`, its target is `there`.

    `listen_port` 0 takes a free one. A chunk waits `one_way_ms` and up to `jitter_ms` more.
    """

    here: str
    there: str
    listen_port: Port
    target_host: str
    target_port: Port
    one_way_ms: DelayMs
    jitter_ms: DelayMs = 0

    @property
    def name(self) -> str:
        """The pair of regions, which every link between them shares."""
        return "-".join(sorted((self.here, self.there)))


class Direction(StrEnum):
    """OUT is from whoever dialled the link to its target."""

    OUT = "out"
    BACK = "back"


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A link at a glance. `held_bytes` are in its queues: on their way, or held back by a cut."""

    name: str
    here: str
    there: str
    port: int
    target: str
    one_way_ms: float
    jitter_ms: float
    cut: list[Direction]
    refusing: bool
    connections: int
    held_bytes: int


class DelayLink:
    """One link. `serve` runs it; the other methods change it at once, from the same event loop."""

    def __init__(self, spec: LinkSpec, chance: random.Random | None = None) -> None:
        self.spec = spec
        self.port = spec.listen_port
        self._chance = chance or random.Random()
        self._gates = {direction: _Gate(spec.one_way_ms, spec.jitter_ms) for direction in Direction}
        self._refusing = False
        self._connections: set[_Connection] = set()

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen and carry connections until cancelled. Started when `port` can be dialled.

        Raises `LinkInvalid` when it cannot listen there.
        """
        try:
            listener = socket.create_server(("127.0.0.1", self.spec.listen_port), backlog=128)
        except OSError as error:
            raise LinkInvalid(
                f"link {self.spec.name} cannot listen on port {self.spec.listen_port}: {error.strerror}",
                hint="is another process there?",
            ) from error
        with listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            task_status.started()
            async with anyio.create_task_group() as group:
                while True:
                    await anyio.wait_readable(listener)
                    try:
                        accepted, _ = listener.accept()
                    except (BlockingIOError, ConnectionError):
                        continue  # it went away before it was taken
                    group.start_soon(self._accepted, accepted)

    def cut(self, *directions: Direction, reset: bool = False) -> None:
        """Let nothing pass in `directions` (both if none is named); what is on its way is held until `heal`.

        With `reset` every connection breaks now, and so does each new one until `heal`.
        """
        for direction in directions or Direction:
            self._gates[direction].shut()
        if reset:
            self._refusing = True
            for connection in self._connections:
                connection.scope.cancel()

    def heal(self) -> None:
        """Let everything pass again, and as quickly as at first. What a cut held back arrives first."""
        self._refusing = False
        self.set_delay(self.spec.one_way_ms, self.spec.jitter_ms)
        for gate in self._gates.values():
            gate.open()

    def set_delay(self, one_way_ms: float, jitter_ms: float | None = None) -> None:
        """Delay what is sent from now on by another time; nothing overtakes what is on its way."""
        if not 0 <= one_way_ms <= DELAY_MS_MAX or not 0 <= (jitter_ms or 0) <= DELAY_MS_MAX:
            raise LinkInvalid(f"a delay lies between 0 and {DELAY_MS_MAX} ms")
        for gate in self._gates.values():
            gate.one_way_ms = one_way_ms
            gate.jitter_ms = gate.jitter_ms if jitter_ms is None else jitter_ms

    def status(self) -> LinkStatus:
        """The link as it is now."""
        gate = self._gates[Direction.OUT]
        return LinkStatus(
            name=self.spec.name,
            here=self.spec.here,
            there=self.spec.there,
            port=self.port,
            target=f"{self.spec.target_host}:{self.spec.target_port}",
            one_way_ms=gate.one_way_ms,
            jitter_ms=gate.jitter_ms,
            cut=[direction for direction, gate in self._gates.items() if not gate.is_open],
            refusing=self._refusing,
            connections=len(self._connections),
            held_bytes=sum(pipe.held_bytes for one in self._connections for pipe in one.pipes.values()),
        )

    async def _accepted(self, accepted: socket.socket) -> None:
        with accepted:
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._refusing:
                _reset_on_close(accepted)
                return
            pipes = {direction: _Pipe(gate, self._chance) for direction, gate in self._gates.items()}
            connection = _Connection(pipes, anyio.CancelScope())
            self._connections.add(connection)
            try:
                with connection.scope:
                    await self._carry(accepted, pipes)
                if connection.scope.cancelled_caught:
                    _reset_on_close(accepted)
            finally:
                self._connections.discard(connection)

    async def _carry(self, accepted: socket.socket, pipes: dict[Direction, _Pipe]) -> None:
        for gate in self._gates.values():
            await gate.passed()  # connecting takes a round trip: a cut in either direction stops it
        dialled = await self._dial()
        if dialled is None:
            _reset_on_close(accepted)
            return
        with dialled:
            reset = True
            try:
                async with anyio.create_task_group() as group:

                    async def carry(pipe: _Pipe, source: socket.socket, sink: socket.socket) -> None:
                        if await pipe.carry(source, sink) is _End.RESET:
                            _reset_on_close(accepted)
                            group.cancel_scope.cancel()

                    group.start_soon(carry, pipes[Direction.OUT], accepted, dialled)
                    group.start_soon(carry, pipes[Direction.BACK], dialled, accepted)
                reset = group.cancel_scope.cancel_called
            finally:
                if reset:
                    _reset_on_close(dialled)

    async def _dial(self) -> socket.socket | None:
        """A connection to the target; None when nobody answers there."""
        for family, kind, _, _, address in await anyio.getaddrinfo(
            self.spec.target_host, self.spec.target_port, type=socket.SOCK_STREAM
        ):
            with ExitStack() as closing:
                dialled = closing.enter_context(socket.socket(family, kind))
                dialled.setblocking(False)
                dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if dialled.connect_ex(address):
                    await anyio.wait_writable(dialled)
                if not dialled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    closing.pop_all()
                    return dialled
        return None


class _Gate:
    """What one direction of a link asks for: how long a chunk waits, and whether anything passes."""

    def __init__(self, one_way_ms: float, jitter_ms: float) -> None:
        self.one_way_ms = one_way_ms
        self.jitter_ms = jitter_ms
        self._waking_s = WAKING_MS / 1000
        self._opened = anyio.Event()
        self._opened.set()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    def open(self) -> None:
        self._opened.set()

    def shut(self) -> None:
        if self._opened.is_set():
            self._opened = anyio.Event()

    async def passed(self) -> None:
        """Return while the gate is open; a cut that begins during the wait is waited out as well."""
        while not self._opened.is_set():
            await self._opened.wait()

    def delay_s(self, chance: random.Random) -> float:
        asked_s = (self.one_way_ms + self.jitter_ms * chance.random()) / 1000
        return max(0.0, asked_s - 2 * self._waking_s)

    def woke(self, late_s: float) -> None:
        """A wait took so much longer than it should."""
        late_s = min(max(late_s, 0.0), WAKING_MS_MAX / 1000)
        self._waking_s += (late_s - self._waking_s) / 8


class _End(StrEnum):
    """How a source ends its stream: the last thing in the queue."""

    EOF = "eof"
    RESET = "reset"


class _Pipe:
    """One direction of one connection: a queue between a reader and a writer."""

    def __init__(self, gate: _Gate, chance: random.Random) -> None:
        self.held_bytes = 0
        self._gate = gate
        self._chance = chance
        self._queue: deque[tuple[float, bytes | _End]] = deque()
        self._last_due = 0.0
        self._moved = anyio.Event()

    async def carry(self, source: socket.socket, sink: socket.socket) -> _End:
        """Carry everything from `source` to `sink`; how it ended.

        A sink that breaks ends it quietly: the pipe that reads from that side has more to carry and says how.
        """
        ended = _End.EOF
        async with anyio.create_task_group() as group:
            group.start_soon(self._read, source)
            try:
                ended = await self._write(sink)
            except OSError:
                self._queue.clear()
                self.held_bytes = 0
            group.cancel_scope.cancel()
        return ended

    async def _read(self, source: socket.socket) -> None:
        end = _End.EOF
        try:
            while data := await _receive(source):
                self._put(data)
                while self.held_bytes >= QUEUE_BYTES_MAX:
                    await self._moved.wait()
        except OSError:
            end = _End.RESET
        self._put(end)

    def _put(self, item: bytes | _End) -> None:
        due = anyio.current_time() + self._gate.delay_s(self._chance)
        self._last_due = max(self._last_due, due)
        self._queue.append((self._last_due, item))
        self.held_bytes += len(item) if isinstance(item, bytes) else 0
        self._signal()

    async def _write(self, sink: socket.socket) -> _End:
        while True:
            while not self._queue:
                await self._moved.wait()
            due, item = self._queue[0]
            if due > anyio.current_time():
                await anyio.sleep_until(due)
                self._gate.woke(anyio.current_time() - due)
            await self._gate.passed()
            if isinstance(item, _End):
                if item is _End.EOF:
                    sink.shutdown(socket.SHUT_WR)
                return item
            await _send(sink, item)
            self._queue.popleft()
            self.held_bytes -= len(item)
            self._signal()

    def _signal(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()


@dataclass(frozen=True, slots=True, eq=False)
class _Connection:
    """One connection through a link; cancelling its scope resets it."""

    pipes: dict[Direction, _Pipe]
    scope: anyio.CancelScope


async def _receive(source: socket.socket) -> bytes:
    """What there is, empty at the end of the stream. Raises `OSError` when it broke."""
    await anyio.lowlevel.checkpoint()  # a source that never runs dry leaves room for others
    while True:
        try:
            return source.recv(CHUNK_BYTES)
        except BlockingIOError:
            await anyio.wait_readable(source)


async def _send(sink: socket.socket, data: bytes) -> None:
    """Send all of `data`. Raises `OSError` when the other side is gone."""
    left = memoryview(data)
    while left:
        try:
            left = left[sink.send(left) :]
        except BlockingIOError:
            await anyio.wait_writable(sink)


def _reset_on_close(stream: socket.socket) -> None:
    """Make `close` send a reset instead of an end of stream."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

"""One measured window: load runs, and counters are read exactly where the window begins and ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec

from tools.bench.figures import Wire
from tools.bench.generator import Found, Span, Task
from tools.bench.proc import MachineCpu, cpu_s, machine_cpu
from tools.bench.sockets import Connection, connections, moved_bytes
from tools.bench.worker import Worker

CORES = os.cpu_count() or 1
WARM_UP_S = 1.0
"""Connections are open by then, and what runs once has run."""


class Counters(msgspec.Struct, frozen=True):
    """The counters at one moment. No `links` where the kernel tells nothing of sockets."""

    server_s: float
    client_s: float
    machine: MachineCpu
    links: Sequence[Connection] | None


class Observed(msgspec.Struct, frozen=True):
    """What the counters say about a window, in seconds of CPU and bytes."""

    server_s: float
    client_s: float
    others: float
    client_bytes: int | None
    feed_bytes: int | None

    def wire(self, commits: int) -> Wire | None:
        """Bytes for each of so many commits."""
        if self.client_bytes is None or self.feed_bytes is None or not commits:
            return None
        return Wire(self.client_bytes / commits, self.feed_bytes / commits)


class Watch:
    """Reads the counters of one cluster. Made before the load connects: who is there then is a follower."""

    def __init__(self, server_pids: Callable[[], Sequence[int]], port: int) -> None:
        self._server_pids = server_pids
        self._port = port
        links = _links() or []
        self._followers = frozenset(each.peer_port for each in links if each.port == port)

    def read(self, client_pids: Sequence[int]) -> Counters:
        """The counters now."""
        return Counters(cpu_s(self._server_pids()), cpu_s(client_pids), machine_cpu(), _links())

    def observe(self, span: Span, client_pids: Sequence[int]) -> Observed:
        """Wait for the window and through it."""
        sleep_until(span.begin_s)
        before = self.read(client_pids)
        sleep_until(span.end_s)
        return self.between(before, self.read(client_pids))

    def between(self, before: Counters, after: Counters) -> Observed:
        """What happened between two moments."""
        server_s, client_s = after.server_s - before.server_s, after.client_s - before.client_s
        busy = after.machine.busy_s - before.machine.busy_s
        cores_s = (after.machine.total_s - before.machine.total_s) / CORES
        others = max(0.0, busy - server_s - client_s) / cores_s if cores_s else 0.0
        if before.links is None or after.links is None:
            return Observed(server_s, client_s, others, None, None)
        fed = moved_bytes(before.links, self._port, self._followers)
        feeds = moved_bytes(after.links, self._port, self._followers)
        return Observed(server_s, client_s, others, feeds[1] - fed[1], feeds[0] - fed[0])


class Generators:
    """The processes of one load against a redwire cluster. A context manager: they end with it."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._stack = ExitStack()
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        """Start and connect them all. Raises `BenchImpossible`."""
        try:
            for task in self._tasks:
                self._workers.append(self._stack.enter_context(Worker("tools.bench.generator", task)))
            for worker in self._workers:
                worker.line()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [worker.pid for worker in self._workers]

    def begin(self, span: Span) -> None:
        """Let them run: they begin at once and count inside `span`."""
        for worker in self._workers:
            worker.say(span)

    def found(self) -> list[Found]:
        """What they found, once the window is over."""
        return [msgspec.json.decode(worker.line(), type=Found) for worker in self._workers]


def coming_span(seconds: float) -> Span:
    """A window that begins after a warm-up from now."""
    begin_s = time.monotonic() + WARM_UP_S
    return Span(begin_s, begin_s + seconds)


def sleep_until(moment_s: float) -> None:
    """Sleep until a moment of the monotonic clock."""
    time.sleep(max(0.0, moment_s - time.monotonic()))


def _links() -> list[Connection] | None:
    try:
        return connections()
    except OSError:
        return None

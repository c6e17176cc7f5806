"""The floor under a commit: what bytes, TLS, disk and SQLite cost in Python, and nothing else.

Three processes as three nodes: the primary makes one batch of what its clients have sent, syncs it in a
thread while two followers do the same, applies it in another thread once it and one of them hold it, and
answers. They use the pipe, the system calls and the statements of a node. There are no terms, keys, policies,
roles, checks, receipts, no catching up and no patience: what a node costs beside this is the price of those.

    python tests/bare_pipeline.py [seconds]

prints commits a second for 1, 8 and 64 clients with a connection each, and the CPU of the nodes and of the
clients for each commit. To be held against `redwire bench` on the same machine, at the same hour.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from redwire.pipe import Pipe

HEAD = struct.Struct("<IQ")
"""Length of what follows, and the number of a request or a batch."""
REQUEST, ANSWER = bytes(200), bytes(60)
"""As long as a Write of 150 bytes of document, and its Written."""
CLIENTS = (1, 8, 64)
LOG_BYTES = 256 << 20
APPLY_EVERY_S = 0.01
"""On followers, as `cluster.apply_feed` has it."""
WHO = "n-1"
SWITCH_INTERVAL_S = 1e-4
"""As `cluster.main` has it."""

Took = Callable[["Line", int, bytes], None]


class Line:
    """Numbered messages over one pipe. What is sent in one pass of the loop leaves together."""

    def __init__(self, pipe: Pipe, took: Took) -> None:
        self.asked_s = 0.0
        self._pipe, self._took = pipe, took
        self._rest = b""
        self._out: list[bytes] = []

    async def run(self) -> None:
        """Take messages until the other side ends."""
        while data := self._rest + await self._pipe.read(64 << 10):
            at = 0
            while len(data) - at >= HEAD.size:
                size, number = HEAD.unpack_from(data, at)
                if len(data) - at - HEAD.size < size:
                    break
                self._took(self, number, data[at + HEAD.size : at + HEAD.size + size])
                at += HEAD.size + size
            self._rest = data[at:]

    def send(self, number: int, data: bytes) -> None:
        """Send one message."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out += (HEAD.pack(len(data), number), data)

    def _flush(self) -> None:
        self._pipe.write(b"".join(self._out))
        self._out.clear()


class Worker:
    """A thread that takes everything that waits at once, and tells the event loop its last number."""

    def __init__(self, work: Callable[[list[tuple[int, bytes]]], None], done: Callable[[int], None]) -> None:
        self._work, self._done = work, done
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self.put = self._asked.put
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            group = [self._asked.get()]
            while not self._asked.empty():
                group.append(self._asked.get_nowait())
            self._work(group)
            self._loop.call_soon_threadsafe(self._done, group[-1][0])


def log(path: Path, done: Callable[[int], None]) -> Worker:
    """A log that is written and synced, a group at a time."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.posix_fallocate(fd, 0, LOG_BYTES)
    os.fsync(fd)

    def write(group: list[tuple[int, bytes]]) -> None:
        os.write(fd, b"".join([data for _, data in group]))
        os.fdatasync(fd)

    return Worker(write, done)


def state(path: Path, done: Callable[[int], None], *, pause_s: float) -> Worker:
    """A state: a row for each request, one of keys for each batch, and one that says how far it goes."""
    chance, execute = random.Random(1), list[Callable[..., object]]()

    def open_file() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE docs (id TEXT PRIMARY KEY, version INTEGER, doc BLOB)",
            "CREATE TABLE keys (lsn INTEGER PRIMARY KEY, entries BLOB)",
            "CREATE TABLE meta (applied INTEGER)",
            "INSERT INTO meta VALUES (0)",
        ):
            connection.execute(statement)
        execute.append(connection.executemany)
        return connection

    def apply(group: list[tuple[int, bytes]]) -> None:
        if not execute:
            execute.append(open_file().execute)
        many, one = execute
        one("BEGIN")
        for number, data in group:
            rows = [(f"d{chance.randrange(100_000):06}", number, data[:150]) for _ in range(len(data) // 200)]
            many("INSERT INTO docs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET doc = excluded.doc", rows)
            one("INSERT INTO keys VALUES (?, ?)", (number, data[:60]))
        one("UPDATE meta SET applied = ?", (group[-1][0],))
        one("COMMIT")
        time.sleep(pause_s)

    return Worker(apply, done)


async def serve(folder: Path, port: int, took: Took) -> None:
    """Take lines for ever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{WHO}.pem", folder / f"{WHO}.key")
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:

        class Accepted(Pipe):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                _without_delay(transport)
                tasks.create_task(_served(self, took))

        await loop.create_server(lambda: Accepted(context, server_side=True), "127.0.0.1", port)
        await asyncio.Event().wait()


async def _served(pipe: Pipe, took: Took) -> None:
    with suppress(ConnectionError):
        await pipe.shake_hands()
        await Line(pipe, took).run()


async def dial(port: int, took: Took, tasks: asyncio.TaskGroup) -> Line:
    """A line to whoever listens on `port`, soon or now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    loop = asyncio.get_running_loop()
    while True:
        try:
            transport, pipe = await loop.create_connection(lambda: Pipe(context), "127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            _without_delay(transport)
            await pipe.shake_hands()
            line = Line(pipe, took)
            tasks.create_task(line.run())
            return line


def _without_delay(transport: asyncio.BaseTransport) -> None:
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def follower(folder: Path, port: int) -> None:
    """Sync every batch, ack it, and apply some of them at a time."""
    source: list[Line] = []
    disk = log(folder / f"{port}.log", lambda number: source[-1].send(number, b""))
    rows = state(folder / f"{port}.db", lambda number: None, pause_s=APPLY_EVERY_S)

    def took(line: Line, number: int, data: bytes) -> None:
        source[:] = [line]
        disk.put((number, data))
        rows.put((number, data))

    await serve(folder, port, took)


class Primary:
    """Batches by number: what waits, who waits for which, and how far disk, followers and state are."""

    def __init__(self, folder: Path, port: int) -> None:
        self.followers: list[Line] = []
        self._fresh: list[tuple[Line, int, bytes]] = []
        self._flights: dict[int, tuple[bytes, list[tuple[Line, int]]]] = {}
        self._made = self._durable = self._acked = self._given = 0
        self._disk = log(folder / f"{port}.log", self._synced)
        self._rows = state(folder / f"{port}.db", self._applied, pause_s=0)

    def asked(self, line: Line, number: int, data: bytes) -> None:
        """A request: it leaves with all that come in the same pass of the loop."""
        if not self._fresh:
            asyncio.get_running_loop().call_soon(self._turn)
        self._fresh.append((line, number, data))

    def acked(self, line: Line, number: int, data: bytes) -> None:
        """A follower holds everything up to `number`; one is enough."""
        self._acked = max(self._acked, number)
        self._commit()

    def _turn(self) -> None:
        self._made += 1
        data = b"".join([data for _, _, data in self._fresh])
        self._flights[self._made] = data, [(line, number) for line, number, _ in self._fresh]
        self._fresh.clear()
        self._disk.put((self._made, data))
        for line in self.followers:
            line.send(self._made, data)

    def _synced(self, number: int) -> None:
        self._durable = number
        self._commit()

    def _commit(self) -> None:
        while self._given < min(self._durable, self._acked):
            self._given += 1
            self._rows.put((self._given, self._flights[self._given][0]))

    def _applied(self, last: int) -> None:
        for number in [number for number in self._flights if number <= last]:
            for line, request in self._flights.pop(number)[1]:
                line.send(request, ANSWER)


async def primary(folder: Path, port: int, others: Sequence[int]) -> None:
    """Lead the followers at `others`."""
    node = Primary(folder, port)
    async with asyncio.TaskGroup() as tasks:
        node.followers = [await dial(each, node.acked, tasks) for each in others]
        await serve(folder, port, node.asked)


async def load(port: int, clients: int, seconds: float) -> None:
    """Keep one request under way on each of so many connections; print what came of it."""
    took_s: list[float] = []
    ends_s = float("inf")

    def answered(line: Line, number: int, data: bytes) -> None:
        now_s = time.perf_counter()
        took_s.append(now_s - line.asked_s)
        if now_s < ends_s:
            line.asked_s = now_s
            line.send(number + 1, REQUEST)

    async with asyncio.TaskGroup() as tasks:
        lines = [await dial(port, answered, tasks) for _ in range(clients)]
        began_s, cpu_s = time.perf_counter(), time.process_time()
        ends_s = began_s + seconds
        for line in lines:
            line.asked_s = time.perf_counter()
            line.send(1, REQUEST)
        await asyncio.sleep(seconds)
        used_s, median_s = time.process_time() - cpu_s, sorted(took_s)[len(took_s) // 2]
        print(len(took_s) / seconds, median_s * 1e3, used_s, flush=True)
        os._exit(0)  # the lines would be waited for


def run(*arguments: object) -> subprocess.Popen[str]:
    """A process of this module."""
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def cpu_s(nodes: Sequence[subprocess.Popen[str]]) -> float:
    """What they have used so far."""
    ticks = 0
    for node in nodes:
        fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(seconds: float) -> None:
    """Three nodes, the loads one after the other, a line for each."""
    from tools.dev.certificates import write_certificates  # the processes that are measured do without
    from tools.dev.cluster_folder import free_ports

    with tempfile.TemporaryDirectory(prefix="bare-pipeline-") as name:
        folder = Path(name)
        write_certificates(folder, "bare", [], [WHO])
        ports = free_ports(3)
        nodes = [run("follower", name, port) for port in ports[1:]]
        nodes.append(run("primary", name, *ports))
        try:
            for clients in CLIENTS:
                before_s = cpu_s(nodes)
                told, _ = run("load", ports[0], clients, seconds).communicate()
                rate, p50_ms, used_s = map(float, told.split())
                nodes_us = (cpu_s(nodes) - before_s) / (rate * seconds) * 1e6
                clients_us = used_s / (rate * seconds) * 1e6
                cost = f"CPU a commit: nodes {nodes_us:5,.0f} us, clients {clients_us:4,.0f} us"
                print(f"{clients:3} clients {rate:7,.0f} commits/s  p50 {p50_ms:5.2f} ms  {cost}", flush=True)
        finally:
            for node in nodes:
                node.kill()
                node.wait()


def main() -> None:
    """One of the processes, or all of them."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if find_spec("uvloop") is not None:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    match sys.argv[1:]:
        case ["follower", folder, port]:
            asyncio.run(follower(Path(folder), int(port)))
        case ["primary", folder, port, *others]:
            asyncio.run(primary(Path(folder), int(port), [*map(int, others)]))
        case ["load", port, clients, seconds]:
            asyncio.run(load(int(port), int(clients), float(seconds)))
        case [seconds]:
            measure(float(seconds))
        case _:
            measure(3.0)


if __name__ == "__main__":
    main()

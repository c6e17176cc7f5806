"""Simulated machines: each runs a node's process, with real files, at simulated speed, and can lose both."""

from __future__ import annotations

import asyncio
import contextvars
import random
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
import anyio.to_thread
from disks import Faults, failing
from lines import Network
from msgspec.structs import replace

from cluster import (
    applier,
    apply_queue,
    disk,
    journal,
    outbox,
    peers,
    process,
    reader,
    server,
    sqlite_log,
    state,
    storage,
)
from cluster.address import Address
from cluster.applier import Applier
from cluster.config import NodeConfig
from cluster.disk import Disk
from cluster.effects import Now
from cluster.errors import DiskFailed, DiskFull, NodeError, NoSpaceToStart
from cluster.log_config import Level
from cluster.node import Node
from cluster.opening import TakeOver
from cluster.process import Process
from cluster.reader import Reader, Worker
from cluster.server import Server
from cluster.service import Service
from cluster.signals import Signals
from cluster.threads import Post
from cluster.wal import Wal
from redwire.errors import ChannelClosed, ConnectFailed, RedwireError
from redwire.frame import Frame, FrameDecoder, encode_header, expanded
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.position import NodeId
from redwire.stream import Channel
from regions.binding import MemberKind

SEGMENT_BYTES = 32 << 10
"""So small that logs are let go of within a run, and snapshots are needed."""
CHECKPOINT_BYTES = 128 << 10
"""So small that states are checkpointed within a run: before that no log is let go of."""
KEY_ENTRIES = 16
"""So few of what is stored of keys that was dropped: then it is written anew within a run."""
HERE: contextvars.ContextVar[Machine] = contextvars.ContextVar("machine")
"""The machine whose process runs at this moment; the `Application` where that is a client's."""


class Machine:
    """A computer with one disk. `node` and `service` are those of its process while it runs one.

    `stall_s` makes its disk slow, `faults` are those of its disk; `skew_ms` is how far its wall clock is off.
    `failure`: its process ended because of a disk that is well. `robbed`: of a snapshot that came to it.
    """

    def __init__(
        self, config: NodeConfig, network: Network, chance: random.Random, log: Callable[[str], None]
    ) -> None:
        self.config = config
        self.name = str(config.node.id)
        self.number = 0
        self.powered = True
        self.stall_s = 0.0
        self.faults = Faults()
        self.skew_ms = 0
        self.node: Node | None = None
        self.service: Service | None = None
        self.server: SimulatedServer | None = None
        self.ended = ""
        self.failure = ""
        self.robbed = False
        self.context = contextvars.copy_context()
        self._network = network
        self._chance = chance
        self._log = log
        self._process: Process | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._life = Life()
        self._held = 0
        network.places[self.name] = self

    # --- as a place of the network

    @property
    def listening(self) -> bool:
        """Whether its process accepts connections."""
        return self.server is not None

    def accept(self, channel: Channel, dialler: str) -> None:
        """Serve a connection."""
        assert self.server is not None
        member = isinstance(self._network.places[dialler], Machine)
        serve = self.server.serve_member if member else self.server.serve_client
        self.spawn(serve(channel, NodeId(dialler)))

    @property
    def addr(self) -> str:
        """The address that clients find in the topology."""
        return str(self.config.reached_at)

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run `work` as part of its process."""
        task = asyncio.get_running_loop().create_task(work, context=self.context)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # now, and not when its task is collected

    # --- what people do with it

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None

    @property
    def held(self) -> int:
        """The highest LSN that was ever safe on one of its disks."""
        if self.node is not None:
            self._held = max(self._held, self.node.storage.log.durable)
        return self._held

    @property
    def snapshots(self) -> Path:
        """The folder of those that it offers, and of the one that it is sent."""
        return Path(self.config.node.data_dir) / "snapshots"

    @property
    def reader(self) -> bool:
        """Whether it is no voter, as far as it knows."""
        cluster = self.node.storage.settings.cluster if self.node is not None else self.config.cluster
        member = cluster.member(self.config.node.id)
        return member is None or member.kind is MemberKind.READER

    @property
    def aspires(self) -> bool:
        """Whether it wants to lead."""
        return self.node is not None and self.node.roster.candidacy.aspires

    @property
    def leads(self) -> bool:
        """Whether it believes to be in a reign of its own."""
        return self.node is not None and self.node.leads

    def start(self, *, primary: bool, take_over: TakeOver | None = None) -> None:
        """Start its process."""
        assert not self.running
        self.number += 1
        self.powered, self.ended = True, ""
        self._life = Life()
        self.faults.failed = self.robbed = False
        self.context = contextvars.copy_context()
        self.context.run(HERE.set, self)
        role = process.ReplicationRole.PRIMARY if primary else process.ReplicationRole.REPLICA
        config = replace(self.config, node=replace(self.config.node, role=role))
        self.spawn(self._run(config, take_over))

    def crash(self, *, power: bool) -> None:
        """End its process at this moment. With the `power` goes what the disk did not hold yet, of the state
        too.
        """
        assert self.running
        self._held = self.held
        self._life.over = True
        self.ended = ""
        self.node = self.service = self.server = self._process = None
        self.powered = not power
        self._network.died(self.name, power=power)
        self._take_disk_out(power=power)
        for task in list(self._tasks):
            task.cancel()

    def stop(self) -> None:
        """End its process in good order."""
        if self._process is not None:
            self._process._scope.cancel()

    def wipe(self) -> None:
        """Put an empty disk in."""
        assert not self.running
        shutil.rmtree(self.config.node.data_dir, ignore_errors=True)

    @property
    def elsewhere(self) -> str:
        """An address that it never had."""
        return f"{self.name}:{self.config.reached_at.port + 100}"

    def move(self, addr: str) -> None:
        """Change its file: from now on it is reached there."""
        assert not self.running
        cluster, at = self.config.cluster, Address.parse(addr)
        members = tuple(replace(m, addr=at) if m.id == self.name else m for m in cluster.members)
        self.config = replace(self.config, cluster=replace(cluster, members=members))

    def _take_disk_out(self, *, power: bool) -> None:
        """What the disk holds at this moment, in a folder of its own: a process that is being ended closes
        its files, which would write once more. Of the state's own log, which nobody syncs, nothing outlives
        the `power`.
        """
        folder = Path(self.config.node.data_dir)
        new = folder.with_name(f"{self.name}-{self.number}")
        ignored = ("*.db-shm", "*.db-wal") if power else ("*.db-shm",)
        shutil.copytree(folder, new, ignore=shutil.ignore_patterns(*ignored))
        self.config = replace(self.config, node=replace(self.config.node, data_dir=str(new)))

    # --- what its process needs

    def now(self) -> Now:
        """Its clocks."""
        us = int(asyncio.get_running_loop().time() * 1_000_000)
        return Now(us, 1_800_000_000_000 + us // 1000 + self.skew_ms)

    def later(self, work: Callable[[], None], *, slow: bool = True, more_s: float = 0.0) -> None:
        """Do `work` when the disk has got to it, `more_s` later, unless the process is gone by then."""
        delay_s = self._chance.uniform(0.0002, 0.004) + (self.stall_s if slow else 0.0) + more_s
        life = self._life
        loop = asyncio.get_running_loop()
        loop.call_later(delay_s, lambda: None if life.over else work(), context=self.context)

    @property
    def life(self) -> Life:
        """That of the process that runs."""
        return self._life

    def note(self, text: str, level: Level = Level.INFO) -> None:
        """A line of its log."""
        self._log(f"{self.name}: {text}")

    async def _run(self, config: NodeConfig, take_over: TakeOver | None) -> None:
        life = self._life
        held: Any = Credentials()
        self._process = Process(config, held, self.note, Signals(), take_over=take_over)
        try:
            await self._process.run()
        except (NoSpaceToStart, DiskFailed) as error:
            self.ended = repr(error)
            self._take_disk_out(power=False)  # a process that has ended holds no lock
        except Exception as error:
            self.ended = repr(error)
            raise
        finally:
            if not life.over:
                self._held = self.held
                life.over = True
                failure = self._process._failure
                if isinstance(failure, DiskFailed) and not (self.faults.failed or self.robbed):
                    self.failure = f"{self.name} ended: {failure}"
                self.ended = self.ended or (str(failure) if failure is not None else "stopped")
                self.node = self.service = self.server = self._process = None
                self._network.died(self.name, power=False)
                for task in self._tasks - {asyncio.current_task()}:
                    task.cancel()


class Life:
    """One life of a process. `over`: nothing that it began goes on."""

    def __init__(self) -> None:
        self.over = False


class Credentials:
    """What stands for certificates: lines in memory have no TLS, the network knows who dials."""

    not_after_ms = None
    unnamed: tuple[str, ...] = ()
    current = SimpleNamespace(ending=lambda now_ms: [], hosts=frozenset())

    def client_context(self) -> None:
        """None: no TLS."""

    server_context = client_context


class Turns:
    """What a thread of this machine does: `work`, done by the loop when its time has come. However often it
    is asked for, one turn at most is due.
    """

    def __init__(self, work: Callable[[], None], *, slow: bool) -> None:
        self._machine = HERE.get()
        self._work = work
        self._slow = slow
        self._due = False

    def soon(self, more_s: float = 0.0) -> None:
        """Let there be a turn, `more_s` later than it would be."""
        if not self._due:
            self._due = True
            self._machine.later(self.take, slow=self._slow, more_s=more_s)

    def take(self) -> None:
        """A turn, now."""
        self._due = False
        self._work()


class SimulatedDisk(Disk):
    """The disk thread's work, done by the loop when its time has come."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._life = HERE.get().life
        self._turns = Turns(self._work, slow=True)
        self._begun = False
        self._todo: deque[Any] = deque()
        put = self._asked.put

        def asked(item: Any) -> None:
            put(item)
            self._soon()

        self._asked.put = asked  # type: ignore[method-assign,assignment]

    def start(self) -> None:
        self._begun = True
        self._soon()

    def stop(self) -> None:
        if not self._life.over:
            super().stop()
            self._turns.take()

    def _soon(self, more_s: float = 0.0) -> None:
        if self._begun and (self._todo or not self._asked.empty()):
            self._turns.soon(more_s)

    def _work(self) -> None:
        if self.state in (disk.DiskState.FAILED, disk.DiskState.STOPPED):
            return
        try:
            self._turn()
        except _Later:
            self._soon(disk.RETRY_S)
        except NodeError as error:
            self.state = disk.DiskState.FAILED
            self._post(self._fail, error)
        else:
            self._soon()

    def _turn(self) -> bool:
        """What is not done for want of space stays, for another turn."""
        todo = self._todo
        self.wal.prepare()
        while not self._asked.empty():
            todo.append(self._asked.get_nowait())
        while todo:
            group = [*takewhile(lambda item: isinstance(item, disk._Append), todo)]
            self._log(group)
            for _ in group:
                todo.popleft()
            if not todo or todo[0] is None:
                return not todo
            if not group:
                result, job = self._with_space(todo[0].work), todo.popleft()
                if job.done is not None:
                    self._post(job.done, result)
        return True

    def _with_space(self, work: Callable[[], Any]) -> Any:
        try:
            result = work()
        except DiskFull as error:
            self.state = disk.DiskState.FULL
            if self._stopping.is_set():
                raise
            self._asked.relieve(self._post)
            raise _Later from error
        if self.state is disk.DiskState.FULL:
            self.state = disk.DiskState.WORKING
        return result


class _Later(Exception):
    """There is no space now."""


class SimulatedApplier(Applier):
    """The apply thread's work, done by the loop when its time has come. In a process of three nothing is
    applied at once.
    """

    def __init__(self, *arguments: Any) -> None:
        self._machine = HERE.get()
        self._life = self._machine.life
        self._turns = Turns(self._work, slow=False)
        self._thread_alone = self._machine.number % 3 == 2
        super().__init__(*arguments, clock=lambda: 0.0)

    def apply(self, batches: Any, *, at_once: bool = False) -> None:
        thread = self._thread_alone or self._machine.faults.full
        super().apply(batches, at_once=at_once and not thread)
        self._soon()

    def stop(self) -> None:
        while not self._life.over and self._waiting and not self._blocked:
            self._turns.take()
        self._stopping.set()

    def _soon(self) -> None:
        if (self._waiting or self._checkpoint_due()) and not self._stopping.is_set():
            self._turns.soon(disk.RETRY_S if self._blocked else 0.0)

    def _apply(self, batches: Any) -> bool:
        if self._machine.faults.full:
            self._blocked = "full"
            self._waiting._batches.extendleft(reversed(batches))
            self._waiting._taken_bytes -= sum(len(batch.data) for batch in batches)
            return False
        return super()._apply(batches)

    def _work(self) -> None:
        try:
            batches = self._waiting.take(applier.TRANSACTION_BYTES_MAX)
            if not batches or self._apply(batches):
                self._checkpoint()
        except RedwireError as error:
            self._stopping.set()
            self._post(self._fail, error)
        self._soon()


class Unthreaded:
    """Stands for a thread: folds are done at once, anything else by whoever made it."""

    ident = None

    def __init__(self, *, target: Callable[[], None], name: str, daemon: bool) -> None:
        self._target, self._name = target, name

    def start(self) -> None:
        if self._name == "fold":
            self._target()

    def is_alive(self) -> bool:
        return False

    def join(self, timeout_s: float | None = None) -> None:
        """It never ran."""


class SimulatedReader(Reader):
    """The read threads' work, done by the loop when its time has come."""

    def __init__(self, path: Path, post: Post) -> None:
        self._life = HERE.get().life
        self._turns = Turns(self._work, slow=False)
        self._worker: Worker[Any, Any] | None = None
        super().__init__(path, post, threads=1)

    def submit(self, query: Any, done: Callable[[Any], object]) -> None:
        super().submit(query, done)
        if self._waiting:
            self._turns.soon()

    def stop(self) -> None:
        super().stop()
        while not self._life.over and self._waiting:
            self._turns.take()
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _work(self) -> None:
        if self._waiting:
            self._worker = self._answered(self._worker, self._take())
        if self._waiting:
            self._turns.soon()


class Desk:
    """A read desk without SQL, and without the look for damage."""

    def __init__(self, path: Path, post: Post) -> None:
        self.on_damage: Callable[[NodeError], None] = lambda error: None
        self.sql = SimpleNamespace(status=lambda: SimpleNamespace(waiting=0, taken=0))
        self._post = post
        self.use(path)

    def use(self, path: Path) -> None:
        """Read from `path` from now on."""
        self.documents = SimulatedReader(path, self._post)

    def stop(self) -> None:
        """Let go of the state file."""
        self.documents.stop()


class SmallWal(Wal):
    """A log in small segments."""

    @classmethod
    def open(cls, *arguments: Any, **named: Any) -> Any:
        return super().open(*arguments, segment_bytes=SEGMENT_BYTES, **named)


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

    async def frames(self) -> list[Frame]:
        data = await self.channel.receive()
        if not data:
            raise ChannelClosed("it has gone")
        return self._decoder.receive_data(data)

    def plain(self, frame: Frame) -> Frame:
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


@contextmanager
def simulated(network: Network, chance: random.Random, announce_s: float) -> Iterator[None]:
    """Inside, processes live on simulated machines. A watermark that no batch carries leaves after
    `announce_s`.
    """

    async def dial(host: str, port: int, *_: object, server_hostname: str, client_name: str) -> Dialled:
        name = server_hostname.partition(".")[0]
        there = network.places[name]
        if isinstance(there, Machine) and there.config.reached_at.port != port:
            raise ConnectFailed(f"cannot connect to {host}:{port}: connection refused", retry=True)
        return Dialled(await network.dial(HERE.get(), name))

    async def run_sync(work: Callable[..., Any], *arguments: Any, **_: object) -> Any:
        await anyio.lowlevel.checkpoint_if_cancelled()  # as the real one begins
        with anyio.CancelScope(shield=True):
            await anyio.sleep(chance.uniform(0.0001, 0.002))
        return work(*arguments)

    async def listen(*_: object) -> AsyncExitStack:
        return AsyncExitStack()

    def token(size: int = 16) -> str:
        return chance.randbytes(size).hex()

    threads = SimpleNamespace(
        Condition=threading.Condition,
        Lock=threading.Lock,
        Semaphore=threading.Semaphore,
        Thread=Unthreaded,
        Event=threading.Event,
    )
    clock = SimpleNamespace(perf_counter_ns=lambda: HERE.get().now().us * 1_000)
    changes: list[tuple[Any, str, Any]] = [
        (peers, "dial", dial),
        (anyio.to_thread, "run_sync", run_sync),
        (process, "listen", listen),
        (process, "now", lambda: HERE.get().now()),
        (process, "Node", SimulatedNode),
        (process, "Service", SimulatedService),
        (process, "Server", SimulatedServer),
        (server, "time", SimpleNamespace(monotonic=lambda: 0.0)),
        (journal, "Disk", SimulatedDisk),
        (disk, "time", clock),
        (apply_queue, "Applier", SimulatedApplier),
        (applier, "threading", threads),
        (reader, "threading", threads),
        (storage, "ReadDesk", Desk),
        (storage, "Wal", SmallWal),
        (sqlite_log, "FOLD_BYTES", CHECKPOINT_BYTES),
        (state, "KEY_ENTRIES_SLACK", KEY_ENTRIES),
        (outbox, "ANNOUNCE_S", announce_s),
        (process, "random", SimpleNamespace(Random=lambda: random.Random(chance.random()))),
    ]
    nowhere = Faults()
    with ExitStack() as stack:
        stack.enter_context(failing(lambda: getattr(HERE.get(None), "faults", nowhere)))
        for module, name, value in changes:
            stack.enter_context(patch.object(module, name, value))
        for name in ("token_hex", "token_urlsafe"):
            stack.enter_context(patch.object(secrets, name, token))
        stack.enter_context(patch.object(secrets, "token_bytes", chance.randbytes))
        yield

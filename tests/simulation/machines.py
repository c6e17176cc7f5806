"""Simulated machines: each runs a node's process, with real files, at simulated speed, and can lose both."""

from __future__ import annotations

import asyncio
import contextvars
import random
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from disks import Faults
from lines import Network
from msgspec.structs import replace

from cluster import process
from cluster.address import Address
from cluster.config import NodeConfig
from cluster.effects import Now
from cluster.errors import DiskFailed, NoSpaceToStart
from cluster.log_config import Level
from cluster.node import Node
from cluster.opening import TakeOver
from cluster.process import Process
from cluster.service import Service
from cluster.signals import Signals
from redwire.position import NodeId
from redwire.stream import Channel
from regions.binding import MemberKind

if TYPE_CHECKING:
    from sessions import SimulatedServer

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

"""One run: a cluster, its load and its troubles, all from one seed, and what must hold in the end."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
from applications import Application, Serving, applied
from limits import Limits
from lines import Network
from machines import Machine
from oracles import History, Violated, check_same, check_writes
from readers import Promises, Reader
from simulated import simulated
from thieves import Thief
from trouble import Trouble
from virtual_time import VirtualLoop, numbered_scopes
from writers import COLLECTION, Fate, Receipts, Write, Writer

from cluster.config import NodeConfig, parse_node_config
from cluster.keys import CLIENTS_MAX
from cluster.opening import TakeOver
from redwire.message.read import Scan
from redwire.record import OPEN_MAX

HEALS_S = 120.0
"""Once nothing is broken any more: so long at most until a write commits and all hold the same."""
MEMORY = Path("/dev/shm")
"""Where a sync costs nothing, if there is such a place."""


NAMES = ("eu-1", "us-1", "ap-1", "eu-2", "us-2")
FLOORS = ("majority", "ack_n=1", "regions(eu,us)", "ack_n=2")


class Run(msgspec.Struct):
    """What a run came to."""

    seed: int
    virtual_s: float = 0.0
    committed: int = 0
    doubtful: int = 0
    refused: int = 0
    reads: int = 0


class Plan(msgspec.Struct, kw_only=True):
    """What cluster there is, and how many clients write, and read: by default three voters side by side, and
    nobody.
    """

    machines: int = 3
    readers: int = 0
    floor: str = "majority"
    rtts_s: tuple[float, ...] = (0.001,)
    patience_ms: int = 2_000
    retained_bytes: int = 4 << 30
    announce_s: float = 0.01
    writers: int = 0
    reading: int = 0
    applications: int = 0
    thieves: int = 0
    policy_ms: int = 10_000
    limits: Limits = Limits()

    @classmethod
    def drawn(cls, chance: random.Random) -> Plan:
        """Anything that a cluster can be."""
        machines = chance.choice((3, 3, 5))
        readers = chance.choice((0, 0, 1)) if machines == 3 else chance.choice((0, 1, 2))
        return cls(
            machines=machines,
            readers=readers,
            floor=chance.choice(FLOORS[:3] if machines - readers < 3 else FLOORS),
            rtts_s=(0.001, 0.01, 0.08),
            patience_ms=chance.choice((2_000, 5_000)),
            retained_bytes=chance.choice((64 << 10, 4 << 30)),
            announce_s=chance.choice((0.01, 1.0)),  # so late that it is a heartbeat that tells
            writers=chance.choice((1, 3)),
            reading=chance.choice((1, 3)),
            applications=chance.choice((0, 1, 3)),
            thieves=chance.choice((0, 1)),
            policy_ms=chance.choice((10_000, 10_000, 40_000)),
            limits=Limits(chance.choice((16, 64, OPEN_MAX)), chance.choice((6, 12, CLIENTS_MAX))),
        )

    def config(self, at: int, folder: Path) -> NodeConfig:
        """That of the machine with this number."""
        members = [
            {
                "id": name,
                "region": name[:2],
                "addr": f"{name}:{5050 + number}",
                "kind": "voter" if number < self.machines - self.readers else "reader",
            }
            for number, name in enumerate(NAMES[: self.machines])
        ]
        name = NAMES[at]
        node = {
            "id": name,
            "region": name[:2],
            "listen": f"127.0.0.1:{5050 + at}",
            "advertise": members[at]["addr"],
            "data_dir": str(folder / name),
            "role": "replica",
        }
        cluster = {
            "name": "shop",
            "members": members,
            "policy": self.floor,
            "policy_timeout_ms": self.policy_ms,
            "replica_timeout_ms": self.patience_ms,
        }
        config = {
            "node": node,
            "tls": {"ca": "ca", "cert": "cert", "key": "key"},
            "audit": {"file": "off"},
            "retention": {"bytes_max": self.retained_bytes},
            "cluster": cluster,
        }
        return parse_node_config(config, str(folder / "node.yaml"))


class World:
    """Everything that one seed decides. `script` takes the place of plans and troubles by chance."""

    def __init__(
        self, seed: int, folder: Path, say: Callable[[str], None] | None, script: tuple[Script, Plan] | None
    ) -> None:
        self.run = Run(seed)
        self._folder = f"{folder}/"
        self._bug: Exception | None = None
        self._failed_s: dict[str, float] = {}
        self._say = say
        self._script = script[0] if script is not None else None
        self.chance = chance = random.Random(seed)
        self.plan = plan = Plan.drawn(chance) if script is None else script[1]
        names = NAMES[: plan.machines]
        applications = [f"app-{at}" for at in range(plan.applications)]
        rtts = {
            frozenset(pair): chance.choice(plan.rtts_s) for pair in combinations((*names, *applications), 2)
        }
        self.network = Network(self._stream(), rtts)
        self.machines = [
            Machine(plan.config(at, folder), self.network, self._stream(), self.log)
            for at in range(plan.machines)
        ]
        self.log(str(plan))
        self.history, self.receipts = History(plan.limits), Receipts(self.machines)
        self.promises = Promises(self.history.truth, self.receipts)
        policies = ["", "", "majority", "ack_n=1 & majority", "majority & regions(us)"]
        self.writers = [
            Writer(f"w{at}", self.machines, policies, self._stream(), self.receipts)
            for at in range(plan.writers)
        ]
        self.readers = [
            Reader(self.machines, self.receipts, self.promises, self._stream()) for _ in range(plan.reading)
        ]
        self.serving = Serving(self.network)
        self.receipts.served = self.serving.acknowledged
        self.applications = [
            Application(
                *(name, self.machines, self.network, self.receipts, self.serving),
                *(plan.machines - plan.readers - 1, self.history.truth, self._stream()),
            )
            for name in applications
        ]
        self.thieves = [
            Thief(f"thief-{at}", self.machines, self.receipts.keys, self._stream())
            for at in range(plan.thieves)
        ]
        self.trouble = Trouble(self.machines, self.network, FLOORS, applications, self._stream(), self.log)

    def _stream(self) -> random.Random:
        """Chance for one purpose: what one draws does not change what others do."""
        return random.Random(self.chance.random())

    def log(self, text: str) -> None:
        """A line of the run's story."""
        at_s = asyncio.get_running_loop().time() - VirtualLoop.BEGIN_S if _running() else 0.0
        line = f"{at_s:9.4f} {text.replace(self._folder, '')}"  # which has another name in each run
        if self._say is not None:
            self._say(line)

    async def play(self) -> None:
        """The run. Raises `Violated`."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unforeseen)
        began_s = loop.time()
        with (
            simulated(self.network, self._stream(), self.plan.announce_s),
            self.plan.limits.kept(),
            applied(self.network),
            self.history.watched(),
        ):
            try:
                await self._play()
            finally:
                for machine in self.machines:
                    if machine.running:
                        machine.crash(power=True)
                await asyncio.sleep(10.0)
        writes = [write for client in (*self.writers, *self.applications) for write in client.writes]
        self.run.virtual_s = loop.time() - began_s
        self.run.committed = sum(write.fate is Fate.COMMITTED for write in writes)
        self.run.doubtful = sum(write.fate is Fate.DOUBTFUL for write in writes)
        self.run.refused = sum(write.fate is Fate.REFUSED for write in writes)
        self.run.reads = self.promises.answered

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        for machine in self.machines:
            machine.start(primary=machine is self.machines[0])
        clients = (*self.writers, *self.readers, *self.applications, *self.thieves)
        tasks = [loop.create_task(client.run()) for client in clients]
        if self._script is not None:
            await self._script(self)
        else:
            await self._trouble()
        await self.trouble.end()
        self.log("no more trouble")
        await self._heal()
        for client in clients:
            client.stopping = True
        await asyncio.gather(*tasks)
        await self._settle()
        await self._read_everywhere()
        self._check()
        truth = self.history.truth
        check_writes(self._writes(), check_same(self._members(), truth), truth)

    async def _trouble(self) -> None:
        trouble = asyncio.get_running_loop().create_task(self.trouble.run())
        for _ in range(self.chance.choice((15, 40))):
            await asyncio.sleep(1.0)
            self._check()
            if trouble.done():
                trouble.result()
        trouble.cancel()

    def _writes(self) -> list[Write]:
        return [
            write for client in (*self.writers, *self.applications, *self.thieves) for write in client.writes
        ]

    def _unforeseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that nobody takes: a bug, of a node or of this."""
        error = context.get("exception")
        text = f"{context['message']}: {error!r}"
        self.log(text)
        if self._bug is None:
            self._bug = error if isinstance(error, Exception) else RuntimeError(text)

    def _check(self) -> None:
        """Raises what went wrong so far."""
        self.history.check()
        broken = (
            self.receipts.failure,
            self.promises.failure,
            self.serving.failure,
            *(each.failure for each in (*self.applications, *self.thieves, *self.machines)),
        )
        now_s = asyncio.get_running_loop().time()
        for machine in self.machines:
            if not (machine.faults.failed and machine.running):
                self._failed_s.pop(machine.name, None)
            elif now_s - self._failed_s.setdefault(machine.name, now_s) > 2.0:
                raise Violated(f"{machine.name} goes on although a sync has failed")
        for failure in filter(None, broken):
            raise Violated(failure)
        if self._bug is not None:
            raise self._bug

    async def _heal(self) -> None:
        """What an operator does when all is mended: everything runs, and one node leads."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + HEALS_S
        while loop.time() < until_s:
            self._check()
            self._start_all()
            await asyncio.sleep(6.0)
            members = self._members()
            for machine in self.machines:
                if machine not in members and machine.running:
                    machine.stop()
            writer = Writer("heal", members, [""], random.Random(1), self.receipts)
            if any(machine.leads for machine in members):
                write = await writer.write(5.0)
                if write.fate is Fate.COMMITTED:
                    return
            else:
                await self._lead()
        raise Violated(f"no write commits {HEALS_S:g} s after all is mended: {self._standing()}")

    def _start_all(self) -> None:
        for machine in self._members():
            if not machine.running:
                self.log(f"start {machine.name}, which had ended: {machine.ended}")
                machine.start(primary=False)

    async def _lead(self) -> None:
        """Have one of them lead: who knows of the newest settings knows who may."""
        for machine in self._members():
            if any(each.leads for each in self._members()):
                return
            if machine.aspires or machine.reader:
                continue
            self.log(f"{machine.name} takes over, for good")
            machine.stop()
            await asyncio.sleep(1.0)
            lost = frozenset([self.trouble.wiped]) if self.trouble.wiped else frozenset()
            lost -= {machine.name}
            machine.start(primary=True, take_over=TakeOver(lost))  # type: ignore[arg-type]
            await asyncio.sleep(10.0)

    async def _settle(self) -> None:
        """Wait until all have applied the same."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + HEALS_S
        while loop.time() < until_s:
            nodes = [machine.node for machine in self._members()]
            stores = [node.storage for node in nodes if node is not None]
            places = {place for store in stores for place in (store.log.end, store.applied)}
            if len(stores) == len(nodes) and len(places) == 1:
                return
            self._start_all()
            await asyncio.sleep(0.5)
        raise Violated(f"members stand apart {HEALS_S:g} s after all is mended: {self._standing()}")

    async def _read_everywhere(self) -> None:
        """Each member answers, and as of the last receipt."""
        reader = Reader(self.machines, self.receipts, self.promises, random.Random(1))
        for machine in self._members():
            if await reader.read(machine, Scan(COLLECTION, token=self.receipts.tokens[-1])) is None:
                raise Violated(f"{machine.name} answers no read, when all is mended")

    def _members(self) -> list[Machine]:
        """Those who are members by the newest settings that anybody has applied."""
        known = [each.node.storage.settings for each in self.machines if each.node is not None]
        newest = max(known, key=lambda settings: settings.lsn, default=None)
        if newest is None:
            return list(self.machines)
        names = {str(member.id) for member in newest.cluster.members}
        return [machine for machine in self.machines if machine.name in names]

    def _standing(self) -> str:
        return "; ".join(
            f"{machine.name} {machine.node.role_name} {machine.node.storage.log.end.lsn}"
            f"/{machine.node.storage.applied.lsn} term {machine.node.storage.meta.term}"
            if machine.node is not None
            else f"{machine.name} ended: {machine.ended}"
            for machine in self.machines
        )


Script = Callable[[World], Awaitable[None]]


def play(
    seed: int, say: Callable[[str], None] | None = None, script: tuple[Script, Plan] | None = None
) -> Run:
    """Run one seed, or `script` with it. Raises `Violated`."""
    folder = Path(tempfile.mkdtemp(prefix="redwire-", dir=MEMORY if MEMORY.is_dir() else None))
    loop = VirtualLoop()
    world = World(seed, folder, say, script)
    try:
        with numbered_scopes():
            loop.run_until_complete(world.play())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        with suppress(RuntimeError):
            loop.run_until_complete(asyncio.sleep(10.0))
        loop.set_exception_handler(lambda loop, context: None)
        loop.close()
        shutil.rmtree(folder, ignore_errors=True)
    return world.run


def _running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

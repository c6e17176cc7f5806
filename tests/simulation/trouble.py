"""What goes wrong, and what operators do about it, right or not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from lines import Network
from machines import Machine
from writers import change

from cluster.opening import TakeOver
from redwire.message.settings import (
    AddMember,
    BindRegion,
    MoveMember,
    PromoteMember,
    RemoveMember,
    SetPolicy,
    SettingsChange,
)


class Trouble:
    """Does one thing after the other for as long as `run` is let. `log` hears of each."""

    def __init__(
        self,
        machines: Sequence[Machine],
        network: Network,
        policies: Sequence[str],
        applications: Sequence[str],
        chance: random.Random,
        log: Callable[[str], None],
    ) -> None:
        self._machines = machines
        self._network = network
        self._policies = policies
        self._applications = applications
        self._chance = chance
        self._log = log
        self.wiped: str = ""
        self.may_wipe = chance.random() < 0.5
        every = [
            self._partition,
            self._isolate,
            self._reset,
            self._crash,
            self._crash,
            self._crash_of_leader,
            self._stop,
            self._stall,
            self._fill,
            self._break,
            self._skew,
            self._take_over,
            self._plot,
            self._plot,
            self._wrong_primary,
            self._change,
            self._wipe,
            self._tidy_up,
            *[self._line_of_application] * (len(applications) > 0),
        ]
        some = chance.sample(every, chance.randint(3, len(every)))
        self._kinds = [kind for kind in some for _ in range(chance.choice((1, 1, 3)))]
        self._pause_s = chance.choice((0.3, 1.5, 5.0))
        what = chance.choice(("anything", "plots", "changes"))
        self._plotting = what == "plots"
        if what == "changes":
            more = [self._take_over, self._crash_of_leader, self._partition, self._crash, self._isolate]
            self._kinds, self._pause_s = [self._change] * 4 + more, 1.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Make trouble until cancelled."""
        self._begin(self._supervise())
        if self._chance.random() < 0.7 or self._plotting:
            self._begin(self._watch_over())
        if self._plotting:
            await self._plots()
        while True:
            await asyncio.sleep(self._chance.expovariate(1.0 / self._pause_s))
            kind = self._chance.choice(self._kinds)
            self._begin(kind())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _supervise(self) -> None:
        """Start again what ended by itself, as a replica."""
        while True:
            await asyncio.sleep(self._chance.uniform(1.0, 10.0))
            for machine in self._machines:
                if not machine.running and machine.ended not in ("", "stopped"):
                    machine.start(primary=False)

    async def _watch_over(self) -> None:
        """An operator who has somebody lead whenever nobody does."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 4.0))
            leading = any(each.leads or each.aspires for each in self._machines)
            voters = [each for each in self._machines if not each.reader]
            if not leading:
                await self._take_over_by(self._chance.choice(voters))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()  # type: ignore[misc]

    async def end(self) -> None:
        """No more trouble: lines are mended, disks quick. What stands still goes on standing still."""
        for task in list(self._tasks):
            task.cancel()
        for source, to in list(self._network.cut):
            self._network.mend(source, to)
        for machine in self._machines:
            machine.stall_s = 0.0
            machine.faults.full, machine.faults.syncs_left = False, None

    def _one(self) -> Machine:
        return self._chance.choice(self._machines)

    def _while_s(self) -> float:
        return self._chance.choice((0.05, 0.5, 2.0, 6.0, 12.0)) * self._chance.uniform(0.5, 1.5)

    def _pairs(self, machine: Machine, *, applications: bool) -> list[tuple[str, str]]:
        others = [other.name for other in self._machines if other is not machine]
        others += [*self._applications] * applications
        return [pair for other in others for pair in ((machine.name, other), (other, machine.name))]

    async def _cut(self, pairs: Sequence[tuple[str, str]]) -> None:
        for pair in pairs:
            self._network.separate(*pair)
        await asyncio.sleep(self._while_s())
        for pair in pairs:
            self._network.mend(*pair)

    async def _partition(self) -> None:
        pair = tuple(machine.name for machine in self._chance.sample(list(self._machines), 2))
        pairs = [pair, pair[::-1]] if self._chance.random() < 0.6 else [pair]
        self._log(f"cut {pairs}")
        await self._cut(pairs)  # type: ignore[arg-type]

    async def _isolate(self) -> None:
        leading = [each for each in self._machines if each.leads]
        machine = self._chance.choice(leading) if leading and self._chance.random() < 0.5 else self._one()
        applications = self._chance.random() < 0.5
        self._log(f"isolate {machine.name}{', from applications too' * applications}")
        await self._cut(self._pairs(machine, applications=applications))

    async def _line_of_application(self) -> None:
        """The line of one of them to one machine, or to all but one, is cut or broken."""
        name, machine = self._chance.choice(list(self._applications)), self._one()
        some = [machine] if self._chance.random() < 0.5 else [m for m in self._machines if m is not machine]
        self._log(f"disturb {name} and {[each.name for each in some]}")
        if self._chance.random() < 0.3:
            for each in some:
                self._network.reset(name, each.name)
            return
        there = [(name, each.name) for each in some]
        back = [pair[::-1] for pair in there]
        await self._cut(self._chance.choice((there, back, there + back)))

    async def _reset(self) -> None:
        one, other = self._chance.sample(list(self._machines), 2)
        self._network.reset(one.name, other.name)

    async def _crash(self) -> None:
        await self._crash_of(self._one())

    async def _crash_of_leader(self) -> None:
        for machine in self._machines:
            if machine.leads:
                await self._crash_of(machine)
                return

    async def _crash_of(self, machine: Machine) -> None:
        if machine.running:
            primary, power = machine.leads, self._chance.random() < 0.5
            self._log(f"{'power of' if power else 'kill'} {machine.name}")
            machine.crash(power=power)
            await self._start_again(machine, primary and self._chance.random() < 0.7)

    async def _start_again(self, machine: Machine, primary: bool) -> None:
        await asyncio.sleep(self._while_s())
        if not machine.running:
            self._log(f"start {machine.name}{' as primary' if primary else ''}")
            machine.start(primary=primary)

    async def _stop(self) -> None:
        machine = self._one()
        primary = machine.leads
        self._log(f"stop {machine.name}")
        machine.stop()
        await self._start_again(machine, primary and self._chance.random() < 0.7)

    async def _stall(self) -> None:
        machine = self._one()
        machine.stall_s = self._chance.choice((0.05, 0.5, 3.0, 12.0))
        self._log(f"the disk of {machine.name} takes {machine.stall_s} s")
        await asyncio.sleep(self._while_s())
        machine.stall_s = 0.0

    async def _fill(self) -> None:
        machine = self._one()
        self._log(f"the disk of {machine.name} is full")
        machine.faults.full = True
        await asyncio.sleep(self._while_s())
        machine.faults.full = False
        self._log(f"the disk of {machine.name} has space")

    async def _break(self) -> None:
        """One of the next syncs of a machine fails, whatever it is for."""
        machine = self._one()
        machine.faults.syncs_left = self._chance.choice((0, 1, 2, 5, 20))
        self._log(f"sync {machine.faults.syncs_left} of {machine.name} fails")

    async def _skew(self) -> None:
        hours = self._chance.choice((1, 1, 30))
        self._one().skew_ms = self._chance.randint(-hours * 3_600_000, hours * 3_600_000)

    async def _plot(self) -> None:
        """What takes most luck to happen by itself: one who lags behind takes over from one who is gone for a
        while, as far as some can see, and is back before all is done.
        """
        leading = [each for each in self._machines if each.leads]
        others = [each for each in self._machines if not each.leads and each.running and not each.reader]
        if not leading or len(others) < 2:
            return
        chance, old = self._chance, leading[0]
        patience_s = old.config.cluster.replica_timeout_ms / 1000
        new = chance.choice(others)
        middle = [each for each in others if each is not new]
        self._log(f"a plot: {new.name} against {old.name}")
        apart = [(old.name, new.name), (new.name, old.name)]
        between = [way for each in middle for way in ((old.name, each.name), (each.name, old.name))]
        new.stall_s = chance.choice((0.0, 0.5, 2.0))
        for pair in apart:
            self._network.separate(*pair)
        await asyncio.sleep(chance.choice((0.0, 0.2, 1.0)))
        match chance.choice(("kill", "flicker", "flicker", "flicker", "bounce", "cut", "stall")):
            case "kill" if old.running:
                old.crash(power=chance.random() < 0.5)
                self._begin(self._start_again(old, chance.random() < 0.5))
            case "flicker":
                flicker = self._flicker(old, middle, patience_s)
                self._begin(flicker)
            case "bounce":
                self._begin(self._bounce(chance.choice(middle)))
            case "cut":
                for pair in between:
                    self._network.separate(*pair)
            case "stall":
                old.stall_s = chance.choice((0.5, 3.0))
            case _:
                pass
        await self._take_over_by(new)
        await asyncio.sleep(chance.choice((0.0, patience_s - 0.1, patience_s + 0.2, patience_s + 3.0)))
        for pair in between:
            self._network.mend(*pair)
        await asyncio.sleep(chance.choice((0.0, 0.3, 2.0, 6.0)))
        for pair in apart:
            self._network.mend(*pair)
        old.stall_s = new.stall_s = 0.0

    async def _plots(self) -> None:
        """One plot after the other, and nothing else."""
        while True:
            await asyncio.sleep(self._chance.uniform(1.0, 3.0))
            await self._plot()

    async def _flicker(self, one: Machine, others: Sequence[Machine], patience_s: float) -> None:
        """Break what connects one with the others, again and again, and for good after a while."""
        pause_s = self._chance.choice((0.2, 0.3, 1.0))
        for _ in range(round((patience_s + self._chance.uniform(0.3, 4.0)) / pause_s)):
            await asyncio.sleep(pause_s * self._chance.uniform(0.5, 1.5))
            for other in others:
                self._network.reset(one.name, other.name)
        if one.running and self._chance.random() < 0.5:
            one.crash(power=False)
            await self._start_again(one, self._chance.random() < 0.5)

    async def _bounce(self, machine: Machine) -> None:
        """End and start one at once, a few times."""
        for _ in range(4):
            await asyncio.sleep(self._chance.uniform(0.3, 3.0))
            if machine.running:
                machine.crash(power=self._chance.random() < 0.5)
                await asyncio.sleep(0.01)
                if not machine.running:
                    machine.start(primary=False)

    async def _take_over(self) -> None:
        """An operator has another node lead, whether the one before has ended or not."""
        machine = self._one()
        if not machine.leads and not machine.reader:
            await self._take_over_by(machine)

    async def _take_over_by(self, machine: Machine) -> None:
        if machine.running:
            machine.stop() if self._chance.random() < 0.5 else machine.crash(power=False)
            await asyncio.sleep(self._chance.uniform(0.05, 0.6))
        if not machine.running:
            self._log(f"{machine.name} takes over")
            machine.start(primary=True, take_over=TakeOver())

    async def _wrong_primary(self) -> None:
        machine = self._one()
        if machine.running and not machine.leads:
            machine.stop()
            await self._start_again(machine, True)

    async def _wipe(self) -> None:
        """A disk is replaced: once in a run, where every acknowledged write has another copy, and all nodes
        know of the cluster.
        """
        machine = self._one()
        nodes = [each.node for each in self._machines]
        settled = all(node is not None and node.storage.applied.lsn > 0 for node in nodes)
        if self.wiped or not self.may_wipe or machine.leads or not settled:
            return
        self.wiped = machine.name
        if machine.running:
            machine.crash(power=True)
        self._log(f"{machine.name} gets a new disk")
        machine.wipe()
        await self._start_again(machine, False)

    async def _tidy_up(self) -> None:
        """An operator makes room: files of snapshots go, those on offer and those that come, again and again,
        and their folder too where nobody notices that it is empty.
        """
        machine, pause_s = self._one(), self._chance.choice((0.002, 0.02, 0.3))
        folder = self._chance.random() < 0.2
        self._log(
            f"the snapshots of {machine.name} are removed, every {pause_s} s{', with their folder' * folder}"
        )
        for _ in range(100):
            snapshots = machine.snapshots
            for file in snapshots.glob("*"):
                self._log(f"{file.name} of {machine.name} is removed")
                file.unlink()
                machine.robbed = machine.robbed or file.name.startswith("incoming")
            if folder and snapshots.is_dir():
                snapshots.rmdir()
                machine.robbed = True
            await asyncio.sleep(self._chance.expovariate(1.0 / pause_s))

    async def _change(self) -> None:
        leading = [each for each in self._machines if each.leads and each.service is not None]
        if not leading:
            return
        machine = self._chance.choice(leading)
        assert machine.service is not None
        members = machine.service.settings.cluster.members
        names = [str(member.id) for member in members]
        other = self._one()
        options: list[SettingsChange] = [SetPolicy(policy=None, floor=self._chance.choice(self._policies))]
        if other.name not in names:
            region = other.config.node.region
            options.append(AddMember(node=other.name, region=region, addr=other.addr))
        else:
            options += [PromoteMember(other.name)] * 2
            options.append(BindRegion(other.name, self._chance.choice(("eu", "us", "ap", ""))))
            if other is not machine:
                options.append(RemoveMember(other.name))
            if not other.running:
                options += [MoveMember(other.name, other.elsewhere)] * 3
        wanted = self._chance.choice(options)
        outcome = await change(machine, wanted)
        self._log(f"{machine.name}: {wanted}: {outcome}")
        if isinstance(wanted, MoveMember) and outcome == "done" and not other.running:
            other.move(wanted.addr)

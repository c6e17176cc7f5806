"""What chance would take too long to come upon: schedules by hand, each for a rule that forbids its loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from limits import Limits
from machines import Machine
from oracles import Violated
from simulated import KEY_ENTRIES
from world import Plan, Script, World
from writers import Fate, Writer, change

from cluster.opening import RETURN_MS, TakeOver
from cluster.primary import Primary
from redwire.message.settings import AddMember, MoveMember, PromoteMember, RemoveMember, SettingsChange

UNTIL_S = 60.0
"""Ten times what a cluster takes to begin: what has not come by then does not come in this schedule."""

STANDS_S = 30.0
"""Longer than a write waits for its place."""
TERMS_MAX = 10
"""Of two that ask for the same vote at once: by then they wait for up to a second each, 300 ms apart."""


async def acked_between_the_question_and_the_reign(world: World) -> None:
    """A member that follows nobody is asked by one who would lead, follows the old primary again before the
    new reign begins, and acks: its vote must have made an end of that.
    """
    old, _, middle = world.machines
    writer = await _begun(world)
    await _decided(world, TakeOver())
    await _written_once(world, writer, old, middle)
    await asyncio.sleep(10.0)


async def acked_by_one_that_was_called_lost(world: World) -> None:
    """The same, where the operator calls the old primary lost, and it is only out of reach: so is what it
    alone holds, and nothing that the other member acks.
    """
    old, _, middle = world.machines
    writer = await _begun(world)
    await _decided(world, TakeOver(frozenset({old.config.node.id})))
    await _written_once(world, writer, old, middle)
    await asyncio.sleep(10.0)


async def acked_by_a_voter_that_has_started_anew(world: World) -> None:
    """The same, where the voter loses its power in between: its vote was on its disk."""
    old, _, middle = world.machines
    writer = await _begun(world)
    await _decided(world, TakeOver())
    middle.crash(power=True)
    middle.start(primary=False)
    await _written_once(world, writer, old, middle)
    await asyncio.sleep(10.0)


async def taken_over_by_one_who_lags_behind(world: World) -> None:
    """The last write is on the disks of a primary that has died and of a member that does not know whether it
    was committed: whoever leads next has it first.
    """
    old, new, middle = world.machines
    writer = await _begun(world)
    _part(world, old, new)
    await _acked(writer)
    old.crash(power=True)
    _part(world, new, middle)
    new.crash(power=False)
    _mend(world, new, middle)
    new.start(primary=True, take_over=TakeOver())
    await asyncio.sleep(8.0)


async def all_lose_their_power_behind_an_acknowledgement(world: World) -> None:
    """Disks are slow, and all of them stop at the moment at which a write is acknowledged: it is on two."""
    old, *others = world.machines
    writer = await _begun(world)
    for machine in world.machines:
        machine.stall_s = 0.5
    await _acked(writer)
    for machine in world.machines:
        machine.crash(power=True)
        machine.stall_s = 0.0
    old.start(primary=True)
    for machine in others:
        machine.start(primary=False)
    await asyncio.sleep(8.0)


async def the_primary_dies_behind_an_acknowledgement(world: World) -> None:
    """The others' disks are slow, and they lose their power too: what was acknowledged is on one of them."""
    _, new, middle = world.machines
    writer = await _begun(world)
    new.stall_s = middle.stall_s = 0.5
    await _acked(writer)
    for machine in world.machines:
        machine.crash(power=True)
        machine.stall_s = 0.0
    new.start(primary=True, take_over=TakeOver())
    middle.start(primary=False)
    await asyncio.sleep(8.0)


async def two_are_told_to_make_the_cluster(world: World) -> None:
    """Out of reach of each other, and with one member whom both reach: one of them does."""
    first, second, _ = world.machines
    await _until(lambda: first.running and second.running)
    first.crash(power=False)
    second.crash(power=False)
    _part(world, first, second)
    first.start(primary=True)
    second.start(primary=True)
    await asyncio.sleep(8.0)
    assert any(machine.leads for machine in world.machines)


async def two_take_over_at_once(world: World) -> None:
    """Out of reach of each other, and each in need of the vote of the one member whom both reach: one of them
    soon leads, instead of each asking for a newer term than the other one's.
    """
    old, first, second = world.machines
    await _begun(world)
    _part(world, first, second)
    for machine in world.machines:
        machine.crash(power=False)
        machine.start(primary=machine is not old, take_over=TakeOver() if machine is not old else None)
    await _until(lambda: _serves(first) or _serves(second))
    nodes = [machine.node for machine in (first, second) if machine.node is not None]
    newest = max(node.storage.meta.term for node in nodes)
    if newest > TERMS_MAX:
        raise Violated(f"it took them {newest - 1} terms")


async def elected_beside_one_who_led_last(world: World) -> None:
    """One is elected while the one who led last is started again, and does not hear of it; then each reaches
    as many as a commit takes. Where they do hear of it, the latter may be the quicker one.
    """
    old, new, near, *far = world.machines
    await _begun(world)
    _part(world, old, new)
    for machine in (old, new):
        machine.crash(power=False)
    new.start(primary=True, take_over=TakeOver())
    await asyncio.sleep((world.plan.patience_ms - RETURN_MS) / 1000 + 0.03)  # their waits end together
    old.start(primary=True)
    new.stall_s = 1.0
    await _until(lambda: _serves(old) or new.node is not None and new.node.storage.meta.term > 1)
    for machine in far:
        _part(world, old, machine)
    _part(world, new, near)
    await asyncio.sleep(8.0)


async def two_lead_one_term_and_one_of_them_serves(world: World) -> None:
    """The old primary calls all others lost, out of their reach, and they elect another one. An application
    reaches both, and has known both.
    """
    await _led_twice(world, reigns=1)


async def one_leads_a_newer_term_and_an_older_one_serves(world: World) -> None:
    """As before, but the old primary, which cannot commit anything, has begun some reigns more."""
    await _led_twice(world, reigns=3)


async def tried_again_under_a_policy_that_is_not_met(world: World) -> None:
    """Two of five hold what takes three to be committed as it was asked for; the other disks are slow."""
    old, _, *far = world.machines
    await _begun(world)
    for machine in far:
        machine.stall_s = 12.0
    others = [Writer(f"w{at}", [old], ["majority"], world.chance, world.receipts) for at in range(1, 5)]
    world.writers += others
    await asyncio.gather(*(writer.write() for writer in others))  # some try again what is not confirmed


async def a_write_outlives_its_primary_and_its_deadline(world: World) -> None:
    """Answers stay away, then the primary dies, and nobody leads until the deadline of what was under way."""
    old, new, _ = world.machines
    await _begun(world)
    for application in world.applications:
        world.network.separate(old.name, application.name)
    await asyncio.sleep(3.0)
    old.crash(power=False)
    await asyncio.sleep(25.0)
    new.crash(power=False)
    new.start(primary=True, take_over=TakeOver())
    await asyncio.sleep(8.0)


async def two_who_lead_give_a_snapshot_to_one_that_comes_back(world: World) -> None:
    """The old primary is out of reach of the one that took over, and does not know. Who comes back reaches
    both, and asks both before either has answered: the old one gives it a snapshot, the other one leads it
    then.
    """
    old, new, *others, away = world.machines
    writer = await _begun(world)
    away.crash(power=False)
    node = old.node
    assert node is not None
    while node.storage.log.base.lsn <= 5:
        await _acked(writer)
    for machine in (new, *others):
        _part(world, old, machine)
    new.crash(power=False)
    _part(world, new, away)
    new.start(primary=True, take_over=TakeOver())
    await _until(lambda: _serves(new))
    away.start(primary=False)
    await _until(lambda: old.name in _heard(away))
    world.network.separate(old.name, away.name)  # what it answers is held
    _mend(world, new, away)
    await _until(lambda: new.name in _heard(away))
    world.network.separate(new.name, away.name)
    await asyncio.sleep(1.0)
    world.network.mend(old.name, away.name)
    await _until(lambda: away.node is not None and away.node.roster.fetching is not None)
    world.network.mend(new.name, away.name)
    await asyncio.sleep(8.0)


async def a_disk_is_full_while_a_snapshot_comes(world: World) -> None:
    """Who needs one has no room, from a moment by chance on; there is some in the end."""
    away = await _behind_the_log(world)
    await _until(lambda: away.node is not None and away.node.roster.rebuilding)
    await asyncio.sleep(world.chance.choice((0.0, 0.001, 0.003)))
    away.faults.full = True
    await asyncio.sleep(8.0)
    away.faults.full = False
    await asyncio.sleep(8.0)


async def the_snapshot_that_comes_is_removed_where_it_comes_from(world: World) -> None:
    """Who takes it ends in the midst of it; an operator makes room meanwhile. It gets another one."""
    away = await _behind_the_log(world)
    while not any(away.snapshots.glob("incoming.part")):
        await asyncio.sleep(0.0005)
    away.crash(power=False)
    assert any(away.snapshots.glob("incoming.part"))
    for machine in world.machines:
        for file in machine.snapshots.glob("offer-*"):
            file.unlink()
    away.start(primary=False)
    await asyncio.sleep(5.0)


async def _behind_the_log(world: World) -> Machine:
    """A member that has started anew, and whose log nobody's goes on from: it needs a snapshot."""
    old, _, away = world.machines
    writer = await _begun(world)
    away.crash(power=False)
    node = old.node
    assert node is not None
    while node.storage.log.base.lsn <= writer.writes[-1].lsn // 2:
        await _acked(writer)
    away.start(primary=False)
    return away


async def a_sync_fails_under_a_write(world: World) -> None:
    """What it was for is not on the disk, whatever the next sync says."""
    old, new, _ = world.machines
    writer = await _begun(world)
    for machine in (new, old):
        machine.faults.syncs_left = 0
        await writer.write(1.0)
    await asyncio.sleep(3.0)


async def a_client_that_was_forgotten_writes_again(world: World) -> None:
    """The primary's clock leaps a day ahead while another client writes; a member that starts anew has only
    what it stored of whom it forgot.
    """
    old, new, _ = world.machines
    writer = await _begun(world)
    old.skew_ms = 25 * 3_600_000
    other = Writer("w1", [old], [""], world.chance, world.receipts)
    world.writers.append(other)
    for _ in range(3 * KEY_ENTRIES):
        await _acked(other)
    new.crash(power=False)
    new.start(primary=False)
    await asyncio.sleep(3.0)
    write = await writer.write()
    assert write.fate is Fate.REFUSED, write
    await _acked(writer)


async def one_write_waits_for_long_and_many_go_on(world: World) -> None:
    """A member's disk stands still for half a minute: who has asked for every copy waits, and loses its line
    meanwhile; what it writes beside that does not wait.
    """
    old, slow, _ = world.machines
    (application,) = world.applications
    application.much = 1.0
    writer = await _begun(world)
    writer.pause_s = 0.5
    writes = asyncio.get_running_loop().create_task(writer.run())
    slow.stall_s = STANDS_S
    await asyncio.sleep(STANDS_S / 3)
    world.network.reset(application.name, old.name)
    await asyncio.sleep(STANDS_S)
    slow.stall_s = 0.0
    writer.stopping = True
    await writes


async def opened_before_the_cluster_has_begun(world: World) -> None:
    """Whoever makes the cluster leads it already, and has no copies of its first records yet: a client id of
    that moment is worth nothing later.
    """
    old, *others = world.machines
    await _until(lambda: old.leads)
    for machine in others:
        machine.stall_s = 1.0
    writer = Writer("w0", [old], [""], world.chance, world.receipts)
    world.writers.append(writer)
    for _ in range(5):
        await writer.open()
        await asyncio.sleep(0.1)
    for machine in others:
        machine.stall_s = 0.0
    await _until(lambda: _serves(old))
    await writer.open(anew=True)
    write = await writer.write()
    if write.fate is not Fate.COMMITTED:
        raise Violated(f"who was given a client id cannot write under it: {write}")


async def written_before_the_log_is_applied(world: World) -> None:
    """The primary loses its power, and its state with it. It leads again, and has the cluster's first record
    in its log alone for a while: who was given a client id before is no stranger meanwhile.
    """
    old, *others = world.machines
    await _until(lambda: _serves(old))
    writer = Writer("w0", [old], [""], world.chance, world.receipts)
    world.writers.append(writer)
    await writer.open()  # and no batch tells the log that its first record is committed
    old.crash(power=True)
    old.start(primary=True)
    await _until(lambda: old.leads)
    for machine in others:
        machine.stall_s = 1.0
    await writer.open(anew=True)
    write = await writer.write()
    for machine in others:
        machine.stall_s = 0.0
    if write.fate is not Fate.COMMITTED:
        raise Violated(f"who was given a client id before cannot write under it: {write}")


async def led_by_one_whom_a_member_does_not_know(world: World) -> None:
    """A member was away while another one was let in, and that one leads when it comes back: the way to it
    stands in the log of a third one.
    """
    old, new, away, *_ = world.machines
    writer = await _begun(world)
    await _changed(old, RemoveMember(new.name))
    await _acked(writer)
    await asyncio.sleep(2.0)
    away.crash(power=False)
    await _changed(old, AddMember(node=new.name, region=new.config.node.region, addr=new.addr))
    await asyncio.sleep(3.0)
    await _changed(old, PromoteMember(new.name))
    await _acked(writer)
    await _until(lambda: not new.reader)
    old.crash(power=False)
    new.crash(power=False)
    new.start(primary=True, take_over=TakeOver())
    await _until(lambda: _serves(new))
    old.start(primary=False)
    away.start(primary=False)
    await asyncio.sleep(3.0)


async def led_by_one_that_moved_while_a_member_was_away(world: World) -> None:
    """A member was away while another one moved, and that one leads when it comes back. Who else knows where
    is gone.
    """
    old, new, away = world.machines
    writer = await _begun(world)
    away.crash(power=False)
    new.crash(power=False)
    moving = asyncio.create_task(_changed(old, MoveMember(new.name, new.elsewhere)))
    new.move(new.elsewhere)
    new.start(primary=False)
    await moving
    await _acked(writer)
    old.crash(power=False)
    new.crash(power=False)
    new.start(primary=True, take_over=TakeOver())
    away.start(primary=False)
    try:
        await _until(lambda: _serves(new))
    except TimeoutError:
        raise Violated(f"{away.name} does not find {new.name} where it is now") from None
    old.start(primary=False)
    await asyncio.sleep(3.0)


async def _changed(machine: Machine, wanted: SettingsChange) -> None:
    async with asyncio.timeout(UNTIL_S):
        while await change(machine, wanted) != "done":
            await asyncio.sleep(0.5)


async def _led_twice(world: World, *, reigns: int) -> None:
    """The first machine leads in so many reigns, alone; the second one, with the third, serves for half a
    minute.
    """
    old, new, other = world.machines
    await _begun(world)
    for machine in (new, other):
        _part(world, old, machine)
        machine.crash(power=False)
    for _ in range(reigns):
        old.crash(power=False)
        old.start(primary=True, take_over=TakeOver(frozenset({new.config.node.id, other.config.node.id})))
        await _until(lambda: old.leads)
        await asyncio.sleep(1.0)
    other.start(primary=False)
    new.start(primary=True, take_over=TakeOver())
    await _until(lambda: _serves(new))
    writer = Writer("w1", [new], [""], world.chance, world.receipts)
    world.writers.append(writer)
    for _ in range(60):
        await _acked(writer)
        await asyncio.sleep(0.5)


async def _begun(world: World) -> Writer:
    """A cluster that takes writes, and all of whose members hold all there is."""
    old = world.machines[0]
    writer = Writer("w0", world.machines[:1], [""], world.chance, world.receipts)
    world.writers.append(writer)
    await _until(lambda: _serves(old))
    for _ in range(5):
        await _acked(writer)
    await asyncio.sleep(2.0)
    return writer


def _serves(machine: Machine) -> bool:
    role = machine.node.role if machine.node is not None else None
    return isinstance(role, Primary) and role.ready


def _heard(machine: Machine) -> list[str]:
    """Who has said there where it stands."""
    return [] if machine.node is None else [str(name) for name in machine.node.roster.reports]


async def _decided(world: World, take_over: TakeOver) -> None:
    """The second machine has asked the third, which follows nobody at that moment, and its reign is on its
    way to a slow disk. Neither reaches the first.
    """
    old, new, middle = world.machines
    _part(world, old, new)
    new.crash(power=False)
    new.start(primary=True, take_over=take_over)
    await asyncio.sleep(0.9)
    _part(world, old, middle)
    await asyncio.sleep(0.9)
    new.stall_s = 3.0
    await _until(lambda: new.node is not None and new.node.storage.meta.term > 1)


async def _written_once(world: World, writer: Writer, old: Machine, middle: Machine) -> None:
    """The old primary and a member reach each other for no longer than one write takes."""
    _mend(world, old, middle)
    for _ in range(20):
        await asyncio.sleep(0.1)
        assert middle.node is not None
        if middle.node.report().follows == old.name:
            await writer.write(1.0)
            break
    _part(world, old, middle)


async def _acked(writer: Writer) -> None:
    write = await writer.write()
    assert write.fate is Fate.COMMITTED, write


def _part(world: World, one: Machine, other: Machine) -> None:
    world.network.reset(one.name, other.name)
    world.network.separate(one.name, other.name)
    world.network.separate(other.name, one.name)


def _mend(world: World, one: Machine, other: Machine) -> None:
    world.network.mend(one.name, other.name)
    world.network.mend(other.name, one.name)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(UNTIL_S):
        while not holds():
            await asyncio.sleep(0.01)


THREE = Plan(announce_s=1.0)
"""By majority. Members hear late what is committed."""
FIVE = Plan(machines=5, floor="ack_n=1", announce_s=1.0)
MANY = Plan(machines=5, announce_s=1.0)
SERVED = Plan(announce_s=1.0, applications=3)
PRUNED = Plan(machines=5, rtts_s=(0.08,), retained_bytes=64 << 10)
"""Of whom none keeps much of the log."""
LITTLE = Plan(retained_bytes=64 << 10)
NARROW = Plan(applications=1, policy_ms=40_000, limits=Limits(window=16))
"""Whose clients have few keys under way."""
SCRIPTS: dict[str, tuple[Script, Plan]] = {
    script.__name__: (script, plan)
    for script, plan in (
        (acked_between_the_question_and_the_reign, THREE),
        (acked_by_one_that_was_called_lost, THREE),
        (acked_by_a_voter_that_has_started_anew, THREE),
        (taken_over_by_one_who_lags_behind, THREE),
        (all_lose_their_power_behind_an_acknowledgement, THREE),
        (the_primary_dies_behind_an_acknowledgement, THREE),
        (two_are_told_to_make_the_cluster, THREE),
        (two_take_over_at_once, THREE),
        (elected_beside_one_who_led_last, FIVE),
        (two_lead_one_term_and_one_of_them_serves, SERVED),
        (tried_again_under_a_policy_that_is_not_met, FIVE),
        (one_leads_a_newer_term_and_an_older_one_serves, SERVED),
        (a_write_outlives_its_primary_and_its_deadline, SERVED),
        (two_who_lead_give_a_snapshot_to_one_that_comes_back, PRUNED),
        (a_sync_fails_under_a_write, THREE),
        (a_disk_is_full_while_a_snapshot_comes, LITTLE),
        (a_client_that_was_forgotten_writes_again, THREE),
        (one_write_waits_for_long_and_many_go_on, NARROW),
        (opened_before_the_cluster_has_begun, THREE),
        (written_before_the_log_is_applied, THREE),
        (led_by_one_whom_a_member_does_not_know, MANY),
        (led_by_one_that_moved_while_a_member_was_away, THREE),
        (the_snapshot_that_comes_is_removed_where_it_comes_from, LITTLE),
    )
}

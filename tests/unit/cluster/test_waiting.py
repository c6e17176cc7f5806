"""Awaitable waits over the ack table, for services of one's own."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

import cluster
from cluster.ack_waits import Reached, TimedOut
from cluster.waiting import Waiting
from redwire.position import Lsn, NodeId, Region
from regions.binding import Member, Membership
from regions.coordinator import QuorumCoordinator
from regions.errors import MissingRegions, Timeout
from regions.quorum import QuorumConfig

pytestmark = pytest.mark.anyio
EU, US = NodeId("eu-1"), NodeId("us-1")


@pytest.fixture
def table() -> QuorumCoordinator:
    members = (Member(EU, Region("eu")), Member(US, Region("us")))
    coordinator = QuorumCoordinator(Membership(members), EU, quorum=QuorumConfig.regions({"us"}))
    coordinator.begin_reign(Lsn(1), 0)
    coordinator.extended(Lsn(5), 0)
    coordinator.own_durable(Lsn(5), 0)
    return coordinator


async def test_a_quorum_is_awaited_until_the_ack_comes(table):
    waiting = Waiting(table, lambda: 100)
    table.joined(US, 1, Lsn(0), Lsn(0), 50)
    async with anyio.create_task_group() as tasks:

        async def ack() -> None:
            table.acked(US, 1, Lsn(5), Lsn(0), Lsn(5), 100)
            waiting.changed()

        tasks.start_soon(ack)
        outcome = await waiting.wait_for_quorum(Lsn(5))
    assert outcome.watermark == 5


async def test_a_quorum_that_does_not_come_in_time_raises(table):
    now = [100]
    waiting = Waiting(table, lambda: now[0])
    table.joined(US, 1, Lsn(0), Lsn(0), 50)
    async with anyio.create_task_group() as tasks:

        async def pass_time() -> None:
            now[0] += 1_000
            waiting.changed()

        tasks.start_soon(pass_time)
        with pytest.raises(Timeout):
            await waiting.wait_for_quorum(Lsn(5), timeout_ms=500)


async def test_a_region_that_nobody_serves_is_said_at_once(table):
    with pytest.raises(MissingRegions):
        await Waiting(table, lambda: 100).wait_for_quorum(Lsn(5))


async def test_acks_are_awaited_until_they_are_counted_or_the_time_is_up(table):
    now = [100]
    waiting = Waiting(table, lambda: now[0])
    table.joined(US, 1, Lsn(5), Lsn(0), 50)
    assert await waiting.await_acks(Lsn(5), 1, 500) == Reached(1)
    async with anyio.create_task_group() as tasks:

        async def pass_time() -> None:
            now[0] += 1_000
            waiting.changed()

        tasks.start_soon(pass_time)
        assert await waiting.await_acks(Lsn(5), 2, 500) == TimedOut(1, 2)


@pytest.mark.parametrize("told", [True, False])
async def test_a_reign_that_begins_ends_all_waits_since_their_lsns_may_be_of_other_records(table, told):
    waiting = Waiting(table, lambda: 100)
    table.joined(US, 1, Lsn(0), Lsn(0), 50)
    outcomes = []

    async def await_acks() -> None:
        outcomes.append(await waiting.await_acks(Lsn(5), 1, 500))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(await_acks)
        await anyio.lowlevel.checkpoint()
        table.begin_reign(Lsn(3), 100)  # the log was cut behind LSN 2, and goes on
        if told:
            waiting.changed()
        table.joined(US, 2, Lsn(2), Lsn(0), 100)
        table.own_durable(Lsn(5), 100)
        table.acked(US, 2, Lsn(5), Lsn(0), Lsn(5), 100)
        waiting.changed()
    assert outcomes == [TimedOut(0, 1)]
    assert await waiting.await_acks(Lsn(5), 1, 500) == Reached(1)


async def test_a_wait_without_any_time_is_over_at_once(table):
    waiting = Waiting(table, lambda: 100)
    table.joined(US, 1, Lsn(0), Lsn(0), 50)
    assert await waiting.await_acks(Lsn(5), 1, 0) == TimedOut(0, 1)
    with pytest.raises(Timeout):
        await waiting.wait_for_quorum(Lsn(5), 0)


async def test_a_wait_that_was_cancelled_is_forgotten(table):
    waiting = Waiting(table, lambda: 100)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.await_acks, Lsn(5), 1, 500)
        await anyio.lowlevel.checkpoint()
        assert len(waiting.acks) == 1
        tasks.cancel_scope.cancel()
    assert len(waiting.acks) == 0


@pytest.mark.parametrize("name", cluster.__all__)
def test_every_name_of_the_package_is_there(name):
    assert getattr(cluster, name) is not None
    assert name in dir(cluster)


def test_another_name_is_not():
    with pytest.raises(AttributeError, match="no attribute 'Lease'"):
        _ = cluster.Lease

"""What ends a node, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from cluster.errors import ApplyStopped
from cluster.process import LED_S, Process
from cluster.roster import Roster
from redwire.position import Lsn
from tests.follower import FIRST, Follower, batches

LOOKS = 3 * LED_S
STOPPED, AGAIN = (ApplyStopped(Lsn(lsn), "a newer version wrote it") for lsn in (5, 7))


class Outliving:
    """A process, as far as it looks after a replica whose apply may end."""

    def __init__(self) -> None:
        given: Any = None
        self.process = Process(given, given, given, given, take_over=None)
        self.follower, self.roster = Follower(batches(5), FIRST), Roster()
        self.storage: Any = SimpleNamespace(applies=SimpleNamespace(), state="the first")
        self.node: Any = SimpleNamespace(
            role=self.follower.core, roster=self.roster, storage=self.storage, leads=False
        )

    async def run(self) -> None:
        await self.process._outlive_apply(self.node)

    async def fail(self, error: ApplyStopped) -> None:
        await anyio.wait_all_tasks_blocked()
        self.storage.applies.on_failure(error)
        await anyio.sleep(LOOKS)

    @property
    def ends_for(self) -> BaseException | None:
        return self.process._failure


@pytest.mark.anyio
async def test_a_replica_whose_apply_has_ended_stays_while_nobody_leads_it_also_while_a_snapshot_comes() -> (
    None
):
    """The snapshot would mend its state: who ends before that does so again at each start."""
    it = Outliving()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.run)
        await it.fail(STOPPED)
        for it.roster.fetching, it.roster.installing in ((None, False), (7, False), (None, True)):
            await anyio.sleep(LOOKS)
            assert it.ends_for is None
        it.roster.installing = False
        it.follower.follow()
        await anyio.sleep(LOOKS)
        assert it.ends_for is STOPPED


@pytest.mark.anyio
async def test_a_replica_whose_state_a_snapshot_replaced_goes_on_until_apply_ends_once_more() -> None:
    it = Outliving()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.run)
        await it.fail(STOPPED)
        it.storage.state = "of the snapshot"
        it.follower.follow()
        await anyio.sleep(LOOKS)
        assert it.ends_for is None
        await it.fail(AGAIN)
        assert it.ends_for is AGAIN

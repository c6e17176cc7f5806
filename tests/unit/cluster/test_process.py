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


@pytest.mark.anyio
async def test_a_replica_whose_apply_has_ended_stays_while_nobody_leads_it_also_while_a_snapshot_comes() -> (
    None
):
    """The snapshot would mend its state: who ends before that does so again at each start."""
    given: Any = None
    process = Process(given, given, given, given, take_over=None)
    follower, roster = Follower(batches(5), FIRST), Roster()
    applies: Any = SimpleNamespace()
    node: Any = SimpleNamespace(
        role=follower.core, roster=roster, storage=SimpleNamespace(applies=applies), leads=False
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process._outlive_apply, node)
        await anyio.wait_all_tasks_blocked()
        error = ApplyStopped(Lsn(5), "a newer version wrote it")
        applies.on_failure(error)
        for roster.fetching, roster.installing in ((None, False), (7, False), (None, True)):
            await anyio.sleep(3 * LED_S)
            assert process._failure is None
        roster.installing = False
        follower.follow()
        await anyio.sleep(3 * LED_S)
        assert process._failure is error

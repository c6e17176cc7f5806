"""The apply thread as the end of a feed: when it takes batches, and who is told that it does."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from cluster.apply_queue import ApplyQueue
from cluster.state import State
from redwire.position import Lsn

pytestmark = pytest.mark.anyio


async def test_who_waits_for_room_goes_on_when_there_is_a_state(tmp_path: Path) -> None:
    queue = ApplyQueue(lambda callback, *args: None, lambda error: None, lambda: Lsn(0))
    state = State.open(tmp_path / "state.db")
    assert queue.full()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.ready)
            await anyio.wait_all_tasks_blocked()
            queue.use(state)
    await anyio.to_thread.run_sync(queue.stop)
    assert queue.full(), "nothing is taken without a state"
    state.close()

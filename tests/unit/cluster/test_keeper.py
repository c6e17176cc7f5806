"""What a node does by the clock where space is short on its volume."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.config import RetentionConfig
from cluster.disk import DiskState, DiskStatus
from cluster.histogram import Histogram
from cluster.keeper import Keeper
from cluster.wal import WalStatus
from redwire.position import EMPTY, Lsn, NodeId


@pytest.mark.parametrize(
    ("state", "free", "short"),
    [
        (DiskState.WORKING, 101, False),
        (DiskState.WORKING, None, False),
        (DiskState.WORKING, 100, True),
        (DiskState.FULL, 1_000, True),
        (DiskState.FULL, None, True),
    ],
)
def test_a_full_disk_and_one_at_its_floor_have_sqlites_log_folded(
    state: DiskState, free: int | None, short: bool
) -> None:
    eased: list[bool] = []
    storage = SimpleNamespace(
        me=NodeId("eu-1"),
        applies=SimpleNamespace(ease=lambda: eased.append(True)),
        settings=SimpleNamespace(cluster=SimpleNamespace(membership=SimpleNamespace(members=()))),
        state=SimpleNamespace(checkpointed=Lsn(0)),
    )
    node: Any = SimpleNamespace(
        storage=storage,
        role=None,
        clock=lambda: SimpleNamespace(ms=0),
        bulletin=SimpleNamespace(slots={}),
    )
    snapshots: Any = SimpleNamespace(pins=list)
    keeper = Keeper(node, RetentionConfig(disk_free_min_bytes=100), snapshots)
    status = DiskStatus(state, 0, None, None, Histogram().status(), 0, WalStatus((), 0, EMPTY))
    keeper.retain(status, 0, free)
    assert keeper.short is short
    assert eased == [True] * short

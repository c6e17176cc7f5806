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


def test_the_watermark_is_noted_where_it_goes_back_with_another_history_and_not_while_that_comes() -> None:
    """Behind the installation the disk would note for the new log what the old one knew committed."""
    noted: list[Lsn] = []
    disk = SimpleNamespace(note_watermark=noted.append)
    node: Any = SimpleNamespace(
        storage=SimpleNamespace(me=NodeId("eu-1"), journal=SimpleNamespace(disk=disk)),
        role=SimpleNamespace(watermark=Lsn(303)),
        roster=SimpleNamespace(installing=True),
        clock=lambda: SimpleNamespace(ms=0),
    )
    keeper = Keeper(node, RetentionConfig(), None)  # type: ignore[arg-type]
    keeper.note_watermark()
    assert noted == []
    node.roster.installing = False
    keeper.note_watermark()
    node.role.watermark = Lsn(6)
    keeper.note_watermark()
    keeper.note_watermark()
    assert noted == [303, 6]

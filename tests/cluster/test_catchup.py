"""Followers that were away: by the log's files, by a snapshot, and by one that was interrupted."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.catchup import REPLAY_RECORDS_MAX
from cluster.tail import TAIL_BYTES_MAX

pytestmark = pytest.mark.slow

ROWS = 10_000
ROW_BYTES = 400
FIRST = 2 * ROWS
"""Rows before any follower goes away."""


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """One cluster for all of them; each leaves it whole."""
    shop = module_fleet("eu-1", "us-1", "ap-1", faults=True)
    shop.fill("bulk", FIRST, ROW_BYTES)
    shop.converge()
    return shop


def test_a_follower_far_behind_catches_up_from_log_files_while_writes_go_on(shop: Any) -> None:
    shop.kill("ap-1")
    left = shop.status("us-1")["log"]["end"]
    with shop.writer() as writer:
        writer.wait_acked()
        away = 2 * TAIL_BYTES_MAX // (ROWS * ROW_BYTES) * ROWS
        shop.fill("bulk", away, ROW_BYTES)
        mark = shop.mark("ap-1")
        shop.start_node("ap-1")
        shop.until(lambda: shop.status("ap-1")["applied"] > left + away, "ap-1 has what it missed")
        writer.wait_acked()
    shop.check_nothing_lost(writer)
    assert shop.documents("ap-1", "bulk") == shop.documents("eu-1", "bulk")
    assert "snapshot" not in shop.said("ap-1", mark)


def test_a_wiped_follower_takes_a_snapshot_while_writes_go_on(shop: Any) -> None:
    grow(shop)
    shop.kill("ap-1")
    shop.wipe("ap-1")
    mark, primary = shop.mark("ap-1"), shop.mark("eu-1")
    with shop.writer() as writer:
        writer.wait_acked()
        shop.start_node("ap-1")
        shop.wait_log("ap-1", "the snapshot is installed", since=mark)
        writer.wait_acked()
        shop.wait_log("eu-1", "ap-1 is admitted", since=primary)
        writer.wait_acked()
    shop.check_nothing_lost(writer)
    assert shop.documents("ap-1", "bulk") == shop.documents("eu-1", "bulk")
    assert shop.log("ap-1")[0].first > REPLAY_RECORDS_MAX
    assert shop.said("ap-1", mark).count("taking a snapshot") == 1


def test_an_interrupted_snapshot_goes_on_where_it_broke_off(shop: Any) -> None:
    grow(shop)
    shop.kill("ap-1")
    shop.wipe("ap-1")
    part = shop.data_dir("ap-1") / "snapshots" / "incoming.part"
    shop.disk("ap-1", "write incoming.part delay 20")
    with shop.writer() as writer:
        shop.start_node("ap-1")
        shop.until(lambda: part.exists() and part.stat().st_size > 2 << 20, "a part of the snapshot is there")
        shop.kill("ap-1")
        there = part.read_bytes()
        whole = max(path.stat().st_size for path in (shop.data_dir("eu-1") / "snapshots").glob("offer-*"))
        assert len(there) < whole
        mark = shop.mark("ap-1")
        shop.start_node("ap-1")
        shop.until(lambda: part.exists() and part.stat().st_size > len(there), "the transfer goes on")
        with part.open("rb") as file:
            assert file.read(len(there)) == there
        shop.disk("ap-1")
        shop.wait_log("ap-1", "the snapshot is installed", since=mark)
        writer.wait_acked()
    shop.check_nothing_lost(writer)
    assert shop.documents("ap-1", "bulk") == shop.documents("eu-1", "bulk")
    assert not part.exists()


def grow(shop: Any) -> None:
    """Make the history longer than what an empty follower replays."""
    missing = REPLAY_RECORDS_MAX + 1 - shop.status("eu-1")["log"]["end"]
    if missing > 0:
        shop.fill("bulk", missing, ROW_BYTES)
        shop.converge()

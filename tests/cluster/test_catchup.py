"""Followers that were away: by the log's files, by a snapshot, and by one that was interrupted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from cluster.catchup import REPLAY_RECORDS_MAX
from cluster.tail import TAIL_BYTES_MAX
from redwire import connect_sync
from redwire.errors import AuthenticationFailed, DeadlineExceeded
from redwire.message.admin import RemoveUser
from tests.cluster.power_cut import lose_since, state_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROW_BYTES = 1_000
FIRST = 5_000
"""Rows before any follower goes away."""
LONG_BYTES = 8_000
"""Of the rows that are written while one is away: they are to fill the log, not the test's time."""

MIB = 1 << 20
FAR_MS = 80.0
"""A round trip: 40 ms each way."""
GROWTH_BYTES_MAX = 48 * MIB
"""For buffers and the writes that go on; less than the snapshot that is under way."""


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """One cluster for all of them; each leaves it whole."""
    shop = module_fleet("eu-1", "us-1", "ap-1", faults=True)
    shop.fill("bulk", FIRST, ROW_BYTES)
    shop.converge()
    return shop


def test_a_follower_far_behind_catches_up_from_log_files_while_writes_go_on(shop: Any) -> None:
    shop.kill("ap-1")
    left = shop.status("us-1").own.received
    with shop.writer() as writer:
        writer.wait_acked()
        away = 2 * TAIL_BYTES_MAX // LONG_BYTES
        shop.fill("bulk", away, LONG_BYTES)
        mark = shop.mark("ap-1")
        shop.start_node("ap-1")
        shop.until(lambda: shop.status("ap-1").own.applied > left + away, "ap-1 has what it missed")
        writer.wait_acked()
    shop.check_nothing_lost(writer)
    shop.check_same_documents("bulk")
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
    shop.check_same_documents("bulk")
    assert shop.log("ap-1")[0].first == installed_at(shop, "ap-1", mark) + 1 > REPLAY_RECORDS_MAX
    assert shop.said("ap-1", mark).count("taking a snapshot") == 1


def test_an_interrupted_snapshot_goes_on_where_it_broke_off(shop: Any) -> None:
    grow(shop)
    shop.kill("ap-1")
    shop.wipe("ap-1")
    part = shop.data_dir("ap-1") / "snapshots" / "incoming.part"
    shop.disk("ap-1", "write incoming.part delay 20")
    with shop.writer() as writer:
        shop.start_node("ap-1")
        wait_part(shop, part, 2 * MIB)
        shop.kill("ap-1")
        there = part.read_bytes()
        whole = max(path.stat().st_size for path in (shop.data_dir("eu-1") / "snapshots").glob("offer-*"))
        assert len(there) < whole
        mark = shop.mark("ap-1")
        shop.start_node("ap-1")
        wait_part(shop, part, len(there))
        with part.open("rb") as file:
            assert file.read(len(there)) == there
        shop.disk("ap-1")
        shop.wait_log("ap-1", "the snapshot is installed", since=mark)
        writer.wait_acked()
    shop.check_nothing_lost(writer)
    shop.check_same_documents("bulk")
    assert not part.exists()


def test_a_snapshot_whose_source_is_killed_is_fetched_from_the_next_life_of_that_source(shop: Any) -> None:
    grow(shop)
    shop.kill("ap-1")
    shop.wipe("ap-1")
    part = shop.data_dir("ap-1") / "snapshots" / "incoming.part"
    shop.disk("ap-1", "write incoming.part delay 20")
    mark = shop.mark("ap-1")
    with shop.writer(timeout_s=30) as writer:
        shop.start_node("ap-1")
        wait_part(shop, part, 2 * MIB)
        shop.kill("eu-1")
        shop.lead("eu-1")
        shop.disk("ap-1")
        shop.wait_log("ap-1", "the snapshot is installed", since=mark)
        writer.wait_acked()
    assert not writer.refused
    shop.check_nothing_lost(writer)
    shop.check_same_documents("bulk")
    assert not part.exists()
    assert shop.said("ap-1", mark).count("is installed") == 1


def test_a_snapshot_that_is_here_is_installed_however_long_that_takes_and_whoever_dies_meanwhile(
    shop: Any,
) -> None:
    grow(shop)
    shop.kill("ap-1")
    shop.wipe("ap-1")
    part = shop.data_dir("ap-1") / "snapshots" / "incoming.part"
    shop.disk("ap-1", "write incoming.part delay 5")
    mark = shop.mark("ap-1")
    with shop.writer(timeout_s=30) as writer:
        shop.start_node("ap-1")
        wait_part(shop, part, MIB)
        longer_than_silence = 7_000
        shop.disk("ap-1", f"sync incoming.part delay {longer_than_silence}", "sync meta.cbor hang")
        shop.until(lambda: shop.disk_hits("ap-1") >= 2, "the installation hangs")
        assert "silent" not in shop.said("ap-1", mark)
        shop.kill("eu-1")
        shop.lead("eu-1")
        assert "is installed" not in shop.said("ap-1", mark)
        shop.disk("ap-1")
        shop.wait_log("ap-1", "the snapshot is installed", since=mark)
        writer.wait_acked()
    assert not writer.refused
    shop.check_nothing_lost(writer)
    shop.check_same_documents("bulk")
    said = shop.said("ap-1", mark)
    assert (said.count("taking a snapshot"), said.count("is installed")) == (1, 1)


def test_a_follower_without_room_for_its_snapshot_says_so_and_goes_on_by_itself_once_there_is(
    shop: Any,
) -> None:
    grow(shop)
    shop.kill("ap-1")
    shop.wipe("ap-1")
    shop.disk("ap-1", "write incoming.part fail 28")
    mark = shop.mark("ap-1")
    with shop.writer() as writer:
        shop.start_node("ap-1")
        shop.wait_log("ap-1", "incoming.part: no space for it; free some disk space", since=mark)
        shop.wait_log("ap-1", "there is no room for the snapshot: ", since=mark)
        shop.until(lambda: shop.disk_hits("ap-1") >= 4, "it looks for room again and again")
        assert shop.status("eu-1").node("ap-1").role == "rebuilding"
        writer.wait_acked()
        shop.disk("ap-1")
        shop.wait_log("ap-1", "there is room for the snapshot: it goes on", since=mark)
        shop.wait_log("ap-1", "the snapshot is installed", since=mark)
        writer.wait_acked()
    said = shop.said("ap-1", mark)
    once = ("taking a snapshot", "no space for it; free", "there is no room for", "there is room for")
    assert [said.count(text) for text in once] == [1] * len(once)
    assert said.count("connected to eu-1") == 2, "the line stays up while it waits"
    shop.check_nothing_lost(writer)
    shop.check_same_documents("bulk")
    (state,) = shop.data_dir("ap-1").glob("state*.db")
    assert state.stat().st_mode & 0o777 == 0o600


def test_a_sync_that_fails_while_a_snapshot_becomes_the_state_ends_the_follower(shop: Any) -> None:
    grow(shop)
    shop.kill("ap-1")
    shop.wipe("ap-1")
    shop.disk("ap-1", "sync state-2.db-journal fail 5")
    mark = shop.mark("ap-1")
    shop.start_node("ap-1")
    assert shop.ends("ap-1") == 1
    assert "state-2.db: disk I/O error; check the disk" in shop.said("ap-1", mark)
    shop.disk("ap-1")
    mark = shop.mark("ap-1")
    shop.start_node("ap-1")
    shop.wait_log("ap-1", "the snapshot is installed", since=mark)
    shop.check_same_documents("bulk")


def test_a_primary_without_room_for_a_snapshot_says_so_to_whoever_needs_it_and_leaves_nothing_behind(
    shop: Any,
) -> None:
    grow(shop)
    shop.kill("ap-1")
    shop.wipe("ap-1")
    shop.disk("eu-1", "write /offer- fail 28")
    mark, primary = shop.mark("ap-1"), shop.mark("eu-1")
    with shop.writer() as writer:
        shop.start_node("ap-1")
        shop.wait_log("ap-1", "DISK_FULL: eu-1 cannot give a snapshot: ", since=mark)
        shop.wait_log("eu-1", "no space for the state; ap-1 needs one", since=primary)
        shop.disk("eu-1")
        shop.wait_log("ap-1", "the snapshot is installed", since=mark)
        writer.wait_acked()
    assert not [*(shop.data_dir("eu-1") / "snapshots").glob("offer-*-journal")]
    shop.check_nothing_lost(writer)
    shop.check_same_documents("bulk")


def test_a_follower_alone_whose_state_lost_its_end_in_a_power_cut_has_all_that_its_log_knows_committed(
    fleet: Any,
) -> None:
    """The others are away."""
    shop = fleet("eu-1", "us-1")
    shop.fill("bulk", 100)
    shop.converge()
    shop.kill("us-1")
    then = state_files(shop, "us-1")
    shop.start_node("us-1")
    shop.fill("bulk", 500)
    shop.converge()
    shop.db.put("bulk", "last", {})  # its batch says that all before it is committed
    shop.converge()
    for node in ("us-1", "eu-1"):
        shop.kill(node)
    lose_since(shop, "us-1", then)
    shop.start_node("us-1")
    shop.until(lambda: len(shop.documents("us-1", "bulk")) == 600, "us-1 has applied it, alone")


def test_a_wiped_follower_of_a_short_history_replays_all_of_it(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1", policy="local")
    shop.fill("bulk", 100)
    shop.converge()
    shop.kill("us-1")
    shop.wipe("us-1")
    mark = shop.mark("us-1")
    shop.start_node("us-1")
    shop.db.put("bulk", "after", {}, policy="ack_n=1", timeout_s=30)
    shop.converge()
    assert shop.log("us-1")[0].first == 1 and "snapshot" not in shop.said("us-1", mark)
    shop.check_same_log()
    shop.check_same_documents("bulk")


def test_a_follower_that_was_given_up_comes_back_by_itself_over_a_far_line_that_breaks_on_the_way(
    fleet: Any,
) -> None:
    """The log that it needs is gone. While its snapshot travels, in bounded memory, the log behind that is
    kept, whatever the bounds say: one snapshot is enough. Whoever is no user any more in it is sent away.
    """
    shop = fleet(
        "eu-1",
        "us-1",
        "ap-1",
        faults=True,
        rtt_ms={("eu", "ap"): FAR_MS, ("us", "ap"): FAR_MS},
        sections={"retention": {"bytes_max": MIB}},
    )
    shop.db.put("big", "first", {})
    shop.add_user("leaver", "secret", "read")
    left = shop.converge()
    where = f"leaver:secret@127.0.0.1:{shop.ports['ap-1']}/?ca={shop.folder}/ca.pem"
    with (
        connect_sync(f"reds://{where}&discovery=off&read=any") as leaver,
        shop.writer(timeout_s=30) as writer,
    ):
        shop.isolate("ap-1")
        shop.command("cut ap-eu reset")  # a stream that outlives the cut would go on without a snapshot
        shop.db.admin.change_account(RemoveUser("leaver"))
        fill_mib(shop, 90)  # a segment, and a checkpoint of the state behind it
        shop.until(lambda: shop.status("eu-1").own.base > left, "ap-1 is given up")
        assert leaver.get("big", "first") is not None, "ap-1 does not know yet"
        part = shop.data_dir("ap-1") / "snapshots" / "incoming.part"
        shop.disk("ap-1", "write incoming.part delay 10")
        memory = {"eu-1": Memory(shop, "eu-1")}
        mark = shop.mark("ap-1")
        shop.heal("ap-1")
        wait_part(shop, part, MIB)
        memory["ap-1"] = Memory(shop, "ap-1")

        shop.command("cut ap-eu reset")
        there = part.read_bytes()
        shop.command("heal ap-eu")
        wait_part(shop, part, len(there) + MIB)
        with part.open("rb") as file:
            assert file.read(len(there)) == there

        wait_part(shop, part, len(there) + GROWTH_BYTES_MAX)
        shop.disk("ap-1", "write incoming.part hang")
        fill_mib(shop, 64)
        assert "is installed" not in shop.said("ap-1", mark)
        for node, held in memory.items():
            assert held.growth_bytes() < GROWTH_BYTES_MAX, node
        shop.disk("ap-1")
        shop.wait_log("ap-1", "the snapshot is installed", since=mark)
        writer.wait_acked()
        shop.until(lambda: is_ended(leaver), "the session of who is no user any more is ended")
    assert not writer.refused and not writer.doubtful
    shop.check_nothing_lost(writer)
    shop.check_same_documents("big")
    said = shop.said("ap-1", mark)
    assert said.count("SNAPSHOT_NEEDED") >= 2 and said.count("is installed") == 1
    assert len(list((shop.data_dir("eu-1") / "snapshots").glob("offer-*.db"))) == 1
    assert shop.status("eu-1").own.base <= installed_at(shop, "ap-1", mark)


def is_ended(db: Any) -> bool:
    """Whether the node has sent this client away, and lets it in no more."""
    try:
        db.get("big", "first", timeout_s=1)
    except (AuthenticationFailed, DeadlineExceeded) as error:
        return "leaver was removed" in str(error) or "wrong user or password" in str(error)
    return False


class Memory:
    """A running node's memory from now on."""

    def __init__(self, shop: Any, node: str) -> None:
        self._process = Path(f"/proc/{shop.processes[node].pid}")
        (self._process / "clear_refs").write_text("5")
        self._before = self._peak()

    def growth_bytes(self) -> int:
        return self._peak() - self._before

    def _peak(self) -> int:
        lines = (self._process / "status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def fill_mib(shop: Any, count: int) -> None:
    """Write so many MiB of new documents."""
    prefix, body = f"{time.monotonic_ns()}", "x" * MIB
    for start in range(0, count, 5):
        rows = [(f"{prefix}-{n:04d}", {"n": n, "body": body}) for n in range(start, min(start + 5, count))]
        shop.db.insert_many("big", rows, timeout_s=30)


def wait_part(shop: Any, part: Path, size: int) -> None:
    """Wait until so much of a snapshot is there."""
    shop.until(lambda: part.exists() and part.stat().st_size > size, f"{size} bytes of a snapshot are there")


def installed_at(shop: Any, node: str, mark: int) -> int:
    """The LSN from which a node's log went on after its snapshot."""
    return int(shop.wait_log(node, "the snapshot is installed", since=mark).split()[-1])


def grow(shop: Any) -> None:
    """Make the history longer than what an empty follower replays."""
    missing = REPLAY_RECORDS_MAX + 1 - shop.status("eu-1").own.received
    if missing > 0:
        shop.fill("bulk", missing, ROW_BYTES)
        shop.converge()

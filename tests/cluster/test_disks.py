"""A primary whose disk is slow, broken or full: what was not on disk was never acknowledged."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from cluster.replica import SILENCE_MS
from redwire import connect_sync
from redwire.errors import Code, NotConfirmed, Refused
from tests.cluster.power_cut import lose_since, state_files

pytestmark = pytest.mark.slow

NODES = ("eu-1", "us-1", "ap-1")
GRACE_MS = 1_500
BIG = {"body": "x" * (7 << 20)}
SEGMENTS_BYTES = 2 * (64 << 20)
"""What is allocated ahead: the segment in use and the next one."""


@pytest.fixture
def shop(fleet: Any) -> Any:
    """Three nodes whose disks can be made to fail."""
    return fleet(*NODES, faults=True, replica_timeout_ms=GRACE_MS)


def in_flight_over_a_disk_that_hangs(shop: Any, call: str) -> Any:
    """Kill the primary while its disk is in `call` for a batch that both followers have on disk.

    The error of the write that was in it, which nobody acknowledged.
    """
    shop.db.put("c", "before", {"n": 1})
    shop.converge()
    end = shop.status("us-1").own.received
    shop.until(lambda: _log_bytes(shop, "eu-1") >= SEGMENTS_BYTES, "the next segment, which is synced too")
    shop.disk("eu-1", f"{call} /wal/ hang")
    with connect_sync(shop.uri("eu-1", discovery="off")) as db, pytest.raises(NotConfirmed) as unconfirmed:
        db.put("c", "during", {"n": 2}, timeout_s=5)  # the answer has a tenth of it for its way
    assert unconfirmed.value.receipt.achieved is None
    assert {ack.node for ack in unconfirmed.value.receipt.acks} == {"us-1", "ap-1"}
    assert shop.disk_hits("eu-1") == 1
    for node in ("us-1", "ap-1"):
        own = shop.status(node).own
        assert own.durable == end + 1 and own.watermark == end
    shop.kill("eu-1")
    shop.disk("eu-1")
    return unconfirmed.value


def _log_bytes(shop: Any, node: str) -> int:
    return next(each.disk.log_bytes or 0 for each in shop.status(node).nodes if each.id == node)


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_primary_killed_before_its_own_disk_had_the_batch_takes_it_from_a_follower_in_reach(
    shop: Any, call: str
) -> None:
    error = in_flight_over_a_disk_that_hangs(shop, call)
    shop.lead("eu-1")
    assert ("longer log" in shop.said("eu-1")) == (call == "write")
    assert shop.db.resolve(error.key, timeout_s=30).id == "during"
    shop.converge()
    for node in NODES:
        assert shop.documents(node, "c").keys() == {"before", "during"}
    shop.check_same_log()


def test_a_primary_killed_before_its_own_disk_had_the_batch_waits_while_no_follower_is_in_reach(
    shop: Any,
) -> None:
    """Alone it could commit nothing; whoever comes brings what it lacks."""
    error = in_flight_over_a_disk_that_hangs(shop, "write")
    for node in ("us-1", "ap-1"):
        shop.terminate(node)
    mark = shop.mark("eu-1")
    shop.start_node("eu-1")
    shop.wait_log(
        "eu-1", "as nobody in reach knows: ap-1 (not heard yet) and us-1 (not heard yet)", since=mark
    )
    for node in ("us-1", "ap-1"):
        shop.start_node(node)
    shop.wait_log("eu-1", "serves writes", since=mark)
    assert "longer log" in shop.said("eu-1", mark)
    assert shop.db.resolve(error.key, timeout_s=30).id == "during"
    shop.db.put("c", "after", {"n": 3}, timeout_s=30)
    shop.converge()
    for node in NODES:
        assert shop.documents(node, "c").keys() == {"before", "during", "after"}
    shop.check_same_log()


def test_an_operator_has_it_lead_without_the_batch(shop: Any) -> None:
    error = in_flight_over_a_disk_that_hangs(shop, "write")
    for node in ("us-1", "ap-1"):
        shop.terminate(node)
    mark = shop.mark("eu-1")
    shop.start_node("eu-1", "--take-over", "--lost", "us-1,ap-1")
    shop.wait_log("eu-1", "begins at LSN", since=mark)
    for node in ("us-1", "ap-1"):
        shop.start_node(node)
    shop.wait_log("eu-1", "serves writes", since=mark)
    with pytest.raises(Refused) as absent:
        shop.db.resolve(error.key, timeout_s=30)
    assert absent.value.code is Code.NOT_FOUND
    shop.converge()
    for node in NODES:
        assert shop.documents(node, "c").keys() == {"before"}
    for node in ("us-1", "ap-1"):
        tails = list((shop.data_dir(node) / "diverged").glob("*.log"))
        assert len(tails) == 1 and b"during" in tails[0].read_bytes()
    shop.check_same_log()


def test_a_failed_sync_ends_the_primary_and_nothing_after_it_was_acknowledged(shop: Any) -> None:
    with shop.writer(timeout_s=1) as writer:
        writer.wait_acked()
        shop.disk("eu-1", "sync /wal/ fail 5")
        assert shop.ends("eu-1") == 1
        acked = len(writer.acked)
        shop.until(lambda: writer.doubtful, "what was in flight is in doubt")
        assert len(writer.acked) == acked
        shop.disk("eu-1")
        shop.lead("eu-1")
        writer.wait_acked()
    assert "check the disk" in shop.said("eu-1")
    shop.check_nothing_lost(writer)


def test_a_failed_sync_ends_a_follower_and_the_others_go_on(shop: Any) -> None:
    with shop.writer() as writer:
        writer.wait_acked()
        shop.disk("us-1", "sync /wal/ fail 5")
        assert shop.ends("us-1") == 1
        writer.wait_acked()
        shop.disk("us-1")
        shop.start_node("us-1")
        writer.wait_acked()
    assert not writer.refused and not writer.doubtful
    shop.check_nothing_lost(writer)


def test_a_follower_that_waits_for_its_own_disk_calls_nobody_silent(shop: Any) -> None:
    shop.disk("us-1", "sync /wal/ hang")
    for n in range(8):  # more than a follower holds for its disk
        shop.db.put("large", f"d{n}", BIG)
    time.sleep(SILENCE_MS / 1000 + 3)
    assert shop.status("us-1").own.received < shop.status("eu-1").own.received
    shop.disk("us-1")
    shop.converge()
    assert "silent" not in shop.said("us-1") + shop.said("eu-1")


def test_a_primary_without_room_refuses_writes_and_goes_on_by_itself(fleet: Any) -> None:
    """The log's disk is full: reads go on, what was accepted is there, and space is all it takes."""
    shop = fleet("eu-1", faults=True)
    shop.disk("eu-1", "allocate /wal/ fail 28")
    written = 0
    with pytest.raises(Refused) as full:
        for written in range(SEGMENTS_BYTES // (7 << 20) + 2):
            shop.db.put("c", f"{written:03d}", BIG, timeout_s=20)  # a disk that others flood may take seconds
    assert full.value.code is Code.DISK_FULL
    assert written >= SEGMENTS_BYTES // (7 << 20) // 2
    assert shop.db.get("c", "000").value == BIG
    assert shop.status("eu-1").own.role == "primary"
    shop.disk("eu-1")
    shop.db.put("c", "after", {"n": 1}, timeout_s=30)
    found = shop.documents("eu-1", "c")
    assert found.keys() == {f"{n:03d}" for n in range(written)} | {"after"}


def test_a_primary_whose_state_has_no_room_refuses_writes_loses_nothing_and_goes_on_by_itself(
    fleet: Any,
) -> None:
    """The log's room is allocated ahead: only the state finds the disk full."""
    shop = fleet("eu-1", faults=True, replica_timeout_ms=GRACE_MS)
    shop.db.put("c", "before", {"n": 0})
    shop.disk("eu-1", "write /state fail 28")
    with pytest.raises(NotConfirmed):
        shop.db.put("c", "during", {"n": 1}, timeout_s=2)
    with pytest.raises(Refused) as full:
        shop.db.put("c", "refused", {"n": 2}, timeout_s=2)
    assert full.value.code is Code.DISK_FULL
    assert shop.db.get("c", "before").value == {"n": 0}
    status = shop.until(lambda: of_state(shop, "full"), "the node says that its disk is full")
    assert status.quorum.met is False and "full" in status.quorum.why
    assert (status.own.health, status.own.why) == ("unhealthy", "its disk is full")
    assert (status.own.lag.state, status.own.lag.records) == ("behind", 1)
    assert [event.kind for event in status.events].count("disk_full") == 1
    shop.disk("eu-1")
    shop.db.put("c", "after", {"n": 3}, timeout_s=30)
    assert shop.documents("eu-1", "c").keys() == {"before", "during", "after"}
    assert shop.said("eu-1").count("the settings of LSN 2 are in force") == 1
    status = shop.until(lambda: of_state(shop, "working"), "the node says that its disk has room")
    assert status.quorum.met and status.own.health == "healthy"


def test_a_follower_whose_state_has_no_room_says_so_and_the_others_go_on(shop: Any) -> None:
    shop.disk("us-1", "write /state fail 28")
    shop.db.put("c", "during", {"n": 1})

    def judged(state: str) -> bool:
        return shop.status("eu-1").node("us-1").disk.state == state

    shop.until(lambda: judged("full"), "the primary hears that the follower's disk is full")
    row = shop.status("eu-1").node("us-1")
    assert (row.health, row.why) == ("unhealthy", "its disk is full")
    assert "disk_full" in {event.kind for event in shop.status("us-1").events}
    shop.db.put("c", "meanwhile", {"n": 2})
    shop.disk("us-1")
    shop.until(lambda: judged("working"), "the follower's disk has room again")
    shop.converge()
    assert shop.documents("us-1", "c").keys() == {"during", "meanwhile"}


def test_a_node_that_finds_no_space_when_it_starts_ends_and_says_that_it_has_to_be_started_again(
    fleet: Any,
) -> None:
    shop = fleet("eu-1", faults=True)
    shop.db.put("c", "before", {"n": 0})
    shop.terminate("eu-1")
    shop.disk("eu-1", "write /state fail 28")
    shop.start_node("eu-1")
    assert shop.ends("eu-1") == 1
    assert "no space for the state; free some disk space, then start the node again" in shop.said("eu-1")
    shop.disk("eu-1")
    shop.lead("eu-1")
    assert shop.documents("eu-1", "c").keys() == {"before"}


def test_a_bit_that_flips_in_a_state_file_is_found_by_the_read_and_another_node_answers(shop: Any) -> None:
    shop.db.insert_many("c", [("damaged", {"word": "xyzzy"}), ("sound", {"word": "plugh"})])
    shop.converge()
    shop.terminate("us-1")
    (path,) = shop.data_dir("us-1").glob("state*.db")
    assert path.read_bytes().count(b"xyzzy") == 1
    path.write_bytes(path.read_bytes().replace(b"xyzzy", b"xyzzx"))
    shop.start_node("us-1")
    shop.converge()
    assert shop.db.get("c", "sound", read="region:us").value == {"word": "plugh"}
    with pytest.raises(Refused, match="us-1 cannot read its copy") as refused:
        shop.db.get("c", "damaged", read="region:us")
    assert refused.value.code is Code.DAMAGED
    for _ in range(4):
        assert shop.db.get("c", "damaged", read="any").value == {"word": "xyzzy"}
    assert shop.said("us-1").count("the document 'damaged' of collection 1 does not match") == 1
    assert "state_damaged" in {event.kind for event in shop.status("us-1").events}
    assert shop.db.put("c", "damaged", {"word": "new"}).receipt
    shop.converge()
    assert shop.db.get("c", "damaged", read="region:us").value == {"word": "new"}


def test_what_damage_hides_is_looked_for_a_replica_serves_no_reads_then_and_a_primary_ends(
    fleet: Any,
) -> None:
    shop = fleet(*NODES)
    shop.db.insert_many("c", [(f"id-{number:03}", {"n": number}) for number in range(300)])
    shop.converge()
    for node in ("us-1", "eu-1"):
        shop.terminate(node)
        (path,) = shop.data_dir(node).glob("state*.db")
        path.write_bytes(path.read_bytes().replace(b"id-123", b"id-12s"))
    marks = {node: shop.mark(node) for node in ("us-1", "eu-1")}
    shop.start_node("us-1")
    shop.start_node("eu-1")
    assert shop.ends("eu-1") == 1
    assert "state.db is damaged" in shop.said("eu-1", marks["eu-1"])
    shop.wait_log("us-1", "is damaged", since=marks["us-1"])
    with connect_sync(shop.uri("us-1", discovery="off", read="any")) as db:
        for ident in ("id-123", "id-007"):
            with pytest.raises(Refused, match="us-1 cannot read its copy"):
                db.get("c", ident)
    own = shop.until(
        lambda: (row := shop.status("us-1").node("us-1")).disk.state != "working" and row, "told"
    )
    assert own.disk.state == "damaged"


def test_the_log_of_a_node_whose_state_is_damaged_is_there_for_who_is_to_lead_and_the_node_ends_once_led(
    fleet: Any,
) -> None:
    """Only its log has what was acknowledged, and its state lost its end in a power cut."""
    shop = fleet(*NODES)
    shop.converge()
    shop.kill("us-1")
    then = state_files(shop, "us-1")
    shop.start_node("us-1")
    shop.converge()
    shop.kill("ap-1")
    shop.fill("c", 300)
    shop.db.put("c", "last", {})
    shop.converge("eu-1", "us-1")
    for node in ("us-1", "eu-1"):
        shop.kill(node)
    path = lose_since(shop, "us-1", then)
    with closing(sqlite3.connect(path)) as state:
        (root,) = state.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'docs'").fetchone()
        (page_bytes,) = state.execute("PRAGMA page_size").fetchone()
        state.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"\xa5" * page_bytes)
    mark = shop.mark("us-1")
    shop.start_node("us-1")
    shop.wait_log("us-1", "is damaged", since=mark)
    for node in NODES:
        shop.set_role(node, "primary" if node == "ap-1" else "replica")
    mark = shop.mark("ap-1")
    shop.start_node("ap-1", "--take-over")
    shop.wait_log("ap-1", "begins at LSN", since=mark)
    assert shop.ends("us-1") == 1
    shop.start_node("eu-1")
    shop.wait_log("ap-1", "serves writes", since=mark)
    shop.converge("ap-1", "eu-1")
    assert len(shop.documents("ap-1", "c")) == 301


def of_state(shop: Any, disk: str) -> Any:
    """What the only node says of itself once its disk is in that state; None before."""
    status = shop.status("eu-1")
    return status if status.own.disk.state == disk else None

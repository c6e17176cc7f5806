"""What two looks at the cluster, or at oneself, tell to have happened between them."""

from __future__ import annotations

import msgspec
import pytest

from cluster.events import EventKind
from cluster.watch import Watch
from redwire.message.vitals import Vitals
from redwire.status import NodeStatus, Quorum, Settings, Slot, Status, Vantage

STARVED = ((False, 0), (False, 5_000), (False, 6_000), (True, 7_000))
"""Whether the quorum is met, and when: nobody is there for seven seconds."""
LEADER = NodeStatus(id="eu-1", role="primary", health="healthy", connected=True)
WELL = NodeStatus(id="us-1", role="replica", health="healthy", connected=True, slot=Slot(state="ok"))
GONE = NodeStatus(id="us-1", health="unhealthy", why="not connected", connected=False, slot=Slot(state="ok"))
STUCK = msgspec.structs.replace(WELL, health="unhealthy", why="no progress")
VITALS = Vitals(
    version="1",
    durable=0,
    disk="working",
    fsync_p50_us=None,
    fsync_p99_us=None,
    free_bytes=7,
    floor_bytes=0,
    floor_ms=None,
    log_bytes=0,
    certificate_ends_at_ms=None,
    rtts_us={},
)


def look(
    node: NodeStatus = WELL, *, met: bool | None = True, term: int = 1, lsn: int = 0, at_ms: int = 0
) -> Status:
    return Status(
        vantage=Vantage(at_ms=at_ms),
        term=term,
        nodes=(LEADER, node),
        quorum=Quorum(met=met, why="no voter in us" if met is False else ""),
        settings=Settings(policy="majority", lsn=lsn, replica_timeout_ms=5_000),
    )


def slot(state: str) -> NodeStatus:
    return msgspec.structs.replace(WELL, slot=Slot(state=state, bound="bytes_max", eviction_ms=9_000))


def tell(watch: Watch, status: Status) -> list[tuple[EventKind, str]]:
    """What is told of a look at a time when both clocks say the same."""
    return watch.reign(status, status.vantage.at_ms)


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (look(), look(), []),
        (look(), look(GONE), []),
        (look(GONE), look(), []),
        (look(), look(STUCK), [EventKind.MEMBER_UNHEALTHY]),
        (look(STUCK), look(), [EventKind.MEMBER_HEALTHY]),
        (look(STUCK), look(GONE), []),
        (look(), look(met=False), [EventKind.QUORUM_LOST]),
        (look(met=False), look(), []),
        (look(met=False), look(met=False, at_ms=4_999), []),
        (look(met=False), look(met=False, at_ms=5_000), [EventKind.QUORUM_LOST]),
        (look(), look(met=None), []),
        (look(), look(slot("at_risk")), [EventKind.SLOT_AT_RISK]),
        (look(slot("at_risk")), look(slot("evicted")), [EventKind.SLOT_EVICTED]),
        (look(slot("at_risk")), look(), [EventKind.SLOT_SAFE]),
        (look(slot("evicted")), look(slot("unknown")), []),
        (look(), look(lsn=9), []),
    ],
)
def test_each_change_is_one_event(before, after, kinds) -> None:
    watch = Watch()
    tell(watch, before)
    assert [kind for kind, _ in tell(watch, after)] == kinds
    assert tell(watch, after) == []


def test_who_was_told_to_be_unhealthy_is_told_to_be_healthy_whatever_came_between() -> None:
    watch = Watch()
    told = [[kind for kind, _ in tell(watch, look(each))] for each in (WELL, STUCK, GONE, WELL, WELL)]
    assert told == [[], [EventKind.MEMBER_UNHEALTHY], [], [EventKind.MEMBER_HEALTHY], []]


def test_who_comes_back_and_is_unhealthy_is_told_at_the_next_look() -> None:
    watch = Watch()
    told = [[kind for kind, _ in tell(watch, look(each))] for each in (WELL, GONE, STUCK, STUCK, STUCK)]
    assert told == [[], [], [], [EventKind.MEMBER_UNHEALTHY], []]


def test_who_never_came_in_a_reign_is_told_once_it_had_time_to() -> None:
    watch = Watch()
    told = [tell(watch, look(GONE, at_ms=at_ms)) for at_ms in (0, 4_999, 5_000, 6_000)]
    assert told == [[], [], [(EventKind.MEMBER_UNHEALTHY, "us-1: not connected")], []]


def test_the_first_look_of_a_reign_tells_nothing() -> None:
    watch = Watch()
    assert tell(watch, look(met=False)) == []
    assert tell(watch, look(term=2)) == []


def test_a_quorum_that_was_lost_is_told_to_be_back() -> None:
    watch = Watch()
    for status in (look(), look(met=False), look(met=False)):
        found = tell(watch, status)
    assert found == []
    assert [kind for kind, _ in tell(watch, look())] == [EventKind.QUORUM_REGAINED]


def test_a_reign_that_begins_without_quorum_tells_so_and_when_it_is_there() -> None:
    watch = Watch()
    looks = [look()]
    looks += [look(met=met, term=2, at_ms=9_000 + at) for met, at in STARVED]
    told = [[kind for kind, _ in tell(watch, each)] for each in looks]
    assert told == [[], [], [EventKind.QUORUM_LOST], [], [EventKind.QUORUM_REGAINED]]


def test_a_reign_that_began_before_the_clock_was_put_back_tells_what_is_missing_as_soon() -> None:
    watch, told = Watch(), []
    for now_ms, at_ms in ((9_000, 10**12), (10_000, 10**12 - 3_600_000), (14_000, 10**12 - 3_596_000)):
        told.append([kind for kind, _ in watch.reign(look(GONE, met=False, at_ms=at_ms), now_ms)])
    assert told == [[], [], [EventKind.MEMBER_UNHEALTHY, EventKind.QUORUM_LOST]]


def test_a_full_disk_is_told_once_and_so_is_its_mend() -> None:
    watch = Watch()
    told = [
        [kind for kind, _ in watch.own(msgspec.structs.replace(VITALS, disk=disk))]
        for disk in ("working", "full", "full", "working", "failed")
    ]
    assert told == [[], [EventKind.DISK_FULL], [], [EventKind.DISK_WORKING], []]


def test_a_disk_that_is_full_for_want_of_inodes_is_called_that() -> None:
    full = msgspec.structs.replace(VITALS, disk="full", free_bytes=34_000_000)
    ((_, text),) = Watch().own(msgspec.structs.replace(full, free_inodes=0))
    assert text.startswith("the disk is full: no file can be made on its volume, which has no inode left; 34")
    assert Watch().own(msgspec.structs.replace(full, free_inodes=1)) == Watch().own(full)


def test_a_disk_is_full_for_the_log_while_something_is_free_and_the_text_says_why() -> None:
    full = msgspec.structs.replace(VITALS, disk="full", free_bytes=34_000_000)
    ((_, text),) = Watch().own(full)
    assert text == "the disk is full; 34000000 bytes were free of late, which did not do"

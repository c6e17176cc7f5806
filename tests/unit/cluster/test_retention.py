"""Who keeps how much log, who is at risk, and who is given up first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import RetentionConfig as Section
from cluster.retention import (
    AtRisk,
    Bounds,
    Decision,
    Evicted,
    Extent,
    Holdings,
    Ok,
    Reason,
    Slot,
    SlotKind,
    SlotState,
    decide,
)
from redwire.position import Lsn

BOUNDS = Bounds(bytes_max=1_000, age_max_ms=10_000, disk_free_min_bytes=500)
NOW = 100_000
PLENTY = 1 << 40


def holdings(
    count: int, *, free: int | None = PLENTY, growth: int = 10, base: int = 0, size: int = 100
) -> Holdings:
    """`count` segments of ten records and `size` bytes each, after `base`."""
    extents = tuple(Extent(Lsn(base + 10 * i + 1), Lsn(base + 10 * i + 10), size) for i in range(count))
    return Holdings(Lsn(base), extents, growth, free)


def voter(restart: int | None, *, seen_ms: int = NOW, name: str = "v") -> Slot:
    return Slot(name, SlotKind.VOTER, None if restart is None else Lsn(restart), seen_ms)


def reader(restart: int | None, *, seen_ms: int = NOW, name: str = "r") -> Slot:
    return Slot(name, SlotKind.READER, None if restart is None else Lsn(restart), seen_ms)


def test_a_bound_is_called_as_node_yaml_calls_it() -> None:
    assert {reason.value for reason in Reason if reason is not Reason.GONE} == {*Section.__struct_fields__}


def test_without_followers_the_log_goes_as_far_as_the_checkpointed_state() -> None:
    assert decide(BOUNDS, holdings(5), Lsn(37), [], [], NOW) == Decision(Lsn(37), {})
    assert decide(BOUNDS, holdings(0), Lsn(0), [], [], NOW) == Decision(Lsn(0), {})


def test_the_slowest_holder_decides() -> None:
    slots = [voter(30, name="a"), reader(12, name="b")]
    found = decide(BOUNDS, holdings(4), Lsn(40), slots, [Lsn(25)], NOW)
    assert found == Decision(Lsn(12), {"a": Ok(), "b": Ok()})
    assert decide(BOUNDS, holdings(4), Lsn(40), slots[:1], [Lsn(25)], NOW).prune_through == 25
    assert decide(BOUNDS, holdings(4), Lsn(9), slots, [], NOW).prune_through == 9


STATES: list[tuple[str, Slot, Holdings, SlotState]] = [
    ("a voter may hold all bytes", voter(0), holdings(10, growth=0), AtRisk(Reason.BYTES, None)),
    ("and no more", voter(0), holdings(11), Evicted(Reason.BYTES)),
    ("only what it needs counts", voter(100), holdings(15), Ok()),
    ("a reader may hold half", reader(0), holdings(5), AtRisk(Reason.BYTES, 0)),
    ("and no more", reader(0), holdings(6), Evicted(Reason.BYTES)),
    (
        "a voter at three quarters is at risk, with an ETA",
        voter(0),
        holdings(8),
        AtRisk(Reason.BYTES, 20_000),
    ),
    ("below them it is well", voter(0), holdings(7), Ok()),
    ("the last segment is nobody's fault", voter(0), holdings(1, size=5_000), Ok()),
    ("a long silence is the end", voter(50, seen_ms=NOW - 10_001), holdings(5), Evicted(Reason.AGE)),
    ("of a reader too", reader(50, seen_ms=NOW - 10_001), holdings(5), Evicted(Reason.AGE)),
    (
        "a silence that nears it is a risk",
        voter(50, seen_ms=NOW - 8_000),
        holdings(5),
        AtRisk(Reason.AGE, 2_000),
    ),
    ("a short one is not", voter(50, seen_ms=NOW - 7_000), holdings(5), Ok()),
    ("the nearest end is told", voter(0, seen_ms=NOW - 8_000), holdings(9), AtRisk(Reason.AGE, 2_000)),
    ("whichever it is", voter(0, seen_ms=NOW - 8_000), holdings(9, growth=1_000), AtRisk(Reason.BYTES, 100)),
    (
        "an unforeseen end comes last",
        voter(0, seen_ms=NOW - 8_000),
        holdings(9, growth=0),
        AtRisk(Reason.AGE, 2_000),
    ),
    ("a scarce disk takes the oldest", voter(9), holdings(5, free=450), Evicted(Reason.DISK)),
    ("but no more than it must", voter(10), holdings(5, free=450), AtRisk(Reason.DISK, 0)),
    ("nearing the floor is a risk", voter(0), holdings(5, free=600), AtRisk(Reason.DISK, 10_000)),
    ("what nobody knows takes nothing", voter(9), holdings(5, free=None), Ok()),
    ("far from it is not", voter(0), holdings(5, free=700), Ok()),
    ("readers go at twice the floor", reader(29), holdings(5, free=700), Evicted(Reason.DISK)),
    ("a removed log is gone", voter(99), holdings(5, base=100), Evicted(Reason.GONE)),
    ("its first record is not", voter(100), holdings(5, base=100), Ok()),
    ("an empty log that begins later is gone too", voter(99), holdings(0, base=100), Evicted(Reason.GONE)),
    ("an unknown position keeps what there is", voter(None), holdings(5, base=100), Ok()),
    ("within the bounds", voter(None), holdings(11, base=100), Evicted(Reason.BYTES)),
]


@pytest.mark.parametrize(("rule", "slot", "log", "state"), STATES)
def test_a_slot_is_ok_at_risk_or_evicted(rule: str, slot: Slot, log: Holdings, state: SlotState) -> None:
    end = log.extents[-1].last if log.extents else log.base
    found = decide(BOUNDS, log, end, [slot], [], NOW)
    assert found.slots == {slot.id: state}, rule
    kept = log.base if slot.restart is None else slot.restart
    assert found.prune_through == (end if isinstance(state, Evicted) else kept)


def test_the_own_state_is_never_given_up() -> None:
    log = holdings(50, free=0)
    found = decide(BOUNDS, log, Lsn(25), [voter(5), reader(15)], [], NOW)
    assert found.slots == {"v": Evicted(Reason.BYTES), "r": Evicted(Reason.BYTES)}
    assert found.prune_through == 25


def test_who_holds_nothing_beyond_the_own_state_is_not_blamed() -> None:
    """The node itself needs that log: giving up the follower would free nothing."""
    log = holdings(50, free=0)
    found = decide(BOUNDS, log, Lsn(25), [voter(25, name="a"), voter(5, name="b")], [], NOW)
    assert found.slots == {"a": Ok(), "b": Evicted(Reason.BYTES)}


def test_a_pin_outlives_every_bound_but_the_free_disk_floor() -> None:
    pin = Lsn(15)
    crowded = decide(BOUNDS, holdings(50), Lsn(500), [voter(15)], [pin], NOW + 10**9)
    assert crowded.prune_through == 15
    scarce = decide(BOUNDS, holdings(50, free=200), Lsn(500), [], [pin], NOW)
    assert scarce.prune_through == 500
    enough = decide(BOUNDS, holdings(50, free=450), Lsn(500), [], [pin], NOW)
    assert enough.prune_through == 15


def test_a_pin_below_the_own_state_s_segment_is_not_released_for_nothing() -> None:
    found = decide(BOUNDS, holdings(50, free=0), Lsn(15), [], [Lsn(12)], NOW)
    assert found.prune_through == 12


def test_a_reader_goes_before_a_voter_that_stands_at_the_same_place() -> None:
    for log in (holdings(6), holdings(5, free=900)):
        found = decide(BOUNDS, log, Lsn(50), [voter(0), reader(0)], [], NOW)
        assert isinstance(found.slots["r"], Evicted)
        assert not isinstance(found.slots["v"], Evicted)
        assert found.prune_through == 0


@given(
    count=st.integers(0, 30),
    free=st.none() | st.integers(0, 3_000),
    own=st.integers(0, 300),
    restarts=st.lists(st.none() | st.integers(0, 300), max_size=5),
    pins=st.lists(st.integers(0, 300), max_size=3),
    idle=st.integers(0, 20_000),
)
def test_a_promise_that_is_not_taken_back_is_kept(
    count: int, free: int | None, own: int, restarts: list[int | None], pins: list[int], idle: int
) -> None:
    log = holdings(count, free=free)
    slots = [
        (voter if i % 2 else reader)(at, name=str(i), seen_ms=NOW - idle) for i, at in enumerate(restarts)
    ]
    pinned = [Lsn(at) for at in pins]
    found = decide(BOUNDS, log, Lsn(own), slots, pinned, NOW)
    assert found.prune_through <= own
    assert set(found.slots) == {slot.id for slot in slots}
    for slot in slots:
        if not isinstance(found.slots[slot.id], Evicted):
            assert found.prune_through <= (slot.restart or 0)
            assert idle <= BOUNDS.age_max_ms
    for pin in pinned:
        given_up = free is not None and free < BOUNDS.disk_free_min_bytes
        assert found.prune_through <= pin or given_up


@pytest.mark.parametrize(("free", "short"), [(None, False), (0, True), (100, True), (101, False)])
def test_space_is_short_from_the_floor_on(free: int | None, short: bool) -> None:
    assert Bounds(1, 1, 100).short(free) is short

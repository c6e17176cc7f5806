"""What a node says of its own disk, second by second."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cluster.bulletin import Bulletin
from cluster.config import NodeConfig
from cluster.credentials import NodeCredentials
from cluster.damage import Damage
from cluster.disk import DiskState, DiskStatus
from cluster.effects import Now
from cluster.errors import StateCorrupt
from cluster.events import EventKind, Events
from cluster.histogram import Buckets
from cluster.node import Node
from cluster.vitals import VitalSigns
from redwire.position import Lsn, NodeId

GB, SEGMENT = 10**9, 64 << 20
FLOOR = 10 * GB
WAL = SimpleNamespace(bytes=SEGMENT)


class Here:
    """A node with a clock that the test moves, and as much of it as its vitals are taken from."""

    def __init__(self) -> None:
        self.second = 0
        self.bulletin = Bulletin(Events(NodeId("eu-1")))
        self.storage = SimpleNamespace(log=SimpleNamespace(durable=Lsn(7)))
        retention = SimpleNamespace(disk_free_min_bytes=FLOOR)
        config = cast(NodeConfig, SimpleNamespace(retention=retention))
        self.damage = Damage(NodeId("eu-1"), self.happened)
        self.ends: list[str] = []
        held = SimpleNamespace(current=self, not_after_ms=9)
        self.vitals = VitalSigns(cast(Node, self), config, cast(NodeCredentials, held))
        self.told: list[tuple[EventKind, str]] = []

    def clock(self) -> Now:
        return Now(self.second * 1_000_000, self.second * 1_000)

    def ending(self, now_ms: int) -> list[str]:
        return [f"{each} at {now_ms}" for each in self.ends]

    def happened(self, kind: EventKind, text: str) -> None:
        self.told.append((kind, text))

    def look(self, free_bytes: int | None) -> int | None:
        """When the floor is reached, so much being free in the next second."""
        self.vitals.look(DISK, free_bytes, 3, "a volume")
        self.second += 1
        return self.bulletin.vitals.floor_ms


DISK = DiskStatus(
    state=DiskState.WORKING,
    room_bytes=0,
    group_p50_us=None,
    group_p99_us=None,
    syncs=Buckets(),
    logged_bytes=0,
    wal=WAL,
)


@pytest.fixture
def here() -> Here:
    return Here()


def test_what_a_start_takes_in_advance_foretells_nothing(here) -> None:
    assert here.look(77 * GB) is None
    assert {here.look(77 * GB - 2 * SEGMENT) for _ in range(119)} == {None}
    assert here.bulletin.vitals.floor_over_ms is None
    assert here.look(77 * GB - 2 * SEGMENT) is None
    assert here.bulletin.vitals.floor_over_ms == 120_000, "from here on it is not too early"


def test_a_disk_that_fills_is_foretold_by_how_it_went_since_then(here) -> None:
    for second in range(300):
        left_ms = here.look(FLOOR + (3_600 - second) * 10**6)
    vitals = here.bulletin.vitals
    assert (left_ms, vitals.floor_over_ms, vitals.volume) == ((3_600 - 299) * 1_000, 299_000, "a volume")
    assert (vitals.free_bytes, vitals.free_inodes) == (FLOOR + 3_301 * 10**6, 3)


def test_a_floor_that_is_reached_needs_no_history(here) -> None:
    assert here.look(FLOOR) == 0 and here.bulletin.vitals.floor_over_ms is None


def test_what_is_free_may_be_unknown_for_a_while(here) -> None:
    for second in range(300):
        here.look(FLOOR + (3_600 - second) * 10**6)
    assert here.look(None) is None and here.bulletin.vitals.free_bytes is None
    assert here.look(FLOOR + (3_600 - 301) * 10**6) == (3_600 - 301) * 1_000


def test_what_the_certificate_ends_in_is_an_event_once(here) -> None:
    here.ends = ["eu-1.pem ends", "an authority ends"]
    for _ in range(3):
        here.look(77 * GB)
    ending = EventKind.CERTIFICATE_ENDING
    assert here.told == [(ending, "eu-1.pem ends at 0"), (ending, "an authority ends at 0")]
    assert here.bulletin.vitals.certificate_ends_at_ms == 9


def test_a_state_that_nobody_reads_any_more_is_told_until_another_one_is_in_its_place(here) -> None:
    said = []
    for change in (
        None,
        lambda: here.damage.condemn(StateCorrupt(Path("state.db"), "x")),
        here.damage.replaced,
    ):
        if change is not None:
            change()
        here.look(77 * GB)
        said.append(here.bulletin.vitals.disk)
    assert said == ["working", "damaged", "working"]

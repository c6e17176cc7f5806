"""A made-up cluster of three regions and its troubles: for pictures, for measuring, for trying the keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from msgspec.structs import replace

from cluster.events import EventKind, level
from cluster.retention import Reason
from cluster.settings import Planned, Settings, plan
from redwire import status
from redwire.clock import clock_ms
from redwire.message.log import ClusterRecord, MemberRecord
from redwire.message.settings import ChangeSettings, SettingsChanged, SettingsView
from redwire.node_role import NodeRole
from redwire.position import Lsn, NodeId
from redwire.status import (
    UNKNOWN,
    Cluster,
    Commits,
    Disk,
    Event,
    Lag,
    NodeStatus,
    Primary,
    Quorum,
    RegionStatus,
    Slot,
    Stage,
    Status,
    Vantage,
)
from tools.monitor.steering import Request
from tools.monitor.watch import Arrived, News

BEGAN_MS = 1_795_489_200_000
"""2026-11-24 03:00:00 UTC."""
DAY_MS = 86_400_000
HOMES = {"eu-1": "eu", "eu-2": "eu", "us-1": "us", "us-2": "us", "ap-1": "ap"}
RTT_US = {"eu-2": 600, "us-1": 80_200, "us-2": 80_900, "ap-1": 120_400}
OUT_SINCE_S = 40
"""Since when us-2 is gone."""
STOOD = 120_000 + OUT_SINCE_S * 420
"""The LSN that it holds."""
RECORD_BYTES = 212
"""A document of 150 bytes and what surrounds it in the log."""
HELD_BYTES = 4_200_000
"""Log that is kept for whom lacks nothing: the last segment."""
ADDR = "{}.example.net:5050"
RECORD = ClusterRecord(
    cluster="1f0a6c52" * 4,
    name="shop",
    members=tuple(
        MemberRecord(id=name, region=region, addr=ADDR.format(name), kind="voter")
        for name, region in HOMES.items()
    ),
    admins=("ops",),
    policy="regions(eu,us)",
    floor=None,
    policy_timeout_ms=10_000,
    replica_timeout_ms=5_000,
    secret=bytes(32),
)
IN_FORCE = Settings.of(RECORD, Lsn(12))


def document(second: int) -> Status:
    """The document `second` seconds after three in the morning: us-2 is lost, ap-1 falls behind."""
    now_ms, head = BEGAN_MS + second * 1_000, 120_000 + second * 420
    return Status(
        vantage=Vantage(node="eu-1", region="eu", source="eu-1", at_ms=now_ms),
        cluster=Cluster(id=RECORD.cluster, name=RECORD.name),
        term=4,
        epoch=67_108_871,
        primary=Primary(node="eu-1", state="leading"),
        head=head,
        watermark=head,
        settings=status.Settings(
            lsn=IN_FORCE.lsn,
            policy=RECORD.policy,
            floor=RECORD.commit_rule,
            policy_timeout_ms=RECORD.policy_timeout_ms,
            replica_timeout_ms=RECORD.replica_timeout_ms,
        ),
        quorum=Quorum(met=True, completed_by="us-1"),
        regions=_regions(second, head),
        nodes=tuple(_node(name, second, now_ms, head) for name in HOMES),
        commits=_commits(second),
        events=_events(second),
    )


def _regions(second: int, head: int) -> tuple[RegionStatus, ...]:
    behind = _ap_behind(second)
    return (
        RegionStatus(
            name="eu", nodes=("eu-1", "eu-2"), voters=2, durable=head, holds_watermark=True, completes=0.004
        ),
        RegionStatus(
            name="us",
            nodes=("us-1", "us-2"),
            voters=2,
            durable=head,
            holds_watermark=True,
            completes=0.981,
        ),
        RegionStatus(
            name="ap",
            nodes=("ap-1",),
            voters=1,
            durable=head - behind,
            holds_watermark=False,
            completes=0.015,
        ),
    )


def _ap_behind(second: int) -> int:
    return 30 + second * 45


def _node(name: str, second: int, now_ms: int, head: int) -> NodeStatus:
    node = NodeStatus(
        id=name,
        addr=ADDR.format(name),
        region=HOMES[name],
        declared=HOMES[name],
        role=NodeRole.PRIMARY if name == "eu-1" else NodeRole.REPLICA,
        health="healthy",
        connected=True,
        sent=head,
        received=head,
        durable=head,
        applied=head,
        acked_at_ms=now_ms - 100,
        lag=Lag(state="caught_up", records=0, bytes=0, ms=0, catch_up_ms=0),
        slot=Slot(state="ok", held_bytes=HELD_BYTES),
        rtt_us=RTT_US.get(name),
        disk=_disk(name),
        certificate_ends_at_ms=BEGAN_MS + (24 if name == "eu-2" else 204) * DAY_MS,
        version="0.1.0",
        incarnation="9d2c41aa07",
    )
    if name == "eu-1":  # nobody sends it the log, and it keeps none for itself
        return replace(node, sent=None, slot=Slot())
    if name == "us-2" and second >= OUT_SINCE_S:
        return _gone(node, second, head)
    if name == "ap-1":
        behind = _ap_behind(second)
        lag = Lag(state="behind", records=behind, bytes=behind * RECORD_BYTES, ms=behind * 10)
        eviction_ms = max(0, 46 * 60_000 - second * 1_000)
        slot = Slot(
            state="at_risk",
            bound=Reason.BYTES.value,
            eviction_ms=eviction_ms,
            held_bytes=610_000_000 + behind * RECORD_BYTES,
        )
        durable = head - behind
        return replace(node, lag=lag, slot=slot, received=durable + 9, durable=durable, applied=durable)
    return node


def _disk(name: str) -> Disk:
    free = 18_400_000_000 if name == "us-1" else 312_000_000_000
    return Disk(
        state="working",
        fsync_p50_us=820,
        fsync_p99_us=6_400 if name == "us-1" else 2_100,
        free_bytes=free,
        floor_bytes=10_000_000_000,
        floor_ms=19 * 3_600_000 if name == "us-1" else None,
        floor_over_ms=6 * 3_600_000,
        log_bytes=1_900_000_000,
    )


def _gone(node: NodeStatus, second: int, head: int) -> NodeStatus:
    """Its connection has ended, and nobody knows how far behind it is. What it said of itself is believed for
    the replica timeout; then the row is what the primary's ack table holds.
    """
    silent_ms, since_ms = (second - OUT_SINCE_S) * 1_000, BEGAN_MS + OUT_SINCE_S * 1_000
    row = replace(
        node,
        health="unhealthy",
        why="not connected",
        connected=False,
        sent=None,
        received=STOOD,
        durable=STOOD,
        applied=STOOD,
        acked_at_ms=since_ms,
        lag=Lag(since_at_ms=since_ms),
        rtt_us=None,
        slot=Slot(state="ok", held_bytes=HELD_BYTES + (head - STOOD) * RECORD_BYTES),
    )
    if silent_ms <= RECORD.replica_timeout_ms:
        return row
    return replace(row, role=UNKNOWN, declared="", disk=Disk(), certificate_ends_at_ms=None, version="")


def _commits(second: int) -> Commits:
    def wave(phase: float) -> float:
        return math.sin(second / 9 + phase) + math.sin(second / 2.3 + phase * 2) / 3

    def stage(p50_us: float, p99_us: float) -> Stage:
        slow, fast = wave(p50_us), wave(p99_us)
        return Stage(p50_us=round(p50_us + slow * p50_us / 20), p99_us=round(p99_us + abs(fast) * p99_us / 3))

    parts = {
        "queue": stage(300, 2_600),
        "local_fsync": stage(900, 3_100),
        "wire": stage(80_300, 84_000),
        "remote_fsync": stage(1_000, 6_900),
        "apply": stage(450, 2_300),
    }
    total = Stage(
        p50_us=sum(part.p50_us or 0 for part in parts.values()),
        p99_us=sum(part.p99_us or 0 for part in parts.values()),
    )
    return Commits(
        window_ms=10_000,
        count=4_200,
        rate=round(420 + 90 * wave(0), 1),
        **parts,
        total=total,
        completed_by={"us-1": 981, "ap-1": 15, "eu-2": 4},
        waiting=38,
        waiting_bytes=9_400,
    )


def _events(second: int) -> tuple[Event, ...]:
    told = (
        (-3_400, "eu-1", EventKind.REIGN_BEGUN, "term 4 begins at LSN 104112"),
        (-3_380, "eu-1", EventKind.MEMBER_JOINED, "us-1 has joined: its log is proven up to LSN 104112"),
        (-610, "eu-1", EventKind.SETTINGS_CHANGED, f"the settings of LSN {IN_FORCE.lsn} are in force"),
        (
            *(12, "eu-1", EventKind.SLOT_AT_RISK),
            f"the log kept for ap-1 nears {Reason.BYTES.value}, evicted in some 2748 s",
        ),
        (
            *(OUT_SINCE_S, "eu-1", EventKind.MEMBER_LEFT),
            f"us-2 is gone: its connection has ended; it holds LSN {STOOD}",
        ),
    )
    return tuple(
        Event(
            node=node,
            sequence=at,
            at_ms=BEGAN_MS + seconds * 1_000,
            level=level(kind).value,
            kind=kind.value,
            text=text,
        )
        for at, (seconds, node, kind, text) in enumerate(told)
        if seconds <= second
    )


def planned(request: Request, before: Settings = IN_FORCE, *, based_on: int = 0) -> Planned:
    """What `request` comes to, as the primary would say. Raises as `cluster.settings.plan`."""
    asked = ChangeSettings(change=request.change, based_on=based_on, lost=request.lost)
    return plan(before, asked, NodeId("eu-1"), "ops")


def answer(found: Planned, lsn: int = 0) -> SettingsChanged:
    """The answer to a change whose record is at `lsn`, 0 for none."""
    after = found.after(Lsn(lsn) or found.before.lsn)
    before, term = found.before.view(), 4 if lsn else 0
    return SettingsChanged.between(before, after.view(), text=found.text, lsn=lsn, term=term)


@dataclass(slots=True, eq=False)
class RehearsedFeed:
    """Plays `document` from `first` on: `past` seconds of it at once, then one a second.

    Settings change in its memory only. `changes` are those that were not dry runs.
    """

    first: int = 0
    past: int = 0
    role: str = "admin"
    changes: list[Request] = field(default_factory=list)
    _settings: Settings = IN_FORCE

    async def follow(self, post: Callable[[News], None]) -> None:
        """As `Feed.follow`."""
        began_ms = clock_ms() - self.past * 1_000
        second = 0
        while True:
            await anyio.sleep(max(0, began_ms + second * 1_000 - clock_ms()) / 1_000)
            found = document(self.first + second)
            post(Arrived(found, "eu-1.example.net:5050", self.role, began_ms + second * 1_000))
            second += 1

    async def settings(self) -> SettingsView:
        """As `Feed.settings`."""
        return self._settings.view()

    async def change(self, request: Request, *, based_on: int, dry_run: bool) -> SettingsChanged:
        """As `Feed.change`."""
        found = planned(request, self._settings, based_on=based_on)
        if dry_run or not found.changes:
            return answer(found)
        lsn = Lsn(self._settings.lsn + 1)
        self.changes.append(request)
        self._settings = found.after(lsn)
        return answer(found, lsn)

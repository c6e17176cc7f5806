"""The status document of one node, from what it knows itself and what it was told.

A primary judges: its ack table says who is healthy and how far behind. Another node passes that judgement on
for as long as the primary is in sight, beside what it hears at first hand. Without a primary nobody judges:
then a row holds what its node said itself, within the replica timeout, and the rest is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from cluster.bulletin import Bulletin, PrimaryState, Said
from cluster.effects import Now
from cluster.events import OF_ONE_NODE
from redwire.message.peer import Report
from redwire.position import Lsn, NodeId, Term
from redwire.status import (
    Cluster,
    Commits,
    Disk,
    Lag,
    NodeStatus,
    Quorum,
    RegionStatus,
    Settings,
    Slot,
    Status,
    Vantage,
)
from regions import lag as judged
from regions.binding import UNBOUND, Member
from regions.lag import Health
from regions.status import CoordinatorStatus, MemberStatus

NO_PRIMARY = "no primary is in sight"
NOT_TOLD = "the primary has not said yet"
UNDER_WAY_MS = 1_000
"""Who lacks only what was logged since is with the log while it grows, whatever number of records that is at
one moment and the next: no pace says when it will have those, but how old they are.
"""


class View(msgspec.Struct, frozen=True):
    """What one node knows at one moment, whatever its role.

    `own` is what it says of itself, `watermark` what it knows committed. Others are believed for
    `timeout_ms` after their last word.
    """

    own: Report
    cluster: Cluster
    term: Term | None
    epoch: int
    watermark: Lsn
    members: tuple[Member, ...]
    settings: Settings
    timeout_ms: int
    bulletin: Bulletin
    now: Now

    @property
    def region(self) -> str:
        """The region that this node is bound to; the one it says itself while it is no member."""
        bound = (member.region for member in self.members if member.id == self.own.node)
        return next(bound, self.own.region)

    def said(self, node: str) -> Said | None:
        """What `node` said, if that is young enough to be believed."""
        if node == self.own.node:
            return Said(self.own, self.now)
        return self.bulletin.lately(NodeId(node), self.timeout_ms, self.now)

    def wall_ms(self, ms: int | None) -> int | None:
        """A time of the monotonic clock as one of the wall clock."""
        return None if ms is None else self.now.wall_ms - (self.now.ms - ms)

    def document(self, source: str, age_ms: int = 0) -> Status:
        """What is the same in all documents of this node."""
        return Status(
            vantage=Vantage(
                node=self.own.node,
                region=self.region,
                source=source,
                age_ms=age_ms,
                at_ms=self.now.wall_ms,
            ),
            cluster=self.cluster,
            term=self.term,
            epoch=self.epoch,
            primary=self.bulletin.primary,
            watermark=self.watermark,
            settings=self.settings,
            events=self.bulletin.events.recent(),
        )


class ReignView(msgspec.Struct, frozen=True):
    """What only the primary knows: its ack table, how far each follower was sent the log, where the time of
    commits goes, and why a write under the default policy would be refused now, "" if it would not.
    """

    table: CoordinatorStatus
    sent: Mapping[NodeId, Lsn]
    commits: Commits
    refusal: str


def judge(row: MemberStatus, said: Said | None) -> Health:
    """Whether a member does its work: by the primary's ack table, and by what it said of its disk lately.

    The one judgement: the status document shows it, and the topology advertises it.
    """
    vitals = None if said is None else said.report.vitals
    if row.connected and vitals is not None and vitals.disk != "working":
        inodeless = vitals.disk == "full" and vitals.free_inodes == 0
        return Health(False, f"its disk is {vitals.disk}" + (": no inode is left" if inodeless else ""))
    return row.health


def led(view: View, reign: ReignView) -> Status:
    """The document of a node that leads."""
    nodes = tuple(_judged(view, reign, member, reign.table.member(member.id)) for member in view.members)
    completed = reign.commits.completed_by
    return replace(
        view.document(view.own.node),
        head=reign.table.head,
        quorum=Quorum(
            met=not reign.refusal,
            why=reign.refusal,
            completed_by=max(completed, key=lambda node: completed[node], default=""),
        ),
        regions=_regions(nodes, view.watermark, completed),
        nodes=nodes,
        commits=reign.commits,
    )


def followed(view: View, head: Lsn) -> Status:
    """The document of any other node. `head` is where the followed log ends, 0 when nobody is followed."""
    told, primary = view.bulletin.told, view.bulletin.primary
    age_ms = 0 if told is None else view.now.ms - told.came.ms + _way_ms(view, primary.node)
    if primary.state == PrimaryState.LEADING and told is not None and age_ms <= view.timeout_ms:
        part = told.document
        if part.primary.node == primary.node:
            return _passed_on(view, part, age_ms, head)
    why = NOT_TOLD if primary.state == PrimaryState.LEADING else NO_PRIMARY
    nodes = tuple(_alone(view, member, why) for member in view.members)
    return replace(
        view.document(view.own.node),
        head=head or None,
        quorum=Quorum(why=why),
        regions=_regions(nodes, None, {}),
        nodes=nodes,
    )


def for_followers(document: Status) -> Status:
    """What a primary sends of its document: the round trips between others everybody hears from themselves,
    and there are as many as pairs.
    """
    return replace(document, nodes=tuple(replace(node, rtts_us={}) for node in document.nodes))


def without_others(document: Status) -> Status:
    """What of `document` somebody may see who may not see the cluster's shape."""
    me = document.vantage.node
    return replace(
        document,
        vantage=replace(document.vantage, hides_others=True),
        quorum=Quorum(met=document.quorum.met),
        regions=(),
        nodes=tuple(replace(node, rtts_us={}) for node in document.nodes if node.id == me),
        commits=replace(document.commits, completed_by={}),
        settings=replace(document.settings, pending=""),
        events=tuple(event for event in document.events if event.node == me and event.kind in OF_ONE_NODE),
    )


def _passed_on(view: View, part: Status, age_ms: int, head: Lsn) -> Status:
    rows = {node.id: node for node in part.nodes}
    nodes = tuple(
        _heard(view, rows.get(member.id) or _configured(member), member.id) for member in view.members
    )
    return replace(
        view.document(part.vantage.node, age_ms),
        primary=part.primary,
        head=max(part.head or 0, head),
        watermark=max(part.watermark or 0, view.watermark),
        settings=replace(view.settings, pending=part.settings.pending),
        quorum=part.quorum,
        regions=part.regions,
        nodes=nodes,
        commits=part.commits,
    )


def _judged(view: View, reign: ReignView, member: Member, row: MemberStatus) -> NodeStatus:
    """The primary's row of one member: what it heard, and what its ack table says."""
    me = member.id == view.own.node
    heard = _heard(view, _configured(member), member.id)
    said = view.said(member.id)
    health = judge(row, said)
    lag = _lag(view, row)
    if lag.state == "behind":
        fresh = lag.ms is not None and lag.ms <= UNDER_WAY_MS
        lag = replace(lag, catch_up_ms=lag.ms if fresh else view.bulletin.catch_up_ms(member.id))
    another = None not in (row.incarnation, said) and heard.incarnation != row.incarnation
    if row.acked_ms is not None and not another:  # else that was a disk which it has no more
        known = max(heard.watermark or 0, row.applied)  # what it applies it knows; told with each ack
        heard = replace(
            heard, received=row.received, durable=row.durable, applied=row.applied, watermark=known
        )
    return replace(
        heard,
        health="healthy" if health.healthy else "unhealthy",
        why=health.reason,
        uncounted=row.uncounted,
        connected=row.connected,
        sent=reign.sent.get(member.id),
        acked_at_ms=view.wall_ms(row.acked_ms),
        lag=lag,
        slot=Slot() if me else view.bulletin.slots.get(member.id, Slot()),
        incarnation=heard.incarnation if another else row.incarnation or heard.incarnation,
        rtt_us=None if me else view.bulletin.rtts_us.get(member.id),
    )


def _alone(view: View, member: Member, why: str) -> NodeStatus:
    """A row that no primary judges."""
    row = _heard(view, _configured(member), member.id)
    if member.id == view.own.node:
        row = replace(row, why=why, lag=Lag(since_at_ms=view.bulletin.primary.since_at_ms))
        return row
    last = view.bulletin.said.get(member.id)
    row = replace(row, why=why, lag=Lag(since_at_ms=None if last is None else last.came.wall_ms))
    if view.said(member.id) is None:
        return replace(row, why="not heard")
    return row


def _way_ms(view: View, node: str) -> int:
    """How long the words of `node` have been under way, at most, as its answers take."""
    return -(-view.bulletin.rtts_us.get(NodeId(node), 0) // 1_000)


def _configured(member: Member) -> NodeStatus:
    return NodeStatus(id=member.id, addr=member.addr, region=member.region, kind=member.kind.value)


def _heard(view: View, row: NodeStatus, name: str) -> NodeStatus:
    """`row` with what its node says of itself at first hand.

    Its log's numbers are taken from itself only for our own row, or where nobody else said them: beside a
    judgement they belong to that.
    """
    said = view.said(name)
    if said is None:
        return row
    report, vitals = said.report, said.report.vitals
    row = replace(
        row,
        declared=report.region,
        role=report.role,
        watermark=report.watermark,
        base=report.base,
        incarnation=report.incarnation,
    )
    if name == view.own.node or row.received is None:
        durable = None if vitals is None else vitals.durable
        row = replace(row, received=report.last_lsn, durable=durable, applied=report.applied)
    if vitals is None:
        return row
    return replace(
        row,
        rtts_us=vitals.rtts_us,
        disk=Disk(
            state=vitals.disk,
            fsync_p50_us=vitals.fsync_p50_us,
            fsync_p99_us=vitals.fsync_p99_us,
            free_bytes=vitals.free_bytes,
            free_inodes=vitals.free_inodes,
            floor_bytes=vitals.floor_bytes,
            floor_ms=vitals.floor_ms,
            floor_over_ms=vitals.floor_over_ms,
            volume=vitals.volume,
            log_bytes=vitals.log_bytes,
        ),
        certificate_ends_at_ms=vitals.certificate_ends_at_ms,
        version=vitals.version,
    )


def _lag(view: View, row: MemberStatus) -> Lag:
    match row.lag:
        case judged.CaughtUp():
            return Lag(state="caught_up", records=0, bytes=0, ms=0, catch_up_ms=0)
        case judged.Behind(records, size, age_ms):
            return Lag(state="behind", records=records, bytes=size, ms=age_ms)
        case judged.Unknown(since_ms):
            return Lag(since_at_ms=view.wall_ms(since_ms))


def _regions(
    nodes: Sequence[NodeStatus], watermark: Lsn | None, completed: Mapping[str, int]
) -> tuple[RegionStatus, ...]:
    """One row for each region that somebody is bound to. Without a `watermark` nobody judges."""
    names = dict.fromkeys(node.region for node in nodes if node.region != UNBOUND)
    return tuple(
        _region(name, [node for node in nodes if node.region == name], watermark, completed) for name in names
    )


def _region(
    name: str, nodes: Sequence[NodeStatus], watermark: Lsn | None, completed: Mapping[str, int]
) -> RegionStatus:
    voters = [node for node in nodes if node.kind == "voter"]
    durable = max(_known(node.durable for node in voters if not node.uncounted), default=None)
    total = sum(completed.values())
    return RegionStatus(
        name=name,
        nodes=tuple(node.id for node in nodes),
        voters=len(voters),
        durable=durable,
        holds_watermark=None if watermark is None else durable is not None and durable >= watermark,
        completes=sum(completed.get(node.id, 0) for node in nodes) / total if total else None,
    )


def _known(numbers: Iterable[int | None]) -> list[int]:
    return [number for number in numbers if number is not None]

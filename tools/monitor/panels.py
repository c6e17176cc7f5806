"""What each panel shows, written from a view as lines of a given width: regions, nodes, slots, disks, events,
trouble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redwire.node_role import NodeRole
from redwire.status import UNKNOWN, Disk, Event, Lag, NodeStatus, RegionStatus
from tools import figures
from tools.condition import trouble
from tools.condition.foresight import Forecast, if_region_goes
from tools.condition.tone import Tone
from tools.condition.trouble import Trouble
from tools.monitor import chart
from tools.monitor.ink import Column, Line, Span, cut_line, marked, table
from tools.monitor.watch import View

Panel = Callable[[View, int], list[Line]]
"""Writes a view in so many columns. Empty for nothing to say."""

SPARK_COLUMNS = 12
SPARK_COLUMNS_WIDE = 30
WIDE = 120
"""From this width on a panel says all it knows."""

HEALTH = {"healthy": Tone.GOOD, "unhealthy": Tone.BAD, "unknown": Tone.DIM}
SLOTS = {"ok": Tone.GOOD, "at_risk": Tone.WARN, "evicted": Tone.BAD, "unknown": Tone.DIM}
LEVELS = {"info": Tone.PLAIN, "warning": Tone.WARN, "error": Tone.BAD}
DISKS = {
    "working": Tone.GOOD,
    "full": Tone.BAD,
    "damaged": Tone.BAD,
    "failed": Tone.BAD,
    "stopped": Tone.WARN,
    "unknown": Tone.DIM,
}


def word(text: str, tones: dict[str, Tone]) -> Span:
    """A word of the document behind its symbol; one that is not known here as it is, and as a warning."""
    return marked(text.replace("_", " "), tones.get(text, Tone.WARN))


def one(text: str, tone: Tone = Tone.PLAIN) -> Line:
    """A line of one span; an unknown figure is dim."""
    return (Span(text, Tone.DIM if text == figures.UNKNOWN else tone),)


def regions(view: View, width: int) -> list[Line]:
    """By region: who is there, how far its copies go, whether it completes commits, what if it goes."""
    columns = (
        Column("REGION"),
        Column("HEALTHY"),
        Column("NODES", 1),
        Column("DURABLE", 3, right=True),
        Column("HOLDS ALL", 4),
        Column("COMPLETES", 2, right=True),
        Column("IF IT GOES, WRITES"),
    )
    rows = [_region(view, region) for region in view.status.regions]
    return table(columns, rows, width) if rows else [one("no regions are known", Tone.DIM)]


def _region(view: View, region: RegionStatus) -> list[Line]:
    nodes = [view.status.node(name) for name in region.nodes]
    leads = view.status.primary.state == "leading" and view.status.primary.node in region.nodes
    durable = region.durable
    watermark = view.status.watermark
    lacks = None if durable is None or watermark is None else watermark - durable
    holds: Line = one(figures.UNKNOWN)
    if region.holds_watermark is not None:
        text = "yes" if region.holds_watermark else f"lacks {figures.count(lacks)}"
        holds = (marked(text, Tone.GOOD if region.holds_watermark else Tone.WARN),)
    return [
        (Span(region.name, Tone.STRONG), Span(" (leads)" if leads else "", Tone.DIM)),
        (_region_health(nodes),),
        one(" ".join(region.nodes) or "none"),
        one(figures.count(durable)),
        holds,
        one(figures.share(region.completes)),
        (_forecast(if_region_goes(view.status, region.name)),),
    ]


def _region_health(nodes: list[NodeStatus | None]) -> Span:
    healths = [figures.UNKNOWN if node is None else node.health for node in nodes]
    up, down = healths.count("healthy"), healths.count("unhealthy")
    if not nodes:
        return marked("no nodes", Tone.WARN)
    if up == len(nodes):
        return marked(f"{up} of {len(nodes)}", Tone.GOOD)
    if down == len(nodes):
        return marked("out", Tone.BAD)
    if not up and not down:
        return marked("unknown", Tone.DIM)
    return marked(f"{up} of {len(nodes)}", Tone.WARN)


def _forecast(forecast: Forecast) -> Span:
    if forecast.writes is None:
        return marked(f"may stop: {forecast.why}", Tone.DIM)
    if not forecast.kept:
        return marked("confirmed ones may be lost", Tone.BAD)
    return marked("go on", Tone.GOOD) if forecast.writes else marked(f"stop: {forecast.why}", Tone.WARN)


def lag_text(lag: Lag, now_ms: int | None, *, growing: bool) -> Span:
    """How far behind, in one figure: the time where it is known, else records, else bytes.

    To be behind is no fault: the way takes its time. To come no nearer (`growing`) is.
    """
    if lag.state == "caught_up":
        return marked("caught up", Tone.GOOD)
    if lag.state == "behind":
        figure = (
            figures.duration(lag.ms)
            if lag.ms is not None
            else f"{figures.count(lag.records)} rec"
            if lag.records is not None
            else figures.size(lag.bytes)
        )
        return marked(f"behind {figure}", Tone.WARN if growing else Tone.PLAIN)
    if lag.state != "unknown":
        return marked(lag.state, Tone.WARN)
    if lag.since_at_ms is None:
        return marked("unknown", Tone.DIM)
    ago = "" if now_ms is None else f" for {figures.duration(max(0, now_ms - lag.since_at_ms))}"
    return marked(f"unknown{ago}", Tone.DIM)


def nodes(view: View, width: int) -> list[Line]:
    """By node: role, health, lag and its course, distance, disk. The selected one is marked by `>`."""
    columns = (
        Column(" NODE"),
        Column("REGION"),
        Column("ROLE", 2),
        Column("HEALTH"),
        Column("LAG"),
        Column("RECORDS BEHIND", 1),
        Column("RTT", 3, right=True),
        Column("FSYNC p99", 4, right=True),
        Column("DURABLE", 5, right=True),
        Column("APPLIED", 6, right=True),
        Column("FREE", 7, right=True),
        Column("VERSION", 8),
    )
    rows = [_node(view, node, width) for node in view.status.nodes]
    return table(columns, rows, width) if rows else [one("no nodes are known", Tone.DIM)]


def _node(view: View, node: NodeStatus, width: int) -> list[Line]:
    chosen = node.id == view.selected
    leads = node.role == NodeRole.PRIMARY
    lag: Line = (
        one("leads", Tone.DIM)
        if leads
        else (lag_text(node.lag, view.now_ms, growing=node.id in view.growing),)
    )
    return [
        (Span(">" if chosen else " ", Tone.STRONG), Span(node.id, Tone.STRONG if chosen else Tone.PLAIN)),
        one(node.region or "none"),
        one(node.role if node.kind == "voter" else f"{node.role}, {node.kind}", _role_tone(node.role)),
        (word(node.health, HEALTH),),
        lag,
        one("" if leads else _lag_course(view, node.id, width), Tone.CHART),
        one("" if leads else figures.micros(node.rtt_us)),
        one(figures.micros(node.disk.fsync_p99_us)),
        one(figures.count(node.durable)),
        one(figures.count(node.applied)),
        one(figures.size(node.disk.free_bytes)),
        one(node.version or figures.UNKNOWN),
    ]


def _role_tone(role: str) -> Tone:
    if role in (NodeRole.PRIMARY, NodeRole.REPLICA):
        return Tone.PLAIN
    return Tone.DIM if role == UNKNOWN else Tone.WARN


def _lag_course(view: View, node: str, width: int) -> str:
    columns = SPARK_COLUMNS_WIDE if width >= WIDE else SPARK_COLUMNS
    values = view.history.series(lambda sample: sample.lags.get(node), columns, view.step_s, view.own_ms)
    return chart.sparkline(values, columns)


def node_detail(view: View, width: int) -> list[Line]:
    """Everything on the selected node."""
    node = view.status.node(view.selected)
    if node is None:
        return []
    declared = f", declares {node.declared}" if node.declared and node.declared != node.region else ""
    heard = "never" if node.acked_at_ms is None else figures.moment(node.acked_at_ms, view.now_ms)
    disk = node.disk
    incarnation = node.incarnation[:8] or figures.UNKNOWN
    facts = [
        (
            f"{node.id}",
            f"{node.addr or figures.UNKNOWN}  {node.kind} in {node.region or 'no region'}{declared}",
        ),
        ("health", node.health + (f": {node.why}" if node.why else "")),
        ("counts", f"no: {node.uncounted}" if node.uncounted else "yes"),
        ("log", _positions(node)),
        ("lag", _lag_detail(node.lag)),
        ("last ack", heard),
        (
            "disk",
            f"{disk.state}  fsync p50 {figures.micros(disk.fsync_p50_us)} p99 "
            f"{figures.micros(disk.fsync_p99_us)}  free {figures.size(disk.free_bytes)}",
        ),
        ("runs", f"version {node.version or figures.UNKNOWN}  incarnation {incarnation}"),
    ]
    return [cut_line((Span(f"{name:<9} ", Tone.HEAD), Span(text)), width) for name, text in facts]


def _lag_detail(lag: Lag) -> str:
    state = lag.state.replace("_", " ")
    if lag.state != "behind":
        return state
    sizes = f"{figures.count(lag.records)} records  {figures.size(lag.bytes)}  {figures.duration(lag.ms)}"
    there = (
        "comes no nearer" if lag.catch_up_ms is None else f"caught up in {figures.duration(lag.catch_up_ms)}"
    )
    return f"{state}  {sizes}  {there}"


def _positions(node: NodeStatus) -> str:
    named = {"sent": node.sent, "received": node.received, "durable": node.durable, "applied": node.applied}
    return "  ".join(f"{name} {figures.count(lsn)}" for name, lsn in named.items())


def slots(view: View, width: int) -> list[Line]:
    """What log is kept for whom, and what ends that."""
    columns = (
        Column("SLOT OF"),
        Column("STATE"),
        Column("HELD", 0, right=True),
        Column("BOUND BY"),
        Column("EVICTED IN", right=True),
    )
    rows = [
        [
            one(node.id, Tone.STRONG),
            (word(node.slot.state, SLOTS),),
            one(figures.size(node.slot.held_bytes)),
            one(node.slot.bound or _none(node.slot.state == "ok")),
            one(_foreseen(node.slot.eviction_ms, node.slot.state in ("ok", "evicted"))),
        ]
        for node in view.status.nodes
        if node.id != view.status.primary.node
    ]
    return table(columns, rows, width) if rows else [one("no slots are known", Tone.DIM)]


def disks(view: View, width: int) -> list[Line]:
    """The disks, and how long until retention's floor is reached."""
    columns = (
        Column("DISK OF"),
        Column("STATE"),
        Column("FREE", right=True),
        Column("FLOOR", right=True),
        Column("FLOOR IN", right=True),
        Column("LOG", right=True),
        Column("FSYNC p50", 1, right=True),
        Column("p99", 1, right=True),
    )
    rows = [
        [
            one(node.id, Tone.STRONG),
            (word(node.disk.state, DISKS),),
            one(figures.size(node.disk.free_bytes)),
            one(figures.size(node.disk.floor_bytes)),
            one(_floor_in(node.disk)),
            one(figures.size(node.disk.log_bytes)),
            one(figures.micros(node.disk.fsync_p50_us)),
            one(figures.micros(node.disk.fsync_p99_us)),
        ]
        for node in view.status.nodes
    ]
    return table(columns, rows, width) if rows else []


def _floor_in(disk: Disk) -> str:
    early = disk.floor_ms is None and disk.floor_over_ms is None and disk.free_bytes is not None
    return "too early" if early else _foreseen(disk.floor_ms, disk.free_bytes is not None)


def _foreseen(in_ms: int | None, known: bool) -> str:
    """In how long; where nothing is foreseen a dash, but only if so much is `known`."""
    return _none(known) if in_ms is None else figures.duration(in_ms)


def _none(known: bool) -> str:
    return "-" if known else figures.UNKNOWN


def events(view: View, width: int) -> list[Line]:
    """Recent events of all nodes, the newest first."""
    columns = (Column("TIME"), Column("LEVEL"), Column("NODE"), Column("KIND", 1), Column("WHAT"))
    rows = [_event(view, event) for event in view.events]
    return table(columns, rows, width) if rows else [one("no events are known", Tone.DIM)]


def _event(view: View, event: Event) -> list[Line]:
    return [
        one(figures.moment(event.at_ms, view.now_ms)),
        (word(event.level, LEVELS),),
        one(event.node or figures.UNKNOWN),
        one(event.kind, Tone.DIM),
        one(event.text),
    ]


def troubles(view: View, width: int) -> list[Line]:
    """Time to trouble, the soonest first, and what cannot be foreseen."""
    return [*_coming(view, view.troubles, width), *_unforeseen(view, width)]


def pressing(view: View, width: int) -> list[Line]:
    """The same, with what is far off in one line."""
    near = [coming for coming in view.troubles if coming.tone is not Tone.PLAIN]
    lines = _coming(view, near, width)
    far = [coming for coming in view.troubles if coming.tone is Tone.PLAIN]
    if far:
        text = f"{len(far)} more, the first in {figures.duration(far[0].in_ms)}: {far[0].node} {far[0].text}"
        lines.append(cut_line((Span(text, Tone.DIM),), width))
    return [*lines, *_unforeseen(view, width)]


def _coming(view: View, listed: Sequence[Trouble], width: int) -> list[Line]:
    columns = (Column("TROUBLE IN", right=True), Column("NODE"), Column("WHAT"))
    rows = [
        [
            one("now" if coming.in_ms == 0 else figures.duration(coming.in_ms), Tone.STRONG),
            one(coming.node),
            (marked(coming.text, coming.tone),),
        ]
        for coming in listed
    ]
    return (
        table(columns, rows, width)
        if rows
        else [one("nothing beyond that" if view.problems else "no trouble in sight", Tone.DIM)]
    )


def _unforeseen(view: View, width: int) -> list[Line]:
    texts = trouble.unknown(view.status)
    return [cut_line((marked(f"unknown: {text}", Tone.DIM),), width) for text in texts]

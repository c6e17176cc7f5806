"""What stands in a status document, in the words of the command line."""

from __future__ import annotations

import time

from redwire.status import Commits, Lag, NodeStatus, Primary, Quorum, Slot, Stage, Status

UNKNOWN = "-"
NOT_SHOWN = "the other nodes are not shown to this user (it lacks cluster:topology:read)"


def number(value: int | None) -> str:
    """A number, or that it is not known."""
    return UNKNOWN if value is None else f"{value}"


def size(value: int | None) -> str:
    """Bytes in a unit that suits them."""
    if value is None:
        return UNKNOWN
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1_000:
            return f"{amount:.3g} {unit}"
        amount /= 1_000
    return f"{amount:.3g} TB"


def span(value_ms: float | None) -> str:
    """A duration in a unit that suits it."""
    if value_ms is None:
        return UNKNOWN
    for limit, divisor, unit in ((1_000, 1, "ms"), (120_000, 1_000, "s"), (7_200_000, 60_000, "min")):
        if value_ms < limit:
            return f"{value_ms / divisor:.3g} {unit}"
    hours = value_ms / 3_600_000
    return f"{hours:.3g} h" if hours < 48 else f"{hours / 24:.3g} d"


def micros(value_us: int | None) -> str:
    """A duration that came in microseconds."""
    return UNKNOWN if value_us is None else span(value_us / 1_000)


def clock(at_ms: int) -> str:
    """A time of day, in UTC as in the nodes' logs."""
    return time.strftime("%H:%M:%S", time.gmtime(at_ms / 1_000))


def since(at_ms: int | None, now_ms: int) -> str:
    """Since when, and for how long that is."""
    if at_ms is None:
        return "since before this node looked"
    return f"since {clock(at_ms)} UTC ({span(max(0, now_ms - at_ms))})"


def head_lines(status: Status) -> list[str]:
    """What stands above the tables: whose view, who leads, whether writes are accepted, where time goes."""
    seen, settings = status.vantage, status.settings
    view = f"seen by {seen.node} ({seen.region})"
    if seen.source and seen.source != seen.node:
        view += f", as {seen.source} told it {span(seen.age_ms)} ago"
    term = "no term" if status.term is None else f"term {status.term}"
    lines = [
        f"cluster {status.cluster.name} {status.cluster.id[:8] or '(not joined)'}, {term}; {view}",
        f"primary  {primary(status.primary, seen.at_ms)}",
        f"quorum   {quorum(status.quorum)}",
        f"policy   {settings.policy}, floor {settings.floor}"
        + (f"; changing: {settings.change}" if settings.change else ""),
        f"log      head {number(status.head)}, committed up to {number(status.watermark)}",
    ]
    if status.commits.count is not None:
        lines.append(f"commits  {commits(status.commits)}")
    if seen.hides_others:
        lines.append(NOT_SHOWN)
    return lines


def primary(found: Primary, now_ms: int) -> str:
    """Who leads, or that nobody does."""
    if found.state == "leading":
        when = "" if found.since_at_ms is None else f" {since(found.since_at_ms, now_ms)}"
        return f"{found.node} leads{when}"
    if found.state == "lost":
        return f"NO PRIMARY: {found.node} was the last one, silent {since(found.since_at_ms, now_ms)}"
    return "NO PRIMARY: none has been heard of" if found.state == "none" else found.state


def quorum(found: Quorum) -> str:
    """Whether a write would be accepted, and why not."""
    why = f": {found.why}" if found.why else ""
    if found.met is None:
        return f"unknown{why}"
    if not found.met:
        return f"NOT MET{why}"
    return f"met, of late mostly by {found.completed_by}" if found.completed_by else "met"


def commits(found: Commits) -> str:
    """How many, how fast, and where their time went."""
    text = f"{found.rate or 0:g}/s over {span(found.window_ms)}"
    if not found.count:
        return text
    parts = ", ".join(
        f"{name} {micros(stage.p50_us)}"
        for name, stage in (
            ("queue", found.queue),
            ("local fsync", found.local_fsync),
            ("wire", found.wire),
            ("remote fsync", found.remote_fsync),
            ("apply", found.apply),
        )
        if stage != Stage()
    )
    return f"{text}, p50 {micros(found.total.p50_us)}, p99 {micros(found.total.p99_us)} ({parts})"


def lag(found: Lag, now_ms: int) -> str:
    """How far behind."""
    if found.state == "behind":
        parts = [
            f"{number(found.records)} records",
            *([] if found.bytes is None else [size(found.bytes)]),
            *([] if found.ms is None else [span(found.ms)]),
        ]
        there = "" if found.catch_up_ms is None else f"; there in {span(found.catch_up_ms)}"
        return f"behind {', '.join(parts)}{there}"
    if found.state == "unknown":
        when = ", never heard" if found.since_at_ms is None else f" {since(found.since_at_ms, now_ms)}"
        return f"unknown{when}"
    return found.state.replace("_", " ")


def slot(found: Slot) -> str:
    """What is kept for a node, and for how long."""
    if found.state == "at_risk":
        eta = "" if found.eviction_ms is None else f", evicted in {span(found.eviction_ms)}"
        return f"at risk of {found.bound}{eta}"
    if found.state == "evicted":
        return f"evicted: {found.bound}"
    return UNKNOWN if found.state == "unknown" else found.state


def region(node: NodeStatus) -> str:
    """The region that counts, and the one that the node says where that is another."""
    bound = node.region or "unbound"
    return bound if node.declared in ("", node.region) else f"{bound} (says {node.declared})"


def health(node: NodeStatus) -> str:
    """Whether a node does its work, and why not; and why its copies do not count."""
    text = f"{node.health}: {node.why}" if node.why else node.health
    return f"{text}; not counted: {node.uncounted}" if node.uncounted and not node.why else text

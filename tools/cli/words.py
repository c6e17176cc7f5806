"""What stands in a status document, in the words of the command line."""

from __future__ import annotations

from redwire.status import Commits, Lag, NodeStatus, Primary, Quorum, Slot, Stage, Status
from tools.figures import UNKNOWN, clock, count, duration, micros, size

NEVER = "never"
"""What will not be as things go now; `UNKNOWN` is what nobody can tell."""
NOT_SHOWN = "the other nodes are not shown to this user (it lacks cluster:topology:read)"


def since(at_ms: int | None, now_ms: int) -> str:
    """Since when, and for how long that is."""
    if at_ms is None:
        return "since before this node looked"
    return f"since {clock(at_ms)} UTC ({duration(max(0, now_ms - at_ms))})"


def head_lines(status: Status) -> list[str]:
    """What stands above the tables: whose view, who leads, whether writes are accepted, where time goes."""
    seen, settings = status.vantage, status.settings
    view = f"seen by {seen.node} ({seen.region})"
    if status.nodes and not seen.hides_others and status.node(seen.node) is None:
        view += ", which is no member of it"
    if seen.source and seen.source != seen.node:
        view += f", as {seen.source} told it {duration(seen.age_ms)} ago"
    term = "no term" if status.term is None else f"term {status.term}"
    lines = [
        f"cluster {status.cluster.name} {status.cluster.id[:8] or '(not joined)'}, {term}; {view}",
        f"primary  {primary(status.primary, seen.at_ms)}",
        f"quorum   {quorum(status.quorum)}",
        f"policy   {settings.policy}, floor {settings.floor}"
        + (f"; changing: {settings.pending}" if settings.pending else ""),
        f"log      head {count(status.head)}, committed up to {count(status.watermark)}",
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
    text = f"{found.rate or 0:g}/s over {duration(found.window_ms)}"
    if not found.count:
        return text
    parts = ", ".join(
        f"{name.replace('_', ' ')} {micros(stage.p50_us)}"
        for name, stage in found.stages.items()
        if name != "total" and stage != Stage()
    )
    return f"{text}, p50 {micros(found.total.p50_us)}, p99 {micros(found.total.p99_us)} ({parts})"


def lag(found: Lag, now_ms: int) -> str:
    """How far behind."""
    if found.state == "behind":
        parts = [
            f"{count(found.records)} record{'' if found.records == 1 else 's'}",
            *([] if found.bytes is None else [size(found.bytes)]),
            *([] if found.ms is None else [duration(found.ms)]),
        ]
        there = "no nearer yet" if found.catch_up_ms is None else f"there in {there_in(found)}"
        return f"behind {', '.join(parts)}; {there}"
    if found.state == "unknown":
        when = ", never heard" if found.since_at_ms is None else f" {since(found.since_at_ms, now_ms)}"
        return f"unknown{when}"
    return found.state.replace("_", " ")


def there_in(found: Lag) -> str:
    """When a node will have caught up by its pace: `NEVER` where it does not come nearer, or not known."""
    never = found.state == "behind" and found.catch_up_ms is None
    return NEVER if never else duration(found.catch_up_ms)


def slot(found: Slot) -> str:
    """What is kept for a node, and for how long."""
    if found.state == "at_risk":
        eta = "" if found.eviction_ms is None else f", evicted in {duration(found.eviction_ms)}"
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

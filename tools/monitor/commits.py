"""The panel on commits: how many a second, how long they take and where, and who completes them."""

from __future__ import annotations

from collections.abc import Callable

from tools import figures
from tools.condition.tone import Tone
from tools.monitor import chart
from tools.monitor.history import Sample
from tools.monitor.ink import Column, Line, Span, cut_line, stacked, table
from tools.monitor.watch import View

RATE_ROWS = 4
"""So high that a burst is seen, and the tables under it still fit 24 rows."""
_FIXED_COLUMNS = 37
"""What the table of stages takes beside its two charts."""


def commits(view: View, width: int) -> list[Line]:
    """Rate, latency by stage, and who completes."""
    return stacked((rate(view, width), stages(view, width), completing(view, width)))


def rate(view: View, width: int) -> list[Line]:
    """Commits a second over time."""
    measured = view.status.commits
    waiting = f"{figures.count(measured.waiting)} writes wait ({figures.size(measured.waiting_bytes)})"
    head = (
        Span(f"COMMITS/S  {figures.rate(measured.rate)}", Tone.HEAD),
        Span(f"  {waiting}  {span_text(view)}", Tone.DIM),
    )
    values = _series(view, lambda sample: sample.rate, width)
    return [cut_line(head, width), *chart.bars(values, width, RATE_ROWS, figures.rate)]


def stages(view: View, width: int) -> list[Line]:
    """p50 and p99 of each part of a commit's time, now and over time, each on a scale of its own."""
    columns = max(8, (width - _FIXED_COLUMNS) // 2)
    head = (
        Column("LATENCY"),
        Column("p50", right=True),
        Column(f"over {_reach(view, columns)}"),
        Column("p99", right=True),
        Column("over the same"),
    )
    rows: list[list[Line]] = []
    for name, stage in view.status.commits.stages.items():
        tone = Tone.STRONG if name == "total" else Tone.PLAIN
        rows.append(
            [
                (Span(name.replace("_", " "), tone),),
                (Span(figures.micros(stage.p50_us), tone),),
                (Span(chart.sparkline(_series(view, _p50(name), columns), columns), Tone.CHART),),
                (Span(figures.micros(stage.p99_us), tone),),
                (Span(chart.sparkline(_series(view, _p99(name), columns), columns), Tone.CHART),),
            ]
        )
    return table(head, rows, width)


def completing(view: View, width: int) -> list[Line]:
    """Whose copy completed the commit rule, by batches."""
    counted = view.status.commits.completed_by
    total = sum(counted.values())
    if not total:
        return [
            cut_line((Span("COMPLETED BY  ", Tone.HEAD), Span("nobody lately, or unknown", Tone.DIM)), width)
        ]
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    names = "  ".join(f"{node} {figures.share(batches / total)}" for node, batches in ranked)
    return [cut_line((Span("COMPLETED BY  ", Tone.HEAD), Span(names)), width)]


def span_text(view: View) -> str:
    """What a column of the charts stands for."""
    return f"{view.step_s} s a column, highest shown" if view.step_s > 1 else "1 s a column"


def _reach(view: View, columns: int) -> str:
    return figures.duration(columns * view.step_s * 1_000)


def _series(view: View, read: Callable[[Sample], float | None], columns: int) -> list[float | None]:
    return view.history.series(read, columns, view.step_s, view.own_ms)


def _p50(name: str) -> Callable[[Sample], float | None]:
    return lambda sample: sample.stages[name].p50_us


def _p99(name: str) -> Callable[[Sample], float | None]:
    return lambda sample: sample.stages[name].p99_us

"""What a run found, for people (rich tables, or plain text where no terminal is) and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tools.bench.figures import Findings, Row, ratio
from tools.grid import Grid, Legend

SCHEMA = 2
NONE = "-"


def document(findings: Findings) -> dict[str, Any]:
    """The JSON document. Times in the units that the names end in."""
    rows = [
        {
            **msgspec.to_builtins(row),
            "commits_per_s": row.commits_per_s,
            "ratio": ratio(row, findings.rows),
        }
        for row in findings.rows
    ]
    return {
        "schema": SCHEMA,
        "about": dict(findings.about),
        "rows": rows,
        "figures": msgspec.to_builtins(findings.figures),
    }


def grids(findings: Findings) -> list[Grid]:
    """The tables in the order in which they are read; one without lines is left out."""
    rows = findings.rows
    throughput = Grid(
        "Commits of one document each",
        (
            "system",
            "load",
            "commits/s",
            "ratio",
            "p50 ms",
            "p99 ms",
            "node µs",
            "client µs",
            "wire B",
            "feeds B",
            "others",
        ),
        [_throughput(row, rows) for row in rows],
        2,
    )
    stages = Grid(
        "Where the time of a commit goes, medians in ms",
        ("system", "load", "own disk", "rule met", "answered", "before and after"),
        [line for row in rows if (line := _stages(row))],
        2,
    )
    conditions = Grid(
        "Under what",
        ("system", "load", "policy", "fsync", "TLS", "disk", "software"),
        [_conditions(row) for row in rows],
    )
    notes = Grid("Notes", ("system", "load", "note"), [_note(row) for row in rows if row.note])
    figures = Grid(
        "Figures",
        ("what", "value", "unit", "note"),
        [(each.name, _number(each.value), each.unit, each.note) for each in findings.figures],
        1,
    )
    about = Grid("About", ("what", "value"), list(findings.about.items()))
    return [grid for grid in (throughput, stages, conditions, notes, figures, about) if grid.lines]


LEGEND = Legend("""\
ratio: redwire's commits/s over the other system's under the same load; of callers on one connection, over
those of as many clients, since PostgreSQL takes one transaction at a time from a connection. node µs, client
µs: CPU per commit, of all nodes together and of the load generator. wire B, feeds B: TCP payload per commit,
TLS included, both ways: between clients and primary, between primary and all followers. others: cores busy
with anything else during the window (0 on a quiet machine). own disk, rule met: since the batch was made;
before and after: the rest up to the answer.\
""")


def _throughput(row: Row, rows: Sequence[Row]) -> Sequence[str]:
    wire = row.wire
    return (
        row.system,
        row.load.name,
        _number(row.commits_per_s),
        _number(ratio(row, rows)),
        _number(row.p50_ms),
        _number(row.p99_ms),
        _number(row.server_us),
        _number(row.client_us),
        _number(wire.clients_bytes if wire else None),
        _number(wire.feeds_bytes if wire else None),
        _number(row.other_cores),
    )


def _stages(row: Row) -> Sequence[str] | None:
    stages = row.stages
    if stages is None:
        return None
    rest = max(0.0, stages.answered_ms - stages.rule_met_ms)
    times = (stages.own_disk_ms, stages.rule_met_ms, stages.answered_ms, rest)
    return (row.system, row.load.name, *map(_number, times))


def _conditions(row: Row) -> Sequence[str]:
    under = row.conditions
    return (row.system, row.load.name, under.policy, under.fsync, under.tls, under.filesystem, under.software)


def _note(row: Row) -> Sequence[str]:
    failed = f"{row.failed} failed: " if row.failed else ""
    return (row.system, row.load.name, failed + row.note)


def _number(value: float | None) -> str:
    """Three figures that matter, thousands apart."""
    if value is None:
        return NONE
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"

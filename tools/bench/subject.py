"""What is measured: something that takes a load for some seconds and gives a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tools.bench.figures import Conditions, Load, Row, Stages, median, percentile
from tools.bench.window import Observed


class Subject(Protocol):
    """A running system, set up for this run alone."""

    name: str

    def measure(self, load: Load, seconds: float) -> Row:
        """Put `load` on it and measure a window of `seconds`."""


def row(
    system: str,
    load: Load,
    conditions: Conditions,
    seconds: float,
    latencies_us: Sequence[float],
    observed: Observed,
    *,
    failed: int = 0,
    stages: Stages | None = None,
    note: str = "",
) -> Row:
    """The row of one window, from what its commits took and what the counters say."""
    commits = len(latencies_us)
    if not commits:
        return Row(system, load, conditions, seconds, failed=failed, note=note or "nothing was committed")
    ordered = sorted(latencies_us)
    return Row(
        system=system,
        load=load,
        conditions=conditions,
        seconds=seconds,
        commits=commits,
        failed=failed,
        p50_ms=percentile(ordered, 0.50) / 1000,
        p99_ms=percentile(ordered, 0.99) / 1000,
        server_us=observed.server_s / commits * 1e6,
        client_us=observed.client_s / commits * 1e6,
        other_cores=observed.others,
        wire=observed.wire(commits),
        stages=stages,
        note=note,
    )


def stages(
    own_disk_us: Sequence[float], rule_met_us: Sequence[float], latencies_us: Sequence[float]
) -> Stages | None:
    """The medians of a window; None where no receipt told of copies."""
    own, rule, answered = median(own_disk_us), median(rule_met_us), median(latencies_us)
    if own is None or rule is None or answered is None:
        return None
    return Stages(own / 1000, rule / 1000, answered / 1000)

"""One run of the bench: a cluster and PostgreSQL beside it, row by row in turns, then memory."""

from __future__ import annotations

import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tools.bench import memory
from tools.bench.figures import LOADS, Conditions, Figure, Findings, Load, Row, percentile
from tools.bench.nodes import DOCUMENT_BYTES, IDS, Nodes
from tools.bench.postgres import SYSTEM, Postgres
from tools.bench.proc import real_disk, sync_ms
from tools.bench.subject import Subject
from tools.errors import BenchImpossible

OPEN_FILES = 4_096
"""A thousand idle clients, and room for the rest."""


class Plan(msgspec.Struct, frozen=True):
    """What to measure, and where: `folder` must be on a disk."""

    nodes: int
    seconds: float
    policy: str
    folder: Path
    postgres: bool
    memory: bool


def run(plan: Plan, say: Callable[[str], None]) -> Findings:
    """Measure everything that `plan` asks for. Leaves no process and no file behind, whatever happens.

    Raises `BenchImpossible` where nothing can be measured. Where PostgreSQL cannot run, rows say why.
    """
    filesystem = real_disk(plan.folder)
    figures: list[Figure] = []
    rows: list[Row] = []
    _allow_open_files()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix=".redwire-bench-", dir=plan.folder))
        )
        synced = sync_ms(folder)
        figures.append(Figure("fdatasync of 4 KiB, p50", percentile(synced, 0.5), "ms"))
        figures.append(Figure("fdatasync of 4 KiB, p99", percentile(synced, 0.99), "ms"))
        say(f"starting {plan.nodes} nodes")
        nodes = stack.enter_context(Nodes(folder, plan.nodes, plan.policy, filesystem))
        time.sleep(memory.QUIET_S)
        figures += memory.resident(nodes, "after start")
        other, why_not = _postgres(plan, stack, say)
        for load in LOADS:
            rows.append(_measured(nodes, load, plan.seconds, say))
            if load.beside:
                continue
            if other is not None:
                rows.append(_measured(other, load, plan.seconds, say))
            elif plan.postgres:
                rows.append(Row(SYSTEM, load, NOWHERE, note=why_not))
        figures += memory.resident(nodes, "after the load")
        if plan.memory:
            figures += _memory(nodes, say)
    return Findings(_about(plan), rows, figures)


NOWHERE = Conditions("-", "-", "-", "-", SYSTEM)


def _postgres(plan: Plan, stack: ExitStack, say: Callable[[str], None]) -> tuple[Subject | None, str]:
    """PostgreSQL, running; or None and why."""
    if not plan.postgres:
        return None, ""
    say(f"starting {SYSTEM} with two synchronous standbys")
    try:
        places = (plan.folder, Path("/var/tmp"))
        return stack.enter_context(Postgres(places, IDS, DOCUMENT_BYTES)), ""
    except BenchImpossible as error:
        return None, str(error)


def _measured(subject: Subject, load: Load, seconds: float, say: Callable[[str], None]) -> Row:
    say(f"{subject.name}: {load.name}")
    row = subject.measure(load, seconds)
    if row.commits_per_s is not None:
        say(f"{subject.name}: {load.name}: {row.commits_per_s:,.0f} commits/s")
    return row


def _memory(nodes: Nodes, say: Callable[[str], None]) -> list[Figure]:
    say(f"{memory.IDLE_CLIENTS:,} idle clients")
    figures = memory.idle_clients(nodes)
    say("a follower that lags")
    figures += memory.lagging_follower(nodes, say)
    say("a client that never reads")
    return figures + memory.unread_answers(nodes)


def _allow_open_files() -> None:
    """Let the processes that are started from here have a socket for each client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))


def _about(plan: Plan) -> dict[str, str]:
    return {
        "nodes": str(plan.nodes),
        "document": f"{DOCUMENT_BYTES} bytes at {IDS:,} random ids",
        "window": f"{plan.seconds:g} s after a warm-up",
        "cores": f"{os.cpu_count()}, shared by nodes, load generator and everything else",
        "kernel": f"{platform.system()} {platform.release()}",
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }

"""The whole demo: its scenes in order, and an end that leaves nothing behind."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio

from redwire.errors import RedwireError
from tools.demo.outage import comeback, outage
from tools.demo.plan import PLAN
from tools.demo.report import Report
from tools.demo.scenes import conflict, load, log_in, reads, receipts, start
from tools.demo.stage import Stage
from tools.dev.guard import guarded
from tools.dev.local_cluster import LocalCluster
from tools.dev.process import find
from tools.errors import Interrupted, leaves

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(report: Report, *, full: bool, keep: bool) -> int:
    """Run the demo on `report`; the exit code: 0 every check holds, 1 one does not.

    Whatever happens, no process is left, and no folder unless `keep`, or a check failed. Raises `Interrupted`
    when a signal ended it.
    """
    return anyio.run(_run, report, full, keep)


async def _run(report: Report, full: bool, keep: bool) -> int:
    folder = Path(tempfile.mkdtemp(prefix="redwire-demo-"))
    if keep:
        report.note(f"certificates, node.yaml files, logs and data are kept in {folder}")
        report.kept = folder
    received = 0
    unread: list[BaseException] = []
    with guarded(folder, remove=not keep) as guard:
        try:
            async with anyio.create_task_group() as group:

                async def listen() -> None:
                    nonlocal received
                    with anyio.open_signal_receiver(*SIGNALS) as signals:
                        async for number in signals:
                            received = number
                            report.note(f"{number.name}: ending all nodes")
                            group.cancel_scope.cancel()
                            return

                group.start_soon(listen)
                await _play(report, LocalCluster(PLAN, folder), full)
                group.cancel_scope.cancel()
        except* SystemExit as ends:  # of rich, when nobody reads the report any more
            unread = [*leaves(ends)]
        if report.failed and not received:
            guard.keep()
            report.kept = folder
    if unread:
        raise unread[0]
    if received:
        left = f"{folder} is kept" if keep else "their files are removed"
        raise Interrupted(f"interrupted; no node of the demo runs any more, {left}", number=received)
    report.summary()
    if report.kept is not None:
        report.note(f"certificates, node.yaml files, logs and data are in {folder}")
    return 1 if report.failed else 0


async def _play(report: Report, cluster: LocalCluster, full: bool) -> None:
    """All scenes, up to the first that breaks off with an error; that counts as a check that failed."""
    try:
        async with _stage(report, cluster, full) as stage:
            for scene in (start, log_in, load, receipts, reads, conflict):
                await scene(stage)
            await comeback(stage, await outage(stage))
    except* RedwireError as group:
        for error in leaves(group):
            report.check("the scene ends without an error", False, str(error))
    left = find(cluster.commands)
    report.check("no process is left", not left, ", ".join(left))


@asynccontextmanager
async def _stage(report: Report, cluster: LocalCluster, full: bool) -> AsyncIterator[Stage]:
    try:
        async with AsyncExitStack() as stack:
            yield Stage(cluster, report, stack, full)
    finally:
        cluster.stop()

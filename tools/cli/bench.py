"""`redwire bench`: how fast a cluster on this machine commits, beside PostgreSQL, and what it costs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from regions.commit_policy import CommitPolicy
from tools.bench import report
from tools.bench.run import Plan, run
from tools.cli.output import json_option, show_parts
from tools.cli.parsed import Seconds

POLICY_OF_SEVERAL = "ack_n=1"
POLICY_OF_ONE = "local"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@click.command("bench")
@click.option("--nodes", type=click.IntRange(1, 9), default=3, show_default=True, help="Nodes to start.")
@click.option(
    "--seconds",
    type=Seconds(0.5, 600),
    default=5.0,
    show_default=True,
    help="Length of each of a dozen windows; the rest of the bench takes a minute.",
)
@click.option(
    "--policy", help=f"Commit policy.  [default: {POLICY_OF_SEVERAL}; {POLICY_OF_ONE} for one node]"
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    default=Path("."),
    show_default=True,
    help="Where the temporary data goes: on a real disk.",
)
@click.option("--postgres/--no-postgres", default=True, show_default=True, help="Measure PostgreSQL as well.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure memory as well.")
@json_option
def command(
    nodes: int, seconds: float, policy: str | None, folder: Path, postgres: bool, memory: bool, as_json: bool
) -> None:
    """Start a fresh cluster here, put loads on it, print what was measured, and remove everything."""
    text = policy or (POLICY_OF_SEVERAL if nodes > 1 else POLICY_OF_ONE)
    plan = Plan(nodes, seconds, str(CommitPolicy.parse(text)), folder.resolve(), postgres, memory)
    with _ending_on_signals(), _progress(quiet=as_json) as say:
        findings = run(plan, say)
    show_parts(report.document(findings), [*report.grids(findings), report.LEGEND], as_json=as_json)


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """End by an exception at the first signal, so that all is stopped and removed; ignore more of them."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, end) for each in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Say what goes on: one changing line on a terminal, a line each time otherwise. On standard error."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
        return
    if not console.is_terminal:
        yield lambda text: print(f"bench: {text}", file=sys.stderr, flush=True)
        return
    with console.status("starting") as status:
        yield lambda text: status.update(text)

"""`redwire doctor`: what is wrong, where, why, and what to type against it."""

from __future__ import annotations

import sys
from functools import partial

import anyio
import click

from tools.cli.failure import EXIT_FAILED, URI_VARIABLE
from tools.cli.output import json_option, show
from tools.cli.parsed import Seconds
from tools.cli.printer import say
from tools.doctor.finding import Finding, Level, count, document, text
from tools.doctor.judge import judge, may_pass
from tools.doctor.survey import survey

AGAIN_S = 0.5
"""With `--wait` each look is a survey of all nodes."""
SETTLE_S = 3.0
"""Nodes tell each other once a second that they are there; a new connection and a new reign take some round
trips more.
"""


@click.command("doctor")
@click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="A node.yaml of this machine: its files, its data directory, and whom it reaches from here.",
)
@click.option(
    "--uri",
    envvar=URI_VARIABLE,
    metavar="URI",
    help=f"The cluster: every node is asked how it sees the others.  [env: {URI_VARIABLE}]",
)
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(min=0),
    default=0.0,
    metavar="S",
    help="While there is an error, look again, for S seconds at most.",
)
@json_option
def command(file: str | None, uri: str | None, wait_s: float, as_json: bool) -> None:
    """Look for what is wrong: files, ports, every pair of nodes, quorum, disks, clocks, certificates.

    Each finding is an error, a warning or ok; with why, and what to do. Nothing is changed. Exit code 1 when
    there is an error.
    """
    if uri is None and file is None:
        raise click.UsageError(f"say where to look: --uri or {URI_VARIABLE}, --config FILE, or both")
    findings = anyio.run(partial(_look, uri, file, wait_s, quiet=as_json))
    show(document(findings), text(findings), as_json=as_json)
    if count(findings, Level.ERROR):
        sys.exit(EXIT_FAILED)


async def _look(uri: str | None, file: str | None, wait_s: float, *, quiet: bool) -> list[Finding]:
    """What is found when nothing is wrong any more, or after `wait_s`; after `SETTLE_S` at least, where what
    is wrong may only be that a node has just started.
    """
    began, told = anyio.current_time(), quiet
    while True:
        findings = judge(await survey(uri, file))
        passing = may_pass(findings)
        end = began + max(wait_s, SETTLE_S if passing else 0.0)
        if not count(findings, Level.ERROR) or anyio.current_time() + AGAIN_S > end:
            return findings
        if passing and not told:
            told = True
            say(f"redwire: {passing}: looking again, for {SETTLE_S:g} s", err=True)
        await anyio.sleep(AGAIN_S)

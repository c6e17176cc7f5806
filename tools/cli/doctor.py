"""`redwire doctor`: what is wrong, where, why, and what to type against it."""

from __future__ import annotations

import sys

import anyio
import click

from tools.cli.failure import EXIT_FAILED, URI_VARIABLE
from tools.cli.output import json_option, show
from tools.doctor.finding import Level, count, document, text
from tools.doctor.gather import gather
from tools.doctor.judge import judge


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
@json_option
def command(file: str | None, uri: str | None, as_json: bool) -> None:
    """Look for what is wrong: files, ports, every pair of nodes, quorum, disks, clocks, certificates.

    Each finding is an error, a warning or ok; with why, and what to do. Nothing is changed. Exit code 1 when
    there is an error.
    """
    if uri is None and file is None:
        raise click.UsageError(f"say where to look: --uri or {URI_VARIABLE}, --config FILE, or both")
    findings = judge(anyio.run(gather, uri, file))
    show(document(findings), text(findings), as_json=as_json)
    if count(findings, Level.ERROR):
        sys.exit(EXIT_FAILED)

"""`redwire demo`: five nodes in three regions on this machine, loaded, read, cut apart, and compared."""

from __future__ import annotations

import sys

import click

from tools.cli.output import json_option, to_json
from tools.demo.report import Report
from tools.demo.show import run


@click.command("demo")
@click.option("--full", is_flag=True, help="Load all named characters, CJK and Hangul too.")
@click.option("--keep", is_flag=True, help="Keep the folder with certificates, configuration, logs and data.")
@json_option
def command(full: bool, keep: bool, as_json: bool) -> None:
    """Watch three regions accept writes by quorum, and lose one of them."""
    report = Report(quiet=as_json)
    code = run(report, full=full, keep=keep)
    if as_json:
        click.echo(to_json(report.document()))
    sys.exit(code)

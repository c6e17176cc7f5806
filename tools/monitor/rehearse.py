"""`python -m tools.monitor.rehearse`: the monitor over a made-up cluster, to try, draw and measure it."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import anyio
import click

from tools.monitor.app import Monitor
from tools.monitor.picture import take
from tools.monitor.rehearsal import RehearsedFeed

PAST_S = 150
"""A chart of 160 columns is full."""
PICTURES = {
    "monitor-80x24.svg": ((80, 24), "overview", "dark"),
    "monitor-160x50.svg": ((160, 50), "overview", "dark"),
    "monitor-commits-light.svg": ((80, 24), "commits", "light"),
}


@click.group()
def rehearse() -> None:
    """Three regions that are not there, with one node out and one that falls behind."""


@rehearse.command()
@click.option("--role", default="admin", show_default=True, help="What the cluster lets the monitor in as.")
def play(role: str) -> None:
    """Open the monitor on this terminal; changes are carried out in memory only."""
    Monitor(RehearsedFeed(past=PAST_S, role=role)).run()


@rehearse.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
def pictures(folder: Path) -> None:
    """Draw the pictures of the README into FOLDER."""
    for name, (size, tab, theme) in PICTURES.items():
        feed = RehearsedFeed(past=PAST_S)
        draw = partial(take, feed, size=size, tab=tab, seconds=PAST_S, theme=theme)
        (folder / name).write_text(anyio.run(draw), encoding="utf-8")
        click.echo(folder / name)


@rehearse.command()
@click.option("--seconds", default=20.0, show_default=True, help="For how long, after two to settle.")
def idle(seconds: float) -> None:
    """Say how much of a core the monitor takes at one document a second, in 160x50 columns and rows."""

    async def run() -> tuple[float, float, int]:
        app = Monitor(RehearsedFeed(past=PAST_S))
        async with app.run_test(size=(160, 50)):
            await anyio.sleep(2)
            began_s, cpu_s, draws = time.monotonic(), sum(os.times()[:2]), app.pace.draws
            await anyio.sleep(seconds)
            return time.monotonic() - began_s, sum(os.times()[:2]) - cpu_s, app.pace.draws - draws

    elapsed_s, used_s, draws = anyio.run(run)
    click.echo(f"{used_s / elapsed_s:.1%} of a core, {draws} drawings in {elapsed_s:.0f} s")


if __name__ == "__main__":
    rehearse()

"""`redwire monitor`: the cluster on a terminal, and the keys to steer it; or one picture of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Self

import anyio
import click
from rich.console import Console

from redwire.printable import printable
from tools.cli.choice import Choice
from tools.cli.connection import uri_option
from tools.cli.output import json_option, show
from tools.monitor.app import HEIGHT_MIN, TABS, WIDTH_MIN, Monitor
from tools.monitor.feed import ClusterFeed
from tools.monitor.picture import take
from tools.monitor.themes import THEMES
from tools.monitor.watch import View

NAME = "redwire-monitor"


class Looking:
    """What a picture waits for, on standard error; on a terminal also how far it has come."""

    def __init__(self, seconds: int, *, quiet: bool) -> None:
        self._console = Console(file=sys.stderr, quiet=quiet, highlight=False)  # the monitor takes its place
        self._status = self._console.status("asking the cluster")
        self._seconds = seconds
        self._said = ""

    def __enter__(self) -> Self:
        text = f"looking at the cluster for {self._seconds} s; --history takes less or more"
        self._console.print(printable(text), markup=False, soft_wrap=True)
        self._status.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.__exit__(None, None, None)

    def at(self, view: View) -> None:
        """So much of it is there, or so little, and why."""
        if view.waiting and view.notice not in ("", self._said):
            self._said = view.notice
            self._console.print(printable(f"waiting: {view.notice}"), markup=False, soft_wrap=True)
        self._status.update(f"{min(view.history.seconds, self._seconds)} s of {self._seconds} s")


def _size(_: click.Context, __: click.Parameter, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,3})x([0-9]{1,3})", text)
    if match is None or int(match[1]) < WIDTH_MIN or int(match[2]) < HEIGHT_MIN:
        raise click.BadParameter(f"COLUMNSxROWS, at least {WIDTH_MIN}x{HEIGHT_MIN}")
    return int(match[1]), int(match[2])


def _picture(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix != ".svg":
        raise click.BadParameter(f"{path} would hold SVG; name it {path.with_suffix('.svg')}")
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"{path.parent} is no folder; make it, or name another file")
    return path


@click.command("monitor")
@click.option(
    "--theme", type=Choice(tuple(THEMES)), default="dark", show_default=True, help="Its colours at first."
)
@click.option(
    "--screenshot",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_picture,
    metavar="FILE.svg",
    help="Write a picture (SVG), and end.",
)
@click.option("--size", callback=_size, default="160x50", show_default=True, help="Of the picture.")
@click.option("--tab", type=Choice(TABS), default=TABS[0], show_default=True, help="Of the picture.")
@click.option(
    "--history",
    "seconds",
    type=click.IntRange(1, 600),
    default=5,
    show_default=True,
    help="Seconds in the picture.",
)
@uri_option
@json_option
def command(
    theme: str,
    screenshot: Path | None,
    size: tuple[int, int],
    tab: str,
    seconds: int,
    uri: str,
    as_json: bool,
) -> None:
    """See regions, quorum, lag and what is coming; bind regions and change the policy, plan first."""
    feed = ClusterFeed(uri, NAME)
    if screenshot is None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            instead = "pass --screenshot FILE.svg, or ask `redwire status --json`"
            raise click.UsageError(f"the monitor needs a terminal; {instead}")
        if as_json:
            raise click.UsageError("--json is for --screenshot; ask `redwire status --json`")
        monitor = Monitor(feed, theme=theme)
        failure = monitor.run()
        if failure is not None:
            raise failure
        sys.exit(monitor.return_code)  # not 0 after an error of our own, which the framework has shown

    async def picture() -> str:
        with Looking(seconds, quiet=as_json) as looking:
            return await take(feed, size=size, tab=tab, seconds=seconds, theme=theme, on_look=looking.at)

    screenshot.write_text(anyio.run(picture), encoding="utf-8")
    document = {"file": str(screenshot), "columns": size[0], "rows": size[1], "tab": tab}
    show(document, f"{screenshot}: {size[0]}x{size[1]}, {tab}", as_json=as_json)

"""What the demo did: its scenes with their tables and checks, on the screen as they happen, and as JSON.

A check is a fact that has to hold. One that does not makes the demo fail; the rest of the scene goes on, so
that the reader sees what follows from it.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

WIDTH = 110
"""Columns where nobody can say how wide the screen is."""
INDENT = 3
"""What is under a scene stands under its title."""
QUARTERS = 4
"""How often a load is spoken of where no bar can be drawn."""


_NUMBER = re.compile(r"[0-9.,]*")


class Check(msgspec.Struct, frozen=True):
    """A fact that had to hold, and what was found instead or as well."""

    name: str
    ok: bool
    detail: str


@dataclass(slots=True, eq=False)
class Scene:
    """One part of the demo. `outcome` is its line in the summary; `facts` are for programs."""

    title: str
    outcome: str = ""
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def failed(self) -> list[Check]:
        """The checks that did not hold."""
        return [check for check in self.checks if not check.ok]


class Report:
    """The scenes so far. With `quiet` nothing is printed."""

    def __init__(self, *, quiet: bool) -> None:
        self.scenes: list[Scene] = []
        self.kept: Path | None = None
        """Where the files of the cluster stay."""
        self._began_s = time.monotonic()
        self._width = None if sys.stdout.isatty() else WIDTH
        self._console = Console(quiet=quiet, highlight=False, width=self._width)
        self._live = self._console.is_terminal and not quiet

    @property
    def failed(self) -> list[Check]:
        """Every check that did not hold."""
        return [check for scene in self.scenes for check in scene.failed]

    @contextmanager
    def scene(self, title: str) -> Iterator[Scene]:
        """Everything that happens inside belongs to a new scene."""
        scene = Scene(title)
        self.scenes.append(scene)
        self._print(f"\n[bold]{len(self.scenes)}. {escape(title)}[/bold]")
        began_s = time.monotonic()
        try:
            yield scene
        finally:
            scene.seconds = time.monotonic() - began_s
            self._print(f"   [dim]{scene.seconds:.1f} s[/dim]")

    def note(self, text: str) -> None:
        """A line for people."""
        self._print(Padding(escape(text), (0, 0, 0, INDENT)))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for people; columns of numbers are set to the right."""
        table = Table(box=box.SIMPLE_HEAD if self._live else box.MARKDOWN, pad_edge=not self._live)
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
            right = all(_NUMBER.fullmatch(str(cell)) for cell in cells)
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        self._print(table)

    def check(self, name: str, ok: bool, detail: str = "") -> None:
        """A fact that must hold, in the present scene; printed either way."""
        self.scenes[-1].checks.append(Check(name, ok, detail))
        mark = "[green]ok[/green]" if ok else "[bold red]FAIL[/bold red]"
        line = Table.grid(padding=(0, 1))
        line.add_row(mark, escape(f"{name}: {detail}" if detail else name))
        self._print(Padding(line, (0, 0, 0, INDENT)))

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Bar]:
        """A bar on a terminal, a line for each quarter elsewhere."""
        if not self._live:
            yield Bar(total, self, None)
            return
        columns = (
            TextColumn("   {task.description}"),
            BarColumn(40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        with Progress(*columns, console=self._console) as shown:
            shown.add_task(what, total=total, rate="")
            yield Bar(total, self, shown)

    def summary(self) -> None:
        """The last table: one line for each scene, and the verdict."""
        self._print("\n[bold]Summary[/bold]")
        rows = []
        for number, scene in enumerate(self.scenes, 1):
            outcome = scene.outcome or "did not end"
            if scene.failed:
                outcome = "FAILED: " + "; ".join(check.name for check in scene.failed)
            rows.append((f"{number}. {scene.title}", outcome, f"{scene.seconds:.1f}"))
        self.table(("scene", "outcome", "s"), rows)
        held = sum(len(scene.checks) for scene in self.scenes) - len(self.failed)
        verdict = "[bold red]failed[/bold red]" if self.failed else "[bold green]passed[/bold green]"
        seconds = time.monotonic() - self._began_s
        self._print(f"   {verdict}: {held} checks hold, {len(self.failed)} do not; {seconds:.1f} s\n")

    def document(self) -> dict[str, object]:
        """Everything for programs."""
        return {
            "ok": not self.failed,
            "seconds": round(time.monotonic() - self._began_s, 3),
            "folder": "" if self.kept is None else str(self.kept),
            "scenes": [
                {
                    "title": scene.title,
                    "outcome": scene.outcome,
                    "seconds": round(scene.seconds, 3),
                    "checks": [
                        {"name": check.name, "ok": check.ok, "detail": check.detail} for check in scene.checks
                    ],
                    "facts": scene.facts,
                }
                for scene in self.scenes
            ],
        }

    def _print(self, shown: RenderableType) -> None:
        """Print it; off a terminal without the blanks that fill a line to the width of the screen."""
        if self._live:
            self._console.print(shown)
            return
        with self._console.capture() as drawn:
            self._console.print(shown)
        lines = drawn.get().split("\n")
        self._console.out("\n".join(line.rstrip() for line in lines), end="")


class Bar:
    """How far something is. Made by `Report.progress`."""

    def __init__(self, total: int, report: Report, shown: Progress | None) -> None:
        self._total = total
        self._report = report
        self._shown = shown
        self._began_s = time.monotonic()
        self._quarter = 0

    def at(self, done: int) -> None:
        """So many are done."""
        rate = f"{done / max(time.monotonic() - self._began_s, 1e-3):,.0f} documents/s"
        if self._shown is not None:
            self._shown.update(self._shown.task_ids[0], completed=done, rate=rate)
            return
        quarter = QUARTERS * done // self._total
        if quarter > self._quarter:
            self._quarter = quarter
            self._report.note(f"{done:,} of {self._total:,}, {rate}")

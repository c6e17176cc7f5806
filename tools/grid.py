"""Tables of text, and the words between them: drawn by rich on a terminal, aligned plain lines elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

LEGEND_CHARS = 110
"""Longer lines are hard to read."""


class Grid(msgspec.Struct, frozen=True):
    """A table of text, without a title where that is "".

    The first `left` columns (None: all) are aligned to the left, and so is one called `note`.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    left: int | None = None

    def text(self) -> str:
        """The title, the columns and the lines, without a space at any end."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.lines, strict=True)]
        aligned: list[Callable[[str, int], str]] = [
            str.ljust if self._is_left(at) else str.rjust for at in range(len(self.columns))
        ]
        lines = [
            "  ".join(
                align(cell, width) for align, cell, width in zip(aligned, line, widths, strict=True)
            ).rstrip()
            for line in (self.columns, *self.lines)
        ]
        return "\n".join([*([self.title] if self.title else []), *lines])

    def draw(self, console: Console) -> None:
        """Print the same on a terminal; a cell that is too long goes on below itself."""
        if self.title:
            console.print(Text(self.title, style="bold"))  # a table would fold its title to its own width
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for at, column in enumerate(self.columns):
            justify = "left" if self._is_left(at) else "right"
            table.add_column(Text(column), justify=justify, overflow="fold")  # type: ignore[arg-type]
        for line in self.lines:
            table.add_row(*map(Text, line))
        console.print(table)

    def _is_left(self, at: int) -> bool:
        return self.left is None or at < self.left or self.columns[at] == "note"


class Legend(msgspec.Struct, frozen=True):
    """One paragraph that explains tables, however its `words` are broken into lines: as wide as the terminal,
    or lines of `LEGEND_CHARS`.
    """

    words: str

    def text(self) -> str:
        """Its lines."""
        return textwrap.fill(self._line, LEGEND_CHARS)

    def draw(self, console: Console) -> None:
        """Print it on a terminal."""
        console.print(Text(self._line), style="dim")

    @property
    def _line(self) -> str:
        return " ".join(self.words.split())


class Words(msgspec.Struct, frozen=True):
    """Lines that are printed as they are."""

    words: str

    def text(self) -> str:
        """The lines."""
        return self.words

    def draw(self, console: Console) -> None:
        """Print them on a terminal."""
        console.print(Text(self.words), soft_wrap=True)


Part = Grid | Legend | Words
Parts = Sequence[Part]


def plain(parts: Parts) -> str:
    """All parts as text, an empty line between two."""
    return "\n\n".join(part.text() for part in parts)


def draw(parts: Parts, console: Console) -> None:
    """All parts on `console`: drawn where that is a terminal, else `plain`."""
    if not console.is_terminal:
        console.file.write(plain(parts) + "\n")
        return
    for number, part in enumerate(parts):
        if number:
            console.print()
        part.draw(console)

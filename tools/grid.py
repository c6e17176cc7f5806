"""Tables of text, and the words between them: drawn by rich on a terminal, aligned plain lines elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from redwire.printable import printable

LEGEND_CHARS = 110
"""Longer lines are hard to read."""
WORDY_CHARS = 20
"""A column of sentences is folded to this, not further, before it goes to a table of its own."""
GAP_CHARS = 3
"""Between two columns on a terminal."""


class Grid(msgspec.Struct, frozen=True):
    """A table of text, without a title where that is "".

    The first `left` columns (None: all) are aligned to the left, and so is one called `note`. Whoever wrote
    them, title, columns and cells are printed on one line each.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    left: int | None = None

    def __post_init__(self) -> None:
        force = msgspec.structs.force_setattr
        force(self, "title", printable(self.title))
        force(self, "columns", tuple(map(printable, self.columns)))
        force(self, "lines", tuple(tuple(map(printable, line)) for line in self.lines))

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
        """Print the same on a terminal; a cell that is too long goes on below itself.

        Columns for which it is too narrow stand in another table below, each line under its name again.
        """
        if self.title:
            console.print(Text(self.title, style="bold"))  # a table would fold its title to its own width
        for number, columns in enumerate(self._shares(console.width)):
            if number:
                console.print()
            console.print(self._table(columns))

    def _table(self, columns: Sequence[int]) -> Table:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for at in columns:
            justify = "left" if self._is_left(at) else "right"
            head = Text(self.columns[at])
            table.add_column(head, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for line in self.lines:
            table.add_row(*(Text(line[at]) for at in columns))
        return table

    def _shares(self, width: int) -> list[list[int]]:
        """The columns, by number, that stand beside each other in `width` characters; the first, which names
        the lines, is in each share.
        """
        needs = [_need(cells) for cells in zip(self.columns, *self.lines, strict=True)]
        shares = [[0]]
        for at in range(1, len(needs)):
            share = shares[-1]
            if len(share) > 1 and sum(needs[each] + GAP_CHARS for each in share) + needs[at] > width:
                shares.append([0])
            shares[-1].append(at)
        return shares

    def _is_left(self, at: int) -> bool:
        return self.left is None or at < self.left or self.columns[at] == "note"


def _need(cells: Sequence[str]) -> int:
    """How wide a column must be to be read: short cells in one line, long ones by whole words."""
    word = max(len(word) for cell in cells for word in cell.split(" "))
    return max(word, min(max(map(len, cells)), WORDY_CHARS))


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
        return printable(" ".join(self.words.split()))


class Words(msgspec.Struct, frozen=True):
    """Lines that are printed as they are, but for what is not printable."""

    words: str

    def text(self) -> str:
        """The lines."""
        return printable(self.words, keep="\n")

    def draw(self, console: Console) -> None:
        """Print them on a terminal."""
        console.print(Text(self.text()), soft_wrap=True)


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

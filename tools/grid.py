"""A table of text, drawn on a terminal by rich and written as plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of text: the first `left` columns are aligned to the left, and so is one called `note`."""

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    left: int

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
        return "\n".join([self.title, *lines])

    def table(self) -> Table:
        """The same for a terminal."""
        table = Table(title=escape(self.title), title_justify="left", title_style="bold")
        for at, column in enumerate(self.columns):
            table.add_column(escape(column), justify="left" if self._is_left(at) else "right")
        for line in self.lines:
            table.add_row(*map(escape, line))
        return table

    def _is_left(self, at: int) -> bool:
        return at < self.left or self.columns[at] == "note"

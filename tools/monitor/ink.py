"""What stands on the screen, as plain values: spans of text in a tone, lines of them, and tables.

A tone is never the only carrier of a meaning: symbols and words stand beside it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from tools.condition.tone import Tone

GAP = "  "
MORE = "…"
LAST_CELLS = 36
"""As much of a sentence in a last column as must be seen to know what it is about."""


SYMBOLS = {Tone.GOOD: "●", Tone.WARN: "▲", Tone.BAD: "✗", Tone.DIM: "?", Tone.PLAIN: "○"}
"""What stands in front of a word in each tone, for eyes and terminals that tell no colours apart."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of one line. `text` has no control characters, whoever wrote it."""

    text: str
    tone: Tone = Tone.PLAIN

    def __post_init__(self) -> None:
        if not self.text.isprintable():
            object.__setattr__(self, "text", "".join(c if c.isprintable() else "·" for c in self.text))

    @property
    def cells(self) -> int:
        """How many columns it takes."""
        return cells(self.text)


Line = tuple[Span, ...]


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def marked(word: str, tone: Tone) -> Span:
    """`word` behind its tone's symbol."""
    return Span(f"{SYMBOLS[tone]} {word}", tone)


def plain(line: Line) -> str:
    """The text of a line alone."""
    return "".join(span.text for span in line)


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns, with an ellipsis where something is left out."""
    if cells(text) <= width:
        return text
    kept = ""
    for char in text:
        if cells(kept + char + MORE) > width:
            break
        kept += char
    return kept + MORE if width > 0 else ""


def cut_line(line: Line, width: int) -> Line:
    """`line` in at most `width` columns."""
    found: list[Span] = []
    for span in line:
        if span.cells > width:
            return (*found, Span(cut(span.text, width), span.tone))
        found.append(span)
        width -= span.cells
    return tuple(found)


def fitting(ranked: Sequence[tuple[int, Span]], width: int) -> Line:
    """Those spans of `ranked`, each behind its rank, that have room in `width` columns.

    The highest rank goes first, and of equal ones the first; 0 stays, and is cut.
    """
    kept = list(ranked)
    while sum(span.cells for _, span in kept) > width:
        spare = max(kept, key=lambda each: each[0])
        if spare[0] == 0:
            break
        kept.remove(spare)
    return cut_line(tuple(span for _, span in kept), width)


def spread(left: Line, right: Line, width: int) -> Line:
    """`left` and `right` at the two ends of a line; the left one gives way."""
    room = max(0, width - sum(span.cells for span in right) - 1)
    left = cut_line(left, room)
    gap = width - sum(span.cells for span in (*left, *right))
    return (*left, Span(" " * max(1, gap)), *right)


class Column(msgspec.Struct, frozen=True):
    """One column of a table. `rank` says which goes first where there is no room: the highest; 0 stays."""

    title: str
    rank: int = 0
    right: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[Line]], width: int) -> list[Line]:
    """A heading and a line a row, in `width` columns.

    Columns that do not fit are left out, the highest rank first, and long texts in the last one are cut: for
    more than `LAST_CELLS` of those no other column is left out.
    """
    widths = [
        max([cells(column.title), *(sum(span.cells for span in row[place]) for row in rows)])
        for place, column in enumerate(columns)
    ]
    kept = _fitting(columns, widths, width)
    heading = _row([(Span(columns[place].title, Tone.HEAD),) for place in kept], kept, columns, widths, width)
    return [heading, *(_row([row[p] for p in kept], kept, columns, widths, width) for row in rows)]


def _fitting(columns: Sequence[Column], wanted: Sequence[int], width: int) -> list[int]:
    widths = [*wanted[:-1], min(wanted[-1], LAST_CELLS)]
    kept = list(range(len(columns)))
    while sum(widths[place] for place in kept) + len(GAP) * (len(kept) - 1) > width:
        spare = max(kept, key=lambda place: columns[place].rank)
        if columns[spare].rank == 0:
            break
        kept.remove(spare)
    return kept


def _row(
    row: Sequence[Line], kept: Sequence[int], columns: Sequence[Column], widths: Sequence[int], width: int
) -> Line:
    found: list[Span] = []
    for at, (line, place) in enumerate(zip(row, kept, strict=True)):
        pad = Span(" " * (widths[place] - sum(span.cells for span in line)))
        last = at + 1 == len(kept)
        if columns[place].right:
            found += (pad, *line)
        else:
            found += line if last else (*line, pad)
        if not last:
            found.append(Span(GAP))
    return cut_line(tuple(span for span in found if span.text), width)


def stacked(blocks: Iterable[Sequence[Line]]) -> list[Line]:
    """Blocks of lines under each other, an empty line between; empty blocks are left out."""
    found: list[Line] = []
    for block in blocks:
        if block:
            found += [(), *block] if found else block
    return found

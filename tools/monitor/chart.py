"""Figures over time drawn with block characters. A gap in what is known stays a gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tools.condition.tone import Tone
from tools.monitor.ink import Line, Span

BLOCKS = " ▁▂▃▄▅▆▇█"
GAP = "·"
"""Nothing is known of this moment."""
_TOP = len(BLOCKS) - 1

Values = Sequence[float | None]


def sparkline(values: Values, width: int) -> str:
    """The last `width` of `values` in one row; a known value is at least the lowest block.

    The largest value fills its cell. What is older than all values is a gap too.
    """
    shown = _last(values, width)
    highest = max((value for value in shown if value is not None), default=0.0)
    return "".join(GAP if value is None else BLOCKS[_level(value, highest, _TOP)] for value in shown)


def bars(values: Values, width: int, height: int, write: Callable[[float | None], str]) -> list[Line]:
    """The last `width` columns, `height` rows high, behind a scale that `write` writes."""
    highest = max((value for value in values if value is not None), default=0.0)
    labels = [write(highest if values else None), *[""] * (height - 2), write(0.0)]
    label_width = max(len(label) for label in labels)
    shown = _last(values, max(1, width - label_width - 2))
    levels = [None if value is None else _level(value, highest, _TOP * height) for value in shown]
    lines: list[Line] = []
    for row in range(height):
        floor = (height - 1 - row) * _TOP
        drawn = "".join(_cell(level, floor) for level in levels)
        label = labels[row].rjust(label_width)
        lines.append(
            (Span(f"{label} ┤" if label.strip() else f"{label} │", Tone.DIM), Span(drawn, Tone.CHART))
        )
    return lines


def _cell(level: int | None, floor: int) -> str:
    if level is None:
        return GAP if floor == 0 else " "
    return BLOCKS[max(0, min(_TOP, level - floor))]


def _level(value: float, highest: float, levels: int) -> int:
    if highest <= 0 or value <= 0:
        return 1
    return max(1, min(levels, round(value / highest * levels)))


def _last(values: Values, width: int) -> list[float | None]:
    shown = list(values[-width:])
    return [None] * (width - len(shown)) + shown

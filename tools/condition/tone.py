"""How something is meant that is said of a cluster: good, worth a look, broken, or only shown."""

from __future__ import annotations

from enum import Enum


class Tone(Enum):
    """How a span is meant; a theme knows how that looks."""

    PLAIN = "plain"
    DIM = "dim"
    HEAD = "head"
    STRONG = "strong"
    CHART = "chart"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"

"""Lengths of time as people write them: `80ms`, `1.2s`, `10 s`, and for what is not set for good a bare `80`,
for milliseconds.
"""

from __future__ import annotations

import math
import re
from typing import Any, get_args

import msgspec

from tools.errors import DurationInvalid

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s)?\Z")


def parse_ms(text: str) -> float:
    """Milliseconds from `text`, 0 or more, and finite. Raises `DurationInvalid`."""
    found = _DURATION.match(text.strip())
    if found is None:
        raise DurationInvalid(f"{text[:32]!r} is no duration", hint="write it as 80ms, 0.5ms or 10s")
    time_ms = float(found[1]) * (1_000 if found[2] == "s" else 1)
    if not math.isfinite(time_ms):
        raise DurationInvalid(f"{text.strip()[:32]}… is too long")
    return time_ms


def setting_ms(text: str, kind: Any) -> int:
    """Milliseconds for a setting of type `kind`, such as `cluster.config.Millis`, which has the bounds.

    The unit has to be said: `--timeout 5` is five seconds everywhere else on the command line. Raises
    `DurationInvalid`.
    """
    time_ms = parse_ms(text)
    if text.strip()[-1] != "s":
        number = text.strip()
        raise DurationInvalid(f"{number} has no unit", hint=f"write {number}s, or {number}ms")
    try:
        return int(msgspec.convert(int(time_ms) if time_ms == int(time_ms) else time_ms, kind))
    except msgspec.ValidationError as error:
        fits = get_args(kind)[1].description
        raise DurationInvalid(f"{text.strip()} cannot be set", hint=f"what can be: {fits}") from error

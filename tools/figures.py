"""How figures are written, on the command line and in the monitor. What is not known is `?`, never a zero."""

from __future__ import annotations

from datetime import UTC, datetime

UNKNOWN = "?"
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000


def count(number: float | None) -> str:
    """A whole number, its thousands apart."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def rate(number: float | None) -> str:
    """So many a second; what is not nothing is never written as 0."""
    if number is None or number >= 10 or number == 0:
        return count(number)
    return "<0.1" if number < 0.1 else f"{number:.1f}"


def share(part: float | None) -> str:
    """0 to 1 as per cent; what is not nothing is never written as 0 %."""
    if part is None:
        return UNKNOWN
    return "<1 %" if 0 < part < 0.01 else f"{part * 100:.0f} %"


def size(number: float | None) -> str:
    """Bytes, in the unit that leaves one to three digits before the point."""
    if number is None:
        return UNKNOWN
    for unit in _SIZES[:-1]:
        if number < 1_000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1_000
    return f"{number:,.0f} {_SIZES[-1]}"


def duration(ms: float | None) -> str:
    """Milliseconds as a person says them: two units at most."""
    if ms is None:
        return UNKNOWN
    if ms < _SECOND:
        return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"
    if ms < _MINUTE:
        return f"{ms / _SECOND:.1f} s" if ms < 10 * _SECOND else f"{ms / _SECOND:.0f} s"
    if ms < _HOUR:
        return f"{ms // _MINUTE:.0f} min {ms % _MINUTE // _SECOND:02.0f} s"
    if ms < _DAY:
        return f"{ms // _HOUR:.0f} h {ms % _HOUR // _MINUTE:02.0f} min"
    return f"{ms // _DAY:.0f} d" if ms >= 10 * _DAY else f"{ms // _DAY:.0f} d {ms % _DAY // _HOUR:.0f} h"


def micros(us: float | None) -> str:
    """Microseconds, as `duration` writes them."""
    if us is None:
        return UNKNOWN
    return f"{us:.0f} µs" if us < 1_000 else duration(us / 1_000)


def clock(at_ms: int | None) -> str:
    """The time of day in UTC."""
    return UNKNOWN if not at_ms else f"{_moment(at_ms):%H:%M:%S}"


def moment(at_ms: int | None, now_ms: int | None) -> str:
    """A time in UTC, with its date if that is not the day of `now_ms`."""
    if not at_ms:
        return UNKNOWN
    same_day = now_ms is None or _moment(at_ms).date() == _moment(now_ms).date()
    return clock(at_ms) if same_day else f"{_moment(at_ms):%b %d %H:%M}"


def _moment(at_ms: int) -> datetime:
    try:
        return datetime.fromtimestamp(at_ms / 1_000, UTC)
    except (ValueError, OverflowError, OSError):  # a time that no calendar has
        return datetime.fromtimestamp(0, UTC)

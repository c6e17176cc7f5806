"""The clock of everything that a client schedules."""

import time


def clock_ms() -> int:
    """Milliseconds of the monotonic clock."""
    return int(time.monotonic() * 1000)

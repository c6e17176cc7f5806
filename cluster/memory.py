"""How this process gives memory back."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 256 << 10
"""Requests, answers and parts of snapshots have up to 16 MB, and are soon over. Smaller blocks are many, and
a system call for each of them would be felt.
"""
_M_MMAP_THRESHOLD = -3
"""`malloc.h` of the GNU C library."""


def give_back_large_blocks() -> bool:
    """Have blocks of `LARGE_BYTES` and more go back to the system as soon as they are free; whether the C
    library lets us say so.

    glibc does so by itself until the first large block is free: from then on it keeps blocks of that size, up
    to 32 MB, among the small ones. A node whose clients had asked for documents of 3 MB, 60 at once, and left
    without reading, stayed at 600 MB, four rounds later; with this it goes back to 120 to 160.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))

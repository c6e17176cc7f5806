"""Memory that was needed once, and how much of it the process keeps."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from cluster.memory import LARGE_BYTES, give_back_large_blocks

def rss_kib():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

def once():
    large, small = [], []
    for _ in range(200):  # what stays lies between what goes
        large.append(bytearray(LARGE_BYTES))
        small.append(bytearray(100_000))
    return small

told = len(sys.argv) < 2 or give_back_large_blocks()
bytearray(8 << 20)  # from here on glibc keeps blocks of up to 8 MiB
before = rss_kib()
kept = once()
print(told, rss_kib() - before)
"""


def kept_kib(*arguments: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    told, kib = ran.stdout.split()
    assert told == "True"
    return int(kib)


def test_large_blocks_go_back_to_the_system_although_small_ones_stay_between_them() -> None:
    assert kept_kib() > 60_000  # 50 MiB of large blocks, 20 MB of small ones
    assert kept_kib("give back") < 30_000

"""What `make simulate` runs: many seeds, or the story of one."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from contextlib import nullcontext

from oracles import Violated
from plants import PLANTS
from scripts import SCRIPTS
from world import play


def main() -> int:
    """Run the command; 1 if anything that must hold did not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--plant", choices=sorted(PLANTS), help="a bug to look for")
    parser.add_argument("--script", choices=sorted(SCRIPTS), help="a schedule made by hand")
    parser.add_argument("--tell", action="store_true", help="print each run's story")
    asked = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"  # the order of sets is part of a run
        os.execv(sys.executable, [sys.executable, *sys.argv])
    failed, began = 0, time.monotonic()
    for seed in range(asked.first, asked.first + asked.seeds):
        began_s = time.monotonic()
        try:
            with PLANTS[asked.plant]() if asked.plant else nullcontext():
                run = play(seed, print if asked.tell else None, SCRIPTS.get(asked.script))
        except Exception as error:
            failed += 1
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
            if not isinstance(error, Violated):
                traceback.print_exc()
            if asked.plant:
                break
        else:
            took = time.monotonic() - began_s
            print(
                f"seed {seed}: {run.committed} committed, {run.doubtful} in doubt, {run.refused} refused, "
                f"{run.reads} reads, {run.virtual_s:.0f} s in {took:.1f}",
                flush=True,
            )
    print(f"{asked.seeds} seeds, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

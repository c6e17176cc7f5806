"""The bench's own cluster, on real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GONE_S = 30.0
SCRIPT = """
import pathlib, signal, sys
from tools.bench.nodes import Nodes

with Nodes(pathlib.Path(sys.argv[1]), 2, "majority", "any"):
    print("runs", flush=True)
    signal.pause()
"""


def wait_for(folder: Path, processes: int) -> None:
    """Return when so many work in `folder`."""
    deadline = time.monotonic() + GONE_S
    while len(found := running(folder)) != processes:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_the_nodes_of_a_killed_bench_end_and_their_folder_goes(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, text=True
    ) as bench:
        try:
            assert bench.stdout is not None and bench.stdout.readline() == "runs\n"
            # itself, its guard, the nodes; a process has no command line while it becomes another program
            wait_for(folder, 4)
        finally:
            bench.kill()
    wait_for(folder, 0)
    assert not folder.exists()


def running(folder: Path) -> Sequence[str]:
    """The command lines of all processes that name `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue  # it has just ended
        if str(folder) in words:
            found.append(words)
    return found

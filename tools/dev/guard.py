"""Ends what a command has started once that command is gone: `python -m tools.dev.guard [--remove] FOLDER`.

Whoever is killed cleans nothing up. The guard reads its standard input, whose other end the command alone
holds; when that comes to its end, whatever the reason, it ends every process of the cluster in FOLDER, and
with `--remove` removes the folder, unless it was told to keep it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tools.dev.dev_cluster import DevCluster

REMOVE_S = 90.0
"""PostgreSQL, beside which the bench measures, ends within a minute of its folder, and writes until then."""
AGAIN_S = 0.5
"""Between two tries to remove a folder: a process that ends still has files in it for a moment."""


KEEP = b"keep"


class Guard:
    """What the command holds of its guard. Made by `guarded`."""

    def __init__(self, line: IO[bytes]) -> None:
        self._line = line

    def keep(self) -> None:
        """Leave the folder there after all. Once."""
        self._line.write(KEEP)
        self._line.flush()


@contextmanager
def guarded(folder: Path, *, remove: bool) -> Iterator[Guard]:
    """No process of the cluster in `folder` outlives this one, nor does the folder with `remove`.

    At the end of the block too; the guard itself is gone then.
    """
    command = [sys.executable, "-m", "tools.dev.guard", *(["--remove"] if remove else []), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guard:
        assert guard.stdin is not None
        yield Guard(guard.stdin)  # closed, and waited for


def main(arguments: Sequence[str]) -> None:
    """Wait for the end of standard input, then clear up."""
    *options, name = arguments
    folder = Path(name)
    remove = sys.stdin.buffer.read() != KEEP and "--remove" in options
    if DevCluster.is_one(folder):
        DevCluster.open(folder).end_all()
    deadline = time.monotonic() + REMOVE_S
    while remove and folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(AGAIN_S * folder.exists())


if __name__ == "__main__":
    main(sys.argv[1:])

"""Ends what a command has started once that command is gone: `python -m tools.dev.guard [--remove] FOLDER`.

Whoever is killed cleans nothing up. The guard reads its standard input, whose other end the command alone
holds; when that comes to its end, whatever the reason, it ends every process of the cluster in FOLDER, and
with `--remove` removes the folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.dev.dev_cluster import DevCluster


@contextmanager
def guarded(folder: Path, *, remove: bool) -> Iterator[None]:
    """No process of the cluster in `folder` outlives this one, nor does the folder with `remove`.

    At the end of the block too; the guard itself is gone then.
    """
    command = [sys.executable, "-m", "tools.dev.guard", *(["--remove"] if remove else []), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):  # closed, and waited for
        yield


def main(arguments: Sequence[str]) -> None:
    """Wait for the end of standard input, then clear up."""
    *options, name = arguments
    folder = Path(name)
    sys.stdin.buffer.read()
    if DevCluster.is_one(folder):
        DevCluster.open(folder).end_all()
    if "--remove" in options:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])

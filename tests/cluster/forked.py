"""Nodes that are forked from a process which has imported what a node needs, and then are like any other.

Tests start nodes by the hundred, and most of the half second that each takes goes into imports: this module
has no others, for each node imports it again. The library of faults.c can only be loaded when a process
begins: it is in the one that forks, and where there are no rules in FAULTS_FILE it lets every call pass.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

from cluster.main import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["cluster.main", "uvloop"])


def prepare(library: Path) -> None:
    """Let the disks of all nodes fail on demand. To be called before the first one is forked, if at all."""
    os.environ["LD_PRELOAD"] = str(library)
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["LD_PRELOAD"]


class Forked:
    """A node's process, as `subprocess.Popen` has it. It speaks into `log`, which is there at once."""

    def __init__(self, arguments: tuple[str, ...], log: Path, faults: Path | None = None) -> None:
        """`faults` are the rules of its disk; `prepare` was called then."""
        log.touch()
        environment = dict(os.environ) if faults is None else os.environ | {"FAULTS_FILE": str(faults)}
        self._process = _FORKS.Process(target=_be_node, args=(arguments, log, environment), daemon=True)
        self._process.start()
        self.pid = self._process.pid
        assert self.pid is not None

    @property
    def returncode(self) -> int | None:
        """As `Popen.returncode`, without asking for it first."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code when it has ended. Raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(f"node {self.pid}", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        if self.pid is not None and self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


def _be_node(arguments: tuple[str, ...], log: Path, environment: dict[str, str]) -> None:
    """Be `redwire-node` in this process."""
    with log.open("ab") as words:
        os.dup2(words.fileno(), sys.stdout.fileno())
        os.dup2(words.fileno(), sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(main(list(arguments)))

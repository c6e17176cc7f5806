"""A whole cluster on this machine as children of this process: nodes, and delay links between their regions.

Demo, bench and tests stand on it, and `redwire dev up` starts with it. Everything lives in one folder; `stop`
leaves no process behind. The processes are out of reach of Ctrl-C: whoever started the cluster decides how it
ends.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tools.dev.cluster_folder import LINKS, ClusterFolder, held, private
from tools.dev.plan import ClusterPlan
from tools.dev.process import STOP_S, end
from tools.errors import LinkInvalid, NodeNotReady

READY_S = 30.0
"""Many nodes that start at once on two cores; then one is broken."""
REFUSES_S = 1.0
"""A node that may not lead, or not with these settings, has heard so from another one by then, and ends."""
POLL_S = 0.02
"""A start is told in tenths of a second."""
LAST_LINES = 5
"""The error is in the last one, what led to it above it."""


class LocalCluster(ClusterFolder):
    """The processes of one plan. Make it, `start`, and `stop` when done; also a context manager."""

    def __init__(self, plan: ClusterPlan, folder: Path) -> None:
        """Writes the folder; nothing is started yet."""
        super().__init__(plan, folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        """Those of the nodes."""
        self._others: dict[str, subprocess.Popen[bytes]] = {}
        self._marks: dict[str, int] = {}
        self._held: dict[str, socket.socket] = {}
        self.write()

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the links and all nodes; `wait_ready` tells when they serve."""
        self.start_links()
        self.start_nodes()

    def start_links(self) -> None:
        """Start the delay links, where the plan has any, and wait until they can be dialled."""
        if LINKS not in self.commands or LINKS in self._others:
            return
        links = self._others[LINKS] = self._spawn(self.commands[LINKS], self.links_log)
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.command("status")
                return
            except LinkInvalid as error:
                if links.poll() is not None or time.monotonic() > deadline:
                    said = _last_lines(self.links_log)
                    raise NodeNotReady(f"the delay links did not start; they said:\n{said}") from error
            time.sleep(POLL_S)

    def start_nodes(self) -> None:
        """Start all nodes, the leader last: it finds the others there."""
        for node in reversed(self.plan.nodes):
            self.start_node(node.id)

    def start_node(self, node: str, *arguments: str) -> None:
        """Start (or start again) one node."""
        self.hold(node)
        log = self.log_path(node)
        self._marks[node] = log.stat().st_size if log.exists() else 0
        self.processes[node] = self._spawn([*self.commands[node], *arguments], log)

    def hold(self, node: str) -> None:
        """Keep its port for the node, while it is down too, until `stop` or `release`."""
        if node not in self._held:
            self._held[node] = held(self.ports[node])

    def wait_ready(self, node: str | None = None) -> None:
        """Return when `node`, by default the first of the plan, serves writes. Raises `NodeNotReady`."""
        name = node or self.plan.leader.id
        self.wait_log(name, "serves writes", since=self._marks.get(name, 0))

    def wait_listening(self, node: str) -> None:
        """Return when `node` can be dialled, and did not end for a moment. Raises `NodeNotReady`."""
        self.wait_log(node, "listens on", since=self._marks[node])
        deadline = time.monotonic() + REFUSES_S
        while time.monotonic() < deadline:
            self.check_processes()
            time.sleep(POLL_S)

    def wait_log(self, node: str, text: str, *, since: int = 0, timeout_s: float = READY_S) -> str:
        """The first line of the node's log from byte `since` on that holds `text`. Raises `NodeNotReady`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            process = self.processes.get(node)
            ended = process is not None and process.poll() is not None  # before its last words are read
            lines = self.log_path(node).read_bytes()[since:].decode(errors="replace").splitlines()
            found = next((line for line in lines if text in line), None)
            if found is not None:
                return found
            if process is not None and ended:
                raise self._not_ready(node, f"ended with code {process.returncode}", since)
            time.sleep(POLL_S)
        raise self._not_ready(node, f"did not say {text!r} within {timeout_s:g} s", since)

    def check_processes(self) -> None:
        """Raises `NodeNotReady`, with its last words, when a node has ended by itself."""
        for node, process in self.processes.items():
            if process.poll() is not None:
                raise self._not_ready(node, f"ended with code {process.returncode}", self._marks.get(node, 0))

    def _not_ready(self, node: str, what: str, since: int) -> NodeNotReady:
        """The error that says `what` became of `node`, and its last words from byte `since` of its log on."""
        return NodeNotReady(f"{node} {what}; it said:\n{_last_lines(self.log_path(node), since)}")

    def signal_node(self, node: str, number: signal.Signals) -> None:
        """Send a signal to one node."""
        self.processes[node].send_signal(number)

    def kill(self, node: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self.processes[node].kill()
        self.processes[node].wait(STOP_S)

    def terminate(self, node: str) -> int:
        """SIGTERM, and wait; the exit code."""
        self.processes[node].terminate()
        return self.processes[node].wait(STOP_S)

    def stop(self) -> None:
        """End every process that was started, and the links last."""
        end(self.processes.values())
        end(self._others.values())
        self._others.clear()
        self._let_go()

    def release(self) -> None:
        """Let all processes live on when this one ends; from here on `stop` ends none of them."""
        for process in (*self.processes.values(), *self._others.values()):
            process.returncode = 0  # or its finalizer warns that it still runs
        self.processes.clear()
        self._others.clear()
        self._let_go()

    def _let_go(self) -> None:
        for sock in self._held.values():
            sock.close()
        self._held.clear()

    def _spawn(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """A process in a session of its own, without terminal, that writes to `log`."""
        with open(log, "ab", opener=private) as file:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.folder,
                start_new_session=True,
            )


def _last_lines(log: Path, since: int = 0) -> str:
    said = log.read_bytes()[since:] if log.exists() else b""
    return "\n".join(said.decode(errors="replace").splitlines()[-LAST_LINES:])

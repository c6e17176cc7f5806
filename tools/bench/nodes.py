"""The cluster that is measured: fresh node processes with TLS and fsync, all on this machine."""

from __future__ import annotations

import platform
import socket
import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.bench.figures import Conditions, Load, Row
from tools.bench.generator import Task
from tools.bench.subject import row, stages
from tools.bench.window import Generators, Watch, coming_span
from tools.dev.guard import guarded
from tools.dev.local_cluster import LocalCluster
from tools.dev.plan import ClusterPlan, NodePlan
from tools.errors import BenchImpossible

REGIONS = ("eu", "us", "ap")
COLLECTION = "bench"
IDS = 100_000
"""Some 20 MB of documents: they fit in memory, as a working set should."""
DOCUMENT_BYTES = 150
"""A small order; the targets are stated for it."""
CONNECTIONS_PER_PROCESS = 64
"""One generator process keeps up with the nodes on two cores; a second one would only take CPU from them."""


class Nodes:
    """One cluster of `count` nodes in `folder`. A context manager: every process and the folder end with it,
    and with this process, even when that is killed.
    """

    name = "redwire"

    def __init__(self, folder: Path, count: int, policy: str, filesystem: str) -> None:
        """Nothing is started yet."""
        plans = [NodePlan(f"{REGIONS[at % 3]}-{at // 3 + 1}", REGIONS[at % 3]) for at in range(count)]
        self.cluster = LocalCluster(ClusterPlan(tuple(plans), settings={"policy": policy}), folder)
        self.leader = plans[0].id
        self._policy = policy
        self._filesystem = filesystem
        self._conditions: Conditions | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start, and return once the primary serves writes. Raises `NodeNotReady`."""
        with ExitStack() as stack:
            stack.enter_context(guarded(self.cluster.folder, remove=True))
            stack.callback(self.cluster.stop)
            self.cluster.start()
            self.cluster.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def uri(self) -> str:
        """Where clients find the primary, as the administrator."""
        return self.cluster.uri(self.leader)

    @property
    def pids(self) -> list[int]:
        """The processes of all nodes."""
        return [process.pid for process in self.cluster.processes.values()]

    @property
    def leader_pid(self) -> int:
        """The primary's process."""
        return self.cluster.processes[self.leader].pid

    @property
    def conditions(self) -> Conditions:
        """Under what every row of this cluster is measured."""
        if self._conditions is None:
            software = f"CPython {platform.python_version()}"
            tls = tls_version(self.cluster.ports[self.leader], self.cluster.folder / "ca.pem")
            self._conditions = Conditions(self._policy, "on", tls, self._filesystem, software)
        return self._conditions

    def measure(self, load: Load, seconds: float) -> Row:
        """Put `load` on the primary and measure a window of `seconds`."""
        watch = Watch(lambda: self.pids, self.cluster.ports[self.leader])
        with Generators(self._tasks(load)) as generators:
            span = coming_span(seconds)
            generators.begin(span)
            observed = watch.observe(span, generators.pids)
            found = generators.found()
        latencies = [took for each in found for took in each.latencies_us]
        return row(
            self.name,
            load,
            self.conditions,
            seconds,
            latencies,
            observed,
            failed=sum(each.failed for each in found),
            stages=stages(
                [took for each in found for took in each.own_disk_us],
                [took for each in found for took in each.rule_met_us],
                latencies,
            ),
            note=next((each.first_failure for each in found if each.failed), ""),
        )

    def _tasks(self, load: Load) -> Sequence[Task]:
        processes = -(-load.connections // CONNECTIONS_PER_PROCESS)
        return [
            Task(
                uri=self.uri,
                leader=self.leader,
                connections=load.connections // processes,
                in_flight=load.in_flight,
                collection=COLLECTION,
                ids=IDS,
                document_bytes=DOCUMENT_BYTES,
                seed=seed,
            )
            for seed in range(processes)
        ]


def tls_version(port: int, ca: Path) -> str:
    """What a server on this machine agrees to, as in "TLS 1.3". Raises `BenchImpossible`."""
    context = ssl.create_default_context(cafile=str(ca))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10.0) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            return (secure.version() or "").replace("v", " ")
    except OSError as error:
        raise BenchImpossible(f"no TLS on port {port}: {error}") from error

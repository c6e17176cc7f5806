"""A whole cluster on this machine: real node processes, real certificates, and delay links between regions.

Demo, bench and tests stand on it. Everything lives in one folder; `stop` leaves no process behind. The
processes are out of reach of Ctrl-C: whoever started the cluster decides how it ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec
import yaml

from tools.authority import Authority
from tools.dev.link import LinkSpec
from tools.errors import NodeNotReady

READY_S = 30.0
PORTS = range(10_000, 30_000)
"""Below what the system takes for outgoing connections, from 32,768 on."""
STOP_S = 10.0
ADMIN = "ops"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node to be. The first plan of a cluster leads."""

    id: str
    region: str
    kind: str = "voter"


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """A cluster to be. `rtt_ms` maps pairs of regions to the round trip between them; what is missing has no
    delay.

    `settings` go into each node.yaml's `cluster:` section as they are, `node_sections` beside it.
    """

    nodes: tuple[NodePlan, ...]
    name: str = "shop"
    rtt_ms: Mapping[tuple[str, str], float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    node_sections: Mapping[str, Any] = field(default_factory=dict)

    def one_way_ms(self, here: str, there: str) -> float:
        """The delay of one direction between two regions."""
        return (self.rtt_ms.get((here, there)) or self.rtt_ms.get((there, here)) or 0.0) / 2


class LocalCluster:
    """The processes of one plan. Make it, `start`, and `stop` when done; also a context manager."""

    def __init__(self, plan: ClusterPlan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.ports = dict(zip((node.id for node in plan.nodes), free_ports(len(plan.nodes)), strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._links: subprocess.Popen[str] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority.create(plan.name)
        self.authority.save(folder)
        self.authority.issue_user(ADMIN).save(folder, ADMIN)
        self._specs = self._link_specs()
        for node in plan.nodes:
            self.authority.issue_node(node.id, ["127.0.0.1", "localhost"]).save(folder, node.id)
            self.config_path(node.id).write_text(yaml.safe_dump(self._config(node), sort_keys=False))

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def config_path(self, node: str) -> Path:
        """The node's YAML file."""
        return self.folder / f"{node}.yaml"

    def data_dir(self, node: str) -> Path:
        """The node's data directory."""
        return self.folder / f"data-{node}"

    def log_path(self, node: str) -> Path:
        """What the node said on standard error, over all its lives."""
        return self.folder / f"{node}.log"

    def uri(self, *nodes: str, user: str | None = None, password: str = "", **parameters: str) -> str:
        """A connection URI: as the administrator with its certificate, or as `user` with a password."""
        hosts = ",".join(f"127.0.0.1:{self.ports[node]}" for node in nodes or self.ports)
        query = {"ca": str(self.folder / "ca.pem"), **parameters}
        if user is None:
            query |= {"cert": str(self.folder / f"{ADMIN}.pem"), "key": str(self.folder / f"{ADMIN}.key")}
        who = f"{user}:{password}@" if user is not None else ""
        return f"reds://{who}{hosts}/?" + "&".join(f"{name}={value}" for name, value in query.items())

    def start(self) -> None:
        """Start the links and all nodes; `wait_ready` tells when they serve."""
        self.start_links()
        for node in reversed(self.plan.nodes):
            self.start_node(node.id)

    def start_links(self) -> None:
        """Start the delay links, where the plan has any."""
        if not self._specs or self._links is not None:
            return
        spec = self.folder / "links.json"
        spec.write_bytes(msgspec.json.encode(self._specs))
        self._links = subprocess.Popen(
            [sys.executable, "-m", "tools.dev.links", str(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        assert self._links.stdout is not None
        if self._links.stdout.readline().strip() != "ready":
            raise NodeNotReady("the delay links did not start", hint=f"see {spec}")

    def start_node(self, node: str, *arguments: str) -> None:
        """Start (or start again) one node."""
        with self.log_path(node).open("ab") as log:
            self.processes[node] = subprocess.Popen(
                [sys.executable, "-m", "cluster.main", "--config", str(self.config_path(node)), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def wait_ready(self, node: str | None = None, *, timeout_s: float = READY_S) -> None:
        """Return when `node`, by default the first of the plan, serves writes. Raises `NodeNotReady`."""
        name = node or self.plan.nodes[0].id
        self.wait_log(name, "serves writes", timeout_s=timeout_s)

    def wait_log(self, node: str, text: str, *, since: int = 0, timeout_s: float = READY_S) -> str:
        """The first line of the node's log from byte `since` on that holds `text`. Raises `NodeNotReady`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            lines = self.log_path(node).read_bytes()[since:].decode(errors="replace").splitlines()
            found = next((line for line in lines if text in line), None)
            if found is not None:
                return found
            process = self.processes.get(node)
            if process is not None and process.poll() is not None and not any(text in line for line in lines):
                break
            time.sleep(0.02)
        tail = "\n".join(self.log_path(node).read_text().splitlines()[-5:])
        raise NodeNotReady(f"{node} did not say {text!r} within {timeout_s:g} s; it said:\n{tail}")

    def command(self, line: str) -> str:
        """Tell the links: `cut eu-us`, `heal eu-us`, `slow eu-us 400`; their answer."""
        assert self._links is not None and self._links.stdin is not None and self._links.stdout is not None
        self._links.stdin.write(line + "\n")
        self._links.stdin.flush()
        return self._links.stdout.readline().strip()

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
        """End every process that was started."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)
        if self._links is not None:
            _close(self._links.stdin)
            self._links.wait(STOP_S)
            _close(self._links.stdout)
            self._links = None

    def _link_specs(self) -> list[LinkSpec]:
        """One link for every ordered pair of nodes whose regions lie apart; named by the pair of regions."""
        pairs = [
            (one, other)
            for one in self.plan.nodes
            for other in self.plan.nodes
            if self.plan.one_way_ms(one.region, other.region)
        ]
        ports = free_ports(len(pairs))
        self._dial: dict[tuple[str, str], int] = {}
        specs = []
        for (one, other), port in zip(pairs, ports, strict=True):
            self._dial[one.id, other.id] = port
            name = "-".join(sorted((one.region, other.region)))
            delay = self.plan.one_way_ms(one.region, other.region)
            specs.append(
                LinkSpec(
                    name=name,
                    listen_port=port,
                    target_host="127.0.0.1",
                    target_port=self.ports[other.id],
                    one_way_ms=delay,
                )
            )
        return specs

    def _config(self, node: NodePlan) -> dict[str, Any]:
        members = [
            {
                "id": each.id,
                "region": each.region,
                "addr": f"127.0.0.1:{self.ports[each.id]}",
                "kind": each.kind,
            }
            for each in self.plan.nodes
        ]
        dial = {other: f"127.0.0.1:{port}" for (one, other), port in self._dial.items() if one == node.id}
        role = "primary" if node == self.plan.nodes[0] else "replica"
        return {
            "node": {
                "id": node.id,
                "region": node.region,
                "role": role,
                "listen": f"127.0.0.1:{self.ports[node.id]}",
                "data_dir": str(self.data_dir(node.id)),
                **({"dial": dial} if dial else {}),
            },
            "tls": {
                "ca": str(self.folder / "ca.pem"),
                "cert": str(self.folder / f"{node.id}.pem"),
                "key": str(self.folder / f"{node.id}.key"),
            },
            **self.plan.node_sections,
            "cluster": {"name": self.plan.name, "members": members, "admins": [ADMIN], **self.plan.settings},
        }


def free_ports(count: int) -> Sequence[int]:
    """Ports on which nobody listens, and which the system gives to nobody who dials out: so nobody is there
    yet when a node starts, and nobody when it starts again.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as sock:
            if len(found) < count and sock.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            break
    return found


def _close(file: IO[str] | None) -> None:
    if file is not None:
        file.close()


def alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

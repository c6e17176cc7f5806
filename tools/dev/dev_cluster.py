"""A cluster that lives on between commands: what runs of it, and what is done to it.

Nothing says what runs but the system itself (`tools.dev.process`); whether a start came to its end stands in
the file `up`. Commands that start or end processes take turns by a lock on the folder. A node that somebody
started by hand, with redwire-node, is known by the lock on its data directory.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec
import yaml

from cluster.config import ReplicationRole
from cluster.data_lock import looked_into
from tools.dev.certificates import HOST
from tools.dev.cluster_folder import LINKS, ClusterFolder
from tools.dev.distances import Distance, Distances
from tools.dev.local_cluster import LocalCluster
from tools.dev.place import typed
from tools.dev.plan import meant
from tools.dev.process import STOP_S, Process, end, find
from tools.errors import ClusterMissing, ClusterRuns, LinkInvalid, PlanInvalid

APP = "app"
"""The user of applications: may write, and logs in with a password."""
LOCK = ".lock"


class NodeState(StrEnum):
    """What a node's process does."""

    RUNNING = "running"
    PAUSED = "paused"
    DOWN = "down"


class DevNode(msgspec.Struct, frozen=True):
    """A node at a glance. `role` is what its file says, or what it does, as it has `told` itself. `pid` is
    None while it is down. `by_hand`: it runs, and no command of `redwire dev` started it.
    """

    id: str
    region: str
    role: str
    addr: str
    pid: int | None
    state: NodeState
    by_hand: bool = False
    told: bool = False


class DevStatus(msgspec.Struct, frozen=True):
    """A whole cluster at a glance. `distances` is empty, and `links_pid` None, while the links are down;
    `links_why` is why they run and do not say how they are, and "" otherwise.
    """

    name: str
    folder: Path
    nodes: tuple[DevNode, ...]
    links_pid: int | None
    links_why: str
    distances: tuple[Distance, ...]


class DevCluster(ClusterFolder):
    """The cluster in a folder, by whatever command it was started. Made by `open`."""

    @property
    def distances(self) -> Distances:
        """Its links."""
        return Distances(self)

    def processes(self) -> dict[str, Process]:
        """What runs of it, by the id of the node; the links are `LINKS`. Without what runs `by_hand`."""
        return find(self.commands)

    def status(self) -> DevStatus:
        """How it is. Raises `ClusterMissing` when a node's file is missing or cut short."""
        found = self.processes()
        links, others = found.get(LINKS), by_hand(self, found)
        nodes = (
            self._node_status(node.id, node.region, found.get(node.id), others.get(node.id))
            for node in self.plan.nodes
        )
        pid, why, distances = None if links is None else links.pid, "", tuple[Distance, ...]()
        try:
            distances = () if links is None else self.distances.now()
        except LinkInvalid as error:
            why = error.message
        return DevStatus(self.plan.name, self.folder, tuple(nodes), pid, why, distances)

    # --- nodes

    def kill(self, node: str) -> int:
        """SIGKILL to a node; the process it was.

        Raises `PlanInvalid`, with the node that was meant, when there is no such node, and `ClusterMissing`
        when it does not run.
        """
        process = self._running(node)
        process.kill()
        process.wait(STOP_S)
        return process.pid

    def pause(self, node: str) -> int:
        """SIGSTOP to a node, which then is there and silent; its process. Raises as `kill`."""
        return _signalled(self._running(node), signal.SIGSTOP)

    def resume(self, node: str) -> int:
        """Let a paused node go on; its process. Raises as `kill`."""
        return _signalled(self._running(node), signal.SIGCONT)

    def start(self, node: str) -> int:
        """Start a node that is down; its process, once it listens.

        Raises `PlanInvalid`, `ClusterRuns` when it is not down, `ClusterMissing` when the links are, and
        `NodeNotReady`.
        """
        self.node(node)
        with locked(self.folder):
            found = self.processes()
            others = by_hand(self, found)
            if node in found | others:
                how = "by hand, " if node in others else ""
                raise ClusterRuns(f"{node} runs already, {how}as process {(found | others)[node].pid}")
            if LINKS in self.commands and LINKS not in found:
                hint = f"start all of it: {typed(self.folder, 'up')}"
                raise ClusterMissing(f"{self.plan.name} does not run", hint=hint)
            started = LocalCluster.open(self.folder)
            try:
                started.start_node(node)
                started.wait_listening(node)
                pid = started.processes[node].pid
            except BaseException:
                started.stop()
                raise
            started.release()
            return pid

    def down(self, *, purge: bool) -> list[str]:
        """End everything that commands started, and with `purge` remove what was written; the names of what
        ran. Raises `ClusterRuns` when `purge` would remove what a node that runs by hand works with.
        """
        with locked(self.folder):
            if purge:
                refuse_by_hand(self)
            found = self.end_all()
            self.up_marker.unlink(missing_ok=True)
            if purge:
                self.purge()
            return found

    def end_all(self) -> list[str]:
        """End everything that runs, the links last; the names of what ran."""
        found = self.processes()
        links = found.pop(LINKS, None)
        end(found.values())
        end([links] if links else [])
        return [*found, *([LINKS] if links else [])]

    def purge(self) -> None:
        """Also what commands write beside the cluster."""
        for path in (self.up_marker, self.password_path, self.folder / LOCK):
            path.unlink(missing_ok=True)
        super().purge()

    # --- what stands in the folder

    @property
    def up_marker(self) -> Path:
        """Stands from the end of a start until `down`."""
        return self.folder / "up"

    @property
    def password_path(self) -> Path:
        """The password of `APP`, mode 0600; missing until the user was made."""
        return self.folder / f"{APP}.password"

    def write_password(self, password: str) -> None:
        """Keep the password of `APP`, which every node knows."""
        handle = os.open(self.password_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w") as file:
            file.write(password + "\n")

    @property
    def leader(self) -> str:
        """The node whose file says that it is the primary: the plan's, unless an operator changed that."""
        return next(
            (node for node in self.ports if self._role(node) == ReplicationRole.PRIMARY), self.plan.leader.id
        )

    def admin_uri(self, within: str = "") -> str:
        """Where an administrator finds the cluster, in a region or beside all nodes. Raises `PlanInvalid`."""
        if within and within not in self.plan.regions:
            raise PlanInvalid(f"{within} is no region", hint=meant(within, self.plan.regions, "regions"))
        return self.uri(*_leader_first(self), within=within)

    def app_uri(self, within: str = "") -> str:
        """The same for an application, as `APP`. Raises `ClusterMissing` before the user was made, and where
        the file with its password is damaged.
        """
        self.admin_uri(within)
        path, again = self.password_path, typed(self.folder, "up")
        try:
            password = path.read_bytes().decode("ascii").strip()
        except FileNotFoundError:
            raise ClusterMissing(f"{self.plan.name} never was up", hint=f"start it: {again}") from None
        except UnicodeDecodeError:
            password = ""
        if not password:
            hint = f"remove it, end the cluster and start it again, which makes another one: {again}"
            raise ClusterMissing(f"{path} is damaged: it holds no password", hint=hint)
        return self.uri(*_leader_first(self), user=APP, password=password, within=within)

    def node(self, name: str) -> str:
        """The node of this name. Raises `PlanInvalid`, with the one that was meant."""
        if name not in self.ports:
            raise PlanInvalid(f"{name} is no node of {self.plan.name}", hint=meant(name, self.ports, "nodes"))
        return name

    def _role(self, node: str) -> str:
        path, again = self.config_path(node), typed(self.folder, "up")
        try:
            return str(yaml.safe_load(path.read_text())["node"]["role"])
        except FileNotFoundError:
            text = f"{path} is missing: an earlier start did not come to its end"
            raise ClusterMissing(text, hint=f"start it again: {again}") from None
        except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
            hint = f"remove it and start it again, which writes it anew: {again}"
            raise ClusterMissing(f"{path} is damaged: it does not say the node's role", hint=hint) from error

    def _node_status(self, node: str, region: str, started: Process | None, other: Process | None) -> DevNode:
        process, state = started or other, NodeState.DOWN
        if process is not None:
            state = NodeState.PAUSED if process.is_paused else NodeState.RUNNING
        pid, addr = None if process is None else process.pid, f"{HOST}:{self.ports[node]}"
        return DevNode(node, region, self._role(node), addr, pid, state, by_hand=process is other is not None)

    def _running(self, node: str) -> Process:
        found = self.processes()
        process = (found | by_hand(self, found)).get(self.node(node))
        if process is None:
            raise ClusterMissing(
                f"{node} does not run", hint=f"start it: {typed(self.folder, 'start', node)}"
            )
        return process


def by_hand(cluster: ClusterFolder, started: Mapping[str, Process]) -> dict[str, Process]:
    """The nodes that run and are none of those that commands `started`: whoever holds their data. One that
    does not say which process it is, is not found.
    """
    found: dict[str, Process] = {}
    for node in cluster.ports:
        with looked_into(cluster.data_dir(node)) as holder:
            process = Process.of(holder.pid) if holder is not None and holder.pid else None
        if process is not None and node not in started:
            found[node] = process
    return found


def refuse_by_hand(cluster: DevCluster) -> None:
    """Raise `ClusterRuns` while a node runs by hand: what it works with is not taken away from it."""
    found = by_hand(cluster, cluster.processes())
    if found:
        running = ", ".join(f"{node} (process {process.pid})" for node, process in found.items())
        raise ClusterRuns(
            f"started by hand, and still running: {running}", hint="end it where it was started"
        )


def _leader_first(cluster: DevCluster) -> list[str]:
    """All nodes, the one that leads first: drivers, which follow nobody, take the first one."""
    return sorted(cluster.ports, key=cluster.leader.__ne__)


def _signalled(process: Process, number: signal.Signals) -> int:
    process.send_signal(number)
    return process.pid


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else starts or ends processes here meanwhile. Raises `ClusterRuns` if somebody does now."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ClusterRuns(
            f"another command is at work in {folder}", hint="wait until it is done, or interrupt it"
        ) from None
    try:
        yield
    finally:
        os.close(handle)

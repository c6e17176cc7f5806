"""The start of a cluster that lives on: everything runs at the end, or nothing does."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio

from cluster.config import parse_node_config
from redwire.client import connect
from tools.accounts import password_user
from tools.dev.cluster_folder import UNFINISHED, ClusterFolder, is_free, make_private
from tools.dev.dev_cluster import APP, LOCK, DevCluster, locked, refuse_by_hand
from tools.dev.joining import all_follow, make_user
from tools.dev.local_cluster import READY_S, LocalCluster
from tools.dev.place import typed
from tools.dev.plan import Wanted
from tools.errors import ClusterRuns, NodeNotReady, PlanInvalid, leaves

Tell = Callable[[str], None]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PASSWORD_BYTES = 12
"""96 bits, sixteen characters to type."""
DATA_DIR_BYTES_MAX = 480
"""SQLite opens no path of more than 512 bytes, and the longest of its files has 30 of them there."""


def bring_up(folder: Path, wanted: Wanted, tell: Tell) -> DevCluster:
    """Start what is `wanted` in `folder`, or what was there, with its data; `tell` hears how far it got.

    When it fails or is interrupted by a signal (`KeyboardInterrupt`, with the signal as its argument), no
    process is left, and nothing in a folder where no cluster was; all of it runs where the signal comes only
    after the file `up` was written. For the main thread only. Raises
    `ClusterRuns`, `PlanInvalid`, `ConfigInvalid`, `NodeNotReady`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not ClusterFolder.is_one(folder):
        _require_empty(folder)  # or others may need their way into it
    make_private(folder)
    with locked(folder), _interruptible():
        fresh = not ClusterFolder.is_one(folder)
        dev: DevCluster | None = None
        cluster: LocalCluster | None = None
        try:
            if fresh:
                _require_empty(folder)
            before = None if fresh else DevCluster.open(folder).plan
            plan = wanted.plan(before, give_up=typed(folder, "down", "--purge"))
            dev = DevCluster(plan, folder)
            _clear(dev, tell)
            _check(ClusterFolder(plan, folder), fresh=fresh)
            cluster = LocalCluster(plan, folder)
            tell(f"certificates of {len(plan.nodes)} nodes")
            dev = DevCluster(plan, folder)
            _start(cluster, dev, tell)
            dev.up_marker.touch(0o600)
        except BaseException as error:
            with _undisturbed():
                _undo(folder, dev, cluster, fresh=fresh)
            for each in leaves(error):  # an interrupt that came while tasks ran, and that their group wraps
                if isinstance(each, KeyboardInterrupt) and each is not error:
                    raise each from error
            raise
        cluster.release()
        return dev


def _require_empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in (LOCK, UNFINISHED):
            raise PlanInvalid(
                f"{folder} holds {path.name}, and no cluster",
                hint="name a folder with --dir that is empty or does not exist",
            )


def _clear(dev: DevCluster, tell: Tell) -> None:
    """Refuse a cluster that runs; end what is left of a start that did not come to its end."""
    found = dev.processes()
    if found and dev.up_marker.exists():
        running = ", ".join(f"{name} (process {process.pid})" for name, process in found.items())
        raise ClusterRuns(
            f"{dev.plan.name} runs already: {running}", hint=f"end it first: {typed(dev.folder, 'down')}"
        )
    refuse_by_hand(dev)
    if found:
        tell(f"ended what an interrupted start had left: {', '.join(dev.end_all())}")
    dev.up_marker.unlink(missing_ok=True)


def _check(cluster: ClusterFolder, *, fresh: bool) -> None:
    """What is wrong with a plan, before any of it is written; and whether its ports are still free."""
    if fresh:
        for node in cluster.plan.nodes:
            bytes_ = len(os.fsencode(cluster.data_dir(node.id)))
            if bytes_ > DATA_DIR_BYTES_MAX:
                raise PlanInvalid(
                    f"{cluster.data_dir(node.id)}: {bytes_} bytes, at most {DATA_DIR_BYTES_MAX} are possible",
                    hint="name a shorter folder with --dir",
                )
            parse_node_config(cluster.config(node), str(cluster.config_path(node.id)))
    ports = {port: node for node, port in cluster.ports.items()}
    ports |= {spec.listen_port: f"a link between {spec.name}" for spec in cluster.link_specs()}
    for port, name in ports.items():
        if not is_free(port):
            raise NodeNotReady(
                f"another process listens on port {port}, which is that of {name}",
                hint=f"end it, or give the cluster up: {typed(cluster.folder, 'down', '--purge')}",
            )


def _start(cluster: LocalCluster, dev: DevCluster, tell: Tell) -> None:
    cluster.start_links()
    tell(f"{len(cluster.link_specs())} links between {len(cluster.plan.regions)} regions")
    cluster.start_nodes()
    tell(f"{len(cluster.ports)} processes")
    cluster.wait_ready(dev.leader)
    tell(f"{dev.leader} serves writes")
    anyio.run(partial(_join, cluster, dev, tell))


async def _join(cluster: LocalCluster, dev: DevCluster, tell: Tell) -> None:
    """Wait for all replicas, and make the user of applications unless it was made before."""
    replicas = len(cluster.ports) - 1
    async with connect(cluster.uri(dev.leader)) as admin:
        healthy = await all_follow(admin, replicas, cluster.check_processes, timeout_s=READY_S)
        if healthy < replicas:
            raise NodeNotReady(
                f"{healthy} of {replicas} replicas follow {dev.leader} after {READY_S:g} s",
                hint=f"the logs say more: {typed(dev.folder, 'logs', 'NODE')}",
            )
        tell(f"{replicas} replicas follow")
        if dev.password_path.exists():
            return
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        if not await make_user(admin, password_user(APP, password, "write"), timeout_s=READY_S):
            raise NodeNotReady(f"not every node has heard of the user {APP} after {READY_S:g} s")
        dev.write_password(password)
        tell(f"user {APP}")


def _undo(folder: Path, dev: DevCluster | None, cluster: LocalCluster | None, *, fresh: bool) -> None:
    """End what was started, and remove what was written where nothing was, or was begun."""
    if dev is not None and cluster is not None:
        cluster.stop()
        dev.end_all()  # also one that an interrupt came too early to note
        dev.up_marker.unlink(missing_ok=True)
    if fresh:
        if dev is not None:
            dev.purge()
        for name in (LOCK, UNFINISHED):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody else's files are in it
            folder.rmdir()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Every signal that asks for an end interrupts, as Ctrl-C does."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, interrupt) for number in SIGNALS if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not keep the first from being obeyed."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

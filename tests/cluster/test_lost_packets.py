"""Three hosts whose packets vanish: what was acknowledged stays, and who is cut off holds up nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from redwire import connect_sync
from redwire.link import DEAD_AFTER_TICKS, TICK_S
from redwire.status import Status
from tests.cluster.conftest import DEADLINE_S, Writer
from tests.cluster.hosts import Hosts, end_with_parent
from tools.authority import Authority
from tools.dev.process import STOP_S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("nft")),
        reason="needs root, and ip and nft",
    ),
]

NODES = ("eu-1", "us-1", "ap-1")
NOTICED_S = DEAD_AFTER_TICKS * TICK_S
"""How long it takes a client to give up a node that has fallen silent."""
BOTH = ("input", "output")
POLL_S = 0.1


class Far:
    """Three nodes on hosts of their own; `eu-1` leads. To be entered."""

    def __init__(self, folder: Path) -> None:
        self.hosts = Hosts(NODES)
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Far:
        folder, addresses = self._folder, self.hosts.addresses
        authority = Authority.create("shop")
        folder.joinpath("ca.pem").write_bytes(authority.pem)
        authority.issue_user("ops").save(folder, "ops")
        members = [{"id": n, "region": n.split("-")[0], "addr": f"{addresses[n]}:5050"} for n in NODES]
        for node in NODES:
            authority.issue_node(node, [addresses[node]]).save(folder, node)
            document = {
                "node": {
                    "id": node,
                    "region": node.split("-")[0],
                    "role": "primary" if node == NODES[0] else "replica",
                    "listen": "0.0.0.0:5050",
                    "data_dir": str(folder / f"data-{node}"),
                },
                "tls": {"ca": "ca.pem", "cert": f"{node}.pem", "key": f"{node}.key"},
                "cluster": {"name": "shop", "members": members, "admins": ["ops"], "policy": "majority"},
            }
            folder.joinpath(f"{node}.yaml").write_text(yaml.safe_dump(document))
        self.hosts.__enter__()
        try:
            for node in reversed(NODES):
                self._start(node)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        assert [process.returncode for process in self._processes] == [0, 0, 0], self.said()

    def _end(self) -> None:
        try:
            for process in self._processes:
                process.terminate()
            deadline = time.monotonic() + STOP_S
            for process in self._processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in self._processes:
                process.kill()  # whoever has ended is left alone
                process.wait()
            self.hosts.__exit__()

    def said(self) -> str:
        """The end of what each node said."""
        return "\n".join(self._folder.joinpath(f"{node}.log").read_text()[-3_000:] for node in NODES)

    def writer(self, **options: Any) -> FarWriter:
        """A steady writer, to be entered."""
        return FarWriter(self.hosts, self.uri(*NODES), **options)

    def uri(self, *nodes: str, **more: str) -> str:
        """The administrator's, at these nodes."""
        places = ",".join(self.hosts.addresses[node] for node in nodes)
        files = {"ca": "ca.pem", "cert": "ops.pem", "key": "ops.key"}
        words = {name: str(self._folder / file) for name, file in files.items()} | more
        return f"reds://{places}/?" + "&".join(f"{name}={word}" for name, word in words.items())

    def status(self, node: str) -> Status:
        """What the node says of the cluster."""

        def ask() -> Status:
            with connect_sync(self.uri(node, discovery="off", read="any")) as db:
                return db.status(f"{self.hosts.addresses[node]}:5050", timeout_s=DEADLINE_S)

        return self.hosts.inside(ask)

    def until_level(self) -> None:
        """Wait until all nodes have applied one log."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            stands = {(own.durable, own.applied) for own in (self.status(node).own for node in NODES)}
            if len(stands) == 1 and len(set(stands.pop())) == 1:
                return
            assert time.monotonic() < deadline, f"the nodes do not agree\n{self.said()}"
            time.sleep(POLL_S)

    def check(self, writer: FarWriter) -> None:
        """Every node holds what was promised."""
        self.until_level()
        for node in NODES:

            def held(node: str = node) -> dict[str, tuple[int, bytes]]:
                with connect_sync(self.uri(node, discovery="off", read="any")) as db:
                    return {each.id: (each.version, each.raw) for each in db.scan(writer.collection)}

            writer.check(self.hosts.inside(held))

    def _start(self, node: str) -> None:
        log = self._folder / f"{node}.log"
        words = (sys.executable, "-m", "cluster.start", "--config", str(self._folder / f"{node}.yaml"))
        with log.open("wb") as said:
            command = self.hosts.command(node, *words)
            process = subprocess.Popen(command, stdout=said, stderr=said, preexec_fn=end_with_parent)
            self._processes.append(process)
        deadline, word = time.monotonic() + DEADLINE_S, "serves writes" if node == NODES[0] else "listens"
        while word not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(POLL_S)


class FarWriter(Writer):
    """A writer on a host beside the nodes."""

    def __init__(self, hosts: Hosts, uri: str, **options: Any) -> None:
        super().__init__(uri, "load", 4, 0.02, options)
        self._hosts = hosts

    def _run(self) -> None:
        self._hosts.move_here()
        super()._run()


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with Far(tmp_path_factory.mktemp("far")) as far:
        yield far


def unwell(far: Far) -> set[str]:
    """Who is unhealthy, by the primary's word."""
    return {node.id for node in far.status(NODES[0]).nodes if node.health == "unhealthy"}


@pytest.mark.parametrize("ways", [BOTH, ("input",), ("output",)], ids="+".join)
def test_a_follower_whose_packets_vanish_holds_up_no_write_and_catches_up(
    far: Far, ways: tuple[str, ...]
) -> None:
    with far.writer(timeout_s=3.0) as writer:
        writer.wait_acked()
        with far.hosts.cut("us-1", *ways):
            deadline = time.monotonic() + DEADLINE_S
            while unwell(far) != {"us-1"}:
                assert time.monotonic() < deadline, far.said()
                time.sleep(POLL_S)
            writer.wait_acked()
        writer.wait_acked()
    assert not writer.doubtful and not writer.refused
    far.check(writer)


@pytest.mark.parametrize("ways", [BOTH, ("input",), ("output",)], ids="+".join)
def test_of_a_primary_whose_packets_vanish_nothing_is_lost_and_it_goes_on_when_it_is_back(
    far: Far, ways: tuple[str, ...]
) -> None:
    with far.writer(timeout_s=NOTICED_S / 2) as writer:
        writer.wait_acked()
        with far.hosts.cut("eu-1", *ways):
            writer.wait_doubtful(8)
        writer.wait_acked()
    far.check(writer)


def test_over_lines_that_lose_a_tenth_every_write_reaches_all_nodes(far: Far) -> None:
    lossy = [far.hosts.cut(node, *BOTH, percent=10) for node in ("us-1", "ap-1")]
    with lossy[0], lossy[1], far.writer(policy="ack_n=2", timeout_s=DEADLINE_S) as writer:
        writer.wait_acked(200, timeout_s=2 * DEADLINE_S)
    assert not writer.doubtful and not writer.refused
    far.check(writer)

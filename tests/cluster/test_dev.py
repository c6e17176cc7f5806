"""`redwire dev` for real: what it starts lives on, is found again, cut apart, and ended.

The tests of the shared cluster leave it as they found it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import anyio
import pytest

from redwire import connect_sync
from redwire.errors import NotConfirmed, RedwireError, Refused, UnknownOutcome
from redwire.sync import SyncClient
from tools.cli.main import main
from tools.dev.dev_cluster import DevCluster
from tools.dev.ping import Line, measure, way
from tools.dev.process import Process

DEADLINE_S = 30.0
POLL_S = 0.05
IMPATIENT_S = 2.0
UNDONE = (NotConfirmed, Refused, UnknownOutcome)
"""What a write comes to that cannot be committed; on a busy machine the last, when the answer is late."""
SMALL = ("--region", "eu:1", "--region", "us:1", "--rtt", "eu-us=4ms")
FLOOR = "regions(2 of eu,us,ap)"
PINGS = 200


class Dev:
    """The command line of one cluster, in this process; `up` in one of its own, which is gone afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str) -> Any:
        """The document that a verb answers with."""
        code, out, err = self.try_to(*words)
        assert (code, err) == (0, "")
        return json.loads(out)

    def try_to(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a verb."""
        out, err, before, code = io.StringIO(), io.StringIO(), sys.argv, 0
        sys.argv = ["redwire", *self.words(*words)]
        try:
            with redirect_stdout(out), redirect_stderr(err):
                main()
        except SystemExit as end:
            assert end.code is None or isinstance(end.code, int)
            code = end.code or 0
        finally:
            sys.argv = before
        return code, out.getvalue(), err.getvalue()

    def words(self, *words: str) -> list[str]:
        return ["dev", *words, "--dir", str(self.folder), *([] if "-f" in words else ["--json"])]

    def spawn(self, *words: str) -> subprocess.Popen[str]:
        """A verb as a process of its own."""
        command = [sys.executable, "-m", "tools.cli.main", *self.words(*words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def up(self, *words: str) -> Any:
        """Start it; what `up` answers with."""
        process = self.spawn("up", *words)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, err) == (0, "")
        return json.loads(out)

    def pids(self) -> dict[str, int]:
        """The nodes that are not down."""
        return {node["id"]: node["pid"] for node in self("status")["nodes"] if node["pid"] is not None}

    def processes(self) -> dict[str, Process]:
        return DevCluster.open(self.folder).processes()


def until(fact: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not fact():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(POLL_S)


def command_lines(folder: Path) -> list[str]:
    """Those of all processes that have to do with `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if str(folder) in line]


@contextlib.contextmanager
def ending(folder: Path) -> Iterator[Dev]:
    dev = Dev(folder)
    try:
        yield dev
    finally:
        if DevCluster.is_one(folder):
            DevCluster.open(folder).end_all()
        assert command_lines(folder) == []


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    """A cluster of this test's own, to be brought up."""
    with ending(tmp_path / "dev") as own:
        yield own


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dev, Any]]:
    """Five nodes in three regions, and what `up` said."""
    with ending(tmp_path_factory.mktemp("regions") / "dev") as shared:
        regions = ("--region", "eu:2", "--region", "us:2", "--region", "ap:1")
        distances = ("--rtt", "eu-us=20ms", "--rtt", "eu-ap=30ms", "--rtt", "us-ap=40ms")
        yield shared, shared.up(*regions, *distances, "--policy", "regions(eu,us)", "--floor", FLOOR)


@pytest.fixture
def shop(started: tuple[Dev, Any]) -> Iterator[Dev]:
    """The shared cluster, whole."""
    shared, _ = started
    assert len(shared.pids()) == 5
    yield shared
    shared("heal")


@pytest.fixture
def db(shop: Dev) -> Iterator[SyncClient]:
    """A client of the shared cluster, in the primary's region."""
    with connect_sync(shop("uri", "--in", "eu")["uri"]) as client:
        yield client


def commits(db: SyncClient, policy: str) -> bool:
    with contextlib.suppress(RedwireError):
        db.put("orders", "o", {"by": "ann"}, policy=policy, timeout_s=IMPATIENT_S)
        return True
    return False


def test_up_says_what_it_started(started: tuple[Dev, Any]) -> None:
    shared, said = started
    assert [(node["id"], node["region"], node["role"], node["state"]) for node in said["nodes"]] == [
        ("eu-1", "eu", "primary", "running"),
        ("eu-2", "eu", "replica", "running"),
        ("us-1", "us", "replica", "running"),
        ("us-2", "us", "replica", "running"),
        ("ap-1", "ap", "replica", "running"),
    ]
    assert {(pair["here"], pair["there"]): pair["rtt_ms"] for pair in said["distances"]} == {
        ("eu", "us"): 20,
        ("eu", "ap"): 30,
        ("us", "ap"): 40,
    }
    assert shared("status") == {name: value for name, value in said.items() if name != "uris"}


def test_what_was_started_has_a_session_of_its_own_and_no_terminal(started: tuple[Dev, Any]) -> None:
    shared, _ = started
    processes = shared.processes()
    assert len(processes) == 6
    for process in processes.values():
        assert os.getsid(process.pid) == process.pid
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        assert fields[4] == "0"  # tty_nr


def test_an_application_and_an_administrator_find_it(started: tuple[Dev, Any]) -> None:
    _, said = started
    with connect_sync(said["uris"]["app"]) as app, connect_sync(said["uris"]["admin"]) as admin:
        receipt = app.put("products", "lamp", {"price": 20}).receipt
        assert receipt.requested == "regions(eu,us)"
        found = admin.get("products", "lamp")
        assert found is not None and found.value == {"price": 20}


def test_a_client_in_a_region_is_as_far_away_as_that_region(shop: Dev) -> None:
    with connect_sync(shop("uri", "--in", "ap")["uri"]) as far:
        far.put("products", "chair", {"price": 30})
        began = time.monotonic()
        far.get("products", "chair", read="primary")
        assert time.monotonic() - began >= 0.029


def test_a_second_up_is_refused_and_says_what_runs(shop: Dev) -> None:
    before = shop.pids()
    code, out, err = shop.try_to("up")
    assert (code, out) == (1, "")
    assert f"runs already: eu-1 (process {before['eu-1']}), eu-2" in err
    assert f"end it first: redwire dev down --dir {shop.folder}" in err
    assert shop.pids() == before


def test_a_cut_stops_what_needs_both_regions_and_healing_lets_it_go_on(shop: Dev, db: SyncClient) -> None:
    assert commits(db, "regions(eu,us)")
    (cut, *_) = shop("cut", "us-eu")["distances"]
    assert (cut["here"], cut["there"], sorted(cut["cut_from"])) == ("eu", "us", ["eu", "us"])
    with pytest.raises(UNDONE):
        db.put("orders", "cut", {"by": "bob"}, timeout_s=IMPATIENT_S)
    assert commits(db, "regions(eu,ap)")
    shop("heal", "eu-us")
    until(lambda: commits(db, "regions(eu,us)"), "writes commit again")


def test_links_whose_socket_is_gone_hide_no_node(shop: Dev) -> None:
    socket = shop.folder / "links.sock"
    before = shop("status")
    socket.rename(shop.folder / "away")
    status, (code, _, err) = shop("status"), shop.try_to("ping", "eu-us")
    (shop.folder / "away").rename(socket)
    assert status["nodes"] == before["nodes"] and status["distances"] == []
    assert status["links"]["pid"] == before["links"]["pid"] and str(socket) in status["links"]["why"]
    told = json.loads(err)
    assert (code, told["message"]) == (1, status["links"]["why"]) and "redwire dev up" in told["hint"]


def test_a_ping_over_a_link_that_is_cut_says_so(shop: Dev) -> None:
    shop("cut", "us-eu", "--one-way")
    code, out, err = shop.try_to("ping", "eu-us")
    shop("heal")
    told = json.loads(err)
    assert (code, out, told["hint"]) == (1, "", f"heal it: redwire dev heal eu-us --dir {shop.folder}")
    assert told["message"].startswith("no ping comes back: eu-us is 20 ms") and "cut us to eu" in err


@pytest.mark.parametrize("pair", ["eu-us", "us-eu"])
def test_a_cut_in_one_direction_is_one_of_what_the_first_region_sends(
    shop: Dev, db: SyncClient, pair: str
) -> None:
    (cut, other, _) = shop("cut", pair, "--one-way")["distances"]
    assert (cut["cut_from"], other["cut_from"]) == ([pair[:2]], [])
    with pytest.raises(UNDONE):
        db.put("orders", "cut", {"by": "bob"}, timeout_s=IMPATIENT_S)
    shop("heal")
    until(lambda: commits(db, "regions(eu,us)"), "writes commit again")


def test_a_slow_link_makes_a_commit_slow_until_it_is_healed(shop: Dev, db: SyncClient) -> None:
    slow, *_ = shop("slow", "eu-us", "300ms")["distances"]
    assert slow["rtt_ms"] == 300
    receipt = db.put("orders", "slow", {"by": "ann"}).receipt
    assert max(ack.after_us for ack in receipt.acks if ack.region == "us") >= 290_000
    healed, *_ = shop("heal", "us-eu")["distances"]
    assert healed["rtt_ms"] == 20


def test_a_killed_node_can_be_started_again(shop: Dev, db: SyncClient) -> None:
    pid = shop.pids()["us-2"]
    assert shop("kill", "us-2") == {"node": "us-2", "done": "kill", "pid": pid}
    assert "us-2" not in shop.pids()
    code, _, err = shop.try_to("kill", "us-2")
    told = json.loads(err)
    assert (code, told["message"], told["hint"]) == (
        1,
        "us-2 does not run",
        f"start it: redwire dev start us-2 --dir {shop.folder}",
    )
    again = shop("start", "us-2")["pid"]
    assert shop.pids()["us-2"] == again != pid
    code, _, err = shop.try_to("start", "us-2")
    assert (code, json.loads(err)["message"]) == (1, f"us-2 runs already, as process {again}")
    until(lambda: commits(db, "ack_n=4"), "it follows")


def test_a_paused_node_is_silent_until_it_is_resumed(shop: Dev, db: SyncClient) -> None:
    assert commits(db, "regions(eu,us,ap)")
    pid = shop("pause", "ap-1")["pid"]
    assert [node["state"] for node in shop("status")["nodes"]][-1] == "paused"
    with pytest.raises(UNDONE):
        db.put("orders", "p", {"by": "bob"}, policy="regions(eu,us,ap)", timeout_s=IMPATIENT_S)
    assert shop("resume", "ap-1")["pid"] == pid
    assert [node["state"] for node in shop("status")["nodes"]][-1] == "running"
    until(lambda: commits(db, "regions(eu,us,ap)"), "it follows")


def test_logs_show_what_a_node_said_and_follow_what_it_says(shop: Dev) -> None:
    said = shop("logs", "ap-1", "-n", "1000")
    assert any("listens on" in line for line in said["lines"])
    with shop.spawn("logs", "ap-1", "-n", "0", "-f") as following:
        assert following.stdout
        assert following.stdout.readline() == "\n"
        with Path(said["file"]).open("a") as log:
            log.write("a line of its own\n")
        for line in following.stdout:
            if line == "a line of its own\n":
                break
        following.send_signal(signal.SIGINT)
        assert following.wait(DEADLINE_S) == 130
        assert following.stderr is not None and following.stderr.read() == "\nredwire: interrupted\n"


RELAY = """
import socket, sys, threading, time

def carry(source, sink, one_way_s):
    while data := source.recv(65536):
        time.sleep(one_way_s)
        sink.sendall(data)

with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    near, _ = listener.accept()
far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for each in (near, far):
    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
threading.Thread(target=carry, args=(far, near, float(sys.argv[2])), daemon=True).start()
carry(near, far, float(sys.argv[2]))
"""
"""The plainest link there can be: for one connection, and one chunk at a time."""


@contextlib.contextmanager
def relay(port: int, rtt_ms: float) -> Iterator[int]:
    """The port of a plain relay to `port`."""
    command = [sys.executable, "-c", RELAY, str(port), str(rtt_ms / 2000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def added_ms(cluster: DevCluster, asked_ms: float) -> tuple[float, float]:
    """What the links and what a plain relay add to a ping: medians, measured in turns."""
    node, direct = cluster.plan.nodes[2].id, cluster.uri("us-1")
    times: dict[str, list[float]] = {"links": [], "relay": [], "direct": []}
    with relay(cluster.ports[node], asked_ms) as port:
        uris = {
            "links": cluster.uri(node, within="eu"),
            "relay": direct.replace(str(cluster.ports[node]), str(port)),
            "direct": direct,
        }
        async with contextlib.AsyncExitStack() as open_lines:
            lines = {name: await open_lines.enter_async_context(Line.to(uri)) for name, uri in uris.items()}
            for _ in range(PINGS):
                for name, line in lines.items():
                    times[name].append(await line.ping_ms())
    links, plain, without = (statistics.median(each) for each in times.values())
    return links - without, plain - without


@pytest.mark.slow
def test_links_add_what_was_asked_within_one_ms(shop: Dev) -> None:
    """Where even a plain relay is late, because the machine is busy, they may be late by twice as much: they
    carry what the nodes say to one another meanwhile.
    """
    asked_ms, found = 10.0, []
    shop("slow", "eu-us", f"{asked_ms}ms")
    for _ in range(3):
        links_ms, relay_ms = anyio.run(added_ms, DevCluster.open(shop.folder), asked_ms)
        assert links_ms >= asked_ms - 1
        if links_ms - asked_ms <= max(1, 2 * (relay_ms - asked_ms)):
            return
        found.append((links_ms, relay_ms))
    pytest.fail(f"asked for {asked_ms} ms; by the links, and by a plain relay: {found}")


def test_ping_says_what_the_links_add(shop: Dev) -> None:
    found = shop("ping", "eu-us", "--count", "5")
    assert (found["here"], found["there"], found["node"], found["count"]) == ("eu", "us", "us-1", 5)
    assert found["through_ms"] >= 19
    assert found["added_ms"] == pytest.approx(found["through_ms"] - found["direct_ms"], abs=0.002)


def test_ping_tells_how_far_it_has_come(shop: Dev) -> None:
    cluster, told = DevCluster.open(shop.folder), list[int]()
    found = way(cluster, "eu-us")
    assert (found.here, found.node, found.rtt_ms) == ("eu", "us-1", 20)
    anyio.run(measure, cluster, found, 3, told.append)
    assert told == [1, 2, 3]


def test_after_everything_was_killed_up_starts_it_again_with_its_data_until_it_is_purged(dev: Dev) -> None:
    first = dev.up(*SMALL)
    with connect_sync(first["uris"]["app"]) as db:
        version = db.put("products", "lamp", {"price": 20}).version
    certificates = {path.name: path.read_bytes() for path in dev.folder.glob("*.pem")}
    for process in dev.processes().values():
        process.kill()
        process.wait(DEADLINE_S)
    status = dev("status")
    assert {node["state"] for node in status["nodes"]} == {"down"}
    assert status["links"] == {"pid": None, "why": ""}

    again = dev.up("--rtt", "eu-us=8ms")
    assert again["uris"] == first["uris"]
    assert again["distances"][0]["rtt_ms"] == 8
    assert {path.name: path.read_bytes() for path in dev.folder.glob("*.pem")} == certificates
    with connect_sync(again["uris"]["app"]) as db:
        found = db.get("products", "lamp")
    assert found is not None and (found.version, found.value) == (version, {"price": 20})

    dev("pause", "us-1")
    place = {"name": "dev", "dir": str(dev.folder)}
    assert dev("down") == place | {
        "ended": ["eu-1", "us-1", "delay links"],
        "purged": False,
        "left_running": {},
    }
    assert command_lines(dev.folder) == []
    assert dev("down", "--purge") == place | {"ended": [], "purged": True, "left_running": {}}
    assert not dev.folder.exists()


def test_what_a_killed_up_had_started_is_ended_by_the_next_one(dev: Dev) -> None:
    process = dev.spawn("up", *SMALL)
    until(lambda: DevCluster.is_one(dev.folder) and len(dev.processes()) == 3, "nodes and links run")
    process.kill()
    process.communicate()
    left = {name: each.pid for name, each in dev.processes().items()}
    assert left
    said = dev.up()
    assert {node["pid"] for node in said["nodes"]}.isdisjoint(left.values())
    assert len(dev.processes()) == 3


@pytest.mark.parametrize(
    ("remove", "keep", "stays"), [(True, "", False), (True, "each.keep()", True), (False, "", True)]
)
def test_what_was_guarded_ends_with_the_process_that_guarded_it(
    tmp_path: Path, remove: bool, keep: str, stays: bool
) -> None:
    folder = tmp_path / "guarded"
    script = (
        "import pathlib, signal; from tools.dev.guard import guarded; from tools.dev.plan import *;"
        "from tools.dev.local_cluster import LocalCluster; folder = pathlib.Path(%r);"
        "cluster = LocalCluster(ClusterPlan((NodePlan('eu-1', 'eu'),)), folder)\n"
        "with guarded(folder, remove=%r) as each:\n"
        "  cluster.start(); %s; print('runs', flush=True)\n"
        "  signal.pause()"
    )
    command = [sys.executable, "-c", script % (str(folder), remove, keep or "pass")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "runs\n"
            # itself, its guard, the node; a process has no command line while it becomes another program
            until(lambda: len(command_lines(folder)) == 3, "all three are there")
        finally:
            process.kill()
    until(lambda: not command_lines(folder), "the node ends, and the guard")
    assert folder.exists() is stays


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_nothing_behind(dev: Dev, number: signal.Signals) -> None:
    process = dev.spawn("up", *SMALL)
    until(lambda: len(command_lines(dev.folder)) >= 3, "it starts processes")
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (128 + number, ""), err
    assert json.loads(err)["message"] == "interrupted; nothing that was started runs any more"
    assert command_lines(dev.folder) == []
    assert not dev.folder.exists()

"""Real nodes for tests: clusters that always end, steady writers, a disk that fails on demand, and oracles.

The oracles stand outside the nodes: what was acknowledged is remembered by the writers, what is in a log is
read from its files by a walk of its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import anyio
import pytest
import yaml

from redwire import connect, connect_sync
from redwire.batch import Batch, batch_size, follows, parse_batch
from redwire.errors import ChannelClosed, ConnectFailed, NotConfirmed, RedwireError, UnknownOutcome
from redwire.message.admin import PutUser, ScramRecord
from redwire.position import EMPTY
from redwire.receipt import Receipt
from redwire.scram import make_verifier
from redwire.status import Status
from redwire.sync import SyncClient
from tests.cluster.forked import prepare
from tests.cluster.forked_cluster import ForkedCluster
from tools.dev.plan import ClusterPlan, NodePlan
from tools.dev.process import STOP_S

T = TypeVar("T")
DEADLINE_S = 30.0
"""For facts that must come true: a test that waits so long on a busy machine has found something."""
POLL_S = 0.02
PAUSE_S = 0.02
"""Of a steady writer's lane, from one write to the next: what a test looks at is what happens meanwhile."""
LOG_LINES = 25


class Fleet(ForkedCluster):
    """A cluster under test. Regions are the part of a node's name before the dash; the first node leads."""

    running: ClassVar[list[Fleet]] = []

    def __init__(
        self,
        folder: Path,
        *nodes: str,
        faults: bool = False,
        rtt_ms: Mapping[tuple[str, str], float] | None = None,
        sections: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """`sections` stand in each node's file beside `cluster:`, into which `settings` go."""
        plans = tuple(NodePlan(node, node.split("-")[0]) for node in nodes)
        plan = ClusterPlan(plans, rtt_ms=rtt_ms or {}, settings=settings, node_sections=sections or {})
        super().__init__(plan, folder)
        self.nodes = nodes
        self._faults = faults
        self._direct: dict[str, SyncClient] = {}
        self._clients = contextlib.ExitStack()
        self._db: SyncClient | None = None

    # --- processes

    def up(self, *nodes: str) -> None:
        """Start these nodes, by default all, and wait until their leader serves writes."""
        for node in reversed(nodes or self.nodes):
            self.lead(node) if self.role(node) == "primary" else self.start_node(node)

    def lead(self, node: str, *arguments: str) -> None:
        """Start a node whose role is primary, and wait until it serves writes."""
        mark = self.mark(node)
        self.start_node(node, *arguments)
        self.wait_log(node, "serves writes", since=mark)

    def pause(self, node: str) -> None:
        """SIGSTOP: the node is there, and silent."""
        self.signal_node(node, signal.SIGSTOP)

    def resume(self, node: str) -> None:
        """SIGCONT."""
        self.signal_node(node, signal.SIGCONT)

    def ends(self, node: str) -> int:
        """The exit code of a node that ends by itself."""
        return self.processes[node].wait(DEADLINE_S)

    def wipe(self, node: str) -> None:
        """Take the disk of a node that does not run."""
        assert self.processes[node].poll() is not None
        shutil.rmtree(self.data_dir(node))

    def role(self, node: str) -> str:
        """What the node's file says."""
        return str(yaml.safe_load(self.config_path(node).read_text())["node"]["role"])

    def set_role(self, node: str, role: str) -> None:
        """Change the node's file; it counts at the next start."""
        path = self.config_path(node)
        document = yaml.safe_load(path.read_text())
        if document["node"]["role"] != role:
            document["node"]["role"] = role
            fresh = path.with_suffix(".new")
            fresh.write_text(yaml.safe_dump(document, sort_keys=False))
            fresh.replace(path)  # a node that starts meanwhile reads a whole file

    @property
    def leader(self) -> str:
        """The node whose file says that it leads."""
        return next(node for node in self.nodes if self.role(node) == "primary")

    @property
    def followers(self) -> list[str]:
        """The others."""
        return [node for node in self.nodes if self.role(node) != "primary"]

    def crown(self, node: str) -> None:
        """Make `node` the primary as an operator would when the present one is lost or was stopped."""
        for other in self.nodes:
            self.set_role(other, "primary" if other == node else "replica")
        if self.processes[node].poll() is None:
            assert self.terminate(node) == 0
        self.lead(node, "--take-over")

    def isolate(self, node: str) -> None:
        """Cut the links between `node` and all others; clients reach it as before. `heal` ends it."""
        for link in self._links_of(node):
            assert self.command(f"cut {link}") == "ok"

    def heal(self, node: str) -> None:
        """Let everything pass again."""
        for link in self._links_of(node):
            assert self.command(f"heal {link}") == "ok"

    def _links_of(self, node: str) -> set[str]:
        here = node.split("-")[0]
        there = {other.split("-")[0] for other in self.nodes} - {here}
        return {"-".join(sorted((here, region))) for region in there}

    def stop(self) -> None:
        """End everything. Raises when a node that still ran did not end with exit code 0."""
        self._clients.close()
        for node in self.nodes:
            self.disk(node)
        lived = {node: process for node, process in self.processes.items() if process.poll() is None}
        super().stop()
        codes = {node: process.returncode for node, process in lived.items() if process.returncode}
        assert not codes, f"exit codes at the end: {codes}"

    # --- the disk

    def disk(self, node: str, *rules: str) -> None:
        """From now on the node's disk fails like this (see faults.c); without rules it is sound."""
        path = self._rules(node)
        fresh = path.with_suffix(".new")
        fresh.write_text("\n".join(rules))
        self._hits(node).unlink(missing_ok=True)
        os.replace(fresh, path)

    def disk_hits(self, node: str) -> int:
        """How many calls have met a rule since `disk`."""
        path = self._hits(node)
        return path.read_text().count("\n") if path.exists() else 0

    def rules(self, node: str) -> Path | None:
        """The file of `disk`, for a fleet with faults."""
        return self._rules(node) if self._faults else None

    def _rules(self, node: str) -> Path:
        return self.folder / f"{node}.faults"

    def _hits(self, node: str) -> Path:
        return self.folder / f"{node}.faults.hits"

    # --- what the nodes say

    def until(self, fact: Callable[[], T], what: str, *, timeout_s: float = DEADLINE_S) -> T:
        """What `fact` returns once that is true. Fails, naming `what`, when it does not become true."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = fact()
            if found:
                return found
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
            time.sleep(POLL_S)

    def mark(self, node: str) -> int:
        """Where the node's log of words ends now, for `wait_log(…, since=…)` and `said`."""
        path = self.log_path(node)
        return path.stat().st_size if path.exists() else 0

    def said(self, node: str, since: int = 0) -> str:
        """What the node said from a mark on."""
        return self.log_path(node).read_bytes()[since:].decode(errors="replace")

    @property
    def db(self) -> SyncClient:
        """The administrator, connected to the whole cluster until the end."""
        if self._db is None:
            self._db = self._clients.enter_context(connect_sync(self.uri()))
        return self._db

    def at(self, node: str) -> SyncClient:
        """The administrator at one node and no other."""
        if node not in self._direct:
            client = connect_sync(self.uri(node, discovery="off", read="any"))
            self._direct[node] = self._clients.enter_context(client)
        return self._direct[node]

    def status(self, node: str) -> Status:
        """The node's status document, as soon as it answers."""

        def ask() -> Status | None:
            with contextlib.suppress(ConnectFailed, ChannelClosed):
                return self.at(node).status(f"127.0.0.1:{self.ports[node]}", timeout_s=DEADLINE_S)
            return None

        return self.until(ask, f"{node} answers")

    def documents(self, node: str, collection: str, token: object = None) -> dict[str, tuple[int, bytes]]:
        """A whole collection as one node has it: version and bytes by id."""

        async def scan() -> dict[str, tuple[int, bytes]]:
            async with connect(self.uri(node, discovery="off", read="any")) as db:
                found = db.scan(collection, at_least=None if token is None else str(token))
                return {document.id: (document.version, document.raw) async for document in found}

        return anyio.run(scan)

    def converge(self, *nodes: str) -> int:
        """Wait until these nodes, by default all, hold and have applied one log; its last LSN."""
        names = nodes or self.nodes

        def level() -> int:
            stands = [self.status(node) for node in names]
            ends = {(s.term, s.own.received, s.own.durable, s.own.applied) for s in stands}
            if len(ends) != 1 or len(set(next(iter(ends))[1:])) != 1:
                return 0
            return stands[0].own.applied or 0

        return self.until(level, f"{', '.join(names)} stand at one LSN")

    # --- oracles

    def log(self, node: str) -> list[Batch]:
        """The batches in the node's log files, checked one by one; of a stopped or idle node."""
        folders = sorted((self.data_dir(node) / "wal").iterdir())
        files = sorted(folders[-1].glob("*.log"), key=lambda path: path.stem.split("-")[1])
        batches: list[Batch] = []
        for path in files:
            for batch in segment_batches(path.read_bytes()):
                end = batches[-1].position if batches else EMPTY
                begun = bool(batches) or batch.first == 1
                assert not begun or follows(batch, end), f"{node}: {batch} after {end}"
                batches.append(batch)
        return batches

    def check_same_log(self, *nodes: str) -> None:
        """Where these nodes' logs overlap they hold the same bytes."""
        logs = {node: {batch.first: batch.data for batch in self.log(node)} for node in nodes or self.nodes}
        first, *others = logs
        for other in others:
            shared = logs[first].keys() & logs[other].keys()
            differing = [lsn for lsn in sorted(shared) if logs[first][lsn] != logs[other][lsn]]
            assert not differing, f"{first} and {other} differ at LSN {differing[:5]}"

    def stored(self, node: str, collection: str) -> dict[str, tuple[int, bytes]]:
        """A whole collection in the node's state file, past the node: version and bytes by id."""
        (path,) = self.data_dir(node).glob("state*.db")
        rows = "SELECT id, version, doc FROM docs JOIN collections USING (c) WHERE name = ?"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as state:
            return {ident: (version, doc) for ident, version, doc in state.execute(rows, (collection,))}

    def check_same_documents(self, *collections: str) -> None:
        """All nodes have applied one log, and hold the same documents."""
        self.converge()
        for collection in collections:
            first, *others = ((node, self.stored(node, collection)) for node in self.nodes)
            for node, held in others:
                assert held == first[1], f"{node} differs from {first[0]} in {collection}"

    def check_nothing_lost(self, *writers: Writer) -> None:
        """All nodes agree, every acknowledged write is there, and nothing is there that was refused."""
        self.check_same_documents(*{writer.collection for writer in writers})
        for writer in writers:
            held = self.documents(self.nodes[-1], writer.collection)
            assert held == self.stored(self.nodes[0], writer.collection)
            writer.check(held)
        self.check_same_log()

    # --- work

    def fill(self, collection: str, count: int, size: int = 200) -> str:
        """Write `count` new documents of about `size` bytes; a token that sees them all."""
        body = "x" * size
        prefix = secrets.token_hex(3)
        token = ""
        for start in range(0, count, 10_000):
            numbers = range(start, min(start + 10_000, count))
            rows = [(f"{prefix}-{n:07d}", {"n": n, "body": body}) for n in numbers]
            token = str(self.db.insert_many(collection, rows, timeout_s=DEADLINE_S).receipt.token)
        return token

    def writer(
        self, *, collection: str = "load", lanes: int = 4, pause_s: float = PAUSE_S, **options: Any
    ) -> Writer:
        """A steady writer, to be entered; without a pause it writes as fast as the nodes let it."""
        return Writer(self.uri(), collection, lanes, pause_s, options)

    def add_user(self, name: str, password: str, role: str = "write", *, topology_read: bool = True) -> None:
        """A user with a password, known to whoever has applied the record."""
        verifier = make_verifier(password, secrets.token_bytes(16))
        record = ScramRecord(
            salt=verifier.salt,
            iterations=verifier.iterations,
            stored_key=verifier.stored_key,
            server_key=verifier.server_key,
        )
        self.db.admin.change_account(
            PutUser(name=name, role=role, verifier=record, topology_read=topology_read)
        )

    def last_words(self) -> str:
        """The end of what each node said."""
        parts = []
        for node in self.nodes:
            process = self.processes.get(node)
            code = "not started" if process is None else process.poll()
            lines = self.said(node).splitlines()[-LOG_LINES:] if self.log_path(node).exists() else []
            parts.append("\n".join([f"--- {node} (exit code {code})", *lines]))
        return "\n".join(parts)


class Writer:
    """Writes one new document after the other, in several lanes, and remembers what became of each.

    `acked` were acknowledged (receipts by id), `doubtful` are not confirmed or unknown, `refused` were
    certainly not written. `hot` is one document that every lane overwrites now and then: its highest
    acknowledged version.
    """

    def __init__(
        self, uri: str, collection: str, lanes: int, pause_s: float, options: dict[str, Any]
    ) -> None:
        self.collection = collection
        self.acked: dict[str, Receipt] = {}
        self.doubtful: dict[str, RedwireError] = {}
        self.refused: dict[str, RedwireError] = {}
        self.hot = 0
        self._uri = uri
        self._lanes = lanes
        self._pause_s = pause_s
        self._options = {"timeout_s": 10.0} | options
        self._stopping = threading.Event()
        self._crash: BaseException | None = None
        self._prefix = secrets.token_hex(3)
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.stop()
        if self._crash is not None:
            raise self._crash  # whatever else is wrong then, it may be for that

    def stop(self) -> None:
        """Begin no more writes, and wait for the outcome of those under way."""
        self._stopping.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the writer does not come to an end"

    def wait_doubtful(self, more: int, *, timeout_s: float = DEADLINE_S) -> None:
        """Return when so many writes are in doubt or, as nobody could be met, refused; one is in doubt."""
        deadline = time.monotonic() + timeout_s
        while not self.doubtful or len(self.doubtful) + len(self.refused) < more:
            assert self._thread.is_alive(), f"the writer ended: {self._crash!r}"
            state = f"{len(self.acked)} acked, {len(self.doubtful)} doubtful, {len(self.refused)} refused"
            assert time.monotonic() < deadline, f"not {more} in doubt within {timeout_s:g} s: {state}"
            time.sleep(POLL_S)

    def wait_acked(self, more: int = 20, *, timeout_s: float = DEADLINE_S) -> None:
        """Return when so many more writes were acknowledged."""
        target = len(self.acked) + more
        deadline = time.monotonic() + timeout_s
        while len(self.acked) < target:
            assert self._thread.is_alive(), f"the writer ended: {self._crash!r}"
            state = f"{len(self.acked)} acked, {len(self.doubtful)} doubtful, {len(self.refused)} refused"
            assert time.monotonic() < deadline, f"no {more} more acknowledged within {timeout_s:g} s: {state}"
            time.sleep(POLL_S)

    def check(self, held: dict[str, tuple[int, bytes]]) -> None:
        """Every promise is kept in what a node holds."""
        lost = {ident for ident, receipt in self.acked.items() if held.get(ident, (0,))[0] != receipt.lsn}
        assert not lost, f"{len(lost)} of {len(self.acked)} acknowledged are lost: {sorted(lost)[:5]}"
        ghosts = self.refused.keys() & held.keys()
        assert not ghosts, f"refused and yet written: {sorted(ghosts)[:5]}"
        assert held.get(self._hot_id, (0,))[0] >= self.hot

    @property
    def _hot_id(self) -> str:
        return f"{self._prefix}-hot"

    def _run(self) -> None:
        try:
            anyio.run(self._main)
        except BaseException as error:
            self._crash = error

    async def _main(self) -> None:
        async with connect(self._uri) as db, anyio.create_task_group() as lanes:
            for lane in range(self._lanes):
                lanes.start_soon(self._lane, db, lane)

    async def _lane(self, db: Any, lane: int) -> None:
        count = 0
        while not self._stopping.is_set():
            count += 1
            ident = f"{self._prefix}-{lane}-{count:06d}"
            try:
                written = await db.put(self.collection, ident, {"n": count}, **self._options)
                self.acked[ident] = written.receipt
            except (NotConfirmed, UnknownOutcome) as error:
                self.doubtful[ident] = error
            except RedwireError as error:
                self.refused[ident] = error
            if (count + lane) % 10 == 0:  # not in all lanes at once: of these nobody counts what is in doubt
                with contextlib.suppress(RedwireError):
                    hot = await db.put(self.collection, self._hot_id, {"n": count}, **self._options)
                    self.hot = max(self.hot, hot.version)
            await anyio.sleep(self._pause_s)


def segment_batches(data: bytes) -> Iterator[Batch]:
    """The batches of one log file: a header, then groups of one local mark and any number of batches."""
    assert data[:4] == b"RWS1"
    at = int.from_bytes(data[8:12], "little")
    while at + 68 <= len(data):
        match data[at : at + 4]:
            case b"RWM1":
                at += 32
            case b"RWB1":
                size = batch_size(memoryview(data)[at:])
                yield parse_batch(data[at : at + size])
                at += size
            case _:
                return


StartFleet = Callable[..., Fleet]


@contextlib.contextmanager
def _fleets(folder: Path, breakable_disks: bool) -> Iterator[StartFleet]:
    """A function that makes clusters, and the end of all that it made."""
    made: list[Fleet] = []

    def start(*nodes: str, start: bool = True, faults: bool = False, **settings: Any) -> Fleet:
        if faults and not breakable_disks:
            pytest.skip("no C compiler: the disk cannot be made to fail")
        fleet = Fleet(folder / f"cluster-{len(made)}", *nodes, faults=faults, **settings)
        made.append(fleet)
        Fleet.running.append(fleet)
        if start:
            fleet.start()
            fleet.wait_ready()
        return fleet

    with contextlib.ExitStack() as ends:
        try:
            yield start
        finally:
            for fleet in made:
                Fleet.running.remove(fleet)
                ends.callback(fleet.stop)


@pytest.fixture
def fleet(tmp_path: Path, breakable_disks: bool) -> Iterator[StartFleet]:
    """`fleet("eu-1", "us-1", policy=…)`: a cluster of this test's own."""
    with _fleets(tmp_path, breakable_disks) as start:
        yield start


@pytest.fixture(scope="module")
def module_fleet(tmp_path_factory: pytest.TempPathFactory, breakable_disks: bool) -> Iterator[StartFleet]:
    """The same for a module's fixture that several tests share."""
    with _fleets(tmp_path_factory.mktemp("shared"), breakable_disks) as start:
        yield start


@pytest.fixture(scope="session", autouse=True)
def breakable_disks(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Compiles faults.c for all nodes that are forked; whether it could be."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return False
    built = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True)
    prepare(built)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """What the nodes said stands below a failure."""
    report: Any = yield
    if report.failed:
        for fleet in Fleet.running:
            report.sections.append((f"nodes of {fleet.folder.name}", fleet.last_words()))
    return report


assert STOP_S <= DEADLINE_S
# A shell's background job ignores SIGINT, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

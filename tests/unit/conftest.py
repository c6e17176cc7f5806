"""A cluster that answers as docs/PROTOCOL.md says, over real TLS on loopback, and misbehaves when told to."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import anyio
import pytest
from anyio.abc import TaskGroup

from cluster.accounts import Accounts
from redwire import body, record
from redwire import status as shown
from redwire.connection import ServerConnection
from redwire.errors import Code, KeyExpired, NotConfirmed, NotPrimary, RedwireError, Refused
from redwire.frame import Frame, Kind, encode_frame
from redwire.handshake import Method, Principal, PrincipalKind, Role
from redwire.message.admin import AccountDone, check_account, decode_asked, decode_command
from redwire.message.client import (
    RESULT,
    AckBlock,
    CopyAck,
    Open,
    Opened,
    Outcome,
    RecordStatus,
    Resolve,
    TopologyNotice,
    WriteEnvelope,
    decode_write,
    encode_ack_block,
    encode_entry,
    join_written,
)
from redwire.message.failure import Failure
from redwire.message.read import Fetch, Fetched, Scan, Scanned, ScannedRow
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.record import CLIENT_BYTES, Op
from redwire.scram import Verifier, make_verifier
from redwire.stream import Channel, accept, incoming
from redwire.tls import server_context
from redwire.topology import Endpoint, ReplicaEntry, Topology
from tools.authority import Authority

CLUSTER = ClusterId("ab" * 16)
NOW_MS = 1_700_000_000_000
FAILING = (RecordStatus.EXISTS, RecordStatus.VERSION_MISMATCH)
Script = Callable[["FakeNode", "Wire", Frame, WriteEnvelope], None]


@dataclass(eq=False)
class Wire:
    """One client's connection as the fake sees it."""

    channel: Channel
    client: bytes
    subscribed: bool = False
    dropped: bool = False

    def send(self, kind: int, payload: bytes, correlation: int = 0) -> None:
        self.channel.write(encode_frame(kind, payload, correlation))

    def fail(self, correlation: int, error: RedwireError, topology: bytes | None = None) -> None:
        self.send(Kind.FAILURE, body.encode(Failure.from_error(error, topology)), correlation)


@dataclass(eq=False)
class FakeNode:
    """`script` has what is done with the next Writes instead, `open_script` with the next Opens; `writes` has
    all Writes that came.
    """

    cluster: FakeCluster
    name: str
    region: str
    addr: str = ""
    applied_back: int = 0
    script: deque[Script] = field(default_factory=deque)
    open_script: deque[Callable[[FakeNode, Wire, Frame], None]] = field(default_factory=deque)
    account_script: deque[Callable[[FakeNode, Wire, Frame], None]] = field(default_factory=deque)
    reads: deque[RedwireError] = field(default_factory=deque)
    writes: list[WriteEnvelope] = field(default_factory=list)
    fetches: int = 0
    frozen: bool = False
    issues_ids: bool = True
    unheard: frozenset[Kind] = frozenset()
    wires: set[Wire] = field(default_factory=set)
    scope: anyio.CancelScope | None = None

    @property
    def leads(self) -> bool:
        return self in (self.cluster.leader, self.cluster.rival)

    async def serve(self, sock: socket.socket) -> None:
        wire = channel = None
        try:
            channel = await accept(sock, self.cluster.context)
            connection = ServerConnection(
                self.cluster, nonce=os.urandom(8).hex(), session_id="s", server="fake/1"
            )
            wire = Wire(channel, self.cluster.next_client())
            self.wires.add(wire)
            while data := await channel.receive():
                frames = connection.receive_data(data)
                channel.write(*connection.data_to_send())
                for frame in frames:
                    self.take(wire, frame)
                if wire.dropped:
                    break
            await channel.drain_below(1)
        except* RedwireError:
            pass
        finally:
            if wire is not None:
                self.wires.discard(wire)
            if channel is not None:
                channel.close()

    def take(self, wire: Wire, frame: Frame) -> None:
        if self.frozen or frame.kind in self.unheard:
            return
        try:
            self.HANDLERS[frame.kind](self, wire, frame)
        except RedwireError as error:
            blob = self.cluster.topology_blob() if error.code is Code.NOT_PRIMARY else None
            wire.fail(frame.correlation, error, blob)

    def drop(self, wire: Wire) -> None:
        wire.dropped = True

    def lead(self) -> None:
        if not self.leads:
            raise NotPrimary(f"{self.name} does not lead")

    def open(self, wire: Wire, frame: Frame) -> None:
        if self.open_script:
            self.open_script.popleft()(self, wire, frame)
            return
        wire.subscribed = body.decode(frame.payload, Open).subscribe
        opened = Opened(
            node=self.name,
            region=self.region,
            role="primary" if self.leads else "replica",
            cluster=self.cluster.id,
            name="shop",
            term=self.cluster.term,
            client_id=wire.client if self.issues_ids else record.NO_CLIENT,
            policy=self.cluster.default,
            floor="majority",
            policy_timeout_ms=5000,
            topology=self.cluster.topology_blob(),
        )
        wire.send(Kind.OPENED, body.encode(opened), frame.correlation)

    def write(self, wire: Wire, frame: Frame) -> None:
        envelope = decode_write(frame.payload)
        envelope = WriteEnvelope(
            envelope.remaining_ms, envelope.attempt, envelope.policy, memoryview(bytes(envelope.request))
        )
        self.writes.append(envelope)
        self.lead()
        if self.script:
            self.script.popleft()(self, wire, frame, envelope)
        else:
            self.commit(wire, frame, envelope)

    def commit(self, wire: Wire, frame: Frame, envelope: WriteEnvelope) -> None:
        first, items, duplicate = self.cluster.execute(envelope.request)
        self.answer(wire, frame.correlation, envelope.policy or "majority", first, items, duplicate)

    def answer(
        self,
        wire: Wire,
        correlation: int,
        policy: str,
        first: int,
        items: bytes,
        duplicate: bool,
        outcome: Outcome = Outcome.COMMITTED,
    ) -> None:
        block = encode_ack_block(self.cluster.block(policy))
        entry = encode_entry(correlation, outcome, 0, duplicate, first, items, len(items) // RESULT.size)
        wire.send(Kind.WRITTEN, join_written(block, [entry]))

    def resolve(self, wire: Wire, frame: Frame) -> None:
        self.lead()
        asked = Resolve.decode(frame.payload)
        if self.cluster.expired:
            raise KeyExpired
        known = self.cluster.keys.get((asked.client, asked.sequence))
        if known is None:
            raise Refused(Code.NOT_FOUND, "no such key")
        self.answer(wire, frame.correlation, "majority", *known, True)

    def fetch(self, wire: Wire, frame: Frame) -> None:
        asked = Fetch.decode(frame.payload)
        self.fetches += 1
        self.refuse_read(asked.token)
        found = self.cluster.documents.get((asked.collection, asked.id))
        version, data = found or (0, b"")
        answer = Fetched(found is not None, version, self.cluster.term, self.applied, data)
        wire.send(Kind.FETCHED, answer.encode(), frame.correlation)

    def scan(self, wire: Wire, frame: Frame) -> None:
        asked = Scan.decode(frame.payload)
        self.refuse_read(asked.token)
        ids = sorted(
            ident
            for name, ident in self.cluster.documents
            if name == asked.collection and ident > asked.after
        )
        rows = tuple(
            ScannedRow(ident, *self.cluster.documents[asked.collection, ident])
            for ident in ids[: asked.limit]
        )
        page = Scanned(self.cluster.term, self.applied, len(ids) > asked.limit, rows)
        wire.send(Kind.SCANNED, page.encode(), frame.correlation)

    @property
    def keys(self) -> list[tuple[bytes, int, int]]:
        """Of each Write that came: who wrote it, its sequence, and the attempt."""
        found = [(record.decode_write(write.request).key, write.attempt) for write in self.writes]
        return [(key.client, key.sequence, attempt) for key, attempt in found]

    @property
    def applied(self) -> int:
        return self.cluster.lsn - self.applied_back

    def refuse_read(self, token: Token | None) -> None:
        if self.reads:
            raise self.reads.popleft()
        if token is not None and token.lsn > self.applied:
            raise Refused(Code.STALE, f"applied {self.applied}")

    def tell_topology(self, wire: Wire, frame: Frame) -> None:
        wire.send(Kind.TOPOLOGY, self.cluster.notice(), frame.correlation)

    def status(self, wire: Wire, frame: Frame) -> None:
        wire.send(Kind.STATUS, self.cluster.status(self).encode(), frame.correlation)

    def account(self, wire: Wire, frame: Frame) -> None:
        self.lead()
        if self.account_script:
            self.account_script.popleft()(self, wire, frame)
            return
        change = check_account(decode_command(frame.payload)[1])
        self.cluster.accounts.append(change)
        after = self.cluster.registry.after(change)
        missing = self.cluster.registry.missing(change, ["ops"]) if after is self.cluster.registry else ""
        self.cluster.registry = after
        done = AccountDone(9, self.cluster.term, missing)
        wire.send(Kind.ACCOUNT_DONE, body.encode(done), frame.correlation)

    def tell_accounts(self, wire: Wire, frame: Frame) -> None:
        page = self.cluster.registry.page(decode_asked(frame.payload), ["ops"], self.applied)
        wire.send(Kind.ACCOUNTS, body.encode(page), frame.correlation)

    def ping(self, wire: Wire, frame: Frame) -> None:
        wire.send(Kind.PONG, b"", frame.correlation)

    HANDLERS: ClassVar = {
        Kind.OPEN: open,
        Kind.WRITE: write,
        Kind.RESOLVE: resolve,
        Kind.FETCH: fetch,
        Kind.SCAN: scan,
        Kind.TOPOLOGY_REQUEST: tell_topology,
        Kind.STATUS_REQUEST: status,
        Kind.ACCOUNT: account,
        Kind.ACCOUNTS_REQUEST: tell_accounts,
        Kind.PING: ping,
    }


class FakeCluster:
    """What the nodes share: one state, one log, one table of keys."""

    def __init__(self, certificates: Path) -> None:
        self.ca = certificates / "ca.pem"
        self.id = CLUSTER
        self.context = server_context(self.ca, certificates / "node.pem", certificates / "node.key")
        self.term, self.counter, self.lsn = Term(1), 0, Lsn(0)
        self.documents: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._named: dict[str, str] = {}  # of each name in any case the one that is taken
        self.keys: dict[tuple[bytes, int], tuple[int, bytes]] = {}
        self.accounts: list[object] = []
        self.registry = Accounts()
        self.clients = 0
        self.default = "majority"
        self.forgotten: set[bytes] = set()
        self.expired = False  # whether every key that is asked for is forgotten
        self.nodes: list[FakeNode] = []
        self.leader: FakeNode | None = None
        self.rival: FakeNode | None = None  # says that it leads, too
        self.events: list[shown.Event] = []
        self.hide_replicas = False
        self.lost = False  # what the nodes say beside their topology
        self.addresses: dict[str, str] = {}  # advertised instead of the real ones

    def next_client(self) -> bytes:
        self.clients += 1
        return self.clients.to_bytes(CLIENT_BYTES, "little")

    async def start(self, tasks: TaskGroup, *nodes: tuple[str, str]) -> None:
        for name, region in nodes:
            node = FakeNode(self, name, region)
            self.nodes.append(node)
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            node.addr = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
            await tasks.start(self.run, node, listener)
        self.leader = self.nodes[0]

    @staticmethod
    async def run(node: FakeNode, listener: object, *, task_status: object) -> None:
        with anyio.CancelScope() as node.scope:
            task_status.started()
            async with listener, anyio.create_task_group() as guests:
                (one,) = listener.listeners
                while True:
                    sock = await incoming(one.extra(anyio.abc.SocketAttribute.raw_socket))
                    guests.start_soon(node.serve, sock)

    def stop(self, node: FakeNode) -> None:
        node.scope.cancel()

    def uri(self, *nodes: FakeNode, user: str = "", **parameters: str) -> str:
        hosts = ",".join(node.addr for node in nodes or self.nodes)
        query = "&".join(f"{name}={value}" for name, value in ({"ca": str(self.ca)} | parameters).items())
        return f"reds://{user}{hosts}/?{query}"

    def topology_blob(self) -> bytes:
        leader = self.leader
        shape = Topology(
            (self.term << 24) + self.counter,
            Endpoint(self.addresses.get(leader.name, leader.addr), leader.region)
            if leader
            else Endpoint("", ""),
            tuple(
                ReplicaEntry(self.addresses.get(node.name, node.addr), node.region, True, 0, self.lsn)
                for node in self.nodes
                if node is not leader
            ),
        )
        return (shape.primary_only() if self.hide_replicas else shape).encode()

    def status(self, asked: FakeNode) -> shown.Status:
        """As `asked` would tell it: of everybody's health when somebody leads, and of itself always."""
        leader = self.leader
        nodes = tuple(
            shown.NodeStatus(
                id=node.name,
                addr=node.addr,
                region=node.region,
                role="primary" if node is leader else "replica",
                health="unknown" if leader is None else "healthy",
                durable=7,
                applied=node.applied,
                lag=shown.Lag() if leader is None else shown.Lag(state="caught_up", records=0),
            )
            for node in self.nodes
        )
        led = (
            {} if leader is None else {"node": leader.name, "state": "leading", "since_at_ms": NOW_MS - 9_000}
        )
        source = asked if leader is None else leader
        return shown.Status(
            vantage=shown.Vantage(node=asked.name, region=asked.region, source=source.name, at_ms=NOW_MS),
            cluster=shown.Cluster(id=self.id, name="shop"),
            term=self.term,
            primary=shown.Primary(**led)
            if led
            else shown.Primary(node="eu-1", state="lost", since_at_ms=NOW_MS - 34_000),
            head=7,
            watermark=7,
            quorum=shown.Quorum(met=True if led else None, why="" if led else "no primary is in sight"),
            nodes=nodes,
            events=tuple(self.events),
        )

    def notice(self) -> bytes:
        return TopologyNotice(self.lost, self.topology_blob()).encode()

    def hand_over(self, node: FakeNode, *, push: bool) -> None:
        self.leader, self.term, self.counter = node, Term(self.term + 1), 0
        for each in self.nodes if push else ():
            for wire in each.wires:
                if wire.subscribed:
                    wire.send(Kind.TOPOLOGY, self.notice())

    def block(self, policy: str) -> AckBlock:
        acks = tuple(CopyAck(node.name, node.region, 1000 * at) for at, node in enumerate(self.nodes[:2], 1))
        return AckBlock(self.term, self.lsn, "majority", (policy,), len(acks) - 1, acks)

    def execute(self, data: memoryview) -> tuple[int, bytes, bool]:
        head = record.check_write(data)
        request = record.decode_write(data)
        assert head.key is not None and 0 <= head.key.sequence - head.key.oldest < 4096
        if head.key.client in self.forgotten:
            raise Refused(Code.KEY_EXPIRED, "forgotten")
        known = self.keys.get((head.key.client, head.key.sequence))
        if known is not None:
            return *known, True
        first, before = self.lsn + 1, dict(self.documents)
        results = [self.apply(each) for each in request.records]
        failed = [result for result in results if result[0] in FAILING]
        if request.atomic and failed:
            self.documents = before
            aborted = RESULT.pack(RecordStatus.ABORTED, 0)
            results = [result if result is failed[0] else aborted for result in results]
        items = b"".join(results)
        self.keys[head.key.client, head.key.sequence] = first, items
        return first, items, False

    def apply(self, change: record.Record) -> bytes:
        self.lsn = Lsn(self.lsn + 1)
        place = change.collection, change.id or str(self.lsn)
        version = self.documents.get(place, (0, b""))[0]
        if change.version not in (None, version):
            return RESULT.pack(RecordStatus.VERSION_MISMATCH, version)
        if change.op is Op.DELETE:
            self.documents.pop(place, None)
            return RESULT.pack(RecordStatus.DELETED if version else RecordStatus.NOT_FOUND, version)
        if change.op is Op.INSERT and version:
            return RESULT.pack(RecordStatus.EXISTS, version)
        if self._named.setdefault(change.collection.lower(), change.collection) != change.collection:
            return RESULT.pack(RecordStatus.EXISTS, 0)
        self.documents[place] = self.lsn, change.doc
        return RESULT.pack(RecordStatus.APPLIED, self.lsn)

    # redwire.connection.Authenticator

    def unready(self) -> str:
        return ""

    def methods(self, certificate: Principal | None) -> Sequence[str]:
        return [Method.SCRAM, Method.ANONYMOUS]

    def anonymous(self) -> Principal | None:
        return Principal(PrincipalKind.ANONYMOUS, "anonymous", Role.WRITE, False)

    def bearer(self, token: str) -> Principal | None:
        return None

    def verifier(self, user: str) -> tuple[Verifier, Principal] | None:
        who = Principal(PrincipalKind.USER, user, Role.WRITE, True)
        return (make_verifier("secret", b"s" * 16, 4096), who) if user == "app" else None

    def fake_secret(self) -> bytes:
        return b"x" * 32

    def topology(self, principal: Principal | None) -> bytes:
        return self.topology_blob()


# scripts for `FakeNode.script`


def commit(node: FakeNode, wire: Wire, frame: Frame, envelope: WriteEnvelope) -> None:
    """The Write is executed and answered, as without a script."""
    node.commit(wire, frame, envelope)


def silence(node: FakeNode, wire: Wire, frame: Frame, envelope: WriteEnvelope) -> None:
    """The Write arrives, and no answer leaves."""


def cut_before(node: FakeNode, wire: Wire, frame: Frame, envelope: WriteEnvelope) -> None:
    """The connection breaks, and the Write was not executed."""
    node.drop(wire)


def cut_after(node: FakeNode, wire: Wire, frame: Frame, envelope: WriteEnvelope) -> None:
    """The connection breaks, and the Write was executed."""
    node.cluster.execute(envelope.request)
    node.drop(wire)


def execute_silently(node: FakeNode, wire: Wire, frame: Frame, envelope: WriteEnvelope) -> None:
    """The Write is executed, and no answer leaves."""
    node.cluster.execute(envelope.request)


def unconfirmed(node: FakeNode, wire: Wire, frame: Frame, envelope: WriteEnvelope) -> None:
    """The Write is logged, and too few copies are proven."""
    first, _, _ = node.cluster.execute(envelope.request)
    node.answer(wire, frame.correlation, "majority", first, b"", False, Outcome.NOT_CONFIRMED)


def unsettled(node: FakeNode, wire: Wire, frame: Frame, envelope: WriteEnvelope) -> None:
    """A new primary cannot look for an earlier attempt yet."""
    wire.fail(frame.correlation, NotConfirmed("an earlier attempt may be in the log"))


def refusing(code: Code) -> Script:
    """The Write is refused."""

    def script(node: FakeNode, wire: Wire, frame: Frame, envelope: WriteEnvelope) -> None:
        wire.fail(frame.correlation, Refused(code, "told to"))

    return script


@dataclass(frozen=True)
class Scripts:
    """What a node can be told to do."""

    commit: Script = commit
    silence: Script = silence
    cut_before: Script = cut_before
    cut_after: Script = cut_after
    execute_silently: Script = execute_silently
    unconfirmed: Script = unconfirmed
    unsettled: Script = unsettled
    refusing: Callable[[Code], Script] = refusing


@pytest.fixture
def scripts() -> Scripts:
    return Scripts()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and node.pem and node.key for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")
    maker = Authority.create("shop")
    maker.save(folder)
    maker.issue_node("node", ["127.0.0.1"]).save(folder, "node")
    return folder


@pytest.fixture
async def cluster(certificates: Path) -> AsyncIterator[FakeCluster]:
    """Three nodes; the first one leads."""
    fake = FakeCluster(certificates)
    async with anyio.create_task_group() as tasks:
        await fake.start(tasks, ("eu-1", "eu"), ("us-1", "us"), ("ap-1", "ap"))
        yield fake
        tasks.cancel_scope.cancel()

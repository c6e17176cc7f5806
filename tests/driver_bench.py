"""A driver before a node of one member: real frames, core, state and readers; its disk can be held up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio

from cluster.address import Address
from cluster.announcer import Announcer
from cluster.answers import Shared, by_caller, caller_of
from cluster.audit import Audit
from cluster.bulletin import Bulletin
from cluster.changes import Changes
from cluster.cluster_config import ClusterConfig, MemberConfig
from cluster.config import AuditConfig, Off
from cluster.damage import Damage
from cluster.drivers import Drivers
from cluster.effects import (
    Append,
    Applied,
    Commit,
    Durable,
    Effect,
    Known,
    Now,
    PrimaryEvent,
    Proposed,
    Reject,
    Release,
    Tick,
    Unconfirmed,
)
from cluster.events import Events
from cluster.inbox import Inbox
from cluster.log_room import LogRoom
from cluster.node import Node
from cluster.primary import Primary
from cluster.read_desk import ReadDesk
from cluster.reader import ReadThreads
from cluster.service import Service
from cluster.session import Session
from cluster.settings import Settings
from cluster.sql import SqlWorker
from cluster.sql_process import SqlRequest, answered
from cluster.state import State
from redwire.batch import Batch
from redwire.connection import ServerConnection
from redwire.errors import Code, RedwireError, Refused
from redwire.frame import FrameDecoder, Kind, encode_frame, encode_header
from redwire.handshake import PREFACE, Principal, PrincipalKind, Role
from redwire.message.log import TermStart
from redwire.position import EMPTY, Lsn, NodeId, Position, Region, Reign, Term
from redwire.scram import Verifier
from redwire.topology import Endpoint, Topology
from regions.binding import Member, Membership
from regions.commit_policy import LOCAL
from regions.coordinator import QuorumCoordinator

ME, REGION = NodeId("eu-1"), Region("eu")
ALONE = MemberConfig(id=ME, region=REGION, addr=Address("h", 5050))
SETTINGS = Settings(Lsn(0), ClusterConfig(name="shop", members=(ALONE,)))
ROOM = LogRoom(1 << 30, 1 << 30)


@dataclass
class Folder:
    """In the place of a `Storage`."""

    state: State
    reads: ReadDesk
    me: NodeId = ME
    settings: Settings = SETTINGS

    @property
    def applied(self) -> Position:
        return self.state.applied


@dataclass(eq=False)
class SmallNode:
    """A cluster of one, in the place of a `Node`: real core, state and readers; its disk can be held up."""

    state: State
    storage: Folder
    role: Primary
    inbox: Inbox = field(default_factory=Inbox)
    announcer: Announcer = field(default_factory=lambda: Announcer(REGION))
    bulletin: Bulletin = field(default_factory=lambda: Bulletin(Events(ME)))
    damage: Damage = field(default_factory=lambda: Damage(ME, lambda kind, text: None))
    disk_works: bool = True
    clock_us: int = 1_000_000
    log: list[Batch] = field(default_factory=list)
    synced: int = 0
    requests: int = 0

    def clock(self) -> Now:
        return Now(self.clock_us, 1_700_000_000_000)

    async def run(self) -> None:
        await self.inbox.serve(self.turn)

    def turn(self) -> None:
        proposals = self.inbox.proposals()
        self.requests += len(proposals)
        if isinstance(self.role, Primary):
            self.step(Proposed(proposals, ROOM))
        for proposal in [] if isinstance(self.role, Primary) else proposals:
            caller_of(proposal).rejected(proposal, Refused(Code.NOT_PRIMARY, "this node does not lead"))
        self.inbox.settle()
        self.work()

    def step(self, event: PrimaryEvent) -> None:
        self.carry_out(self.role.step(event, self.clock()))

    def carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Append(batch):
                    self.log.append(batch)
                case Commit(watermark):
                    ready = [b for b in self.log if self.state.applied.lsn < b.last <= watermark]
                    applied = self.state.apply(ready)
                    self.step(Applied(watermark, [(each.last, each.results) for each in applied]))
                case Release(answers=answers):
                    for caller, some in by_caller(effect):
                        caller.released(Shared(b"", {}), some)
                    assert answers
                case Known(proposal, result):
                    caller_of(proposal).known(proposal, result)
                case Unconfirmed(proposal, _, message):
                    caller_of(proposal).unconfirmed(proposal, None, Lsn(0), message)
                case Reject(proposal, error):
                    caller_of(proposal).rejected(proposal, error)
                case _:
                    pass

    def work(self) -> None:
        """The disk does what waits for it."""
        while self.disk_works and self.synced < len(self.log):
            self.synced = len(self.log)
            self.step(Durable(self.log[-1].last))
            self.step(Proposed([], ROOM))  # what waited until the disk had caught up

    def lead(self, term: int) -> None:
        """A reign begins."""
        coordinator = QuorumCoordinator(Membership((Member(ME, REGION),)), ME, LOCAL)
        reign, end = Reign(Term(term), ME), self.log[-1].position if self.log else EMPTY
        applied = self.state.applied.lsn
        changes = Changes(ME, coordinator, SETTINGS)
        self.role = Primary(reign, end, 0, applied, changes, self.state.lookup, TermStart("test"))
        self.carry_out(self.role.begin(applied, self.clock()))
        self.work()

    def wait(self, ms: int) -> None:
        self.clock_us += ms * 1000
        self.step(Tick())


@dataclass
class Gate:
    """An authenticator that lets everybody in as `principal`."""

    principal: Principal

    def unready(self) -> str:
        return ""

    def methods(self, certificate: Principal | None) -> Sequence[str]:
        return ["anonymous"]

    def anonymous(self) -> Principal:
        return self.principal

    def bearer(self, token: str) -> None:
        return None

    def verifier(self, user: str) -> tuple[Verifier, Principal] | None:
        return None

    def fake_secret(self) -> bytes:
        return b"secret"

    def topology(self, principal: Principal | None) -> bytes:
        return Topology(0, Endpoint("", REGION), ()).encode()


class Driver:
    """A driver with its connection, and the session at the other end."""

    def __init__(self, service: Service, role: Role = Role.WRITE, name: str = "app") -> None:
        self._out: list[bytes] = []
        self.peer = "127.0.0.1:1"
        principal = Principal(PrincipalKind.USER, name, role, False)
        self.session = Session(service, principal, self)
        self._connection = ServerConnection(
            Gate(principal), nonce="n" * 18, session_id="rwsess-1", server="redwire/test"
        )
        hello = b'{"versions":[1],"auth_methods":["anonymous","bearer"],"features":0}'
        self._connection.receive_data(PREFACE + encode_frame(Kind.HELLO, hello, 1))
        self._connection.receive_data(encode_frame(Kind.AUTH_RESPONSE, b"", 2))
        assert self._connection.principal is principal
        self._drivers = Drivers(service, principal, self)

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        self._out.append(encode_header(kind, len(payload), correlation, stream) + payload)

    async def say(self, kind: int, payload: bytes = b"", correlation: int = 7, stream: int = 0) -> None:
        """Have one frame handled."""
        data = encode_header(kind, len(payload), correlation, stream) + payload
        for frame in self._connection.receive_data(data):
            assert not self.session.handles(frame.kind)
            await self._drivers.handle(frame)

    async def ask(
        self, kind: int, payload: bytes = b"", correlation: int = 7, stream: int = 0
    ) -> tuple[int, bytes]:
        """Kind and payload of the one answer."""
        await self.say(kind, payload, correlation, stream)
        (answer,) = FrameDecoder().receive_data(b"".join(self._out))
        self._out.clear()
        assert (answer.correlation, answer.stream, answer.flags) == (correlation, stream, 0)
        return answer.kind, answer.payload

    async def json(self, kind: int, body: object, *, wanted: int) -> Any:
        """The answer's JSON; it has the `wanted` kind."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        got, answer = await self.ask(kind, payload)
        assert got == wanted, answer
        return json.loads(answer)

    async def error(self, kind: int, body: object = b"") -> str:
        """The text of the Error."""
        got, answer = await self.ask(kind, body if isinstance(body, bytes) else json.dumps(body).encode())
        assert got == Kind.ERROR, answer
        return answer.decode()

    async def insert(self, **body: object) -> Any:
        return await self.json(Kind.BULK_INSERT, {"collection": "c", **body}, wanted=Kind.BULK_OK)

    async def get(self, ident: str, collection: str = "c") -> Any:
        return await self.json(Kind.GET, {"collection": collection, "id": ident}, wanted=Kind.RESULT)

    async def ids(self, collection: str = "c") -> list[str]:
        sql = f"SELECT id FROM {collection} ORDER BY id"
        rows = (await self.json(Kind.QUERY, sql.encode(), wanted=Kind.RESULT))["rows"]
        return [row["id"] for row in rows]


class SqlHere:
    """In the place of a `SqlProcess`: the same, without a process to start."""

    def __init__(self, path: Path) -> None:
        self._worker = SqlWorker(path)
        self.close = self._worker.close

    def answers(self, queries: Sequence[SqlRequest]) -> Iterator[list[bytes | RedwireError]]:
        for query in queries:
            try:
                yield [answered(self._worker, query.kind, query.payload)]
            except RedwireError as error:
                yield [error]


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[SmallNode, Service]]:
    state = State.open(folder / "state.db")
    post = asyncio.get_running_loop().call_soon_threadsafe
    reads = ReadDesk(state.path, post)
    reads.sql.stop()
    reads.sql = ReadThreads(lambda: SqlHere(state.path), post, name="sql", threads=1, together_max=1)
    node = SmallNode(state, Folder(state, reads), cast(Primary, None))
    audit = Audit(AuditConfig(file=Off.OFF), ME, lambda: Now(0, 0), print)
    node.lead(1)
    service = Service(cast(Node, node), audit)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(node.run)
            yield node, service
            tasks.cancel_scope.cancel()
    finally:
        reads.stop()
        state.close()


@dataclass
class Bench:
    node: SmallNode
    service: Service
    driver: Driver

    def another(self, role: Role = Role.WRITE, name: str = "app") -> Driver:
        return Driver(self.service, role, name)


async def until(condition: Any) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.001)


def text_value(data: bytes) -> bytes:
    return b"\x03" + len(data).to_bytes(4, "little") + data

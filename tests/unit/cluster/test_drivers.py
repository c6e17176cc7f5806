"""Drivers over real frames, a real primary core and a real state: what they ask, and what they can read."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from cluster.address import Address
from cluster.announcer import Announcer
from cluster.answers import Shared, by_caller, caller_of
from cluster.audit import Audit
from cluster.bulletin import Bulletin
from cluster.changes import Changes
from cluster.cluster_config import ClusterConfig, MemberConfig
from cluster.config import AuditConfig, Off
from cluster.damage import Damage
from cluster.driver_keys import DriverKeys
from cluster.driver_writes import CROWDED_S
from cluster.drivers import Drivers
from cluster.effects import (
    Append,
    Applied,
    Commit,
    Deposed,
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
from cluster.inbox import WAITING_BYTES_MAX, Inbox
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
from redwire.message.params import Json, Param, ParamQuery, Timestamp
from redwire.position import EMPTY, Lsn, NodeId, Position, Region, Reign, Term
from redwire.scram import Verifier
from redwire.topology import Endpoint, Topology
from regions.binding import Member, Membership
from regions.commit_policy import LOCAL
from regions.coordinator import QuorumCoordinator

ME, REGION = NodeId("eu-1"), Region("eu")
ALONE = MemberConfig(id=ME, region=REGION, addr=Address("h", 5050))
SETTINGS = Settings(Lsn(0), ClusterConfig(name="shop", members=(ALONE,)))
ROOM = 1 << 30


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
        while True:
            await self.inbox.wait()
            _, proposals = self.inbox.take()
            self.requests += len(proposals)
            if isinstance(self.role, Primary):
                self.step(Proposed(proposals, ROOM))
            for proposal in [] if isinstance(self.role, Primary) else proposals:
                caller_of(proposal).rejected(proposal, Refused(Code.NOT_PRIMARY, "this node does not lead"))
            self.inbox.settle(0)
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
        self.role = Primary(reign, end, 0, applied, changes, self.state.lookup, "test")
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


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with served(tmp_path) as (node, service):
        yield Bench(node, service, Driver(service))


async def until(condition: Any) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.001)


# --- the session


async def test_a_ping_is_echoed_with_its_correlation_and_stream(bench: Bench) -> None:
    assert await bench.driver.ask(Kind.PING, correlation=2**64 - 1, stream=65_535) == (Kind.PONG, b"")


SERVED = (0x01, 0x04, 0x06, 0x07, 0x08, 0x17, 0x19, 0x1A, 0x28)
STREAMS = (Kind.OPEN_STREAM, Kind.STREAM_CANCEL)
SERVER_ONLY = (0x02, 0x03, 0x05, 0x0C, 0x0E, 0x11, 0x12, 0x14, 0x15, 0x18, 0x1B, 0x23, 0x24, 0x25)
SERVER_ONLY += (
    0x2A,
    0x2C,
    0x2F,
    0x30,
    0x31,
    0x41,
    0x43,
    0x45,
    0x47,
    0x4B,
    0x4D,
    0x4F,
    0x50,
    0x55,
    0x59,
    0x5B,
)


async def test_every_other_kind_is_named_in_an_error_and_the_session_goes_on(bench: Bench) -> None:
    driver = bench.driver
    for kind in range(0x01, 0x100):
        if kind in (*SERVED, *STREAMS, Kind.BYE) or driver.session.handles(kind):
            continue
        got, answer = await driver.ask(kind, b"{}", correlation=kind, stream=3)
        text = answer.decode()
        assert got == Kind.ERROR and f"0x{kind:02x}" in text, text
        assert text.startswith("FORBIDDEN: " if 0x60 <= kind <= 0x6A else "UNSUPPORTED: "), text
        assert text.endswith("is server-only") == (kind in SERVER_ONLY), text
    assert await driver.ask(Kind.PING) == (Kind.PONG, b"")


async def test_who_opens_a_stream_is_told_that_there_are_none_in_the_words_of_streams(bench: Bench) -> None:
    for body in (b'{"sql":"SELECT 1"}', b'{"direction":"in","target":"c","columns":["a"]}'):
        kind, answer = await bench.driver.ask(Kind.OPEN_STREAM, body, stream=3)
        assert kind == Kind.STREAM_ERROR
        told = json.loads(answer)
        assert told["code"] == "UNSUPPORTED" and "OPEN_STREAM (0x29)" in told["message"]


async def test_the_end_of_a_stream_that_never_was_is_not_answered(bench: Bench) -> None:
    """A driver sends one after a refusal too, and takes the next frame for the answer to its next request."""
    await bench.driver.say(Kind.STREAM_CANCEL, b'{"reason":"enough"}', stream=3)
    assert await bench.driver.ask(Kind.PING) == (Kind.PONG, b"")


@pytest.mark.parametrize("kind", [Kind.BULK_INSERT, 0x06, 0x08, Kind.DELETE])
async def test_a_reader_may_not_write(bench: Bench, kind: int) -> None:
    reader = bench.another(Role.READ, "visitor")
    assert (await reader.error(kind, {})).startswith("FORBIDDEN: visitor has role read; ")
    assert (await reader.get("a"))["found"] is False
    assert bench.node.requests == 0


# --- rows


async def test_an_inserted_document_is_got_back_byte_for_byte_and_deleted_once(bench: Bench) -> None:
    driver = bench.driver
    document = b'{ "n":{"$int":"9007199254740993"}, "e":1.50 }'
    body = b'{"collection":"c","payload":' + document + b"}"
    inserted = await driver.json(Kind.BULK_INSERT, body, wanted=Kind.BULK_OK)
    lsn = bench.node.state.applied.lsn
    assert inserted == {"affected": 1, "id": lsn}
    kind, got = await driver.ask(Kind.GET, json.dumps({"collection": "c", "id": str(lsn)}).encode())
    assert (kind, got) == (Kind.RESULT, b'{"ok":true,"found":true,"entity":' + document + b"}")
    for affected in (1, 0):
        target = {"collection": "c", "id": str(lsn)}
        assert await driver.json(Kind.DELETE, target, wanted=Kind.DELETE_OK) == {"affected": affected}
    assert await driver.get(str(lsn)) == {"ok": True, "found": False, "entity": None}


async def test_an_absent_collection_is_an_empty_one(bench: Bench) -> None:
    assert await bench.driver.get("a", "nowhere") == {"ok": True, "found": False, "entity": None}
    target = {"collection": "nowhere", "id": "a"}
    assert await bench.driver.json(Kind.DELETE, target, wanted=Kind.DELETE_OK) == {"affected": 0}
    body = {"collection": "nowhere", "payloads": []}
    empty = await bench.driver.json(Kind.BULK_INSERT, body, wanted=Kind.BULK_OK)
    assert empty == {"affected": 0, "ids": []}


@pytest.mark.parametrize(
    ("payload", "stored", "told"),
    [
        ({"id": "a"}, "a", "a"),
        ({"id": 42}, "42", 42),
        ({"rid": 2**53 + 1}, str(2**53 + 1), str(2**53 + 1)),
        ({"id": {"$uint": "7"}}, "7", 7),
    ],
)
async def test_a_document_keeps_the_id_that_it_brings(
    bench: Bench, payload: dict[str, object], stored: str, told: object
) -> None:
    assert await bench.driver.insert(payload=payload) == {"affected": 1, "id": told}
    assert (await bench.driver.get(stored))["entity"] == payload


async def test_an_id_that_exists_is_a_conflict_and_what_stands_there_stays(bench: Bench) -> None:
    await bench.driver.insert(payload={"id": "a", "n": 1})
    version = bench.node.state.applied.lsn
    text = await bench.driver.error(Kind.BULK_INSERT, {"collection": "c", "payload": {"id": "a", "n": 2}})
    assert text == f"CONFLICT: 'a' already exists in c, at version {version}"
    assert (await bench.driver.get("a"))["entity"] == {"id": "a", "n": 1}


async def test_a_collection_that_differs_only_in_case_is_a_conflict(bench: Bench) -> None:
    await bench.driver.insert(payload={"id": "a"})
    text = await bench.driver.error(Kind.BULK_INSERT, {"collection": "C", "payload": {"id": "a"}})
    assert text.startswith("CONFLICT: ") and "only in case" in text


async def test_many_rows_are_one_request_and_their_ids_come_back_in_order(bench: Bench) -> None:
    answer = await bench.driver.insert(payloads=[{"n": 1}, {"id": "a"}, []])
    last = bench.node.state.applied.lsn
    assert answer == {"affected": 3, "ids": [last - 2, "a", last]}
    assert bench.node.requests == 1


async def test_many_rows_go_one_by_one_and_those_that_conflict_are_named(bench: Bench) -> None:
    await bench.driver.insert(payload={"id": "b"})
    rows = [{"id": "a"}, {"id": "b"}, {"id": "d"}]
    text = await bench.driver.error(Kind.BULK_INSERT, {"collection": "c", "payloads": rows})
    assert text.startswith("CONFLICT: 1 of 3 rows were not written, the other 2 were; row 1: 'b' already")
    assert await bench.driver.ids() == ["a", "b", "d"]


async def test_a_large_body_is_taken_apart_beside_the_event_loop(bench: Bench) -> None:
    rows = [{"n": row, "text": "x" * 100} for row in range(1_000)]
    answer = await bench.driver.insert(payloads=rows)
    assert answer["affected"] == len(answer["ids"]) == 1_000
    assert len(await bench.driver.ids()) == 1_000


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\xff", "INVALID: the body is not a JSON object"),
        (b'{"payload":{}}', "INVALID: `collection` must be a string"),
        (b'{"collection":"../c","payload":{}}', "INVALID: collection name '../c'"),
        (b'{"collection":"../c","payloads":[]}', "INVALID: collection name '../c'"),
        (b'{"collection":"c"}', "INVALID: give `payload`"),
        (b'{"collection":"c","payload":7}', "INVALID: record 0: the payload is not a JSON object"),
        (b'{"collection":"c","payloads":[{},{"id":1.5}]}', "INVALID: record 1: `id` must be a text"),
        (
            b'{"collection":"c","payloads":[%s]}' % b",".join([b"{}"] * 10_001),
            "BATCH_TOO_LARGE: rows in one request: 10001, at most 10000",
        ),
    ],
    ids=["no JSON", "no collection", "bad name", "bad name, no rows", "no payload", "number", "id", "rows"],
)
async def test_an_insert_that_is_wrong_is_told_so_and_not_logged(
    bench: Bench, body: bytes, text: str
) -> None:
    assert (await bench.driver.error(Kind.BULK_INSERT, body)).startswith(text)
    assert bench.node.requests == 0
    assert await bench.driver.ask(Kind.PING) == (Kind.PONG, b"")


@pytest.mark.parametrize("kind", [Kind.GET, Kind.DELETE])
@pytest.mark.parametrize(
    "body", [b"", {"collection": "c"}, {"collection": "c", "id": 7}, {"collection": "../c", "id": "a"}]
)
async def test_a_target_that_names_nothing_is_told_so(bench: Bench, kind: int, body: object) -> None:
    assert (await bench.driver.error(kind, body)).startswith("INVALID: ")


def binary_rows(collection: bytes, columns: Sequence[bytes], *rows: bytes) -> bytes:
    def str16(data: bytes) -> bytes:
        return len(data).to_bytes(2, "little") + data

    head = str16(collection) + len(columns).to_bytes(2, "little") + b"".join(map(str16, columns))
    return head + len(rows).to_bytes(4, "little") + b"".join(rows)


def text_value(data: bytes) -> bytes:
    return b"\x03" + len(data).to_bytes(4, "little") + data


@pytest.mark.parametrize("kind", [Kind.BULK_INSERT_BINARY, Kind.BULK_INSERT_PREVALIDATED])
async def test_binary_rows_are_answered_with_a_raw_count(bench: Bench, kind: int) -> None:
    rows = [text_value(b"a") + b"\x04\x01", text_value(b"b") + b"\x00"]
    body = binary_rows(b"c", [b"id", b"ok"], *rows)
    assert await bench.driver.ask(kind, body) == (Kind.BULK_OK, struct.pack("<Q", 2))
    assert (await bench.driver.get("a"))["entity"] == {"id": "a", "ok": True}
    assert (await bench.driver.error(kind, body)).startswith("CONFLICT: 2 of 2 rows were not written")
    assert await bench.driver.ask(kind, binary_rows(b"c", [b"id"])) == (Kind.BULK_OK, bytes(8))
    assert (await bench.driver.error(kind, body[:-1])).startswith("INVALID: ")


# --- all or nothing


def fields(*documents: dict[str, object]) -> list[dict[str, object]]:
    return [{"fields": document} for document in documents]


async def test_a_batch_is_written_whole_and_counted(bench: Bench) -> None:
    answer = await bench.driver.insert(batch=True, payloads=fields({"id": "a"}, {"n": 1}))
    assert answer == {"ok": True, "count": 2}
    assert await bench.driver.insert(batch=True, payloads=[]) == {"ok": True, "count": 0}
    assert len(await bench.driver.ids()) == 2


@pytest.mark.parametrize(
    ("rows", "code", "row"),
    [
        (fields({"id": "new"}, {"id": "a"}), "RowSchemaRejected", 1),
        ([*fields({"id": "new"}), {"n": 1}], "RowParseFailure", 1),
        (fields({"id": "new"}, {"id": True}), "RowParseFailure", 1),
        (fields(*[{}] * 10_001), "BatchTooLarge", None),
        (fields(*[{"text": "x" * (4 << 20)}] * 3, {"text": "x" * (3 << 20)}), "BatchTooLarge", None),
    ],
    ids=["conflict", "no fields", "bad id", "many rows", "many bytes"],
)
async def test_a_batch_that_fails_writes_nothing_and_says_why_in_json(
    bench: Bench, rows: object, code: str, row: int | None
) -> None:
    await bench.driver.insert(payload={"id": "a"})
    body = {"collection": "c", "batch": True, "payloads": rows}
    error = json.loads(await bench.driver.error(Kind.BULK_INSERT, body))
    assert (error["ok"], error["code"], error.get("row_index")) == (False, code, row)
    assert await bench.driver.ids() == ["a"]


async def test_an_idempotency_key_is_executed_once_and_replayed_to_the_byte(bench: Bench) -> None:
    body = json.dumps({"collection": "c", "idempotency_key": "k", "payloads": fields({}, {})}).encode()
    first = await bench.driver.ask(Kind.BULK_INSERT, body)
    assert first == (Kind.BULK_OK, b'{"ok":true,"count":2}')
    assert await bench.driver.ask(Kind.BULK_INSERT, body) == first
    assert await bench.another().ask(Kind.BULK_INSERT, body) == first
    changed = json.dumps({"collection": "c", "idempotency_key": "k", "payloads": fields({})}).encode()
    assert await bench.driver.ask(Kind.BULK_INSERT, changed) == first
    assert (len(await bench.driver.ids()), bench.node.requests) == (2, 1)


async def test_a_failure_under_a_key_is_replayed_as_well(bench: Bench) -> None:
    await bench.driver.insert(payload={"id": "a"})
    body = {"collection": "c", "idempotency_key": "k", "payloads": fields({"id": "b"}, {"id": "a"})}
    error = await bench.driver.error(Kind.BULK_INSERT, body)
    await bench.driver.json(Kind.DELETE, {"collection": "c", "id": "a"}, wanted=Kind.DELETE_OK)
    assert await bench.driver.error(Kind.BULK_INSERT, body) == error
    assert await bench.driver.ids() == []


async def test_a_key_belongs_to_its_principal_and_another_key_is_another_request(bench: Bench) -> None:
    await bench.driver.insert(idempotency_key="k", payloads=fields({}))
    await bench.another(name="other").insert(idempotency_key="k", payloads=fields({}))
    await bench.driver.insert(idempotency_key="l", payloads=fields({}))
    assert len(await bench.driver.ids()) == 3


async def test_a_key_survives_the_reign_and_the_process(bench: Bench) -> None:
    await bench.driver.insert(idempotency_key="k", payloads=fields({}))
    bench.node.step(Deposed(Refused(Code.STALE_TERM, "another one leads")))
    bench.node.lead(2)
    DriverKeys.of(bench.node).__init__()  # type: ignore[misc]
    assert await bench.driver.insert(idempotency_key="k", payloads=fields({})) == {"ok": True, "count": 1}
    assert len(await bench.driver.ids()) == 1


async def test_attempts_at_once_are_executed_once(bench: Bench) -> None:
    bench.node.disk_works = False
    answers: list[object] = []

    async def attempt(driver: Driver) -> None:
        answers.append(await driver.insert(idempotency_key="k", payloads=fields({})))

    async with anyio.create_task_group() as tasks:
        for driver in (bench.driver, bench.another(), bench.another()):
            tasks.start_soon(attempt, driver)
        await until(lambda: bench.node.requests == 3)
        bench.node.disk_works = True
        bench.node.work()
    assert answers == [{"ok": True, "count": 1}] * 3
    assert len(await bench.driver.ids()) == 1


async def test_what_is_not_confirmed_is_never_called_a_success_and_its_key_finds_it_later(
    bench: Bench,
) -> None:
    bench.node.disk_works = False
    body = {"collection": "c", "idempotency_key": "k", "payloads": fields({})}
    texts: list[str] = []

    async def attempt() -> None:
        texts.append(await bench.driver.error(Kind.BULK_INSERT, body))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt)
        await until(lambda: bench.node.requests == 1 and bench.node.log[-1].last > 1)
        bench.node.wait(10_000)
    assert texts[0].startswith("NOT_CONFIRMED: ")
    bench.node.disk_works = True
    bench.node.work()
    assert await bench.driver.insert(idempotency_key="k", payloads=fields({})) == {"ok": True, "count": 1}
    assert len(await bench.driver.ids()) == 1


async def test_a_key_that_was_forgotten_is_refused_and_not_executed_again(bench: Bench) -> None:
    await bench.driver.insert(idempotency_key="k", payloads=fields({}))
    bench.node.role.time_ms += 25 * 3600 * 1000
    await bench.driver.insert(payload={})
    body = {"collection": "c", "idempotency_key": "k", "payloads": fields({})}
    assert (await bench.driver.error(Kind.BULK_INSERT, body)).startswith("KEY_EXPIRED: ")
    assert len(await bench.driver.ids()) == 2
    assert (await bench.driver.insert(idempotency_key="new", payloads=fields({})))["ok"] is True


# --- not a primary, not ready


async def test_a_replica_names_the_primary_to_writers_and_reads_itself(bench: Bench) -> None:
    await bench.driver.insert(payload={"id": "a"})
    bench.node.role = cast(Primary, SimpleNamespace(reign=None))
    bench.node.announcer.relay(Topology(1, Endpoint("eu-2.example.net:5050", REGION), ()).encode())
    requests = bench.node.requests
    for kind in (Kind.BULK_INSERT, Kind.BULK_INSERT_BINARY, Kind.BULK_INSERT_PREVALIDATED, Kind.DELETE):
        body = {"collection": "c", "id": "a", "payload": {}}
        text = await bench.driver.error(kind, body)
        assert text == "NOT_PRIMARY: eu-1 does not lead; the primary is eu-2.example.net:5050"
    assert (await bench.driver.get("a"))["found"] is True
    assert await bench.driver.ids() == ["a"]
    assert bench.node.requests == requests


async def test_a_primary_whose_reign_has_not_begun_answers_no_reads_and_no_keys(bench: Bench) -> None:
    bench.node.disk_works = False
    bench.node.lead(2)
    assert (await bench.driver.error(Kind.QUERY, b"SELECT 1")).startswith("NOT_READY: ")
    assert (await bench.driver.error(Kind.GET, {"collection": "c", "id": "a"})).startswith("NOT_READY: ")
    body = {"collection": "c", "idempotency_key": "k", "payloads": fields({})}
    assert (await bench.driver.error(Kind.BULK_INSERT, body)).startswith("NOT_READY: ")


async def test_a_node_that_does_not_read_any_more_says_so(bench: Bench) -> None:
    bench.node.storage.reads.documents.stop()
    bench.node.storage.reads.sql.stop()
    assert (await bench.driver.error(Kind.GET, {"collection": "c", "id": "a"})).startswith("BUSY: ")
    assert (await bench.driver.error(Kind.QUERY, b"SELECT 1")).startswith("BUSY: ")


async def test_a_write_that_the_core_refuses_is_told_why(bench: Bench) -> None:
    bench.node.disk_works = False
    bench.node.lead(2)
    texts: list[str] = []

    async def attempt() -> None:
        texts.append(await bench.driver.error(Kind.BULK_INSERT, {"collection": "c", "payload": {}}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt)
        await until(lambda: bench.node.requests == 1)
        bench.node.step(Deposed(Refused(Code.STALE_TERM, "another one leads")))
    assert texts[0].startswith("NOT_PRIMARY: this node's reign has ended")


@pytest.mark.slow
async def test_a_write_waits_a_while_for_room_in_the_queue(bench: Bench) -> None:
    bench.node.inbox.settle(WAITING_BYTES_MAX)
    started = anyio.current_time()
    text = await bench.driver.error(Kind.BULK_INSERT, {"collection": "c", "payload": {}})
    assert text.startswith("BUSY: ") and anyio.current_time() - started >= CROWDED_S
    assert bench.node.requests == 0
    asyncio.get_running_loop().call_later(0.05, bench.node.inbox.settle, 0)
    assert await bench.driver.insert(payload={"id": "a"}) == {"affected": 1, "id": "a"}


# --- SQL


async def test_a_query_is_answered_with_a_summary_and_rows(bench: Bench) -> None:
    await bench.driver.insert(payload={"id": "a", "n": {"$int": "9"}})
    version = bench.node.state.applied.lsn
    result = await bench.driver.json(Kind.QUERY, b"SELECT * FROM c ORDER BY rid ASC", wanted=Kind.RESULT)
    row = {"id": "a", "rid": "a", "doc": {"id": "a", "n": {"$int": "9"}}, "version": version}
    assert result == {"ok": True, "statement": "select", "affected": 0, "columns": list(row), "rows": [row]}


def params(sql: str, *values: Param, policy: str | None = None) -> bytes:
    return ParamQuery(sql, values, policy).encode()


async def test_a_query_with_parameters_is_answered_with_an_envelope(bench: Bench) -> None:
    await bench.driver.insert(payloads=[{"id": "a", "n": 1}, {"id": "b", "n": 2}])
    sql = "SELECT id, doc->>'n' AS n FROM c WHERE n > $1 AND id <> $2"
    result = await bench.driver.json(Kind.QUERY_WITH_PARAMS, params(sql, 1, "z"), wanted=Kind.RESULT)
    assert result == {
        "ok": True,
        "statement": "select",
        "affected": 0,
        "rows": [{"id": "b", "n": 2}],
        "result": {"columns": ["id", "n"], "records": [{"values": {"id": "b", "n": 2}}]},
    }
    bound = params("SELECT ? AS j, ? AS t, ? AS b", Json('{"a":1}'), Timestamp(5), b"\xff")
    result = await bench.driver.json(Kind.QUERY_WITH_PARAMS, bound, wanted=Kind.RESULT)
    values = {"j": '{"a":1}', "t": 5, "b": {"$bytes": base64.b64encode(b"\xff").decode()}}
    assert result["result"]["records"] == [{"values": values}]


async def test_a_commit_policy_beside_a_query_must_be_one_and_changes_nothing(bench: Bench) -> None:
    for policy in ("local", "ack_n=7", "regions(nowhere)"):
        asked = params("SELECT 1", policy=policy)
        result = await bench.driver.json(Kind.QUERY_WITH_PARAMS, asked, wanted=Kind.RESULT)
        assert result["ok"] is True
    text = await bench.driver.error(Kind.QUERY_WITH_PARAMS, params("SELECT 1", policy="perhaps"))
    assert text.startswith("COMMIT_POLICY_INVALID: ") and "perhaps" in text
    text = await bench.driver.error(Kind.QUERY_WITH_PARAMS, params("SELECT 1") + b"x")
    assert text.startswith("INVALID: ")


async def test_a_binary_query_is_answered_in_binary(bench: Bench) -> None:
    await bench.driver.insert(payload={"id": "a"})
    kind, answer = await bench.driver.ask(Kind.QUERY_BINARY, b"SELECT id, 7 AS n, NULL AS x, 0.5 AS f FROM c")
    columns = b"\x04\x00" + b"\x02\x00id" + b"\x01\x00n" + b"\x01\x00x" + b"\x01\x00f"
    row = text_value(b"a") + b"\x01" + struct.pack("<q", 7) + b"\x00" + b"\x02" + struct.pack("<d", 0.5)
    assert (kind, answer) == (Kind.RESULT, columns + b"\x01\x00\x00\x00" + row)


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        (b"INSERT INTO c VALUES (1)", "QUERY: SQL only reads here"),
        (b"UPDATE c SET x = 1", "QUERY: SQL only reads here"),
        (b"SELECT * FROM nowhere", "QUERY: "),
        (b"SELEC", "QUERY: "),
        (b"\xff", "INVALID: the query is not UTF-8"),
        (b"SELECT $1", "QUERY: the statement takes 1 values, 0 are given"),
    ],
)
async def test_a_statement_that_is_not_answered_is_told_why(bench: Bench, sql: bytes, text: str) -> None:
    for kind in (Kind.QUERY, Kind.QUERY_BINARY):
        assert (await bench.driver.error(kind, sql)).startswith(text)
    if sql != b"\xff":
        asked = params(sql.decode())
        assert (await bench.driver.error(Kind.QUERY_WITH_PARAMS, asked)).startswith(text)


async def test_an_error_that_a_driver_is_told_is_counted_by_its_code(bench: Bench) -> None:
    for statement in (b"SELEC", b"SELEC", b"\xff"):
        await bench.driver.error(Kind.QUERY, statement)
    counts = bench.node.bulletin.counts.status()
    assert counts.refused == {Code.QUERY: 2, Code.INVALID: 1} and counts.not_confirmed == 0


async def test_creating_a_collection_is_told_that_it_already_exists(bench: Bench) -> None:
    assert "already exists" in await bench.driver.error(Kind.QUERY, b"CREATE DOCUMENT c")


async def test_an_answer_that_no_frame_can_hold_is_an_error(bench: Bench) -> None:
    """Control characters take six bytes each in JSON, so rows within SQL's limit can exceed a frame."""
    await bench.driver.insert(payload={"id": "a", "s": "\x01" * 600_000})
    sql = b"SELECT doc->>'s' AS s FROM c, (VALUES (1), (2), (3), (4), (5), (6))"
    assert (await bench.driver.error(Kind.QUERY, sql)).startswith("TOO_LARGE: bytes of the answer")
    assert await bench.driver.ask(Kind.PING) == (Kind.PONG, b"")

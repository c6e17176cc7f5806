"""Drivers over real frames, a real primary core and a real state: rows, keys, and who may not or not yet."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from cluster.driver_keys import DriverKeys
from cluster.driver_writes import CROWDED_S
from cluster.effects import Deposed
from cluster.inbox import WAITING_BYTES_MAX
from cluster.primary import Primary
from cluster.queued import Queued
from redwire.errors import Code, Refused
from redwire.frame import Kind
from redwire.handshake import Role
from redwire.topology import Endpoint, Topology
from tests.driver_bench import REGION, Bench, Driver, served, text_value, until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with served(tmp_path) as (node, service):
        yield Bench(node, service, Driver(service))


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
    bench.service.driver_keys = DriverKeys()
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


async def test_a_key_whose_attempts_were_all_refused_is_as_good_as_new_however_late(bench: Bench) -> None:
    body = {"collection": "c", "idempotency_key": "k", "payloads": fields({"id": []})}
    assert "`id` must be" in await bench.driver.error(Kind.BULK_INSERT, body)
    await bench.driver.insert(idempotency_key="other", payloads=fields({}))
    bench.node.role.time_ms += 25 * 3600 * 1000
    await bench.driver.insert(payload={})
    assert await bench.driver.insert(idempotency_key="k", payloads=fields({})) == {"ok": True, "count": 1}
    assert len(await bench.driver.ids()) == 3


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
    full = Queued()
    full.size = WAITING_BYTES_MAX
    bench.node.inbox.settle(full)
    started = anyio.current_time()
    text = await bench.driver.error(Kind.BULK_INSERT, {"collection": "c", "payload": {}})
    assert text.startswith("BUSY: ") and anyio.current_time() - started >= CROWDED_S
    assert bench.node.requests == 0
    asyncio.get_running_loop().call_later(0.05, bench.node.inbox.settle)
    assert await bench.driver.insert(payload={"id": "a"}) == {"affected": 1, "id": "a"}


async def test_a_driver_hears_that_this_node_cannot_read_its_state_and_no_names_of_its_files(
    bench: Bench,
) -> None:
    driver, path = bench.driver, bench.node.state.path
    await driver.insert(payload={"id": "a"})
    path.rename(path.with_name("elsewhere"))
    keyed = {"collection": "c", "payloads": [{"fields": {"id": "b"}}], "idempotency_key": "k"}
    for kind, body in ((Kind.QUERY, b"SELECT id FROM c"), (Kind.BULK_INSERT, json.dumps(keyed).encode())):
        text = await driver.error(kind, body)
        assert text.startswith("DAMAGED: ") and path.name not in text

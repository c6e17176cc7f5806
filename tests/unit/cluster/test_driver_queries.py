"""SQL of drivers: in what it is answered, and what is refused."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from redwire.errors import Code
from redwire.frame import Kind
from redwire.message.params import Json, Param, ParamQuery, Timestamp
from tests.driver_bench import Bench, Driver, served, text_value


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with served(tmp_path) as (node, service):
        yield Bench(node, service, Driver(service))


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

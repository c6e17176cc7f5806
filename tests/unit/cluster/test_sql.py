from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cluster import sql as sql_module
from cluster.errors import DiskFailed, QueryFailed, StateCorrupt
from cluster.sql import ROWS_MAX, VALUE_BYTES_MAX, SqlQuery, SqlResult, SqlWorker
from cluster.state import State
from redwire.errors import Code
from redwire.message.params import Json, Timestamp, Uuid, Vector
from redwire.record import Op, Record


def put(collection: str, ident: str, doc: bytes) -> Record:
    return Record(Op.PUT, collection, ident, doc)


@pytest.fixture
def state(tmp_path: Path, written_log: Any) -> Iterator[State]:
    opened = State.open(tmp_path / "state.db")
    records = (
        put("Orders", "a", b'{"n": 1, "tags": ["x", "y"]}'),
        put("Orders", "b", b'{"n": 2, "tags": []}'),
        put("secrets", "s", b'{"code": "xyzzy"}'),
        put("docs", "d", b'{"named": "like a table"}'),
        put("a-b.c", "e", b"{}"),
        put("order", "o", b"{}"),
        put("2024.shop", "y", b"{}"),
    )
    opened.apply([written_log.write(*records)])
    yield opened
    opened.close()


@pytest.fixture
def worker(state: State) -> Iterator[SqlWorker]:
    opened = SqlWorker(state.path)
    yield opened
    opened.close()


def rows(worker: SqlWorker, text: str, *params: Any) -> list[Any]:
    return worker.run(SqlQuery(text, params)).rows


def test_a_collection_is_a_view_of_id_rid_doc_and_version(worker: SqlWorker) -> None:
    result = worker.run(SqlQuery("SELECT * FROM orders ORDER BY rid DESC LIMIT 1"))
    assert result == SqlResult(
        "select",
        ("id", "rid", "doc", "version"),
        [("b", "b", '{"n": 2, "tags": []}', 2)],
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT count(*) FROM Orders", [(2,)]),
        ("SELECT doc->>'n' FROM ORDERS WHERE id = 'b'", [(2,)]),
        ("SELECT o.id, t.value FROM orders o, json_each(o.doc, '$.tags') t", [("a", "x"), ("a", "y")]),
        ("SELECT key FROM json_tree('[7]') WHERE key IS NOT NULL", [(0,)]),
        ('SELECT id FROM "a-b.c"', [("e",)]),
        ("SELECT id FROM 'orders' ORDER BY 1", [("a",), ("b",)]),
        ("SELECT o.id, y.id FROM order AS o JOIN 2024.shop y", [("o", "y")]),
        ("SELECT NULL IS NOT DISTINCT FROM NULL", [(1,)]),
        ("SELECT id FROM [docs] UNION SELECT id FROM `secrets` ORDER BY 1", [("d",), ("s",)]),
        ("WITH big AS (SELECT * FROM orders WHERE version > 1) SELECT count(*) FROM big", [(1,)]),
        (
            "WITH RECURSIVE t(x) AS (VALUES (1) UNION ALL SELECT x+1 FROM t LIMIT 3) SELECT sum(x) FROM t",
            [(6,)],
        ),
        ("SELECT max(version) OVER (ORDER BY id) FROM orders", [(1,), (2,)]),
        ("SELECT replace(doc, 'xyzzy', '') FROM secrets", [('{"code": ""}',)]),
        ("VALUES (1), (2)", [(1,), (2,)]),
        (
            "SHOW COLLECTIONS",
            [(name, "document") for name in ("2024.shop", "Orders", "a-b.c", "docs", "order", "secrets")],
        ),
        ("show collections -- all\n WHERE name = 'docs';", [("docs", "document")]),
        ("SHOW COLLECTIONS ORDER BY name DESC LIMIT 1", [("secrets", "document")]),
    ],
)
def test_what_an_application_asks_is_answered(worker: SqlWorker, text: str, expected: list[Any]) -> None:
    assert rows(worker, text) == expected
    assert rows(worker, text) == expected


def test_a_document_is_found_by_its_key_not_by_a_scan(worker: SqlWorker) -> None:
    worker.run(SqlQuery("SELECT * FROM orders"))
    text = "EXPLAIN QUERY PLAN SELECT doc FROM orders WHERE id = 'a'"
    ((_, _, _, plan),) = worker._connection.execute(text).fetchall()
    assert plan == "SEARCH main.docs USING INDEX docs_by_id (c=? AND id=?)"


@pytest.mark.parametrize(
    ("param", "value"),
    [
        (None, None),
        (True, 1),
        (-(1 << 63), -(1 << 63)),
        (0.5, 0.5),
        (float("nan"), None),
        ("héllo", "héllo"),
        (b"\xde\xad", b"\xde\xad"),
        (Vector((1.0, -0.5)), "[1.0,-0.5]"),
        (Json('{"a":null}'), '{"a":null}'),
        (Timestamp(1_700_000_000), 1_700_000_000),
        (Uuid(bytes.fromhex("00112233445566778899aabbccddeeff")), "00112233-4455-6677-8899-aabbccddeeff"),
    ],
)
def test_every_type_of_parameter_can_be_selected(worker: SqlWorker, param: Any, value: Any) -> None:
    result = worker.run(SqlQuery("SELECT $1", (param, "unused", None)))
    assert (result.columns, result.rows) == (("$1",), [(value,)])
    assert rows(worker, "SELECT ?", param) == [(value,)]
    assert rows(worker, "SELECT ?2, ?2", "unused", param) == [(value, value)]


def test_a_new_collection_and_a_new_document_are_seen_by_the_next_statement(
    state: State, worker: SqlWorker, written_log: Any
) -> None:
    with pytest.raises(QueryFailed, match="there is no collection later; SHOW COLLECTIONS"):
        rows(worker, "SELECT * FROM later")
    state.apply([written_log.write(put("later", "x", b"{}"), put("Orders", "c", b"{}"))])
    result = worker.run(SqlQuery("SELECT id FROM later UNION SELECT id FROM orders"))
    assert result.rows == [("a",), ("b",), ("c",), ("x",)]


@pytest.mark.parametrize("asked", ["n", "o.n", "orders.n"])
def test_who_takes_a_field_for_a_column_is_told_how_to_name_it(worker: SqlWorker, asked: str) -> None:
    table = "orders o" if asked == "o.n" else "orders"
    with pytest.raises(QueryFailed, match=f"^no such column: {asked}; .* id, rid, doc and version") as caught:
        rows(worker, f"SELECT id FROM {table} WHERE {asked} = 1")
    assert str(caught.value).endswith("doc->>'n'")
    assert rows(worker, "SELECT id FROM orders WHERE doc->>'n' = 1")


def test_who_meets_a_document_too_deep_for_sql_is_told_how_to_leave_it_out(worker: SqlWorker) -> None:
    deep = "[" * 3_000 + "]" * 3_000  # 2,000 are the most, and 1,000 in newer versions of SQLite
    text = "SELECT doc ->> '$.a' FROM (SELECT ? AS doc)"
    with pytest.raises(QueryFailed, match=r"^malformed JSON; .* thousand .*: WHERE json_valid\(doc\)"):
        rows(worker, text, deep)
    assert rows(worker, f"{text} WHERE json_valid(doc)", deep) == []


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM main.docs",
        "SELECT count(*) FROM main.docs",
        "SELECT (SELECT count(*) FROM main.docs) FROM orders",
        "SELECT c FROM docs",
        "SELECT * FROM keys",
        "SELECT count(*) FROM keys",
        "SELECT * FROM users",
        "SELECT count(*) FROM main.meta",
        "SELECT 1 FROM collections",
        "SELECT applied, term, chain FROM meta",
        "SELECT name FROM collections ORDER BY name",
        'SELECT c FROM "show collections"',
        "SHOW COLLECTIONS UNION SELECT name, c FROM main.collections",
        'WITH "show collections" AS (SELECT * FROM main.users) SHOW COLLECTIONS',
        "WITH orders AS (SELECT * FROM main.docs) SELECT * FROM orders",
        "WITH secrets AS (SELECT doc FROM main.docs) SELECT * FROM secrets, orders",
        "SELECT * FROM (SELECT * FROM main.docs) AS orders",
        "SELECT * FROM sqlite_master",
        "SELECT count(*) FROM sqlite_schema",
        "SELECT * FROM temp.sqlite_temp_master",
        "SELECT count(*) FROM sqlite_temp_schema",
        "SELECT count(*) FROM dbstat",
        "SELECT * FROM sqlite_stmt",
        "SELECT * FROM pragma_table_info('docs')",
        "SELECT count(*) FROM pragma_database_list",
        "SELECT load_extension('x')",
        "SELECT zeroblob(1000000000)",
        "SELECT length(randomblob(10))",
        "SELECT printf('%.*c', 1000000000, 'x')",
        "SELECT fts3_tokenizer('simple')",
        "SELECT * FROM orders INDEXED BY nothing",
        "WITH x AS (SELECT 1) INSERT INTO main.docs SELECT 1, 'x', 1, '{}' FROM x",
        "WITH x AS (SELECT 1) DELETE FROM main.docs",
        "WITH x AS (SELECT 1) UPDATE main.docs SET doc = '{}'",
        "SELECT 1; SELECT 2",
        "SELECT 1; DELETE FROM main.docs",
        "SELECT 'unfinished",
        "SELECT CAST(x'ff' AS TEXT)",
        "SELECT $1",
    ],
)
def test_what_a_statement_must_not_do_fails_and_the_next_one_works(
    state: State, worker: SqlWorker, text: str
) -> None:
    for _ in range(2):
        with pytest.raises(QueryFailed) as caught:
            worker.run(SqlQuery(text))
        assert caught.value.code is Code.QUERY
        assert worker._guard.secret not in str(caught.value)
        assert rows(worker, "SELECT count(*) FROM orders") == [(2,)]
    assert state.checkpoint() == state.applied.lsn


def test_even_a_statement_that_knew_the_name_of_a_reading_view_would_not_get_at_it(worker: SqlWorker) -> None:
    rows(worker, "SELECT * FROM secrets, orders")
    for number in (1, 2):
        with pytest.raises(QueryFailed):
            rows(worker, f'SELECT * FROM "{worker._guard.secret}_{number}"')


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (
            "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM t) SELECT x FROM t",
            Code.QUERY,
            "more than 10,000 rows",
        ),
        (
            "WITH RECURSIVE t(x) AS (SELECT 'aaaa' UNION ALL SELECT x||x FROM t) SELECT length(x) FROM t",
            Code.TOO_LARGE,
            f"more than {VALUE_BYTES_MAX} bytes",
        ),
        (
            "WITH RECURSIVE t(x) AS (SELECT 'aa' UNION ALL SELECT x||x FROM t LIMIT 23) SELECT x FROM t",
            Code.TOO_LARGE,
            "the answer has more than",
        ),
    ],
)
def test_an_answer_over_a_limit_says_which(worker: SqlWorker, text: str, code: Code, says: str) -> None:
    with pytest.raises(QueryFailed, match=says) as caught:
        rows(worker, text)
    assert caught.value.code is code


def test_as_many_rows_as_the_limit_are_answered(worker: SqlWorker) -> None:
    text = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM t LIMIT $1) SELECT x FROM t"
    assert len(rows(worker, text, ROWS_MAX)) == ROWS_MAX
    with pytest.raises(QueryFailed, match="LIMIT"):
        rows(worker, text, ROWS_MAX + 1)


ENDLESS = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM t) SELECT count(*) FROM t"


def test_a_statement_that_does_not_end_is_ended(state: State) -> None:
    worker = SqlWorker(state.path, seconds_max=0.2)
    began = time.monotonic()
    with pytest.raises(QueryFailed, match="more than 0.2 seconds") as caught:
        rows(worker, ENDLESS)
    assert caught.value.code is Code.TIMEOUT
    assert time.monotonic() - began < sql_module.SECONDS_MAX
    assert rows(worker, "SELECT 1") == [(1,)]
    worker.close()


def test_steps_are_counted_beside_the_time() -> None:
    meter = sql_module._Meter(60)
    looks = sql_module.STEPS_MAX // sql_module.STEPS_PER_LOOK
    assert [meter() for _ in range(looks)] == [False] * (looks - 1) + [True]
    assert "steps" in meter.exceeded


def test_columns_of_one_name_are_told_apart(worker: SqlWorker) -> None:
    result = worker.run(SqlQuery('SELECT 1 AS x, 2 AS x, 3 AS "x:1", 4 AS x'))
    assert result.columns == ("x", "x:1", "x:1:1", "x:2")


def test_in_json_a_document_is_an_object_as_it_was_written(worker: SqlWorker) -> None:
    text = """SELECT a.doc, b.doc, 'not json {' AS doc, '{bad' AS doc, NULL AS doc, a.doc AS other
        FROM orders a, orders b WHERE a.id = 'a' AND b.id = 'b'"""
    (row,) = worker.run(SqlQuery(text)).rows_as_json()
    assert msgspec.json.encode(row) == (
        b'[{"n": 1, "tags": ["x", "y"]},{"n": 2, "tags": []},"not json {","{bad",null,'
        b'"{\\"n\\": 1, \\"tags\\": [\\"x\\", \\"y\\"]}"]'
    )
    assert worker.run(SqlQuery("SELECT 1 AS n")).rows_as_json() == [(1,)]


@pytest.mark.parametrize("closed", [True, False])
def test_in_json_what_is_too_deep_to_be_looked_at_is_a_text(worker: SqlWorker, closed: bool) -> None:
    text = '{"a":' + "[" * 100_000 + "]" * 100_000 * closed + "}"
    assert worker.run(SqlQuery("SELECT ? AS doc", (text,))).rows_as_json() == [(text,)]


def test_no_collection_hides_a_function_of_json(state: State, worker: SqlWorker, written_log: Any) -> None:
    state.apply([written_log.write(*(put(name, "x", b"{}") for name in ("json_each", "JSON_tree")))])
    rows(worker, "SELECT * FROM json_each")
    assert rows(worker, "SELECT value FROM json_each('[1, 2]')") == [(1,), (2,)]
    assert rows(worker, "SELECT fullkey FROM orders, json_tree(doc) WHERE orders.id = 'a' LIMIT 1") == [
        ("$",)
    ]


def test_a_connection_with_many_views_begins_anew(state: State, worker: SqlWorker, written_log: Any) -> None:
    names = [f"c{number}" for number in range(sql_module.VIEWS_MAX + 20)]
    state.apply([written_log.write(*(put(name, name, b"{}") for name in names))])
    for start in range(0, len(names), 40):
        text = " UNION ALL ".join(f"SELECT id FROM {name}" for name in names[start : start + 40])
        assert rows(worker, text) == [(name,) for name in names[start : start + 40]]
    assert len(worker._guard.views) <= sql_module.VIEWS_MAX
    assert rows(worker, "SELECT id FROM c0 UNION ALL SELECT id FROM c519") == [("c0",), ("c519",)]


def test_damage_is_not_mistaken_for_a_bad_statement(state: State, worker: SqlWorker, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    state.snapshot_into(copy)
    data = bytearray(copy.read_bytes())
    page = 4096
    docs = next(at for at in range(page, len(data), page) if b"xyzzy" in data[at : at + page])
    whole = bytes(data[docs : docs + page])
    data[docs : docs + page] = b"\xff" * page
    copy.write_bytes(data)
    damaged = SqlWorker(copy)
    with pytest.raises(StateCorrupt):
        damaged.run(SqlQuery("SELECT * FROM secrets"))
    damaged.close()
    data[docs : docs + page] = whole.replace(b"xyzzy", b"xyzzz")
    copy.write_bytes(data)
    damaged = SqlWorker(copy)
    with pytest.raises(StateCorrupt, match="does not match its checksum"):
        damaged.run(SqlQuery("SELECT doc FROM secrets"))
    assert rows(damaged, "SELECT count(*) FROM secrets")  # which looks at no document
    damaged.close()
    with pytest.raises(DiskFailed):
        SqlWorker(tmp_path / "missing.db")

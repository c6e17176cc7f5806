from __future__ import annotations

import pytest

from cluster.errors import QueryFailed
from cluster.statement import CATALOG, TEXT_BYTES_MAX, StatementKind, parse


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT 1", StatementKind.SELECT),
        ("  -- why\n/* not */ select 1;", StatementKind.SELECT),
        ("with t as (select 1) select * from t", StatementKind.SELECT),
        ("VALUES (1)", StatementKind.SELECT),
        ("show Collections ;", StatementKind.SHOW_COLLECTIONS),
    ],
)
def test_the_first_word_tells_the_kind(text: str, kind: StatementKind) -> None:
    assert parse(text).kind is kind


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("INSERT INTO t VALUES (1)", "BulkInsert"),
        ("UPDATE t SET a = 1", "put"),
        ("delete from t", "delete by id"),
        ('INSERT INTO c DOCUMENT VALUES ({"n":1,"t":true}) RETURNING *', "not INSERT; .*BulkInsert"),
        ('QUEUE PUSH jobs {"id":1}', "not QUEUE; there are documents only"),
        ("KV GET kv_default.k", "not KV; a key is a document's id"),
        ('PUT CONFIG red.config a = {"x":1}', "not PUT"),
        ("DROP TABLE t", "delete the documents"),
        ("BEGIN", "atomic"),
        ("PRAGMA user_version", "PRAGMA"),
        ("ATTACH 'x' AS y", "ATTACH"),
        ("SHOW TABLES", "SHOW"),
        ("CREATE DOCUMENT orders", "already exists"),
        ("CREATE TABLE orders (id INT)", "already exists"),
        ("CREATE QUEUE IF NOT EXISTS q", "not CREATE QUEUE; there are documents only"),
        ("create", "not CREATE; there are documents only"),
        ("KV GET kv_default.k", "not KV; a key is a document's id: .* Get"),
        ("", "an empty text"),
        ("-- nothing", "an empty text"),
        ("'SELECT'", "an empty text"),
    ],
)
def test_what_is_not_answered_is_refused_with_what_to_do_instead(text: str, says: str) -> None:
    with pytest.raises(QueryFailed, match=says):
        parse(text)


@pytest.mark.parametrize(
    ("text", "values", "bound"),
    [
        ("SELECT 1", [], []),
        ("SELECT 1", ["unused"], []),
        ("SELECT $1", ["a", "b"], {"1": "a"}),
        ("SELECT $2, $1, $2", ["a", "b"], {"1": "a", "2": "b"}),
        ("SELECT ?, ?", ["a", "b", "c"], ["a", "b"]),
        ("SELECT ?2, $1, ?2", ["a", "b", "c"], {"1": "a", "2": "b"}),
        ("SELECT '$1', \"$2\", `?`, [?3] -- $4\n /* ? */", [], []),
        ("SELECT 'it''s $1', $1", ["a"], {"1": "a"}),
        ('SELECT a.b[1] FROM "t" WHERE x=$1', ["a"], {"1": "a"}),
    ],
)
def test_parameters_stand_outside_of_texts_names_and_comments(
    text: str, values: list[str], bound: object
) -> None:
    statement = parse(text)
    assert statement.bound(values) == bound
    assert statement.text == text.replace("?2", "$2")


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("SELECT id FROM order ORDER BY id", 'SELECT id FROM "order" ORDER BY id'),
        ("select 1 from 2024 limit 1", 'select 1 from "2024" limit 1'),
        ("SELECT 1 FROM shop.orders", 'SELECT 1 FROM "shop.orders"'),
        ("SELECT 1 FROM /* all */ a.1.b c", 'SELECT 1 FROM /* all */ "a.1.b" c'),
        ("SELECT 1 FROM a JOIN b.c ON 1=1", 'SELECT 1 FROM "a" JOIN "b.c" ON 1=1'),
        ("SELECT (SELECT 1 FROM a)", 'SELECT (SELECT 1 FROM "a")'),
        ("SELECT 1 FROM json_each (doc)", "SELECT 1 FROM json_each (doc)"),
        ("SELECT 1 FROM(SELECT 2)", "SELECT 1 FROM(SELECT 2)"),
        ("SELECT 1 FROM 'a'.b, [c].d", "SELECT 1 FROM 'a'.b, [c].d"),
        ("SELECT x IS NOT DISTINCT FROM NULL", "SELECT x IS NOT DISTINCT FROM NULL"),
        ("SELECT x IS DISTINCT /* */ FROM t.x", "SELECT x IS DISTINCT /* */ FROM t.x"),
        ("SELECT DISTINCT * FROM order", 'SELECT DISTINCT * FROM "order"'),
        ('SELECT DISTINCT "id" FROM 2024.shop', 'SELECT DISTINCT "id" FROM "2024.shop"'),
        ("SELECT count(DISTINCT 1) FROM a.b", 'SELECT count(DISTINCT 1) FROM "a.b"'),
        ('SELECT 1 FROM temp."orders"', 'SELECT 1 FROM temp."orders"'),
        ("SELECT 1 FROM temp. orders", "SELECT 1 FROM temp. orders"),
        ('SELECT 1 FROM orders"o"', 'SELECT 1 FROM "orders" "o"'),
        ("SELECT 1 FROM", "SELECT 1 FROM"),
    ],
)
def test_a_name_in_the_place_of_a_table_is_one_name(text: str, quoted: str) -> None:
    assert parse(text).text == quoted


def test_showing_collections_is_a_select_from_the_catalog() -> None:
    statement = parse("-- all\nShow /* the */ Collections WHERE name = $1;")
    assert statement.text == f'SELECT * FROM "{CATALOG}" WHERE name = $1;'
    assert CATALOG in statement.names and statement.numbered == {"1"}
    assert CATALOG not in parse("SELECT show, collections FROM t").names


@pytest.mark.parametrize("text", ["SELECT $2", "SELECT ?, ?", "SELECT ?2"])
def test_a_missing_value_is_an_error(text: str) -> None:
    with pytest.raises(QueryFailed, match="takes 2 values, 1"):
        parse(text).bound(["a"])


@pytest.mark.parametrize(
    "text", ["SELECT :a", "SELECT @a", "SELECT $a", "SELECT $1, ?", "SELECT ?1, ?", "SELECT $0", "SELECT #1"]
)
def test_parameters_are_numbered_from_one_in_one_way(text: str) -> None:
    with pytest.raises(QueryFailed, match="number them from 1"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ('QUEUE PUSH q {"a":1} PRIORITY 2', "QUEUE"),
        ('INSERT INTO c DOCUMENT VALUES ({"a":1,"b":"?"}) RETURNING *', "INSERT"),
        ("KV PUT c.k = $1 TAGS [#t, ?]", "KV"),
    ],
)
def test_a_statement_that_is_none_of_ours_is_not_looked_through_for_parameters(text: str, first: str) -> None:
    with pytest.raises(QueryFailed, match=f"not {first};"):
        parse(text)


def test_every_word_and_quoted_text_may_be_a_collections_name() -> None:
    statement = parse('SELECT a."B" FROM `c-d`, [E.f], \'g\', x"""y" WHERE 1e5 > 0x1F -- h\n')
    assert statement.names == {"select", "a", "b", "from", "c-d", "e.f", "g", "x", '"y', "where"}


@pytest.mark.parametrize("text", ["SELECT '" + "x" * TEXT_BYTES_MAX + "'", "SELECT '\0'"])
def test_a_text_too_long_or_with_a_nul_is_refused(text: str) -> None:
    with pytest.raises(QueryFailed, match="bytes"):
        parse(text)


def test_an_unfinished_text_is_left_for_sqlite_to_refuse() -> None:
    assert parse("SELECT 'abc").kind is StatementKind.SELECT
    assert parse("SELECT 1 /* never ends $1").bound([]) == []

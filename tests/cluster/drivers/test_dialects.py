"""Drivers of every family do all that they can against a primary and a replica."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import struct
import subprocess
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
import zstandard

FAMILIES = ("python", "go", "java", "php", "cpp", "js", "js-client")
JS = ("js", "js-client")
METHODS = [
    (family, method)
    for family in FAMILIES
    for method in ("anonymous", "bearer", "scram-sha-256")
    if family not in JS or method != "scram-sha-256"
]
SCRIPT = Path(__file__).with_name("driver.mjs")
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "redwire-params.json").read_text())

ERROR, BULK_INSERT, BULK_OK, BULK_INSERT_BINARY, BULK_INSERT_PREVALIDATED = 0x03, 0x04, 0x05, 0x06, 0x08
QUERY, RESULT, PONG, QUERY_WITH_PARAMS = 0x01, 0x02, 0x18, 0x28
OPEN_STREAM, STREAM_ERROR, STREAM_CANCEL = 0x29, 0x2C, 0x2D
HELLO, HELLO_ACK, AUTH_FAIL = 0x10, 0x11, 0x15
COMPRESSED = 0x01

every_family = pytest.mark.parametrize("family", FAMILIES)


# --- the handshake


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_a_driver_is_let_in_by_every_method_that_it_offers(shop: Any, family: str, method: str) -> None:
    given = {
        "anonymous": {},
        "bearer": {"token": shop.tokens["app"]},
        "scram-sha-256": {"user": "app", "password": shop.PASSWORD},
    }
    with shop.connect(family, **given[method]) as driver:
        assert driver.method == method
        assert driver.session["session_id"] and driver.session["role"] == "write"
        assert driver.session["username"] == ("anonymous" if method == "anonymous" else "app")
        assert driver.features & driver.ack_features & 1
        assert driver.line.socket.selected_alpn_protocol() == "redwire/1"
        driver.ping()
        driver.ping()
        driver.bye()


@every_family
def test_wrong_credentials_are_refused_with_the_reason(shop: Any, family: str) -> None:
    with pytest.raises(shop.Refused, match="not known"):
        shop.connect(family, token="rw_nobody")
    if family not in JS:
        for user in ("app", "nobody"):
            with pytest.raises(shop.Refused, match="wrong user or password"):
                shop.connect(family, user=user, password="guessed")


@every_family
def test_a_stranger_who_is_not_let_in_learns_that_a_token_is_wanted(shop: Any, family: str) -> None:
    with pytest.raises(shop.Refused, match="bearer but no token"):
        shop.connect(family, node="us-1")


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in JS])
def test_a_user_may_be_called_what_a_driver_searches_the_text_for(shop: Any, family: str) -> None:
    with shop.log_in(family, user="v") as driver:
        assert driver.session["username"] == "v"


# --- documents


@every_family
def test_documents_go_in_and_come_back_and_go(shop: Any, family: str) -> None:
    exact = {"n": {"$int": "9007199254740993"}, "d": {"$decimal": "0.10"}, "s": 'héllo/\u2028"', "e": []}
    with shop.log_in(family) as driver:
        named = driver.insert(family, {"id": "lamp", **exact})
        made = driver.insert(family, exact)
        assert named in ("lamp", None)
        assert driver.get(family, "lamp") == {"ok": True, "found": True, "entity": {"id": "lamp", **exact}}
        if made is not None:
            assert driver.get(family, made)["entity"] == exact
        nothing = {"ok": True, "found": False, "entity": None}
        assert driver.get(family, "nobody") == driver.get("no-such-collection", "lamp") == nothing
        assert driver.delete(family, "lamp") == {"affected": 1}
        assert driver.delete(family, "lamp") == {"affected": 0}
        assert driver.get(family, "lamp") == nothing


@every_family
def test_as_many_ids_come_back_as_rows_went_in(shop: Any, family: str) -> None:
    rows = [{"id": 7, "n": 1}, {"n": 2}, {"rid": "c", "n": 3}, {}]
    collection = f"{family}-bulk"
    with shop.log_in(family) as driver:
        idents = driver.bulk_insert(collection, rows)
        assert driver.query(f'SELECT count(*) AS n FROM "{collection}"')["rows"] == [{"n": 4}]
        if idents is not None:
            assert [str(idents[0]), idents[2]] == ["7", "c"]
            assert [driver.get(collection, ident)["entity"] for ident in idents] == rows


def test_ids_survive_a_driver_that_reads_numbers_as_doubles(shop: Any) -> None:
    idents = [str(number) for number in (0, 1 << 53, (1 << 53) + 1, (1 << 63) - 1, 10**40)]
    with shop.log_in("go") as driver:
        assert driver.bulk_insert("doubles", [{"id": int(ident)} for ident in idents]) == idents
        for ident in idents:
            assert driver.get("doubles", ident)["found"]


def test_an_empty_document_may_be_an_empty_list(shop: Any) -> None:
    with shop.log_in("php") as driver:
        driver.insert("empty", {})
        driver.bulk_insert("empty", [{}, {}])
        assert [row["doc"] for row in driver.query("SELECT doc FROM empty")["rows"]] == [{}, {}, {}]


@pytest.mark.parametrize("kind", [BULK_INSERT_BINARY, BULK_INSERT_PREVALIDATED])
@pytest.mark.parametrize("family", JS)
def test_binary_rows_are_answered_with_a_count_of_eight_bytes(shop: Any, family: str, kind: int) -> None:
    collection = f"{family}-binary-{kind}"
    word = shop.text("alice")[1:]  # the older tags, and the same layout behind them
    full = b"\x03" + word + b"\x01" + struct.pack("<q", -5) + b"\x02" + struct.pack("<d", 0.5)
    full += b"\x04\x01" + b"\x05" + struct.pack("<Q", (1 << 64) - 1)
    columns = ["name", "i", "f", "b", "u"]
    with shop.log_in(family) as driver:
        assert driver.bulk_insert_binary(collection, columns, full, bytes(5), kind=kind) == 2
        rows = driver.query(f'SELECT doc FROM "{collection}" ORDER BY version')["rows"]
        documents = [row["doc"] if isinstance(row["doc"], dict) else json.loads(row["doc"]) for row in rows]
        first = {"name": "alice", "i": -5, "f": 0.5, "b": True, "u": (1 << 64) - 1}
        assert documents == [first, dict.fromkeys(columns)]


# --- SQL, and what helper layers make of it


@every_family
def test_a_select_has_rows_with_and_without_parameters(shop: Any, family: str) -> None:
    collection = family.replace("-", "_") + "_select"
    with shop.log_in(family) as driver:
        driver.bulk_insert(collection, [{"id": "a", "n": 1}, {"id": "b", "n": 2}])
        plain = driver.query(f"select id, doc->>'n' AS n from {collection} ORDER BY id")
        assert plain["rows"] == [{"id": "a", "n": 1}, {"id": "b", "n": 2}]
        result = driver.query(
            f"SELECT id FROM {collection} WHERE doc->>'n' > $1", b"\x02" + struct.pack("<q", 1)
        )
        assert (result["ok"], result["statement"], result["rows"]) == (True, "select", [{"id": "b"}])
        assert result["result"] == {"columns": ["id"], "records": [{"values": {"id": "b"}}]}


@every_family
def test_a_helper_layer_finds_and_lists_documents(shop: Any, family: str) -> None:
    collection = family.replace("-", "_") + "_helper"
    with shop.log_in(family) as driver:
        driver.bulk_insert(collection, [{"id": "b"}, {"id": "a", "n": 1}])
        found = driver.find(collection, "a")
        assert found.get("doc", found) == {"id": "a", "n": 1}
        assert driver.find(collection, "nobody") is None
        listed = driver.documents(collection, 1)
        assert [row["rid"] for row in listed] == ["a"]
        assert [row["rid"] for row in driver.documents(collection)] == ["a", "b"]


def test_python_knows_what_exists(shop: Any) -> None:
    with shop.log_in("python") as driver:
        driver.insert("being", {"id": "a", "n": 1})
        assert driver.exists("being", "a")
        assert not driver.exists("being", "b")


def test_collections_are_listed_and_looked_for_by_name(shop: Any) -> None:
    with shop.log_in("js-client") as driver:
        driver.insert("shown", {})
        rows = driver.query("SHOW COLLECTIONS")["rows"]
        assert {"name": "shown", "model": "document"} in rows
        assert driver.query("SHOW COLLECTIONS WHERE name = 'shown'")["rows"] == [
            {"name": "shown", "model": "document"}
        ]
        assert driver.query("SHOW COLLECTIONS WHERE name = 'it''s missing'")["rows"] == []


ANSWERS = {
    "null": None,
    "bool_true": 1,
    "bool_false": 0,
    "int_min": {"$int": str(-(1 << 63))},
    "int_max": {"$int": str((1 << 63) - 1)},
    "int_42": 42,
    "float_nan": None,
    "float_pos_inf": {"$float": "Infinity"},
    "float_neg_inf": {"$float": "-Infinity"},
    "float_subnormal_min": 5e-324,
    "text_unicode": "héllo",
    "text_x": "x",
    "bytes_empty": {"$bytes": ""},
    "bytes_deadbeef": {"$bytes": "3q2+7w=="},
    "bytes_256": {"$bytes": base64.b64encode(bytes(range(256))).decode()},
    "json_nested": '{"a":null,"z":[1,{"deep":[true,false]}]}',
    "timestamp_zero": 0,
    "timestamp_max": {"$int": str((1 << 63) - 1)},
    "uuid_001122": str(uuid.UUID("00112233445566778899aabbccddeeff")),
    "vector_empty": "[]",
    "vector_three": "[1.0,2.0,-0.5]",
    "vector_128": json.dumps([float(n) for n in range(128)], separators=(",", ":")),
}
"""What comes back of each golden value: SQLite has no booleans and no NaN, JSON and vectors are texts."""


def test_a_parameter_of_every_tag_comes_back(shop: Any) -> None:
    assert ANSWERS.keys() == {value["name"] for value in GOLDEN["values"]}
    with shop.log_in("go") as driver:
        for value in GOLDEN["values"]:
            (row,) = driver.query("SELECT $1 AS x", bytes.fromhex(value["redwire_hex"]))["rows"]
            assert row == {"x": ANSWERS[value["name"]]}, value["name"]
        for query in GOLDEN["queries"]:
            result = json.loads(driver.ask(QUERY_WITH_PARAMS, bytes.fromhex(query["redwire_hex"]), RESULT))
            assert result["result"]["records"] == [{"values": {"$1": 42}}]


def test_python_sends_lists_as_vectors_and_dictionaries_as_json(shop: Any) -> None:
    values = [
        [1, 2.5],
        (3,),
        {"b": 1, "a": None},
        {"$bytes": "AP8="},
        {"$ts": 1_700_000_000},
        True,
        "x",
        None,
    ]
    wanted = ["[1.0,2.5]", "[3.0]", '{"a":null,"b":1}', {"$bytes": "AP8="}, 1_700_000_000, 1, "x", None]
    with shop.log_in("python") as driver:
        marks = ", ".join(f"${place} AS v{place}" for place in range(1, len(values) + 1))
        (row,) = driver.query(f"SELECT {marks}", *map(driver.value, values))["rows"]
        assert list(row.values()) == wanted
        assert driver.query("SELECT json_extract($1, '$.b') AS b", driver.value({"b": 7}))["rows"] == [
            {"b": 7}
        ]


def trailer(policy: bytes, magic: bytes = b"RQP1") -> bytes:
    return magic + struct.pack("<I", len(policy)) + policy


def test_a_commit_policy_beside_a_query_is_parsed_and_an_unknown_one_named(shop: Any) -> None:
    with shop.log_in("cpp") as driver:
        for policy in (b"local", b"ack_n=1", b"quorum"):
            body = shop.params("SELECT 1 AS n", trailer=trailer(policy))
            assert json.loads(driver.ask(QUERY_WITH_PARAMS, body, RESULT))["rows"] == [{"n": 1}]
        for tail, says in (
            (trailer(b"most_of_them"), "COMMIT_POLICY_INVALID: .*most_of_them"),
            (trailer(b"local", b"RQP2"), "INVALID: .*trailer"),
            (trailer(b"local")[:-1], "INVALID: .*commit policy"),
            (trailer(b"local") + b"!", "INVALID: "),
        ):
            with pytest.raises(shop.EngineError, match=f"^{says}"):
                driver.ask(QUERY_WITH_PARAMS, shop.params("SELECT 1", trailer=tail), RESULT)
        for sql in ("INSERT INTO c DOCUMENT VALUES ({}) RETURNING *", "UPDATE c SET a = 1 WHERE rid = $1"):
            body = shop.params(sql, shop.text("x"), trailer=trailer(b"majority"))
            with pytest.raises(shop.EngineError, match="^QUERY: SQL only reads here.*write"):
                driver.ask(QUERY_WITH_PARAMS, body, RESULT)
        driver.ping()


# --- errors, order, and the ends of a connection


@every_family
def test_what_fails_is_told_in_words_and_the_next_request_is_answered(shop: Any, family: str) -> None:
    collection = f"{family}-errors"
    with shop.log_in(family) as driver:
        driver.insert(collection, {"id": "a"})
        for call, says in (
            (lambda: driver.query("SELEC 1"), "QUERY: SQL only reads here"),
            (lambda: driver.query("SELECT * FROM nowhere"), "QUERY: "),
            (lambda: driver.query("CREATE DOCUMENT c"), "QUERY: .*already exists"),
            (lambda: driver.query("KV GET c.k"), "QUERY: .*not KV"),
            (lambda: driver.query('QUEUE PUSH q {"a":1}'), "QUERY: .*not QUEUE"),
            (lambda: driver.query("CREATE QUEUE IF NOT EXISTS q"), "QUERY: .*not CREATE QUEUE"),
            (lambda: driver.insert(collection, {"id": "a"}), "CONFLICT: 'a' already exists"),
            (lambda: driver.bulk_insert(collection, [{"id": "b"}, {"id": "a"}]), "CONFLICT: 1 of 2 rows"),
            (lambda: driver.insert("sqlite_master", {"n": 1}), "INVALID: collection name"),
            (lambda: driver.get(collection, ""), "INVALID: `id`"),
            (lambda: driver.ask(0x0D, b"", RESULT), "UNSUPPORTED: PREPARE"),
            (lambda: driver.ask(0x99, b"", RESULT), "UNSUPPORTED: 0x99"),
        ):
            with pytest.raises(shop.EngineError, match=f"^{says}"):
                call()
            driver.ping()
        assert driver.get(collection, "b")["found"]


@every_family
def test_a_reader_reads_and_is_told_that_it_may_not_write(shop: Any, family: str) -> None:
    with shop.log_in(family, user="reader") as driver:
        with pytest.raises(shop.EngineError, match="^FORBIDDEN: reader has role read"):
            driver.insert("c", {"n": 1})
        with pytest.raises(shop.EngineError, match="^FORBIDDEN: "):
            driver.delete("c", "a")
        assert driver.get("c", "a")["found"] is False
        assert driver.query("SELECT 1 AS n")["rows"] == [{"n": 1}]


@every_family
def test_a_replica_answers_reads_and_names_the_primary_to_writers(shop: Any, family: str) -> None:
    collection = f"{family}-replica"
    with shop.log_in(family) as driver:
        driver.insert(collection, {"id": "a", "n": 1})
    shop.level()
    with shop.log_in(family, node="us-1") as driver:
        assert driver.get(collection, "a")["entity"] == {"id": "a", "n": 1}
        rows = driver.query(f'SELECT id FROM "{collection}" WHERE id = $1', shop.text("a"))["rows"]
        assert rows == driver.query(f'SELECT id FROM "{collection}"')["rows"] == [{"id": "a"}]
        host, port = shop.address("eu-1")
        for call in (
            lambda: driver.insert(collection, {"id": "b"}),
            lambda: driver.bulk_insert(collection, [{"id": "b"}]),
            lambda: driver.delete(collection, "a"),
        ):
            with pytest.raises(shop.EngineError, match=f"^NOT_PRIMARY: .*the primary is {host}:{port}"):
                call()
        driver.ping()
        assert driver.get(collection, "a")["found"] and not driver.get(collection, "b")["found"]


@pytest.mark.parametrize("family", JS)
def test_answers_come_in_the_order_of_requests_that_do_not_wait(shop: Any, family: str) -> None:
    """Reads, writes and mistakes, quick ones and slow ones, all sent before the first answer is looked at."""
    collection = f"{family}-pipeline"
    with shop.log_in(family) as driver:
        sent: list[tuple[int, int, bytes]] = []
        for number in range(40):
            row = {"collection": collection, "payload": {"id": f"d{number}"}}
            sent += (
                (BULK_OK, driver.request(BULK_INSERT, driver.json(row)), f'"id":"d{number}"'.encode()),
                (
                    RESULT,
                    driver.request(0x19, driver.json({"collection": collection, "id": f"d{number}"})),
                    b"true",
                ),
                (PONG, driver.request(0x17), b""),
                (RESULT, driver.request(QUERY, f"SELECT {number} AS n".encode()), f'"n":{number}'.encode()),
                (ERROR, driver.request(QUERY, b"SELEC"), b"QUERY: "),
            )
        for kind, correlation, part in sent:
            received = driver.line.receive()
            assert (received.kind, received.correlation) == (kind, correlation)
            assert part in received.payload


@every_family
def test_nothing_comes_unasked(shop: Any, family: str) -> None:
    with shop.log_in(family) as driver, shop.log_in("go") as other:
        for number in range(5):
            other.insert(f"{family}-quiet", {"id": str(number)})
        driver.line.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            driver.line.receive()
        driver.line.socket.settimeout(30)
        driver.ping()


def test_an_answer_echoes_the_stream_of_its_request(shop: Any) -> None:
    """A driver skips what speaks of another stream, and would wait for its own for ever."""
    with shop.log_in("js-client") as driver:
        driver.line.send_frame(OPEN_STREAM, 77, b'{"sql":"SELECT 1"}', stream=3)
        received = driver.line.receive()
        assert (received.kind, received.stream, received.correlation) == (STREAM_ERROR, 3, 77)
        told = json.loads(received.payload)
        assert told["code"] == "UNSUPPORTED" and told["message"].startswith("UNSUPPORTED: OPEN_STREAM")
        driver.line.send_frame(STREAM_CANCEL, 78, b"", stream=3)  # and reads nothing in answer to it
        assert driver.query("SELECT 1 AS n")["rows"] == [{"n": 1}]


def test_a_request_may_be_compressed_and_its_answer_is_not(shop: Any) -> None:
    """By a streaming encoder too, which does not tell the size; no driver could read the like from us."""
    with shop.log_in("go") as driver:
        for sized in (True, False):
            compressor = zstandard.ZstdCompressor(write_content_size=sized).compressobj()
            sql = compressor.compress(b"SELECT 'squeezed' AS s") + compressor.flush()
            driver.line.send(struct.pack("<IBBHQ", 16 + len(sql), QUERY, COMPRESSED, 0, 9) + sql)
            assert json.loads(driver.line.receive().payload)["rows"] == [{"s": "squeezed"}]


def test_one_idempotency_key_from_several_connections_is_one_insert(shop: Any) -> None:
    body = {"collection": "once", "idempotency_key": "k-1", "payloads": [{"fields": {"n": 1}}]}
    answers: list[bytes] = []

    def attempt() -> None:
        with shop.log_in("java") as driver:
            answers.append(driver.ask(BULK_INSERT, driver.json(body), BULK_OK))

    attempts = [threading.Thread(target=attempt) for _ in range(6)]
    for each in attempts:
        each.start()
    for each in attempts:
        each.join()
    assert answers == [b'{"ok":true,"count":1}'] * 6
    with shop.log_in("java") as driver:
        assert driver.query("SELECT count(*) AS n FROM once")["rows"] == [{"n": 1}]
        failing = {
            **body,
            "idempotency_key": "k-2",
            "payloads": [{"fields": {"id": "x"}}, {"fields": {"id": "x"}}],
        }
        for _ in range(2):
            with pytest.raises(shop.EngineError) as caught:
                driver.ask(BULK_INSERT, driver.json(failing), BULK_OK)
            told = json.loads(str(caught.value))
            assert (told["ok"], told["code"], told["row_index"]) == (False, "RowSchemaRejected", 1)
        assert driver.query("SELECT count(*) AS n FROM once")["rows"] == [{"n": 1}]


def test_a_newer_minor_version_is_dropped_without_a_word(shop: Any) -> None:
    with contextlib.closing(shop.dial("go")) as line:
        line.send(b"\xfe\x02")
        assert line.ended()


def test_a_driver_without_tls_is_told_in_a_whole_frame_that_the_node_speaks_it(shop: Any) -> None:
    """Those for JavaScript wait for ever for the rest of whatever is shorter."""
    with contextlib.closing(socket.create_connection(shop.address("eu-1"), timeout=10)) as sock:
        sock.sendall(b"\xfe\x01")
        hello = b'{"versions":[1],"auth_methods":["anonymous","bearer"],"features":0}'
        sock.sendall(struct.pack("<IBBHQ", 16 + len(hello), HELLO, 0, 0, 1) + hello)
        said = b"".join(iter(lambda: sock.recv(4096), b""))
    length, kind, flags, *_ = struct.unpack_from("<IBBHQ", said)
    assert (length, kind, flags) == (len(said), AUTH_FAIL, 0)
    assert json.loads(said[16:])["reason"].startswith("this node speaks TLS only: write reds://")


def test_a_greeting_may_come_byte_by_byte(shop: Any) -> None:
    """Without TCP_NODELAY, or from a slow network, it comes in whatever pieces there are."""
    hello = b'{"versions":[1],"auth_methods":["anonymous"],"features":0}'
    with contextlib.closing(shop.dial("php")) as line:
        for byte in b"\xfe\x01" + struct.pack("<IBBHQ", 16 + len(hello), HELLO, 0, 0, 1) + hello:
            line.send(bytes((byte,)))
        received = line.receive()
        assert (received.kind, received.correlation) == (HELLO_ACK, 1)


# --- on a real JavaScript runtime, with its TLS, its event loop and its JSON


def test_a_javascript_driver_does_all_it_can(shop: Any) -> None:
    node = shutil.which("node")
    assert node is not None, "this test needs Node.js: apt-get install nodejs"
    host, port = shop.address("eu-1")
    settings = {
        "host": host,
        "port": port,
        "ca": str(shop.ca),
        "token": shop.tokens["app"],
        "collection": "javascript",
    }
    done = subprocess.run([node, SCRIPT, json.dumps(settings)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["stranger"] == ["anonymous", "anonymous", "pong", "connection closed"]
    assert said["refused"] == "AUTH_REFUSED: the token is not known: it was revoked, or is another cluster's"
    assert said["session"] == ["bearer", "app", "redwire/1", True]
    assert (said["ids"], said["bulk"], said["binary"]) == (["lamp", "number"], 3, 2)
    lamp, numbers, mistake, pong, by_param, conflict, deleted, gone, shown = said["together"]
    exact = {"id": "lamp", "big": {"$int": "9007199254740993"}, "text": "héllo \u2028"}
    assert lamp == {"ok": True, "found": True, "entity": exact}
    assert numbers == [{"n": 0.5}, {"n": -3}]
    assert mistake.startswith("QUERY: SQL only reads here")
    assert (pong, by_param) == ("pong", [{"id": "a"}])
    assert conflict.startswith("CONFLICT: 'a' already exists in javascript")
    assert (deleted, gone) == ({"affected": 1}, {"ok": True, "found": False, "entity": None})
    assert {"name": "javascript", "model": "document"} in shown
    values = [
        None,
        1,
        7,
        {"$int": str(2**62)},
        0.5,
        "x",
        1_000_000,
        {"$bytes": "AP8="},
        "[1.0,2.5]",
        '{"b":1}',
    ]
    assert said["values"] == [{f"v{place}": value for place, value in enumerate(values)}]
    assert said["bye"] == "connection closed"

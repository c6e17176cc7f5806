"""Requests in good frames that cannot be: refused with code and reason, and nothing of them is logged."""

from __future__ import annotations

import struct
from typing import Any

import cbor2
import pytest

from redwire.errors import Code
from redwire.frame import Kind
from redwire.message.read import Fetch, Scan
from redwire.position import ClusterId, Lsn, Term, Token
from tests.cluster.handmade import DELETE, INSERT, in_time, record, request, write

# --- what a request says of itself

LIES: dict[str, bytes] = {
    "nothing": b"",
    "half a header": request(record())[:20],
    "no record": request(),
    "a byte more than it has": request(record(), length=1),
    "a byte less than it has": request(record(), length=-1),
    "no length": request(record(), length=-len(request(record()))),
    "the longest length": request(record(), length=0xFFFF_FFFF - len(request(record()))),
    "another kind": request(record(), kind=2),
    "a configuration": request(record(), kind=3),
    "an account": request(record(), kind=4),
    "an admission": request(record(), kind=5),
    "an unknown kind": request(record(), kind=99),
    "unknown flags": request(record(), flags=2),
    "a record more than it has": request(record(), count=2),
    "a record less than it has": request(record(), record(), count=1),
    "no record, and one is there": request(record(), count=0),
    "a document longer than the request": request(record(lengths=(3, 1, 1000))),
    "an id longer than the request": request(record(lengths=(3, 65_535, 2))),
    "a collection longer than the request": request(record(lengths=(255, 1, 2))),
    "a document shorter than it is": request(record(lengths=(3, 1, 1))),
    "an id that takes the document": request(record(lengths=(3, 3, 0))),
    "half a record header": request(record()[:10], count=1),
    "an unknown operation": request(record(op=0)),
    "another unknown operation": request(record(op=4)),
    "unknown record flags": request(record(flags=2)),
    "a version without its flag": request(record(version=5)),
    "a version on an insert": request(record(op=INSERT, flags=1, version=5)),
    "a delete with a document": request(record(op=DELETE)),
    "a filler that is not zero": request(record()[:3] + b"\x01" + record()[4:]),
    "two requests": request(record()) * 2,
}


@pytest.mark.parametrize("asked", LIES.values(), ids=LIES)
def test_a_request_that_lies_about_itself_is_refused(site: Any, asked: bytes) -> None:
    with site.nothing_written(), site.login("writer") as wire:
        assert wire.error(Kind.WRITE, write(asked)).code is Code.INVALID
        assert site.lives(wire)


ENVELOPES: dict[str, bytes] = {
    "nothing": b"",
    "half": bytes(6),
    "attempt 0": write(request(record()), attempt=0),
    "a policy longer than the frame": write(b"", said=255),
    "a policy that is no UTF-8": write(request(record()), policy=b"\xff"),
}


@pytest.mark.parametrize("body", ENVELOPES.values(), ids=ENVELOPES)
def test_a_write_without_a_whole_envelope_ends_its_session(site: Any, body: bytes) -> None:
    with site.nothing_written(), site.login("writer") as wire:
        wire.send_frame(Kind.WRITE, body)
        (last,) = wire.last_words()
        assert "Write: " in str(site.failure(last))


# --- reads and the rest

TOKEN = Token(ClusterId("ab" * 16), Term(1), Lsn(1)).to_bytes()
FETCH = Fetch("good", "x").encode()
SCAN = Scan("good").encode()
MALFORMED: dict[str, tuple[Kind, bytes]] = {
    "Fetch: nothing": (Kind.FETCH, b""),
    "Fetch: cut short": (Kind.FETCH, FETCH[:-1]),
    "Fetch: a byte more": (Kind.FETCH, FETCH + b"x"),
    "Fetch: unknown flags": (Kind.FETCH, b"\x02" + FETCH[1:]),
    "Fetch: half a token": (Kind.FETCH, b"\x01" + bytes(4) + TOKEN[:31]),
    "Fetch: an id that is longer": (Kind.FETCH, FETCH[:-3] + b"\xff\xffx"),
    "Fetch: an id that is no UTF-8": (Kind.FETCH, FETCH[:-1] + b"\xff"),
    "Fetch: a collection that is no UTF-8": (Kind.FETCH, bytes(5) + b"\x01\xff\x01\0x"),
    "Scan: nothing": (Kind.SCAN, b""),
    "Scan: no limit": (Kind.SCAN, SCAN[:-2]),
    "Scan: limit 0": (Kind.SCAN, SCAN[:-2] + b"\0\0"),
    "Scan: limit 1,001": (Kind.SCAN, SCAN[:-2] + struct.pack("<H", 1_001)),
    "Scan: limit 65,535": (Kind.SCAN, SCAN[:-2] + b"\xff\xff"),
    "Scan: a byte more": (Kind.SCAN, SCAN + b"\0"),
    "Resolve: nothing": (Kind.RESOLVE, b""),
    "Resolve: cut short": (Kind.RESOLVE, bytes(35)),
    "Resolve: a byte more": (Kind.RESOLVE, bytes(37)),
    "Open: a number as name": (Kind.OPEN, b"\xa2\x66client\x01\x69subscribe\xf4"),
    "Open: a name of 300": (Kind.OPEN, b"\xa2\x66client\x79\x01\x2c" + b"x" * 300 + b"\x69subscribe\xf4"),
    "Open: a number as yes": (Kind.OPEN, b"\xa2\x66client\x61x\x69subscribe\x01"),
    "Open: something else too": (Kind.OPEN, b"\xa3\x66client\x61x\x69subscribe\xf4\x61y\x01"),
    "Account: half a deadline": (Kind.ACCOUNT, bytes(3)),
    "Account: a deadline alone": (Kind.ACCOUNT, bytes(4)),
    "ChangeSettings: nothing": (Kind.CHANGE_SETTINGS, b""),
    "Account: no change": (Kind.ACCOUNT, in_time(b"\xa1\x64name\x61x")),
    "Account: an unknown change": (
        Kind.ACCOUNT,
        in_time(b"\xa2\x66change\x65crown\x64name\x61x"),
    ),
    "Account: a name with a slash": (
        Kind.ACCOUNT,
        in_time(b"\xa2\x66change\x6bremove_user\x64name\x63a/b"),
    ),
    "Account: no name": (Kind.ACCOUNT, in_time(b"\xa2\x66change\x6bremove_user\x64name\x60")),
    "AccountsRequest: no list": (Kind.ACCOUNTS_REQUEST, b"\xa1\x65after\x60"),
    "AccountsRequest: limit 0": (Kind.ACCOUNTS_REQUEST, b"\xa2\x64list\x65users\x65limit\x00"),
    "AccountsRequest: limit 201": (Kind.ACCOUNTS_REQUEST, b"\xa2\x64list\x65users\x65limit\x18\xc9"),
    "AccountsRequest: a name with a slash": (
        Kind.ACCOUNTS_REQUEST,
        b"\xa2\x64list\x66tokens\x64user\x63a/b",
    ),
    "Account: a newline in a name": (
        Kind.ACCOUNT,
        in_time(b"\xa2\x66change\x6bremove_user\x64name\x62a\n"),
    ),
}


@pytest.mark.parametrize(("kind", "body"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_of_our_kinds_is_told_why_and_ends_its_session(
    site: Any, kind: Kind, body: bytes
) -> None:
    with site.nothing_written(), site.login("ops") as wire:
        wire.send_frame(kind, body, 7)
        (last,) = wire.last_words()
        assert last.correlation == 7
        error = site.failure(last)
        assert error.code is Code.INVALID and len(str(error)) > 20


def test_users_that_could_never_log_in_are_not_made(site: Any) -> None:
    def change(**fields: object) -> dict[str, object]:
        verifier = {"salt": bytes(16), "iterations": 16_384, "stored_key": bytes(32), "server_key": bytes(32)}
        whole = {
            "change": "put_user",
            "name": "x",
            "role": "read",
            "verifier": verifier,
            "topology_read": False,
        }
        return {**whole, **fields}

    good = change()["verifier"]
    wrong = [
        change(name="x" * 65),
        change(name="a b"),
        change(role="root"),
        change(role="replicator"),
        change(topology_read=1),
        change(verifier=None),
        *(
            change(verifier={**good, name: value})
            for name, value in (
                ("salt", b""),
                ("salt", bytes(65)),
                ("iterations", 0),
                ("iterations", 4_095),
                ("iterations", 600_001),
                ("iterations", 1 << 64),
                ("stored_key", bytes(31)),
                ("server_key", "x" * 32),
            )
        ),
    ]
    with site.nothing_written():
        for each in wrong:
            with site.login("ops") as wire:
                (last,) = (
                    wire.send_frame(Kind.ACCOUNT, in_time(cbor2.dumps(each))),
                    wire.last_words(),
                )[1]
                assert "body" in str(site.failure(last)) or "byte" in str(site.failure(last)), each


DRIVERS: dict[str, tuple[Kind, bytes]] = {
    **{
        f"{kind.name}: {name}": (kind, body)
        for kind in (Kind.GET, Kind.DELETE, Kind.BULK_INSERT)
        for name, body in {
            "nothing": b"",
            "no JSON": b"hello",
            "a list": b"[]",
            "half": b'{"collection":"bad","id":',
            "no UTF-8": b'{"collection":"\xff","id":"x"}',
            "nothing in it": b"{}",
            "a number as collection": b'{"collection":1,"id":"x","payload":{}}',
            "null as collection": b'{"collection":null,"id":"x","payload":{}}',
            "brackets without end": b"[" * 15_000,
            "objects without end": b'{"a":' * 3_000,
        }.items()
    },
    "GET: no id": (Kind.GET, b'{"collection":"bad"}'),
    "GET: a number as id": (Kind.GET, b'{"collection":"bad","id":1}'),
    "DELETE: null as id": (Kind.DELETE, b'{"collection":"bad","id":null}'),
    "BULK_INSERT: no rows": (Kind.BULK_INSERT, b'{"collection":"bad"}'),
    "BULK_INSERT: both": (Kind.BULK_INSERT, b'{"collection":"bad","payload":{},"payloads":[{}]}'),
    "BULK_INSERT: rows of no kind": (Kind.BULK_INSERT, b'{"collection":"bad","payloads":[1,null,"x"]}'),
    "BULK_INSERT: an object of rows": (Kind.BULK_INSERT, b'{"collection":"bad","payloads":{"a":{}}}'),
    "BULK_INSERT: a number as batch": (Kind.BULK_INSERT, b'{"collection":"bad","batch":1,"payload":{}}'),
    "BULK_INSERT: an empty key": (
        Kind.BULK_INSERT,
        b'{"collection":"bad","idempotency_key":"","payload":{}}',
    ),
    "BULK_INSERT: rows without fields": (
        Kind.BULK_INSERT,
        b'{"collection":"bad","batch":true,"payloads":[{}]}',
    ),
    "BULK_INSERT_BINARY: nothing": (Kind.BULK_INSERT_BINARY, b""),
    "BULK_INSERT_BINARY: a name that is longer": (Kind.BULK_INSERT_BINARY, b"\xff\xffbad"),
    "BULK_INSERT_BINARY: 65,535 columns": (Kind.BULK_INSERT_BINARY, b"\x03\0bad\xff\xff" + bytes(100)),
    "BULK_INSERT_BINARY: a column twice": (
        Kind.BULK_INSERT_BINARY,
        b"\x03\0bad\x02\0\x01\0a\x01\0a" + bytes(4),
    ),
    "BULK_INSERT_BINARY: an unknown tag": (
        Kind.BULK_INSERT_BINARY,
        b"\x03\0bad\x01\0\x01\0a\x01\0\0\0\xff",
    ),
    "BULK_INSERT_BINARY: a text that is longer": (
        Kind.BULK_INSERT_BINARY,
        b"\x03\0bad\x01\0\x01\0a\x01\0\0\0\x03\xff\xff\xff\xff",
    ),
    "BULK_INSERT_BINARY: a byte more": (
        Kind.BULK_INSERT_BINARY,
        b"\x03\0bad\x01\0\x01\0a\x01\0\0\0\x04\x01x",
    ),
    "QUERY: nothing": (Kind.QUERY, b""),
    "QUERY: no UTF-8": (Kind.QUERY, b"SELECT '\xff'"),
    "QUERY: NUL": (Kind.QUERY, b"SELECT 1\0"),
    "QUERY: two statements": (Kind.QUERY, b"SELECT 1; SELECT 2"),
    "QUERY: more than 1 MiB": (Kind.QUERY, b"SELECT " + b"1," * (600 << 10) + b"1"),
    "QUERY: brackets without end": (Kind.QUERY, b"SELECT " + b"(" * 100_000),
    "QUERY: a write": (Kind.QUERY, b"INSERT INTO good VALUES (1)"),
    "QUERY: a write in a WITH": (Kind.QUERY, b"WITH x AS (SELECT 1) DELETE FROM docs"),
    "QUERY: the tables below": (Kind.QUERY, b"SELECT * FROM docs"),
    "QUERY: the users": (Kind.QUERY, b"SELECT * FROM main.users"),
    "QUERY: the schema": (Kind.QUERY, b"SELECT * FROM sqlite_master"),
    "QUERY: a pragma": (Kind.QUERY, b"PRAGMA table_list"),
    "QUERY: a pragma as function": (Kind.QUERY, b"SELECT * FROM pragma_table_list"),
    "QUERY: another file": (Kind.QUERY, b"ATTACH '/etc/passwd' AS x"),
    "QUERY: an extension": (Kind.QUERY, b"SELECT load_extension('x')"),
    "QUERY: a file": (Kind.QUERY, b"SELECT readfile('/etc/passwd')"),
    "QUERY: a million rows": (
        Kind.QUERY,
        b"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
    ),
    "QUERY: a value of a gigabyte": (Kind.QUERY, b"SELECT replace(printf('%1000000000d', 1), ' ', 'xxxx')"),
    "QUERY: a document of a gigabyte": (Kind.QUERY, b"SELECT zeroblob(1000000000)"),
    "QUERY_BINARY: no UTF-8": (Kind.QUERY_BINARY, b"\xff"),
    "QUERY_WITH_PARAMS: nothing": (Kind.QUERY_WITH_PARAMS, b""),
    "QUERY_WITH_PARAMS: 2^32 parameters": (
        Kind.QUERY_WITH_PARAMS,
        struct.pack("<I8s", 8, b"SELECT 1") + b"\xff" * 4,
    ),
    "QUERY_WITH_PARAMS: an unknown tag": (
        Kind.QUERY_WITH_PARAMS,
        struct.pack("<I9sIB", 9, b"SELECT $1", 1, 99),
    ),
    "QUERY_WITH_PARAMS: a vector of 2^32": (
        Kind.QUERY_WITH_PARAMS,
        struct.pack("<I9sIBI", 9, b"SELECT $1", 1, 6, 0xFFFF_FFFF),
    ),
    "QUERY_WITH_PARAMS: a trailer of another kind": (
        Kind.QUERY_WITH_PARAMS,
        struct.pack("<I8sI", 8, b"SELECT 1", 0) + b"RQP2" + bytes(4),
    ),
    "QUERY_WITH_PARAMS: too few values": (
        Kind.QUERY_WITH_PARAMS,
        struct.pack("<I9sI", 9, b"SELECT $2", 0),
    ),
}


@pytest.mark.parametrize(("kind", "body"), DRIVERS.values(), ids=DRIVERS)
def test_a_drivers_request_that_cannot_be_is_told_why_and_the_connection_lives(
    site: Any, kind: Kind, body: bytes
) -> None:
    with site.nothing_written(), site.login("ops") as wire:
        before = site.rest_bytes()
        site.forget_peak()
        answer = wire.ask(kind, body)
        assert answer.kind == Kind.ERROR
        said = answer.payload.decode()
        assert said.split(":")[0] in ("INVALID", "QUERY", "TOO_LARGE", "TIMEOUT") or "RowParseFailure" in said
        assert site.peak_bytes() < before + (64 << 20)
        assert site.lives(wire)

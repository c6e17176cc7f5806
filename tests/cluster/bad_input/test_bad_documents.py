"""Names, ids, documents and sizes that cannot be: refused by every kind, and nothing is logged."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from redwire.errors import Code
from redwire.frame import Kind
from redwire.message.client import RecordStatus, decode_written
from redwire.message.read import Fetch, Fetched, Scan, Scanned
from redwire.record import DOC_BYTES_MAX, Op, Record
from tests.cluster.handmade import DELETE, INSERT, PUT, record, request, text, write

# --- names

NAMES: dict[str, bytes] = {
    "nothing": b"",
    "a way up": b"../../etc",
    "a slash": b"a/b",
    "a dot in front": b".hidden",
    "NUL": b"a\0b",
    "a newline": b"a\nb",
    "a newline at the end": b"good\n",
    "a quote": b"a'b",
    "two quotes": b'"; DROP TABLE docs; --',
    "sqlite_": b"sqlite_master",
    "SQLite_ in capitals": b"SQLITE_x",
    "a letter beyond ASCII": "\u00e4".encode(),
    "a capital beyond ASCII that lowers to k": "\u212a".encode(),
    "no UTF-8": b"\xff\xfe",
    "65 letters": b"a" * 65,
    "255 letters": b"a" * 255,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_no_collection_has_is_refused_by_every_kind(site: Any, name: bytes) -> None:
    shown = name.decode(errors="replace")
    with site.nothing_written(), site.login("ops") as wire:
        for op in (PUT, INSERT, DELETE):
            doc = b"" if op == DELETE else b"{}"
            error = wire.error(Kind.WRITE, write(request(record(), record(name, doc=doc, op=op))))
            assert (error.code, error.facts["record"]) == (Code.INVALID, 1)
            assert "1 to 64 of A-Z a-z 0-9 . _ -" in str(error)
        for kind in (Kind.GET, Kind.DELETE):
            assert "INVALID" in str(wire.error(kind, text({"collection": shown, "id": "x"})))
        for rows in ({"payload": {}}, {"payloads": [{}]}, {"batch": True, "payloads": [{"fields": {}}]}):
            assert "INVALID" in str(wire.error(Kind.BULK_INSERT, text({"collection": shown, **rows})))
        for kind in (Kind.BULK_INSERT_BINARY, Kind.BULK_INSERT_PREVALIDATED):
            body = struct.pack("<H", len(name)) + name + struct.pack("<HHsIBB", 1, 1, b"a", 1, 4, 1)
            assert "INVALID" in str(wire.error(kind, body))
        sql = f'SELECT * FROM "{shown.replace(chr(34), chr(34) * 2)}"'
        assert str(wire.error(Kind.QUERY, sql.encode())).startswith("QUERY: ")
        assert site.lives(wire)
        fetch = bytes(5) + bytes((len(name),)) + name
        for kind, body in ((Kind.FETCH, fetch + b"\x01\0x"), (Kind.SCAN, fetch + b"\0\0\x0a\0")):
            with site.login() as other:
                assert other.error(kind, body).code is Code.INVALID


def test_a_name_that_differs_only_in_case_from_anothers_creates_nothing(site: Any) -> None:
    with site.login("ops") as wire:
        assert site.put(wire, "x", collection="Orders").kind == Kind.WRITTEN
        for op in (Op.PUT, Op.INSERT):
            answer = wire.ask(Kind.WRITE, site.write_body(Record(op, "orders", "x", b"{}")))
            ((entry,),) = [decode_written(answer.payload)[1]]
            assert entry.results == [(RecordStatus.EXISTS, 0)]
        for rows in ({"payload": {}}, {"payloads": [{}, {}]}, {"batch": True, "payloads": [{"fields": {}}]}):
            assert "only in case" in str(wire.error(Kind.BULK_INSERT, text({"collection": "ORDERS", **rows})))
        assert wire.ask(Kind.DELETE, text({"collection": "orders", "id": "x"})).payload == b'{"affected":0}'
        for name in ("orders", "ORDERS"):
            assert not Fetched.decode(wire.ask(Kind.FETCH, Fetch(name, "x").encode()).payload).found
            assert Scanned.decode(wire.ask(Kind.SCAN, Scan(name).encode()).payload).rows == ()
        shown = json.loads(wire.ask(Kind.QUERY, b"SHOW COLLECTIONS").payload)
        assert [row["name"] for row in shown["rows"] if row["name"].lower() == "orders"] == ["Orders"]


# --- ids and documents

IDS: dict[str, bytes] = {
    "nothing": b"",
    "513 bytes": b"x" * 513,
    "65,535 bytes": b"x" * 65_535,
    "NUL": b"a\0b",
    "no UTF-8": b"\xff",
    "half a character": "\u00e4".encode()[:1],
    "half a pair": b"\xed\xa0\x80",
    "a longer form": b"\xc0\x80",
}


@pytest.mark.parametrize("ident", IDS.values(), ids=IDS)
def test_an_id_that_cannot_be_is_refused(site: Any, ident: bytes) -> None:
    with site.nothing_written(), site.login("ops") as wire:
        for op in (PUT, DELETE, INSERT):
            if op != INSERT or ident:  # an insert may leave it to the node
                error = wire.error(
                    Kind.WRITE, write(request(record(ident=ident, op=op, doc=b"{}"[: op % 3 * 2])))
                )
                assert (error.code, error.facts["record"]) == (Code.INVALID, 0), error
        assert site.lives(wire)


DRIVER_IDS: dict[str, bytes] = {
    "nothing": b'""',
    "NUL": b'"a\\u0000b"',
    "half a pair": b'"\\ud800"',
    "no UTF-8": b'"\xff"',
    "513 bytes": b'"%s"' % (b"x" * 513),
    "true": b"true",
    "a float": b"1.5",
    "an exponent": b"1e3",
    "a list": b"[1]",
    "an object": b'{"a":"1"}',
    "two exact numbers": b'{"$int":"1","$uint":"1"}',
    "an exact number that is none": b'{"$int":"1; DROP"}',
}


@pytest.mark.parametrize("ident", DRIVER_IDS.values(), ids=DRIVER_IDS)
def test_an_id_that_cannot_be_is_refused_by_drivers_kinds(site: Any, ident: bytes) -> None:
    row = b'{"id":%s}' % ident
    with site.nothing_written(), site.login("ops") as wire:
        for body in (b'"payload":%s' % row, b'"payloads":[{},%s]' % row):
            assert "INVALID" in str(wire.error(Kind.BULK_INSERT, b'{"collection":"bad",%s}' % body))
        batch = wire.ask(
            Kind.BULK_INSERT, b'{"collection":"bad","batch":true,"payloads":[{"fields":%s}]}' % row
        )
        answer = batch.payload.decode()
        assert batch.kind == Kind.ERROR and ("RowParseFailure" in answer or "INVALID" in answer)
        body = b'{"collection":"bad","id":%s}' % ident
        assert "INVALID" in str(wire.error(Kind.DELETE, body))
        got = wire.ask(Kind.GET, body)  # one that no document has may be asked for
        assert got.kind == Kind.ERROR or b'"found":false' in got.payload
        assert site.lives(wire)


DOCUMENTS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half a document": b'{"a":',
    "a document and more": b"{} {}",
    "a list": b"[]",
    "a text": b'"x"',
    "a number": b"1",
    "null": b"null",
    "no UTF-8": b'{"a":"\xff"}',
    "NUL": b'{"a":"\0"}',
    "NUL behind it": b"{}\0",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "NaN": b'{"a":NaN}',
    "a comment": b"{/**/}",
    "100,000 lists in each other": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a million objects in each other": b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000,
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_what_is_no_document_is_refused(site: Any, document: bytes) -> None:
    with site.nothing_written(), site.login("ops") as wire:
        for op in (PUT, INSERT):
            error = wire.error(Kind.WRITE, write(request(record(), record(doc=document, op=op))))
            assert (error.code, error.facts["record"]) == (Code.INVALID, 1)
            assert "the document" in str(error)
        if document != b"[]":  # which is an empty document, as PHP sends it
            for row in (b'"payload":%s', b'"payloads":[{},%s]', b'"batch":true,"payloads":[{"fields":%s}]'):
                answer = wire.ask(Kind.BULK_INSERT, b'{"collection":"bad",%s}' % (row % document))
                assert answer.kind == Kind.ERROR, answer
                assert b"INVALID" in answer.payload or b"RowParseFailure" in answer.payload
        assert site.lives(wire)


# --- sizes


def test_what_is_too_large_or_too_many_is_refused_as_that(site: Any) -> None:
    half = b'{"a":"%s"}' % (b"x" * (7_900_000))
    large = b'{"a":"%s"}' % (b"x" * DOC_BYTES_MAX)
    many = [record(doc=b"{}")] * 10_001
    too_much: dict[str, tuple[bytes, Code, str]] = {
        "a document": (request(record(doc=large)), Code.TOO_LARGE, "at most 8388608"),
        "a document that is said to be": (
            request(record(lengths=(3, 1, 1 << 31))),
            Code.TOO_LARGE,
            "2147483648, at most 8388608",
        ),
        "a request": (request(record(doc=half), record(doc=half)), Code.TOO_LARGE, "at most 15728640"),
        "records": (request(*many), Code.BATCH_TOO_LARGE, "10001, at most 10000"),
        "records that are said to be": (
            request(record(), count=65_535),
            Code.BATCH_TOO_LARGE,
            "65535, at most 10000",
        ),
    }
    with site.nothing_written(), site.login("ops") as wire:
        for asked, code, why in too_much.values():
            error = wire.error(Kind.WRITE, write(asked))
            assert error.code is code and why in str(error)
        rows = b",".join([b"{}"] * 10_001)
        said = str(wire.error(Kind.BULK_INSERT, b'{"collection":"bad","payloads":[%s]}' % rows))
        assert said.startswith("BATCH_TOO_LARGE")
        single = b'{"collection":"bad","payload":%s}' % large
        assert str(wire.error(Kind.BULK_INSERT, single)).startswith("TOO_LARGE")
        two = b'{"collection":"bad","payloads":[%s,%s]}' % (half, half)
        assert str(wire.error(Kind.BULK_INSERT, two)).startswith("TOO_LARGE")
        binary = struct.pack("<H3sH", 3, b"bad", 0) + struct.pack("<I", 0xFFFF_FFFF)
        assert str(wire.error(Kind.BULK_INSERT_BINARY, binary)).startswith("BATCH_TOO_LARGE")
        assert str(wire.error(Kind.GET, b'{"collection":"bad","id":"x"}' + b" " * (16 << 10))).startswith(
            "TOO_L"
        )
        assert site.lives(wire)


def test_a_row_that_repeats_long_names_is_refused_by_what_it_would_become(site: Any) -> None:
    """A frame of 80 KB that would make 650 MB of JSON."""
    name = b"n" * 65_000
    body = (
        struct.pack("<H3sHH", 3, b"bad", 1, len(name))
        + name
        + struct.pack("<I", 10_000)
        + b"\x04\x01" * 10_000
    )
    with site.nothing_written(), site.login("ops") as wire:
        before = site.rest_bytes()
        site.forget_peak()
        assert str(wire.error(Kind.BULK_INSERT_BINARY, body)).startswith("TOO_LARGE")
        assert site.peak_bytes() < before + (48 << 20)

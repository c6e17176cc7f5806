"""Requests in good frames that cannot be: refused with code and reason, and nothing of them is logged.

Bodies are made by hand here: our own encoders would refuse to make most of them.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import cbor2
import pytest

from redwire.errors import Code
from redwire.frame import Kind
from redwire.message.client import RecordStatus, Resolve, decode_written
from redwire.message.read import Fetch, Fetched, Scan, Scanned
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.record import DOC_BYTES_MAX, NO_CLIENT, RECORD_HEADER, REQUEST_HEADER, Key, Op, Record
from tests.cluster.forked_cluster import ForkedCluster
from tools.dev.plan import ClusterPlan, NodePlan

PUT, INSERT, DELETE = 1, 2, 3
NOBODY = NO_CLIENT


def record(
    collection: bytes = b"bad",
    ident: bytes = b"x",
    doc: bytes = b"{}",
    *,
    op: int = PUT,
    flags: int = 0,
    version: int = 0,
    lengths: tuple[int, int, int] | None = None,
) -> bytes:
    """One record, whatever is in it; `lengths` are what it says instead of the truth."""
    sizes = lengths or (len(collection), len(ident), len(doc))
    return RECORD_HEADER.pack(op, flags, *sizes, version) + collection + ident + doc


def request(
    *records: bytes,
    count: int | None = None,
    length: int = 0,
    kind: int = 1,
    flags: int = 0,
    key: tuple[bytes, int, int] = (NOBODY, 0, 0),
) -> bytes:
    """One request; it says `length` bytes more than it has."""
    body = b"".join(records)
    said = len(records) if count is None else count
    return REQUEST_HEADER.pack(REQUEST_HEADER.size + len(body) + length, kind, flags, said, *key) + body


def write(asked: bytes, *, policy: bytes = b"", said: int | None = None, attempt: int = 1) -> bytes:
    """The body of a Write around a request."""
    return struct.pack("<IHB", 5000, attempt, len(policy) if said is None else said) + policy + asked


def text(value: object) -> bytes:
    return json.dumps(value).encode()


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
        before = site.rss_bytes()
        site.forget_peak()
        assert str(wire.error(Kind.BULK_INSERT_BINARY, body)).startswith("TOO_LARGE")
        assert site.peak_bytes() < before + (48 << 20)


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


# --- keys


def test_a_key_that_cannot_be_is_refused(site: Any) -> None:
    with site.login("writer") as first:
        mine, other = site.client_id(first), site.client_id(first)
    far = bytes.fromhex("ffffffffffffffff") + bytes(16)
    soon = (1 << 40).to_bytes(8, "little") + bytes(16)
    keys: dict[str, tuple[tuple[bytes, int, int], Code]] = {
        "no client, and a sequence": ((NOBODY, 1, 0), Code.INVALID),
        "no client, and an oldest": ((NOBODY, 0, 1), Code.INVALID),
        "sequence 0": ((mine, 0, 0), Code.INVALID),
        "oldest 0": ((mine, 1, 0), Code.INVALID),
        "oldest above the sequence": ((mine, 1, 2), Code.INVALID),
        "a sequence 4,096 above the oldest": ((mine, 4_097, 1), Code.INVALID),
        "the highest sequence": ((mine, (1 << 64) - 1, 1), Code.INVALID),
        "a client that nobody issued": ((soon, 1, 1), Code.KEY_EXPIRED),
        "the last client of all": ((far, 1, 1), Code.KEY_EXPIRED),
    }
    assert mine == other, "one session is one client"
    with site.login("writer") as wire:
        for name, (key, code) in keys.items():
            error = wire.error(Kind.WRITE, write(request(record(b"keys"), key=key)))
            assert error.code is code, f"{name}: {error}"
            if key[0] != NOBODY and key[1]:
                resolved = wire.error(Kind.RESOLVE, key[0] + struct.pack("<Q", key[1]))
                known = Code.NOT_FOUND if key[0] == mine else Code.FORBIDDEN
                assert resolved.code is (Code.INVALID if key[1] >> 63 else known), f"{name}: {resolved}"
        fetched = wire.ask(Kind.FETCH, Fetch("keys", "x").encode())
        assert not Fetched.decode(fetched.payload).found
        beyond = Key(mine, 1 << 63, 1 << 63)  # nobody could ask what became of it
        refused = wire.error(Kind.WRITE, site.write_body(Record(Op.PUT, "keys", "y", b"{}"), key=beyond))
        assert refused.code is Code.INVALID
        last = Key(mine, (1 << 63) - 1, (1 << 63) - 1)  # may be: its client has nothing older open
        assert wire.ask(Kind.WRITE, site.write_body(Record(Op.PUT, "keys", "y", b"{}"), key=last)).kind == (
            Kind.WRITTEN
        )


def test_nobody_takes_or_closes_the_key_of_another_user(site: Any) -> None:
    theirs, ours = (Record(Op.PUT, "stolen", "x", doc) for doc in (b'{"of":"thief"}', b'{"of":"owner"}'))
    with site.login("writer") as owner, site.login("reader") as reader, site.login() as stranger:
        client, others = site.client_id(owner), [site.client_id(reader), site.client_id(stranger)]
        key = Key(client, 1, 1)
        with site.login("ops") as thief:
            refused = thief.error(Kind.WRITE, site.write_body(theirs, key=key))
            assert refused.code is Code.KEY_EXPIRED and "not issued to this user" in str(refused)
        for other in others:
            assert (
                owner.error(Kind.WRITE, site.write_body(theirs, key=Key(other, 1, 1))).code
                is Code.KEY_EXPIRED
            )
            assert owner.error(Kind.RESOLVE, Resolve(other, 1).encode()).code is Code.FORBIDDEN
        assert owner.ask(Kind.WRITE, site.write_body(ours, key=key)).kind == Kind.WRITTEN
        fetched = Fetched.decode(owner.ask(Kind.FETCH, Fetch("stolen", "x").encode()).payload)
        assert fetched.document == ours.doc
        with site.login("ops") as admin:  # may ask for any, and settles it
            assert admin.ask(Kind.RESOLVE, Resolve(client, 1).encode()).kind == Kind.WRITTEN
            assert admin.error(Kind.RESOLVE, Resolve(client, 2).encode()).code is Code.NOT_FOUND
        closed = owner.error(Kind.WRITE, site.write_body(ours, key=Key(client, 2, 1)))
        assert closed.code is Code.KEY_CLOSED
    with site.login("writer") as again:  # another session of the same user
        assert again.ask(Kind.WRITE, site.write_body(ours, key=Key(client, 3, 1))).kind == Kind.WRITTEN


def test_asking_for_a_key_that_has_expired_for_good_costs_no_record(site: Any) -> None:
    put = Record(Op.PUT, "expired", "x", b"{}")

    def written(sequence: int) -> int:
        frame = wire.ask(Kind.WRITE, site.write_body(put, key=Key(client, sequence, sequence)))
        return decode_written(frame.payload)[1][0].first_lsn

    with site.login("writer") as wire:
        client = site.client_id(wire)
        written(1)
        before = written(2)
        for _ in range(5):
            assert wire.error(Kind.RESOLVE, Resolve(client, 1).encode()).code is Code.KEY_EXPIRED
        assert written(3) == before + 1


def test_a_later_attempt_by_a_policy_that_cannot_be_is_refused_only_where_no_earlier_one_was_executed(
    site: Any,
) -> None:
    put = Record(Op.PUT, "attempts", "x", b"{}")
    with site.login("writer") as wire:
        client = site.client_id(wire)
        assert wire.ask(Kind.WRITE, site.write_body(put, key=Key(client, 1, 1))).kind == Kind.WRITTEN
        told = [
            wire.error(Kind.WRITE, site.write_body(put, key=key, attempt=attempt, policy="ack_n=9")).code
            for key in (Key(client, 1, 1), Key(client, 2, 1))
            for attempt in (1, 2)
        ]
        assert told == [
            Code.COMMIT_POLICY_INVALID,  # of a first attempt nothing can have been executed
            Code.NOT_CONFIRMED,
            Code.COMMIT_POLICY_INVALID,
            Code.COMMIT_POLICY_INVALID,
        ]


# --- policies

POLICIES: dict[str, bytes] = {
    "a word that is none": b"everywhere",
    "almost a word": b"majorty",
    "blanks": b"   ",
    "NUL": b"majority\0",
    "a dangling and": b"local &",
    "a doubled and": b"local && majority",
    "a number that is none": b"ack_n=",
    "no copies": b"ack_n=0",
    "fewer than none": b"ack_n=-1",
    "a number beyond all voters": b"ack_n=2",
    "a number beyond all numbers": b"ack_n=" + b"9" * 240,
    "digits of another script": "ack_n=\u0661".encode(),
    "no region": b"regions()",
    "a region without a voter": b"regions(ap)",
    "a region in capitals": b"regions(EU)",
    "a region twice": b"regions(eu,eu)",
    "more regions than named": b"regions(3 of eu,us)",
    "no region of two": b"regions(0 of eu,us)",
    "an open bracket": b"regions(eu",
    "a hundred open brackets": b"(" * 100,
    "the archive": b"remote_wal",
    "the archive beside others": b"local & remote_wal & majority",
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_policy_that_cannot_be_is_refused_before_logging(site: Any, policy: bytes) -> None:
    sql = b"SELECT 1"
    with site.nothing_written(), site.login("writer") as wire:
        error = wire.error(Kind.WRITE, write(request(record()), policy=policy))
        assert error.code is Code.COMMIT_POLICY_INVALID, error
        if error.facts.get("position"):  # no policy by itself: a query says so too, though it only reads
            trailer = b"RQP1" + struct.pack("<I", len(policy)) + policy
            body = struct.pack("<I", len(sql)) + sql + bytes(4) + trailer
            assert str(wire.error(Kind.QUERY_WITH_PARAMS, body)).startswith("COMMIT_POLICY_INVALID")
        assert site.lives(wire)


def test_a_policy_below_the_floor_is_refused_before_logging(site_of: Any, tmp_path: Any) -> None:
    plan = ClusterPlan(
        (NodePlan("eu-1", "eu"), NodePlan("us-1", "us")), settings={"policy": "majority", "floor": "majority"}
    )
    site = site_of(ForkedCluster(plan, tmp_path))
    site.cluster.start()
    site.cluster.wait_ready()
    site.check()
    with site.nothing_written(), site.login("ops") as wire:
        for policy in (b"local", b"regions(eu)", b"LOCAL & regions(1 of eu,us)"):
            error = wire.error(Kind.WRITE, write(request(record()), policy=policy))
            assert error.code is Code.COMMIT_POLICY_BELOW_FLOOR, error
            assert "leave the policy out" in str(error)
        assert site.lives(wire)
    site.check()


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
    "Resolve: cut short": (Kind.RESOLVE, bytes(23)),
    "Resolve: a byte more": (Kind.RESOLVE, bytes(25)),
    "Open: a number as name": (Kind.OPEN, b"\xa2\x66client\x01\x69subscribe\xf4"),
    "Open: a name of 300": (Kind.OPEN, b"\xa2\x66client\x79\x01\x2c" + b"x" * 300 + b"\x69subscribe\xf4"),
    "Open: a number as yes": (Kind.OPEN, b"\xa2\x66client\x61x\x69subscribe\x01"),
    "Open: something else too": (Kind.OPEN, b"\xa3\x66client\x61x\x69subscribe\xf4\x61y\x01"),
    "Account: no change": (Kind.ACCOUNT, b"\xa1\x64name\x61x"),
    "Account: an unknown change": (Kind.ACCOUNT, b"\xa2\x66change\x65crown\x64name\x61x"),
    "Account: a name with a slash": (Kind.ACCOUNT, b"\xa2\x66change\x6bremove_user\x64name\x63a/b"),
    "Account: no name": (Kind.ACCOUNT, b"\xa2\x66change\x6bremove_user\x64name\x60"),
    "AccountsRequest: no list": (Kind.ACCOUNTS_REQUEST, b"\xa1\x65after\x60"),
    "AccountsRequest: limit 0": (Kind.ACCOUNTS_REQUEST, b"\xa2\x64list\x65users\x65limit\x00"),
    "AccountsRequest: limit 201": (Kind.ACCOUNTS_REQUEST, b"\xa2\x64list\x65users\x65limit\x18\xc9"),
    "AccountsRequest: a name with a slash": (
        Kind.ACCOUNTS_REQUEST,
        b"\xa2\x64list\x66tokens\x64user\x63a/b",
    ),
    "Account: a newline in a name": (Kind.ACCOUNT, b"\xa2\x66change\x6bremove_user\x64name\x62a\n"),
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
        verifier = {"salt": bytes(16), "iterations": 4096, "stored_key": bytes(32), "server_key": bytes(32)}
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
                (last,) = (wire.send_frame(Kind.ACCOUNT, cbor2.dumps(each)), wire.last_words())[1]
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
        before = site.rss_bytes()
        site.forget_peak()
        answer = wire.ask(kind, body)
        assert answer.kind == Kind.ERROR
        said = answer.payload.decode()
        assert said.split(":")[0] in ("INVALID", "QUERY", "TOO_LARGE", "TIMEOUT") or "RowParseFailure" in said
        assert site.peak_bytes() < before + (64 << 20)
        assert site.lives(wire)

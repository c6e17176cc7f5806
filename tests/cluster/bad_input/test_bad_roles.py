"""Every kind in every role: what a role may not do is refused in words, and the connection lives.

Each request is one that its proper sender could send, so that only the role stands in its way.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from redwire.body import encode
from redwire.frame import Kind, kind_name
from redwire.message.admin import AccountDone, RemoveUser, UsersAsked
from redwire.message.client import Open, Resolve
from redwire.message.peer import Ack, SnapshotFetch
from redwire.message.read import Fetch, Scan
from redwire.message.settings import ChangeSettings, SetPolicy
from redwire.record import NO_CLIENT, Op, Record
from tests.cluster.handmade import in_time
from tests.reports import report

SQL = b"SELECT id FROM good LIMIT 1"
TARGET = b'{"collection":"good","id":"nobody"}'
COLLECTION = b"\x05\0roles"


NO_CHANGE = ChangeSettings(change=SetPolicy(policy_timeout_ms=10_000))
"""What is so already: a cluster of which most members are out commits no other change."""


def served(site: Any, client: bytes) -> dict[Kind, tuple[str, Kind, bytes]]:
    """What clients are served: the role that each kind takes, what answers it, and a body in order."""
    put = site.write_body(Record(Op.PUT, "roles", "x", b'{"a":1}'))
    row = COLLECTION + b"\x01\0\x01\0a\x01\0\0\0\x04\x01"
    return {
        Kind.QUERY: ("read", Kind.RESULT, SQL),
        Kind.QUERY_BINARY: ("read", Kind.RESULT, SQL),
        Kind.QUERY_WITH_PARAMS: ("read", Kind.RESULT, struct.pack("<I", len(SQL)) + SQL + bytes(4)),
        Kind.GET: ("read", Kind.RESULT, TARGET),
        Kind.PING: ("read", Kind.PONG, b""),
        Kind.BULK_INSERT: ("write", Kind.BULK_OK, b'{"collection":"roles","payload":{"a":1}}'),
        Kind.BULK_INSERT_BINARY: ("write", Kind.BULK_OK, row),
        Kind.BULK_INSERT_PREVALIDATED: ("write", Kind.BULK_OK, row),
        Kind.DELETE: ("write", Kind.DELETE_OK, TARGET),
        Kind.FETCH: ("read", Kind.FETCHED, Fetch("good", "x").encode()),
        Kind.SCAN: ("read", Kind.SCANNED, Scan("good").encode()),
        Kind.OPEN: ("read", Kind.OPENED, encode(Open("roles", False))),
        Kind.TOPOLOGY_REQUEST: ("read", Kind.TOPOLOGY, b""),
        Kind.STATUS_REQUEST: ("read", Kind.STATUS, b""),
        Kind.WRITE: ("write", Kind.WRITTEN, put),
        Kind.RESOLVE: ("write", Kind.FAILURE, Resolve(client, 1).encode()),  # NOT_FOUND, where it is served
        Kind.ACCOUNT: ("admin", Kind.ACCOUNT_DONE, in_time(encode(RemoveUser("nobody")))),
        Kind.ACCOUNTS_REQUEST: ("admin", Kind.ACCOUNTS, encode(UsersAsked())),
        Kind.SETTINGS_REQUEST: ("read", Kind.SETTINGS, b""),
        Kind.CHANGE_SETTINGS: ("admin", Kind.SETTINGS_CHANGED, in_time(encode(NO_CHANGE))),
    }


AMONG_MEMBERS = {
    Kind.PEER_HELLO: encode(report()),
    Kind.PEER_WELCOME: encode(report()),
    Kind.FOLLOW: encode(report()),
    Kind.FOLLOWING: b"",
    Kind.BATCH: b"RWB1",
    Kind.ACK: Ack(1, 0, 0, 0, "eu-1").encode(),
    Kind.HEARTBEAT: b"",
    Kind.SNAPSHOT_FETCH: encode(SnapshotFetch("", 0)),
    Kind.SNAPSHOT_MANIFEST: b"",
    Kind.SNAPSHOT_CHUNK: bytes(40),
    Kind.CLUSTER_STATUS: b"{}",
}
"""The kinds between nodes; what members send is in order."""
OF_SOURCES = {
    Kind.PEER_WELCOME,
    Kind.FOLLOWING,
    Kind.BATCH,
    Kind.HEARTBEAT,
    Kind.SNAPSHOT_MANIFEST,
    Kind.SNAPSHOT_CHUNK,
    Kind.CLUSTER_STATUS,
    Kind.TOPOLOGY,
}
UNANSWERED = (Kind.BYE, Kind.STREAM_CANCEL)
"""What ends the session, and what drivers read no answer to."""
UNKNOWN = [0x00, 0x32, 0x49, 0x6B, 0xFF]
MAY = {
    "anonymous": {"read"},
    "reader": {"read"},
    "writer": {"read", "write"},
    "ops": {"read", "write", "admin"},
}


@pytest.mark.parametrize("who", MAY)
def test_a_user_gets_what_its_role_is_for_and_a_word_of_refusal_for_every_other_kind(
    site: Any, who: str
) -> None:
    with site.login("ops") as ops:
        assert site.put(ops, "x").kind == Kind.WRITTEN
    got, wanted = {}, {}
    with site.login(None if who == "anonymous" else who) as wire:
        bodies = served(site, site.client_id(wire))
        for kind in [*Kind, *UNKNOWN]:
            if kind in UNANSWERED:
                continue
            role, answer, body = bodies.get(kind, ("", Kind.ERROR, AMONG_MEMBERS.get(kind, TARGET)))
            frame = wire.ask(kind, body)
            if role in MAY[who]:
                wanted[kind_name(kind)] = kind_name(answer)
                got[kind_name(kind)] = kind_name(frame.kind)
            else:
                wanted[kind_name(kind)] = "FORBIDDEN" if role or kind in AMONG_MEMBERS else "UNSUPPORTED"
                got[kind_name(kind)] = str(site.failure(frame)).split(":")[0]
        assert got == wanted
        wire.send_frame(Kind.STREAM_CANCEL, TARGET)
        assert [wire.ask(Kind.BYE).kind, *wire.last_words()] == [Kind.BYE]


@pytest.mark.parametrize("who", ["anonymous", "reader"])
def test_who_may_only_read_writes_nothing_by_any_kind(site: Any, who: str) -> None:
    bodies = served(site, NO_CLIENT)
    with site.nothing_written(), site.login(None if who == "anonymous" else who) as wire:
        for kind in [*Kind, *UNKNOWN]:
            if kind not in UNANSWERED:
                wire.ask(kind, bodies[kind][2] if kind in bodies else AMONG_MEMBERS.get(kind, TARGET))
        assert site.lives(wire)


def test_a_writer_changes_no_account(site: Any) -> None:
    with site.nothing_written(), site.login("writer") as wire:
        for change in (RemoveUser("reader"), RemoveUser("writer")):
            assert str(wire.error(Kind.ACCOUNT, in_time(encode(change)))).startswith(
                "FORBIDDEN: writer has role write"
            )
    with site.login("reader") as wire:
        assert site.lives(wire)


def test_removing_nobody_is_logged_and_answered_as_what_it_is(site: Any) -> None:
    with site.login("ops") as wire:
        before = site.status().own.received or 0
        done = AccountDone.decode(wire.ask(Kind.ACCOUNT, in_time(encode(RemoveUser("raeder")))).payload)
    assert done == AccountDone(before + 1, done.term, "there is no user raeder; did you mean reader?")


def test_a_member_may_follow_and_nothing_else_that_clients_may(site: Any) -> None:
    bodies = served(site, NO_CLIENT)
    with site.nothing_written(), site.login("us-1") as wire:
        for kind in [*Kind, *UNKNOWN]:
            if kind in AMONG_MEMBERS or kind in OF_SOURCES or kind == Kind.FAILURE:
                continue
            error = wire.error(kind, bodies[kind][2] if kind in bodies else TARGET)
            assert error.message == f"UNSUPPORTED: {kind_name(kind)} is not served to a member"
            assert "redwire certs issue user" in error.hint
        wire.send_frame(Kind.PEER_HELLO, encode(report()), 0)
        assert wire.frame().kind == Kind.PEER_WELCOME


@pytest.mark.parametrize("kind", sorted(OF_SOURCES), ids=str)
def test_a_member_that_talks_like_a_source_to_one_is_sent_away(site: Any, kind: Kind) -> None:
    with site.nothing_written(), site.login("us-1") as wire:
        wire.send_frame(kind, AMONG_MEMBERS.get(kind, b""))
        (last,) = wire.last_words()
        assert str(site.failure(last)) == f"us-1 sends {kind_name(kind)} to a source"


def test_a_member_that_does_not_say_who_it_is_gets_no_snapshot(site: Any) -> None:
    with site.nothing_written(), site.login("us-1") as wire:
        wire.send_frame(Kind.SNAPSHOT_FETCH, AMONG_MEMBERS[Kind.SNAPSHOT_FETCH])
        (last,) = wire.last_words()
        assert str(site.failure(last)) == "us-1 asks for a snapshot before it said who it is"

"""Keys and commit policies that cannot be, or are somebody else's: refused before logging."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from redwire.errors import Code
from redwire.frame import Kind
from redwire.message.client import Resolve, decode_written
from redwire.message.read import Fetch, Fetched
from redwire.record import Key, Op, Record
from tests.cluster.forked_cluster import ForkedCluster
from tests.cluster.handmade import NOBODY, record, request, write
from tools.dev.plan import ClusterPlan, NodePlan

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
                resolved = wire.error(Kind.RESOLVE, struct.pack("<I24sQ", 5_000, key[0], key[1]))
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

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.client_ids import CHANCE_BYTES, MARK_BYTES, ClientIds, issue_lsn, mark, marked, owner, owner_of
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.position import Lsn
from redwire.record import CLIENT_BYTES, NO_CLIENT

SECRET = bytes(range(32))
CHANCE = b"chance"


def principal(name: str = "ann") -> Principal:
    return Principal(PrincipalKind.USER, name, Role.WRITE, False)


def ids(
    name: str = "ann",
    kind: PrincipalKind = PrincipalKind.USER,
    role: Role = Role.WRITE,
    secret: bytes = SECRET,
) -> ClientIds:
    return ClientIds(Principal(kind, name, role, False), lambda: secret)


ISSUED = ids().issue(Lsn(0x0102), CHANCE)


def test_a_client_id_begins_with_the_lsn_at_its_issue_and_ends_with_its_seal() -> None:
    said = b"\x02\x01" + bytes(6) + owner(principal()) + CHANCE
    keyed = hashlib.blake2b(said + b"user\0ann", digest_size=8, key=SECRET, person=b"redwire client")
    assert said + keyed.digest() == ISSUED and len(ISSUED) == CLIENT_BYTES
    assert owner_of(ISSUED) == owner(principal()) != owner(principal("bob"))
    assert issue_lsn(ISSUED) == 0x0102 and mark(ISSUED) == ISSUED[8:]


def test_it_is_its_users_in_every_session_whatever_the_role_is_by_then() -> None:
    assert ids().include(ISSUED) and ids(role=Role.READ).include(ISSUED)


@pytest.mark.parametrize(
    "others",
    [
        ids("bob"),
        ids("an"),
        ids("", PrincipalKind.ANONYMOUS),
        ids("ann", PrincipalKind.ANONYMOUS),
        ids("ann", PrincipalKind.NODE),
        ids(secret=bytes(32)),
    ],
)
def test_it_is_nobody_elses(others: ClientIds) -> None:
    assert not others.include(ISSUED)


@given(st.integers(0, CLIENT_BYTES * 8 - 1))
def test_one_changed_bit_makes_it_nobodys(bit: int) -> None:
    changed = bytearray(ISSUED)
    changed[bit // 8] ^= 1 << bit % 8
    assert not ids().include(bytes(changed))


def test_one_that_was_proven_proves_no_other() -> None:
    session = ids()
    assert session.include(ISSUED) and not session.include(ids("bob").issue(Lsn(0x0102), CHANCE))
    assert session.include(ISSUED)


def test_one_that_was_refused_is_not_taken_the_second_time() -> None:
    session, others = ids(), ids("bob").issue(Lsn(0x0102), CHANCE)
    assert [session.include(others), session.include(others)] == [False, False]
    assert not session.include(NO_CLIENT)


def test_a_node_that_knows_no_cluster_yet_issues_what_its_cluster_does_not_take() -> None:
    secret = b"its own until then"
    early = ClientIds(Principal(PrincipalKind.USER, "ann", Role.WRITE, False), lambda: secret)
    issued = early.issue(Lsn(0), CHANCE)
    secret = SECRET
    assert not early.include(issued) and early.include(early.issue(Lsn(0), bytes(CHANCE_BYTES)))


def test_what_is_made_of_a_mark_is_sealed_for_nobody() -> None:
    made = marked(Lsn(7), hashlib.sha256(b"user\0ann\0a text").digest()[:MARK_BYTES])
    assert (issue_lsn(made), len(made)) == (7, CLIENT_BYTES) and not ids().include(made)

"""Account changes: one closed union."""

from __future__ import annotations

from typing import Any

import cbor2
import msgspec
import pytest

from redwire.errors import BodyInvalid, RequestInvalid
from redwire.message.admin import (
    ACCOUNTS_PAGE_MAX,
    AccountChange,
    AccountDone,
    PutToken,
    PutUser,
    RemoveToken,
    RemoveUser,
    ScramRecord,
    SetRole,
    TokenRow,
    TokensAsked,
    TokensPage,
    UserRow,
    UsersAsked,
    UsersPage,
    check_account,
    check_usual,
    decode_asked,
)
from redwire.scram import fake_verifier
from tools.accounts import password_user

VERIFIER = ScramRecord(salt=bytes(16), iterations=16_384, stored_key=b"s" * 32, server_key=b"v" * 32)
CHANGES: list[AccountChange] = [
    PutUser(name="ops.eu", role="admin", verifier=VERIFIER, topology_read=True),
    RemoveUser("ops.eu"),
    PutToken(id="t-1", user="ops.eu", role="read", sha256=b"h" * 32),
    RemoveToken("t-1"),
    SetRole(name="ops.eu", role="write", topology_read=None),
    SetRole(name="ops.eu", role="write", topology_read=False),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_a_change_comes_back_as_what_it_was(change: AccountChange) -> None:
    assert check_account(change.encode()) == check_account(memoryview(change.encode())) == change


def test_the_bytes_that_are_logged_name_the_change() -> None:
    assert cbor2.loads(RemoveToken("t-1").encode()) == {"change": "remove_token", "id": "t-1"}


@pytest.mark.parametrize(
    ("change", "fields", "what"),
    [
        (1, {"change": "drop_user"}, "drop_user"),
        (1, {"name": ""}, r"\$.name"),
        (1, {"name": "a b"}, r"\$.name"),
        (1, {"name": "a\n"}, r"\$.name"),
        (1, {"role": "read"}, "unknown field"),
        (0, {"role": "replicator"}, r"\$.role"),
        (2, {"sha256": b"h" * 31}, r"\$.sha256"),
        (2, {"sha256": "h" * 44}, r"\$.sha256"),
        (3, {"id": "x" * 65}, r"\$.id"),
        (4, {"role": "replicator"}, r"\$.role"),
        (4, {"topology_read": 1}, r"\$.topology_read"),
    ],
)
def test_a_change_of_another_shape_is_refused(change: int, fields: dict[str, object], what: str) -> None:
    plain = msgspec.to_builtins(CHANGES[change], builtin_types=(bytes,)) | fields
    with pytest.raises(BodyInvalid, match=what):
        check_account(cbor2.dumps(plain))


@pytest.mark.parametrize(
    "weak", [{"iterations": 4_095}, {"iterations": 600_001}, {"salt": b"short"}, {"stored_key": b""}]
)
def test_a_verifier_that_no_client_would_accept_is_refused(weak: dict[str, object]) -> None:
    user = msgspec.structs.replace(CHANGES[0], verifier=msgspec.structs.replace(VERIFIER, **weak))
    with pytest.raises(BodyInvalid, match=r"\$.verifier"):
        check_account(user.encode())


@pytest.mark.parametrize("unlike", [{"iterations": 4_096}, {"iterations": 32_768}, {"salt": bytes(32)}])
def test_a_verifier_unlike_others_is_read_from_the_log_and_not_taken_anew(unlike: dict[str, Any]) -> None:
    verifier = msgspec.structs.replace(VERIFIER, **unlike)
    user = msgspec.structs.replace(CHANGES[0], verifier=verifier)
    assert check_account(user.encode()) == user
    with pytest.raises(RequestInvalid, match="16384 iterations and 16 bytes of salt"):
        check_usual(verifier)


def test_what_the_command_line_makes_and_what_strangers_are_shown_is_the_usual_verifier() -> None:
    check_usual(VERIFIER)
    made = password_user("app", "a password", "read").verifier
    check_usual(made)
    fake = fake_verifier(bytes(32), "nobody")
    assert (fake.iterations, len(fake.salt)) == (made.iterations, len(made.salt))


def test_a_change_without_its_name_is_refused() -> None:
    with pytest.raises(BodyInvalid, match="not a union body"):
        check_account(cbor2.dumps({"name": "a"}))


def test_done_says_where_the_change_stands() -> None:
    assert AccountDone.decode(AccountDone(7, 3).encode()) == AccountDone(7, 3)
    assert AccountDone.decode(cbor2.dumps({"lsn": 7, "term": 3})) == AccountDone(7, 3, missing="")
    nobody = AccountDone(7, 3, "there is no user bob")
    assert AccountDone.decode(nobody.encode()) == nobody


@pytest.mark.parametrize(
    "asked", [UsersAsked(), UsersAsked("b", 7), TokensAsked(), TokensAsked("ann", "t", 1)]
)
def test_a_page_is_asked_for_as_what_it_lists(asked: UsersAsked | TokensAsked) -> None:
    assert decode_asked(asked.encode()) == decode_asked(memoryview(asked.encode())) == asked


@pytest.mark.parametrize(
    "fields",
    [
        {"list": "secrets"},
        {"list": "users", "user": "ann"},
        {"list": "users", "limit": 0},
        {"list": "users", "limit": ACCOUNTS_PAGE_MAX + 1},
        {"list": "users", "after": "x" * 65},
        {"list": "tokens", "user": "a b"},
        {"after": "a"},
    ],
)
def test_a_page_of_another_kind_or_size_is_not_asked_for(fields: dict[str, object]) -> None:
    with pytest.raises(BodyInvalid):
        decode_asked(cbor2.dumps(fields))


def test_one_page_is_not_read_as_the_other() -> None:
    users = UsersPage(9, True, ("ops",), (UserRow("ann", "read", True, 2),))
    tokens = TokensPage(9, False, (TokenRow("t1", "ann", "write"),))
    assert UsersPage.decode(users.encode()) == users and TokensPage.decode(tokens.encode()) == tokens
    with pytest.raises(BodyInvalid):
        UsersPage.decode(tokens.encode())

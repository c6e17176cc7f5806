"""Bodies of administration: what is left of the deadline of a change (4E, 5A); an account change (4E), logged
as it is by an ACCOUNT record, and its answer; and what there is of accounts (54, 55).

The bytes that an administrator sends behind the deadline are the bytes in the log: whoever logs them calls
`check_account` first.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Literal, cast

import msgspec

from redwire import body
from redwire.body import U63, Bytes32, ClosedStruct
from redwire.errors import BodyInvalid, RequestInvalid
from redwire.scram import ITERATIONS, SALT_BYTES

UserName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
TokenId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
UserRole = Literal["read", "write", "admin"]


_REMAINING = struct.Struct("<I")


def encode_command(remaining_ms: int, change: bytes) -> bytes:
    """An Account (4E) or ChangeSettings (5A): `change` behind what is left of its caller's deadline."""
    assert remaining_ms >= 0
    return _REMAINING.pack(min(remaining_ms, 0xFFFF_FFFF)) + change


def decode_command(payload: bytes) -> tuple[int, bytes]:
    """What is left of the deadline, and the change, which is not looked at. Raises `BodyInvalid`."""
    if len(payload) < _REMAINING.size:
        raise BodyInvalid(f"{len(payload)} bytes of a change, its deadline alone takes {_REMAINING.size}")
    return _REMAINING.unpack_from(payload)[0], payload[_REMAINING.size :]


class ScramRecord(ClosedStruct, frozen=True, kw_only=True):
    """What the cluster stores in place of a password (RFC 5802); the password does not follow from it."""

    salt: Annotated[bytes, msgspec.Meta(min_length=8, max_length=64)]
    iterations: Annotated[int, msgspec.Meta(ge=4_096, le=600_000)]
    stored_key: Bytes32
    server_key: Bytes32


class PutUser(ClosedStruct, frozen=True, kw_only=True, tag_field="change", tag="put_user"):
    """Make the user, or replace everything about it. `topology_read` is `cluster:topology:read`."""

    name: UserName
    role: UserRole
    verifier: ScramRecord
    topology_read: bool


class SetRole(ClosedStruct, frozen=True, kw_only=True, tag_field="change", tag="set_role"):
    """Give the user, who exists, another role; password and tokens stay. `topology_read` None: as it was."""

    name: UserName
    role: UserRole
    topology_read: bool | None


class RemoveUser(ClosedStruct, frozen=True, tag_field="change", tag="remove_user"):
    """Remove the user and all its tokens; removing nobody changes nothing, and is answered so."""

    name: UserName


class PutToken(ClosedStruct, frozen=True, kw_only=True, tag_field="change", tag="put_token"):
    """Let a bearer token act for `user`, who exists, with `role`. Only the token's SHA-256 is known to the
    cluster.
    """

    id: TokenId
    user: UserName
    role: UserRole
    sha256: Bytes32


class RemoveToken(ClosedStruct, frozen=True, tag_field="change", tag="remove_token"):
    """Revoke a bearer token; revoking none changes nothing, and is answered so."""

    id: TokenId


AccountChange = PutUser | SetRole | RemoveUser | PutToken | RemoveToken


def check_account(data: bytes | memoryview) -> AccountChange:
    """The account change in `data`: of an Account body, or of an ACCOUNT record. Raises `BodyInvalid`."""
    return cast(AccountChange, body.decode(data, cast(Any, AccountChange)))


def check_usual(verifier: ScramRecord) -> None:
    """Raises `RequestInvalid` for a verifier that is not made as all are: its challenge would tell strangers
    that there is such a user. The log may hold one from before, so this is for new ones only.
    """
    if (verifier.iterations, len(verifier.salt)) != (ITERATIONS, SALT_BYTES):
        text = f"a verifier has {ITERATIONS} iterations and {SALT_BYTES} bytes of salt, "
        text += f"not {verifier.iterations} and {len(verifier.salt)}: users must not be told apart by it"
        raise RequestInvalid(text, hint="make it as redwire.scram.make_verifier does")


class AccountDone(ClosedStruct, frozen=True):
    """AccountDone (50): the change is committed, at this LSN of this term.

    `missing` says in words what there was none of when it was applied; then it changed nothing. "" when it
    was made.
    """

    lsn: U63
    term: U63
    missing: Annotated[str, msgspec.Meta(max_length=512)] = ""


# what there is

ACCOUNTS_PAGE_MAX = 200
"""Users or tokens in one answer: with their keys and values they stay far below what a body may hold."""
_After = Annotated[str, msgspec.Meta(max_length=64)]
_Limit = Annotated[int, msgspec.Meta(ge=1, le=ACCOUNTS_PAGE_MAX)]


class UsersAsked(ClosedStruct, frozen=True, tag_field="list", tag="users"):
    """AccountsRequest (54) for users whose names come behind `after`, in order."""

    after: _After = ""
    limit: _Limit = ACCOUNTS_PAGE_MAX


class TokensAsked(ClosedStruct, frozen=True, tag_field="list", tag="tokens"):
    """AccountsRequest (54) for the tokens of `user`, "" for everybody's, whose ids come behind `after`."""

    user: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{0,64}\Z")] = ""
    after: _After = ""
    limit: _Limit = ACCOUNTS_PAGE_MAX


AccountsAsked = UsersAsked | TokensAsked


class UserRow(ClosedStruct, frozen=True):
    """A user without its verifier; `tokens` is how many it has."""

    name: UserName
    role: UserRole
    topology_read: bool
    tokens: U63


class TokenRow(ClosedStruct, frozen=True):
    """A bearer token without its hash."""

    id: TokenId
    user: UserName
    role: UserRole


class UsersPage(ClosedStruct, frozen=True, tag_field="list", tag="users"):
    """Accounts (55): users, as the node that answers has `applied` them. `more` come behind the last one.

    `admins` are the administrators by configuration, who need not be among the users.
    """

    applied: U63
    more: bool
    admins: tuple[str, ...]
    users: Annotated[tuple[UserRow, ...], msgspec.Meta(max_length=ACCOUNTS_PAGE_MAX)]


class TokensPage(ClosedStruct, frozen=True, tag_field="list", tag="tokens"):
    """Accounts (55): bearer tokens, as the node that answers has `applied` them."""

    applied: U63
    more: bool
    tokens: Annotated[tuple[TokenRow, ...], msgspec.Meta(max_length=ACCOUNTS_PAGE_MAX)]


AccountsPage = UsersPage | TokensPage


def decode_asked(data: bytes | memoryview) -> AccountsAsked:
    """The AccountsRequest in `data`. Raises `BodyInvalid`."""
    return cast(AccountsAsked, body.decode(data, cast(Any, AccountsAsked)))

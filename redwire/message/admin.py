"""Bodies of administration: an account change (4E), logged as it is by an ACCOUNT record, and its answer.

The bytes that an administrator sends are the bytes in the log: whoever logs them calls `check_account` first.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import msgspec

from redwire import body
from redwire.body import U63, Bytes32, ClosedStruct

UserName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
TokenId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
UserRole = Literal["read", "write", "admin"]


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


class RemoveUser(ClosedStruct, frozen=True, tag_field="change", tag="remove_user"):
    """Remove the user and all its tokens; removing nobody is no error."""

    name: UserName


class PutToken(ClosedStruct, frozen=True, kw_only=True, tag_field="change", tag="put_token"):
    """Let a bearer token act for `user` with `role`. Only the token's SHA-256 is known to the cluster."""

    id: TokenId
    user: UserName
    role: UserRole
    sha256: Bytes32


class RemoveToken(ClosedStruct, frozen=True, tag_field="change", tag="remove_token"):
    """Revoke a bearer token; revoking none is no error."""

    id: TokenId


AccountChange = PutUser | RemoveUser | PutToken | RemoveToken


def check_account(data: bytes | memoryview) -> AccountChange:
    """The account change in `data`: of an Account body, or of an ACCOUNT record. Raises `BodyInvalid`."""
    return cast(AccountChange, body.decode(data, cast(Any, AccountChange)))


class AccountDone(ClosedStruct, frozen=True):
    """AccountDone (50): the change is committed, at this LSN of this term."""

    lsn: U63
    term: U63

"""A user with a password, as it is sent to a cluster: what leaves this machine is a verifier."""

from __future__ import annotations

import secrets

from redwire.message.admin import PutUser, ScramRecord, UserRole
from redwire.scram import SALT_BYTES, make_verifier


def password_user(name: str, password: str, role: UserRole, *, topology_read: bool = True) -> PutUser:
    """The change that makes the user `name`, or replaces it."""
    verifier = make_verifier(password, secrets.token_bytes(SALT_BYTES))
    record = ScramRecord(
        salt=verifier.salt,
        iterations=verifier.iterations,
        stored_key=verifier.stored_key,
        server_key=verifier.server_key,
    )
    return PutUser(name=name, role=role, verifier=record, topology_read=topology_read)

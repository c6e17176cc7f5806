"""Who may come in, and as what: certificates, users, tokens and strangers; and who may stay.

Answers come from memory. A session may stay as long as what opened it would open the same one again.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Sequence
from hmac import compare_digest

import msgspec

from cluster.accounts import Accounts
from cluster.announcer import Announcer
from cluster.audit_events import Accepted, Event, Rejected
from cluster.cluster_config import ClusterConfig
from cluster.config import AnonymousAccess
from redwire.errors import AuthenticationFailed, Code, Refused
from redwire.frame import kind_name
from redwire.handshake import ANONYMOUS_NAME, Attempt, Identity, Method, Principal, PrincipalKind, Role
from redwire.message.admin import PutToken, PutUser, ScramRecord
from redwire.position import NodeId
from redwire.scram import Verifier

_RANKS = (Role.READ, Role.WRITE, Role.ADMIN)
_ANONYMOUS_ROLES = {AnonymousAccess.READ: Role.READ, AnonymousAccess.WRITE: Role.WRITE}


class ByCertificate(msgspec.Struct, frozen=True):
    """A user of the log came by its certificate."""


class ByPassword(msgspec.Struct, frozen=True):
    """A user came by the password behind this verifier."""

    verifier: ScramRecord


class ByToken(msgspec.Struct, frozen=True):
    """A user came by this bearer token."""

    token: PutToken


Grounds = ByCertificate | ByPassword | ByToken
"""What the principal of a user rests on; members, strangers and administrators by configuration have none."""


class Authenticator:
    """Implements `redwire.connection.Authenticator` over the cluster's configuration and logged accounts."""

    def __init__(
        self,
        cluster: Callable[[], ClusterConfig],
        anonymous: AnonymousAccess,
        accounts: Callable[[], Accounts],
        secret: Callable[[], bytes],
        announcer: Announcer,
        unready: Callable[[], str],
    ) -> None:
        """`unready` says why no user can be known yet; "" once they can be."""
        self._cluster = cluster
        self._anonymous = anonymous
        self._accounts = accounts
        self._secret = secret
        self._announcer = announcer
        self._unready = unready

    def identify(self, identity: Identity | None, ssl_object: ssl.SSLObject | None) -> Principal | None:
        """Whom a verified certificate names: a member, an administrator or a user of this cluster; else
        nobody.
        """
        cluster = self._cluster()
        if identity is None or identity.cluster != cluster.name:
            return None
        if identity.kind is PrincipalKind.NODE:
            modern = ssl_object is not None and ssl_object.version() == "TLSv1.3"
            member = cluster.member(NodeId(identity.name))
            return (
                Principal(PrincipalKind.NODE, identity.name, Role.REPLICATOR, True)
                if member and modern
                else None
            )
        if identity.name in cluster.admins:
            return Principal(PrincipalKind.USER, identity.name, Role.ADMIN, True)
        user = self._accounts().users.get(identity.name)
        return None if user is None else _principal(user, ByCertificate())

    def unready(self) -> str:
        """What whoever only the log can name is told instead; "" once this node has users."""
        return self._unready()

    def methods(self, certificate: Principal | None) -> Sequence[str]:
        """What a client may try."""
        offered = [Method.SCRAM, Method.BEARER]
        if self._anonymous is not AnonymousAccess.OFF:
            offered.append(Method.ANONYMOUS)
        return offered if certificate is None else [Method.CERTIFICATE, *offered]

    def anonymous(self) -> Principal | None:
        """Strangers, where the configuration lets them in."""
        role = _ANONYMOUS_ROLES.get(self._anonymous)
        return None if role is None else Principal(PrincipalKind.ANONYMOUS, ANONYMOUS_NAME, role, False)

    def bearer(self, token: str) -> Principal | None:
        """Whose token this is; only hashes are compared."""
        accounts = self._accounts()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        entry = next(
            (entry for entry in accounts.tokens.values() if compare_digest(entry.sha256, digest)), None
        )
        if entry is None:
            return None
        user = accounts.users.get(entry.user)
        return None if user is None else _principal(user, ByToken(entry))

    def verifier(self, user: str) -> tuple[Verifier, Principal] | None:
        """How this user's password is checked."""
        found = self._accounts().users.get(user)
        if found is None:
            return None
        scram = found.verifier
        verifier = Verifier(scram.salt, scram.iterations, scram.stored_key, scram.server_key)
        return verifier, _principal(found, ByPassword(scram))

    def judge(self, principal: Principal) -> AuthenticationFailed | None:
        """Why a session of `principal` must end by now; None while it may stay.

        `retry` says whether the same credentials may open another one.
        """
        grounds = principal.grounds
        if not isinstance(grounds, Grounds):
            return None
        accounts, name = self._accounts(), principal.name
        user = accounts.users.get(name)
        if user is None:
            return AuthenticationFailed(f"the user {name} was removed")
        if isinstance(grounds, ByToken) and accounts.tokens.get(grounds.token.id) != grounds.token:
            return AuthenticationFailed(f"the token {grounds.token.id} was revoked")
        changed = ""
        if isinstance(grounds, ByPassword) and grounds.verifier != user.verifier:
            changed = f"the password of the user {name} was changed"
        elif _principal(user, grounds) != principal:
            changed = f"the rights of the user {name} were changed"
        if not changed:
            return None
        ended = AuthenticationFailed(changed, hint="connect again")
        ended.retry = True
        return ended

    def fake_secret(self) -> bytes:
        """The same on every node, from the cluster's record; nobody outside knows it."""
        return self._secret()

    def topology(self, principal: Principal | None) -> bytes:
        """The blob that this principal may see."""
        return self._announcer.blob(principal)


def token_of(principal: Principal) -> str:
    """The id of the bearer token that `principal` came by; "" for every other way."""
    return principal.grounds.token.id if isinstance(principal.grounds, ByToken) else ""


def forbidden(principal: Principal, kind: int, role: Role) -> Refused:
    """Why `principal` may not use `kind`, which takes `role`, and how that is changed."""
    name, grounds = principal.name, principal.grounds
    if role is Role.ADMIN:
        hint = "come in by an administrator's certificate: cert= and key= in the URI; redwire dev uri --admin"
        hint += " prints such a URI of a cluster on this machine"
    elif principal.kind is PrincipalKind.ANONYMOUS:
        hint = f"come in as a user with role {role}"
    elif isinstance(grounds, ByToken):
        hint = f"if the user may, another token may: redwire user token {name} --role {role}"
    else:
        hint = f"an administrator changes that: redwire user role {name} {role}"
    text = f"{name} has role {principal.role}; {kind_name(kind)} takes {role}"
    return Refused(Code.FORBIDDEN, text, hint=hint)


def outcome(
    address: str, attempt: Attempt, principal: Principal | None, identity: Identity | None
) -> Event | None:
    """The line about a handshake that is over; None where the client went away and was not refused.

    `identity` is what the certificate says that TLS proved, if there was one.
    """
    if principal is not None:
        return Accepted(
            address=address,
            method=attempt.method or "",
            kind=principal.kind,
            name=principal.name,
            role=principal.role,
            token=token_of(principal),
        )
    if not attempt.refusal:
        return None
    return Rejected(
        address=address,
        method=attempt.method or "",
        name=attempt.name,
        certificate="" if identity is None else str(identity),
        why=attempt.refusal,
    )


def certificate_refused(address: str, why: str) -> Event:
    """The line about a certificate that TLS did not accept: nothing that it says is proved."""
    return Rejected(address=address, method=Method.CERTIFICATE, name="", certificate="", why=why)


def _principal(user: PutUser, grounds: Grounds) -> Principal:
    """Whom `user` is on these grounds: no token is above its user."""
    role = Role(user.role)
    if isinstance(grounds, ByToken):
        role = min(role, Role(grounds.token.role), key=_RANKS.index)
    return Principal(PrincipalKind.USER, user.name, role, user.topology_read, grounds)

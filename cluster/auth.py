"""Who may come in, and as what: certificates, users, tokens and strangers. Answers come from memory."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Sequence
from hmac import compare_digest

from cluster.announcer import Announcer
from cluster.config import AnonymousAccess, ClusterConfig
from cluster.registry import Accounts
from redwire.handshake import Identity, Method, Principal, PrincipalKind, Role
from redwire.position import NodeId
from redwire.scram import Verifier

_RANKS = (Role.READ, Role.WRITE, Role.ADMIN)
_ANONYMOUS_ROLES = {AnonymousAccess.READ: Role.READ, AnonymousAccess.WRITE: Role.WRITE}


class Authority:
    """Implements `redwire.connection.Authority` over the cluster's configuration and its logged accounts."""

    def __init__(
        self,
        cluster: Callable[[], ClusterConfig],
        anonymous: AnonymousAccess,
        accounts: Callable[[], Accounts],
        secret: Callable[[], bytes],
        announcer: Announcer,
    ) -> None:
        self._cluster = cluster
        self._anonymous = anonymous
        self._accounts = accounts
        self._secret = secret
        self._announcer = announcer

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
        return (
            None
            if user is None
            else Principal(PrincipalKind.USER, user.name, Role(user.role), user.topology_read)
        )

    def methods(self, certificate: Principal | None) -> Sequence[str]:
        """What a client may try."""
        offered = [Method.SCRAM, Method.BEARER]
        if self._anonymous is not AnonymousAccess.OFF:
            offered.append(Method.ANONYMOUS)
        return offered if certificate is None else [Method.CERTIFICATE, *offered]

    def anonymous(self) -> Principal | None:
        """Strangers, where the configuration lets them in."""
        role = _ANONYMOUS_ROLES.get(self._anonymous)
        return None if role is None else Principal(PrincipalKind.ANONYMOUS, "anonymous", role, False)

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
        if user is None:
            return None
        role = min(Role(entry.role), Role(user.role), key=_RANKS.index)  # no token is above its user
        return Principal(PrincipalKind.USER, entry.user, role, user.topology_read)

    def verifier(self, user: str) -> tuple[Verifier, Principal] | None:
        """How this user's password is checked."""
        found = self._accounts().users.get(user)
        if found is None:
            return None
        scram = found.verifier
        verifier = Verifier(scram.salt, scram.iterations, scram.stored_key, scram.server_key)
        return verifier, Principal(PrincipalKind.USER, found.name, Role(found.role), found.topology_read)

    def fake_secret(self) -> bytes:
        """The same on every node, from the cluster's record; nobody outside knows it."""
        return self._secret()

    def topology(self, principal: Principal | None) -> bytes:
        """The blob that this principal may see."""
        return self._announcer.blob(principal)

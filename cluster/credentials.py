"""A node's key, its certificate and the authorities it trusts: read together, checked the way its peers will
check them, and swapped as a set while the node runs.

The check is a handshake of the node with itself, in memory: both sides show the certificate, and each holds
it against the trust bundle. What they would refuse in a peer is refused here, before anything starts.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, cast

import msgspec

from cluster.advice import Advice
from cluster.config import TlsConfig
from redwire.errors import TlsInvalid
from redwire.handshake import Identity, PrincipalKind
from redwire.position import NodeId
from redwire.status import CERTIFICATE_SOON_DAYS
from redwire.tls import (
    AUTHORITY_NAME,
    certificate_identities,
    certificate_validity_ms,
    client_context,
    require_regular,
    server_context,
)

DAY_MS = 86_400_000
_ROUNDS = 4
"""A TLS 1.3 handshake takes two; with more it is over or it failed."""

_EXPIRED, _NOT_YET, _PURPOSE = 10, 9, 26
_UNTRUSTED = frozenset((2, 7, 18, 19, 20, 21))
"""OpenSSL's codes (x509_vfy.h): no issuer in the bundle, another key of that name, or signed by itself."""


class AuthorityEnd(msgspec.Struct, frozen=True):
    """An authority of the trust bundle, and until when it is valid, in ms since 1970.

    `name` is how messages name it: `the authority of shop`, or, where it is none of ours, the whole of what
    its certificate says.
    """

    name: str
    not_after_ms: int


class CredentialSet(msgspec.Struct, frozen=True):
    """Files that were read together, are in order and fit each other; times in ms since 1970.

    `server` is for the listener, `client` for dialling peers. `hosts` are the host names and addresses that
    the certificate names for clients, `sha256` (hex) is its own hash.
    """

    files: TlsConfig
    server: ssl.SSLContext
    client: ssl.SSLContext
    not_after_ms: int
    hosts: frozenset[str]
    authorities: tuple[AuthorityEnd, ...]
    sha256: str

    def days_left(self, now_ms: int) -> int:
        """Whole days until the certificate expires; negative when it has."""
        return (self.not_after_ms - now_ms) // DAY_MS

    def names(self, host: str) -> bool:
        """Whether who dials `host`, a name or an address, finds it in the certificate."""
        wanted, (_, _, parent) = _comparable(host), host.lower().partition(".")
        known = {_comparable(each) for each in self.hosts}
        return wanted in known or (isinstance(wanted, str) and f"*.{parent}" in known)

    def unnamed(self, host: str) -> list[Advice]:
        """What to say where clients dial `host` and the certificate does not name it: they hold it against
        that, and only they would meet the hole.
        """
        if self.names(host):
            return []
        what = f"{self.files.cert}: the certificate does not name {host}, where clients reach this node"
        return [Advice(f"{what}: they will refuse it", f"issue it anew with --host {host}")]

    def ending(self, now_ms: int) -> list[Advice]:
        """What an operator has to do soon: certificate and authorities that end within
        `CERTIFICATE_SOON_DAYS`.
        """
        renew = (
            f"{self.files.cert}: the certificate",
            self.not_after_ms,
            "issue a new one and reload the node",
        )
        ends = [renew]
        for authority in self.authorities:
            what = f"{self.files.ca}: {authority.name}"
            ends.append((what, authority.not_after_ms, "put its successor beside it on every node"))
        said = []
        for what, end_ms, hint in ends:
            days = (end_ms - now_ms) // DAY_MS
            if end_ms <= now_ms:
                said.append(Advice(f"{what} has expired on {day(end_ms)}", hint))
            elif days < CERTIFICATE_SOON_DAYS:
                said.append(Advice(f"{what} expires in {days} days, on {day(end_ms)}", hint))
        return said


class Reminder:
    """Says what a running node's credentials have to be renewed for: at once, and then once a day."""

    def __init__(self) -> None:
        self._of: CredentialSet | None = None
        self._said_ms = 0

    def due(self, found: CredentialSet, now_ms: int) -> list[Advice]:
        """What is to be said of `found`, the set in use, at `now_ms`; may be asked as often as one likes."""
        if found is self._of and 0 <= now_ms - self._said_ms < DAY_MS:
            return []
        self._of, self._said_ms = found, now_ms
        return found.ending(now_ms)


class NodeCredentials:
    """What a running node shows and trusts at this moment. `current` is replaced whole, never changed.

    `host` is where clients dial the node, "" where that is not known.
    """

    def __init__(self, files: TlsConfig, cluster: str, node: NodeId, host: str = "") -> None:
        """Raises `TlsInvalid`, like `reload`."""
        self.host = host
        self._files = files
        self._cluster = cluster
        self._node = node
        self.current = load(files, cluster, node, wall_ms())

    def reload(self) -> None:
        """Read the files again. Raises `TlsInvalid`, naming file and reason; then the old set stays in force.

        Connections that are open go on with what they began with. May run in a thread.
        """
        self.current = load(self._files, self._cluster, self._node, wall_ms())

    @property
    def unnamed(self) -> list[Advice]:
        """What to say of the certificate in use where it does not name `host`."""
        return self.current.unnamed(self.host) if self.host else []

    @property
    def not_after_ms(self) -> int:
        """When the certificate in use expires, in ms since 1970."""
        return self.current.not_after_ms

    def server_context(self) -> ssl.SSLContext:
        """For the next connection that is accepted."""
        return self.current.server

    def client_context(self) -> ssl.SSLContext:
        """For the next connection to a peer."""
        return self.current.client


def load(files: TlsConfig, cluster: str, node: NodeId, now_ms: int) -> CredentialSet:
    """Read and check the three files as those of `node` in `cluster`. Raises `TlsInvalid`.

    Checked: each can be read, the key is the certificate's and nobody else's, the certificate is valid now,
    hangs on an authority of the bundle, serves both ends of a connection, and names this node.
    """
    ca, cert, key = Path(files.ca), Path(files.cert), Path(files.key)
    for path in (ca, cert, key):
        require_regular(path)
    server = server_context(ca, cert, key)
    client = client_context(ca, cert, key, peer=True)
    begin_ms, end_ms = certificate_validity_ms(cert)
    issue = f"issue it anew: redwire certs issue node {node}"
    if end_ms <= now_ms:
        raise TlsInvalid(cert, f"the certificate has expired on {day(end_ms)}", hint=issue)
    if begin_ms > now_ms:
        hint = "check this machine's clock, or wait"
        raise TlsInvalid(cert, f"the certificate is not valid before {day(begin_ms)}", hint=hint)
    try:
        shown = _shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        raise TlsInvalid(cert, _refusal(error, ca), hint=_mend(error, ca, node)) from error
    except ssl.SSLError as error:
        raise TlsInvalid(cert, f"TLS does not work with it: {error.reason or error}") from error
    _check_unchanged(files, shown, server, client)
    return CredentialSet(
        files=files,
        server=server,
        client=client,
        not_after_ms=end_ms,
        hosts=_checked_names(cert, shown[0], Identity(cluster, PrincipalKind.NODE, node)),
        authorities=authority_ends(client),
        sha256=hashlib.sha256(shown[0].getpeercert(binary_form=True) or b"").hexdigest(),
    )


def authority_ends(context: ssl.SSLContext) -> tuple[AuthorityEnd, ...]:
    """The authorities that `context` trusts, as far as they were read from a file."""
    return tuple(_authority(each) for each in context.get_ca_certs())


def wall_ms() -> int:
    """The wall clock, which certificates go by."""
    return time.time_ns() // 1_000_000


def _comparable(host: str) -> str | IPv4Address | IPv6Address:
    """One address has several spellings, and a name may be written in capitals."""
    try:
        return ip_address(host)
    except ValueError:
        return host.lower()


def day(ms: int) -> str:
    """A moment as people write it, to the minute, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a handshake in memory, dialler first. Raises `ssl.SSLError` of the end that refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client.check_hostname = False  # names are held against the configuration afterwards, in words of ours
    try:
        near = client.wrap_bio(to_client, to_server)
    finally:
        client.check_hostname = True
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_ROUNDS):
        for end in (near, far):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return near, far


def _check_unchanged(
    files: TlsConfig,
    ends: tuple[ssl.SSLObject, ssl.SSLObject],
    server: ssl.SSLContext,
    client: ssl.SSLContext,
) -> None:
    """Each file is read once for either end: refuse what was replaced in between."""
    near, far = ends
    same = {
        files.cert: near.getpeercert(binary_form=True) == far.getpeercert(binary_form=True),
        files.ca: server.get_ca_certs(binary_form=True) == client.get_ca_certs(binary_form=True),
    }
    for file, unchanged in same.items():
        if not unchanged:
            raise TlsInvalid(file, "it changed while it was read", hint="try again when all files are there")


def _checked_names(cert: Path, near: ssl.SSLObject, me: Identity) -> frozenset[str]:
    """The hosts in a certificate that names this node, as peers know it. Raises `TlsInvalid`."""
    names = cast("tuple[tuple[str, str], ...]", (near.getpeercert() or {}).get("subjectAltName", ()))
    hint = f"use this node's own, or issue it: redwire certs issue node {me.name}"
    if certificate_identities(near) != me:
        uris = [name for kind, name in names if kind == "URI"]
        who = " and ".join(uris) or "no node"
        if who.endswith(f"/{me.kind}/{me.name}"):
            hint = f"if the cluster is another than {me.cluster}, see cluster.name; else {hint}"
        raise TlsInvalid(cert, f"the certificate names {who}, this node is {me}", hint=hint)
    peer_name = f"{me.name}.{me.cluster}.redwire"
    hosts = {name for kind, name in names if kind in ("DNS", "IP Address")}
    if peer_name not in hosts:
        raise TlsInvalid(
            cert, f"the certificate lacks the DNS name {peer_name}, by which peers know it", hint=hint
        )
    return frozenset(hosts - {peer_name})


def _refusal(error: ssl.SSLCertVerificationError, ca: Path) -> str:
    match error.verify_code:
        case code if code in _UNTRUSTED:
            return f"no authority in {ca} has issued this certificate"
        case code if code in (_EXPIRED, _NOT_YET):
            return f"it hangs on an authority in {ca} that is not valid now: {error.verify_message}"
        case code if code == _PURPOSE:
            return "it is no node's certificate: it may not be shown at both ends of a connection"
        case _:
            return f"it does not hold against {ca}: {error.verify_message}"


def _mend(error: ssl.SSLCertVerificationError, ca: Path, node: NodeId) -> str:
    if error.verify_code in _UNTRUSTED:
        return f"put the ca.pem of the authority that did into {ca}, or issue it with the present one"
    if error.verify_code in (_EXPIRED, _NOT_YET):
        return "check this machine's clock, or make a new authority"
    return f"issue it with 'redwire certs issue node {node}'"


def _authority(certificate: Mapping[str, Any]) -> AuthorityEnd:
    match [pair for group in certificate.get("subject", ()) for pair in group]:
        case [("organizationName", cluster), ("commonName", name)] if name == AUTHORITY_NAME:
            whose = f"of {cluster}"
        case subject:
            whose = ", ".join(value for _, value in subject)
    ends_at_ms = int(ssl.cert_time_to_seconds(certificate["notAfter"])) * 1000
    return AuthorityEnd(f"the authority {whose}", ends_at_ms)

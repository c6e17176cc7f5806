"""The cluster's own certificate authority: makes it, and issues certificates to nodes and users.

A certificate says who its holder is by one URI name, `redwire://<cluster>/node/<id>` or
`redwire://<cluster>/user/<name>`. A node's also carries the DNS name `<id>.<cluster>.redwire`, which peers
check whatever address they dialled, and the hosts at which clients reach it. Keys are ECDSA on P-256.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from cluster.files import open_file
from redwire.errors import TlsInvalid, UriInvalid
from redwire.handshake import DNS_LABEL, USER_NAME, Identity, PrincipalKind, parse_identity_uri
from redwire.tls import AUTHORITY_NAME, require_private_key
from tools.errors import AuthorityInvalid, FileStands, NameInvalid

AUTHORITY_DAYS = 3_650
"""Ten years: it is replaced by hand, on every node and every client."""
CERTIFICATE_DAYS = 365
"""A year: renewed without a restart, and a key that was copied is worth nothing after it."""
BACKDATED = timedelta(minutes=5)
"""A clock that is a little slow must not refuse a new certificate."""

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\Z")
_SIGNS_CERTIFICATES = frozenset(("key_cert_sign", "crl_sign"))
_SIGNS_HANDSHAKES = frozenset(("digital_signature",))
_KEY_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


class Issued(msgspec.Struct, frozen=True):
    """A certificate and its private key, in PEM."""

    cert: bytes
    key: bytes
    not_after: datetime

    def save(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.pem` and `<name>.key` (mode 0600) into `folder`, made if missing; their paths.

        Raises `FileStands` when either is there already, and then writes neither.
        """
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        for path in (cert, key):
            if os.path.lexists(path):
                raise FileStands(f"{path} exists already", hint="move it away, or write to another folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(key, self.key, 0o600)
        _write_new(cert, self.cert, 0o644)
        return cert, key


class Authority(msgspec.Struct, frozen=True):
    """The authority of one cluster, with its private key. Made by `create` or `load`."""

    cluster: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, cluster: str, *, now: datetime | None = None) -> Authority:
        """A new authority, valid for ten years from `now`. Raises `NameInvalid`."""
        _check_name("cluster", cluster, DNS_LABEL)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            (
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
                x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY_NAME),
            )
        )
        begin = (now or datetime.now(UTC)) - BACKDATED
        builder = (
            _builder(name, name, key.public_key(), begin, begin + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(_SIGNS_CERTIFICATES), critical=True)
        )
        return cls(cluster, builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """The authority whose `ca.pem` and `ca.key` are in `folder`. Raises `AuthorityInvalid`."""
        cert, key = folder / "ca.pem", folder / "ca.key"
        certificate = _load_certificate(cert)
        private = _load_key(key)
        if certificate.public_key() != private.public_key():
            raise AuthorityInvalid(
                f"{key} is not the key of {cert}", hint="restore the pair from your backup"
            )
        names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        cluster = str(names[0].value) if names else ""
        if not DNS_LABEL.match(cluster):
            hint = "make one with 'redwire certs init'"
            raise AuthorityInvalid(
                f"{cert} names no cluster: it is not an authority made by redwire", hint=hint
            )
        return cls(cluster, certificate, private)

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write `ca.pem` and `ca.key` (mode 0600) into `folder`; their paths. Raises `FileStands`."""
        return Issued(self.pem, _key_pem(self.key), self.certificate.not_valid_after_utc).save(folder, "ca")

    @property
    def pem(self) -> bytes:
        """The authority's certificate: what nodes and clients trust."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue_node(
        self,
        node: str,
        hosts: Iterable[str] = (),
        *,
        days: int = CERTIFICATE_DAYS,
        now: datetime | None = None,
    ) -> Issued:
        """A certificate for the node `node`, which clients reach at `hosts` (names or IP addresses).

        It begins five minutes before `now` and ends `days` after it, never after the authority does. Raises
        `NameInvalid`.
        """
        _check_name("node", node, DNS_LABEL)
        names = [x509.DNSName(f"{node}.{self.cluster}.redwire"), *map(_host_name, dict.fromkeys(hosts))]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(Identity(self.cluster, PrincipalKind.NODE, node), names, uses, days, now)

    def issue_user(self, user: str, *, days: int = CERTIFICATE_DAYS, now: datetime | None = None) -> Issued:
        """A certificate for the user `user`, for client sessions only; otherwise as `issue_node`."""
        _check_name("user", user, USER_NAME)
        identity = Identity(self.cluster, PrincipalKind.USER, user)
        return self._issue(identity, [], [ExtendedKeyUsageOID.CLIENT_AUTH], days, now)

    def _issue(
        self,
        identity: Identity,
        names: list[x509.GeneralName],
        uses: list[ObjectIdentifier],
        days: int,
        now: datetime | None,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        now = now or datetime.now(UTC)
        end = min(now + timedelta(days=days), self.certificate.not_valid_after_utc)
        subject = x509.Name((x509.NameAttribute(NameOID.COMMON_NAME, identity.name),))
        names = [x509.UniformResourceIdentifier(str(identity)), *names]
        public = self.key.public_key()
        builder = (
            _builder(subject, self.certificate.subject, key.public_key(), now - BACKDATED, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(_SIGNS_HANDSHAKES), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        return Issued(certificate.public_bytes(Encoding.PEM), _key_pem(key), certificate.not_valid_after_utc)


def holder(path: Path) -> Identity | None:
    """Of whom the certificate at `path` is; None for one that names nobody of ours. Raises
    `AuthorityInvalid`.
    """
    certificate = _load_certificate(path)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        return parse_identity_uri(uris[0]) if len(uris) == 1 else None
    except (x509.ExtensionNotFound, UriInvalid, ValueError):
        return None


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(uses: frozenset[str]) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in uses for use in _KEY_USES})


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _check_name(what: str, name: str, pattern: re.Pattern[str]) -> None:
    if not pattern.match(name):
        rule = "A-Z a-z 0-9 . _ -, at most 64" if what == "user" else "a-z, 0-9 and - inside, at most 63"
        raise NameInvalid(f"{name!r} is no {what} name", hint=f"use {rule}")


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.match(host):
            raise NameInvalid(
                f"{host!r} is no host", hint="give a host name or an IP address, no port"
            ) from None
        return x509.DNSName(host)


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise AuthorityInvalid(f"{path} is no certificate in PEM: {error}") from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityInvalid(f"{path} is no private key without a password: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityInvalid(f"{path} is no ECDSA key")
    try:
        require_private_key(path)
    except TlsInvalid as error:
        raise AuthorityInvalid(error.message, hint=f"chmod 600 {path}") from error
    return key


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=open_file) as opened:
            os.set_blocking(opened.fileno(), True)  # a pipe that somebody writes is waited for, no other one
            return opened.read()
    except OSError as error:
        hint = "make an authority with 'redwire certs init', or name its folder with --authority"
        raise AuthorityInvalid(f"{path} cannot be read: {error.strerror}", hint=hint) from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that does not exist yet. Its mode holds from the first moment, whatever the umask is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as opened:
        opened.write(data)

"""TLS contexts, and what a certificate says, with nothing but the standard library.

A server asks for a client certificate and takes a connection without one; what it is worth is for method and
role to say. On the port of RedWire only those are asked who offer its protocol (`may_have_certificate`).
Between nodes both sides show one, signed by the cluster's own CA, over TLS 1.3.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from redwire import client_hello
from redwire.errors import TlsInvalid, UriInvalid
from redwire.handshake import Identity, parse_identity_uri

ALPN = "redwire/1"
AUTHORITY_NAME = "redwire authority"
"""The common name of every cluster's own authority; its organization is the cluster."""
_IDENTITY_SCHEME = "redwire://"
_LOG = logging.getLogger("redwire")


def server_context(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """For the listener: TLS 1.2 or later, a client certificate is welcome and must then be signed by `ca`.

    Raises `TlsInvalid`, naming the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    # A resumed session would not look at the certificate again. In TLS 1.2 one may be resumed all the same
    # while the connection that began it lasts: see `certificate_identities`.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _load(context, ca, cert, key)
    return context


def may_have_certificate(hello: bytes) -> bool:
    """Whether a client whose first record is `hello` is to be asked for a certificate: if it offers our
    protocol, as every program does that logs in by one, or cannot be read so early.

    To be asked is more than some TLS libraries can take.
    """
    offered = client_hello.protocols(hello)
    return offered is None or ALPN.encode() in offered


def client_context(
    ca: Path | None, cert: Path | None = None, key: Path | None = None, *, peer: bool
) -> ssl.SSLContext:
    """For dialing; host names are always checked. Without `ca` the system's CAs are trusted, never beside it.

    `peer` is for the link between nodes: TLS 1.3, and `ca`, `cert` and `key` must be given.

    Raises `TlsInvalid`, naming the file.
    """
    assert not peer or (ca and cert and key), "a link between nodes needs a CA, a certificate and a key"
    assert bool(cert) == bool(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if peer else ssl.TLSVersion.TLSv1_2
    _load(context, ca, cert, key)
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


class ClientFiles:
    """The files by which a client trusts nodes, and is known to them: looked at before each connection, and
    read anew where one was replaced.

    As long as they cannot be used, as while only some of them are replaced, those that could be last are
    used, and the logger `redwire` has a warning that says why, one for each change. They stay the same ones
    when the process changes its folder. To make it raises as `client_context` without `peer`.
    """

    __slots__ = ("_context", "_paths", "_stamps", "_warned")

    def __init__(self, ca: Path | None, cert: Path | None, key: Path | None) -> None:
        self._paths = [ca, cert, key]
        self._stamps = self._warned = self._look()  # first: what is replaced meanwhile is read anew
        self._context = client_context(*self._paths, peer=False)
        # Not before: the errors of who makes it name a file as it was given.
        self._paths = [path and path.absolute() for path in self._paths]

    def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        stamps = self._look()
        if stamps != self._stamps:
            try:
                self._context = client_context(*self._paths, peer=False)
                self._stamps = stamps
            except TlsInvalid as error:
                if stamps != self._warned:
                    _LOG.warning("the client goes on with its files as it read them before: %s", error)
                self._warned = stamps
        return self._context

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._paths if path is not None]


def certificate_identities(ssl_object: ssl.SSLObject | None) -> Identity | None:
    """The identity in the other side's verified certificate, from its URI names.

    None without TLS or a certificate, and for a certificate that names no identity, two, or a malformed one;
    also in a resumed session of TLS 1.2, which did not look at the certificate again: it may have expired
    since. URIs of other schemes are not looked at.
    """
    if ssl_object is not None and ssl_object.session_reused:
        return None
    certificate = ssl_object.getpeercert() if ssl_object else None
    names = cast("tuple[tuple[str, str], ...]", (certificate or {}).get("subjectAltName", ()))
    uris = [name for kind, name in names if kind == "URI" and name.startswith(_IDENTITY_SCHEME)]
    if len(uris) != 1:
        return None
    try:
        return parse_identity_uri(uris[0])
    except UriInvalid:
        return None


def require_private_key(path: Path) -> None:
    """Check that nobody but its owner can read a key file. Raises `TlsInvalid`."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise TlsInvalid(path, f"the key cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise TlsInvalid(
            path, f"others than the owner may use this key (mode {mode & 0o777:04o})", hint="chmod 600"
        )


def require_regular(path: Path) -> None:
    """Refuse what would hold up whoever reads it, as a pipe does. One that is missing is told of by the
    reader. Raises `TlsInvalid`.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        hint = "whoever runs this must be able to read it, and to enter each folder above it"
        raise TlsInvalid(path, f"cannot be looked at: {error.strerror}", hint=hint) from error
    if not stat.S_ISREG(mode):
        raise TlsInvalid(path, "it is no regular file", hint="name a file in PEM format")


def certificate_expiry_ms(path: Path) -> int:
    """When the first certificate in a PEM file expires, in milliseconds since 1970. Raises `TlsInvalid`."""
    return certificate_validity_ms(path)[1]


def certificate_validity_ms(path: Path) -> tuple[int, int]:
    """From when to when the first certificate in a PEM file is valid, in milliseconds since 1970.

    Raises `TlsInvalid`.
    """
    try:
        text = path.read_text("ascii")
        begin = text.index(ssl.PEM_HEADER)
        end = text.index(ssl.PEM_FOOTER, begin) + len(ssl.PEM_FOOTER)
        der = ssl.PEM_cert_to_DER_cert(text[begin:end])
        return _validity_ms(der)
    except OSError as error:
        raise TlsInvalid(path, f"the certificate cannot be read: {error.strerror}") from error
    except (ValueError, IndexError) as error:
        hint = "name a file in PEM format, as 'redwire certs issue' writes it"
        raise TlsInvalid(path, "holds no certificate that can be read", hint=hint) from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """By what a file that was replaced differs; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _load(context: ssl.SSLContext, ca: Path | None, cert: Path | None, key: Path | None) -> None:
    context.set_alpn_protocols([ALPN])
    if ca is not None:
        require_regular(ca)
        try:
            context.load_verify_locations(ca)
        except OSError as error:  # ssl.SSLError is one
            hint = "name the ca.pem of the cluster's authority"
            raise TlsInvalid(
                ca, f"no CA certificate can be read from it: {_reason(error)}", hint=hint
            ) from error
    if cert is not None and key is not None:
        for path in (cert, key):
            require_regular(path)
        certificate_expiry_ms(cert)  # tells a bad certificate from a bad key, as ssl does not
        require_private_key(key)
        try:
            # with an empty password an encrypted key is an error instead of a question at the terminal
            context.load_cert_chain(cert, key, password="")
        except OSError as error:
            raise _key_invalid(cert, key, error) from error


def _key_invalid(cert: Path, key: Path, error: OSError) -> TlsInvalid:
    """What is wrong with a key, which OpenSSL says in the same words of most of it."""
    if not isinstance(error, ssl.SSLError):
        return TlsInvalid(key, f"the key cannot be read: {error.strerror}")
    if error.reason == "KEY_VALUES_MISMATCH":
        return TlsInvalid(key, f"not the key of {cert}", hint="name the key that was issued with it")
    if error.reason in _TOO_WEAK:
        hint = "make a new one, as 'redwire certs issue' does"
        return TlsInvalid(cert, f"too weak for TLS on this machine: {error.reason}", hint=hint)
    try:
        text = key.read_bytes()
    except OSError as gone:  # removed meanwhile, as by who replaces it
        return _key_invalid(cert, key, gone)
    if b"ENCRYPTED" in text:
        hint = "nobody is there to type its password: take it off with 'openssl pkey', and chmod 600"
        return TlsInvalid(key, "the key is encrypted", hint=hint)
    hint = "if it was being written, wait and try again; name a file as 'redwire certs issue' writes it"
    return TlsInvalid(key, "holds no whole private key in PEM format", hint=hint)


_TOO_WEAK = frozenset(("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"))
"""What OpenSSL says of the key or the signature of a certificate that it will not show."""


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or str(error)


_EXPLICIT_VERSION, _UTC_TIME = 0xA0, 0x17  # DER tags


def _validity_ms(der: bytes) -> tuple[int, int]:
    """The validity of a certificate (RFC 5280, 4.1). Raises ValueError or IndexError without one."""
    tbs = _elements(_elements(_elements(der)[0][1])[0][1])
    # version (optional), serial, signature algorithm, issuer, validity
    validity = _elements(tbs[4 if tbs[0][0] == _EXPLICIT_VERSION else 3][1])
    return _time_ms(*validity[0]), _time_ms(*validity[1])


def _time_ms(tag: int, value: bytes) -> int:
    layout = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    moment = datetime.strptime(value.decode("ascii"), layout).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1000


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """The (tag, content) pairs that stand one after the other in `der`."""
    elements, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        elements.append((tag, der[at : at + length]))
        at += length
    return elements

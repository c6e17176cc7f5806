"""The handshake's messages, and who stands behind a connection once it is over.

The bodies are JSON, because RedDB's drivers speak it: unknown keys are skipped, known ones must have their
type. docs/PROTOCOL.md, section 2, is the specification. `redwire/connection.py` decides what follows what.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from redwire.errors import AuthenticationFailed, BodyInvalid, Code, Refused, UriInvalid
from redwire.frame import Kind, encode_frame
from redwire.printable import printable

PREFACE = b"\xfe\x01"
"""Magic and minor version: the first two bytes from a client. We also accept minor version 0."""
TLS_HANDSHAKE = b"\x16"
"""The first byte of whoever begins with TLS."""
WRONG_TRANSPORT = bytes.fromhex("15 03 01 00 02 02 46")
"""TLS's fatal alert protocol_version (RFC 8446, section 6): what a plain node says to whoever begins with
TLS, and a node that speaks TLS to whoever begins like nobody it knows. Waiting would help neither.
"""
HANDSHAKE_S = 10.0
"""For TCP, TLS and authentication together, on either side. Six round trips around the earth and a slowly
salted password take three seconds; a stranger holds a place for this long at most.
"""
VERSION = 1
"""Of the protocol, as Hello offers it: the only one there is."""
FEATURE_PARAMS = 1
"""Queries with parameters (kind 0x28), the only feature bit there is."""
ANONYMOUS_NAME = "anonymous"

USER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
"""What clusters, nodes and regions are called."""


# who


class Role(StrEnum):
    """What a principal is for. WRITE may read, ADMIN may both; REPLICATOR may read and follow the log."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    REPLICATOR = "replicator"


_MAY = {
    Role.READ: frozenset((Role.READ,)),
    Role.WRITE: frozenset((Role.READ, Role.WRITE)),
    Role.ADMIN: frozenset((Role.READ, Role.WRITE, Role.ADMIN)),
    Role.REPLICATOR: frozenset((Role.READ, Role.REPLICATOR)),
}


class PrincipalKind(StrEnum):
    """What a principal is. The words stand in certificates (`Identity`) and in the audit log."""

    ANONYMOUS = "anonymous"
    USER = "user"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who the other side proved to be. `topology_read` is the capability `cluster:topology:read`.

    `grounds` is what all this rests on, for whoever said so to judge it again; None for what does not change.
    """

    kind: PrincipalKind
    name: str
    role: Role
    topology_read: bool
    grounds: object = field(default=None, repr=False, compare=False)

    def may(self, role: Role) -> bool:
        """Whether this principal may do what `role` is for."""
        return role in _MAY[self.role]


class Identity(msgspec.Struct, frozen=True):
    """What a certificate says of its holder: a node or a user (never anonymous) of one cluster."""

    cluster: str
    kind: PrincipalKind
    name: str

    def __str__(self) -> str:
        return f"redwire://{self.cluster}/{self.kind}/{self.name}"


_IDENTITY_NAMES = {PrincipalKind.NODE: DNS_LABEL, PrincipalKind.USER: USER_NAME}


def parse_identity_uri(uri: str) -> Identity:
    """Read `redwire://<cluster>/node/<id>` or `redwire://<cluster>/user/<name>`. Raises `UriInvalid`."""
    scheme, _, rest = uri.partition("://")
    match rest.split("/"):
        case [cluster, ("node" | "user") as word, name] if scheme == "redwire" and DNS_LABEL.match(cluster):
            kind = PrincipalKind(word)
            if _IDENTITY_NAMES[kind].match(name):
                return Identity(cluster, kind, name)
    raise UriInvalid(
        f"{uri[:200]!r} is not the identity of a node or a user",
        hint="write redwire://<cluster>/node/<id> or redwire://<cluster>/user/<name>",
    )


# how a client proves who it is


class Anonymous(msgspec.Struct, frozen=True):
    """Nothing to prove."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that the cluster issued."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Password:
    """A user and a password, proved by SCRAM-SHA-256: the server never sees the password."""

    user: str
    password: str = field(repr=False)


class Certificate(msgspec.Struct, frozen=True):
    """The client certificate that TLS has already shown."""


Credentials: TypeAlias = Anonymous | Bearer | Password | Certificate


class Method(StrEnum):
    """Authentication methods in the server's order of preference.

    Where strangers are let in, anonymous comes before bearer: drivers without credentials offer both and can
    do only the former, while one with a token offers nothing but bearer.
    """

    CERTIFICATE = "certificate"
    SCRAM = "scram-sha-256"
    ANONYMOUS = "anonymous"
    BEARER = "bearer"


class Attempt(msgspec.Struct):
    """How a client tries to come in. `method` is None until one is chosen; `name` is the user that it claims
    to be, "" where the method names nobody; `refusal` is why it was not let in, "" unless it was refused.
    """

    method: Method | None = None
    name: str = ""
    refusal: str = ""


def method_of(credentials: Credentials) -> Method:
    """The one method that can carry these credentials, and therefore the only one to offer."""
    match credentials:
        case Certificate():
            return Method.CERTIFICATE
        case Password():
            return Method.SCRAM
        case Bearer():
            return Method.BEARER
        case Anonymous():
            return Method.ANONYMOUS


def choose_version(offered: Collection[int]) -> int | None:
    """The highest version that both sides speak; None if there is none."""
    return max((version for version in offered if 0 < version <= VERSION), default=None)


def choose_method(offered: Collection[str], available: Collection[str]) -> Method | None:
    """The server's favourite among the methods that both sides name; None if there is none."""
    return next((method for method in Method if method in offered and method in available), None)


def wants_users(offered: Collection[str], chosen: Method | None) -> bool:
    """Whether a client can come in as a user of the log at best: where there is none yet, that is the answer
    to every name alike.
    """
    if chosen is None:
        return Method.CERTIFICATE in offered  # one that names nobody known
    return chosen in (Method.SCRAM, Method.BEARER)


NOBODY = {
    Method.CERTIFICATE: "the certificate names nobody of this cluster",
    Method.SCRAM: "wrong user or password",
    Method.ANONYMOUS: "this node takes nobody without a name",
    Method.BEARER: "the token is not known: it was revoked, or is another cluster's",
}
"""What a client is told whose credentials, by each method, turn out to be nobody's."""


class Established(msgspec.Struct, frozen=True):
    """What a client knows once it is authenticated.

    `hello_topology` is the blob of HelloAck, `topology` the fuller one of AuthOk; None where there was none.
    """

    session_id: str
    role: Role
    username: str
    features: int
    server: str
    hello_topology: bytes | None
    topology: bytes | None


# the messages

_Unsigned = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Hello(msgspec.Struct, frozen=True):
    """The client's first message. Empty lists are decoded: refusing them is the server's answer to give."""

    versions: Annotated[list[int], msgspec.Meta(max_length=64)]
    auth_methods: Annotated[list[str], msgspec.Meta(max_length=64)]
    features: _Unsigned = 0
    client_name: str | None = None


class HelloAck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The server's choice. Keys go out in this order, which is alphabetic.

    A driver searches the text for the first `"auth"`, so no key or value before that key may be that string.
    `topology` is the v1 blob in base64.
    """

    auth: _Name
    features: _Unsigned
    server: str
    topology: str | None = None
    version: int


class AuthOk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of a handshake. `topology` is the v1 blob in base64, `v` the SCRAM server signature.

    Keys go out in this order: a driver searches the text for the first `"v"` or `"session_id"`, so the one
    value that others choose, the user's name, comes last. An empty `session_id` makes a driver wait for more.
    """

    features: _Unsigned
    role: Role
    session_id: _Name
    topology: str | None = None
    v: str | None = None
    username: str


class AuthFail(msgspec.Struct, frozen=True):
    """The server's refusal."""

    reason: str


class BearerBody(msgspec.Struct, frozen=True):
    """The AuthResponse of method `bearer`."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


TLS_ONLY = encode_frame(
    Kind.AUTH_FAIL,
    msgspec.json.encode(AuthFail("this node speaks TLS only: write reds:// instead of red://, with ca=…")),
)
"""A plain AuthFail: what a node that speaks TLS says to whoever begins with the `PREFACE`. Drivers tell their
user the reason; some of them wait for ever for the rest of whatever is no frame.
"""
Message: TypeAlias = Hello | HelloAck | AuthOk | AuthFail | BearerBody
_M = TypeVar("_M", Hello, HelloAck, AuthOk, BearerBody)


def encode(message: Message) -> bytes:
    """The JSON of a message."""
    return msgspec.json.encode(message)


def decode(data: bytes, message: type[_M]) -> _M:
    """A message from its JSON. Raises `BodyInvalid`, which never repeats a token."""
    try:
        return msgspec.json.decode(data, type=message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BodyInvalid(f"{message.__name__} body: {error}") from error


def decode_reason(data: bytes) -> str:
    """The reason in an AuthFail; a body that is not its JSON is taken as the reason itself, as drivers do.

    Whoever sent it has proved nothing yet: it is one line that can be printed.
    """
    try:
        reason = msgspec.json.decode(data, type=AuthFail).reason
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reason = data[:1024].decode("utf-8", "replace") or "no reason given"
    return printable(reason)


def refusal(data: bytes, credentials: Credentials) -> AuthenticationFailed | Refused:
    """What an AuthFail is to a client with these credentials; the hint says what its URI lacks.

    `Refused` (NOT_READY) where the node knows no users yet. Else `facts.reason` is the server's own word: a
    connection that ended without one has no such fact.
    """
    reason, hint = decode_reason(data), ""
    code, _, text = reason.partition(": ")
    if code == Code.NOT_READY:
        text, _, hint = text.partition("; ")
        return Refused(Code.NOT_READY, text, hint=hint)
    if reason.startswith("no common authentication method"):
        match credentials:
            case Anonymous():
                hint = "the URI names nobody: add user:password@ before the host, or token=…, or cert=…&key=…"
            case Certificate():
                hint = (
                    "the certificate names nobody whom the cluster knows: "
                    "add user:password@ before the host, or token=…, or name another certificate"
                )
            case Bearer() | Password():
                pass
    elif isinstance(credentials, Password):
        hint = "check both in the URI; an administrator makes users: redwire user add"
    return AuthenticationFailed(f"server refused: {reason}", hint=hint, facts={"reason": reason})


def encode_topology(blob: bytes | None) -> str | None:
    """A topology blob as the `topology` key carries it; None leaves the key out."""
    return None if blob is None else base64.b64encode(blob).decode()


def decode_topology(text: str | None) -> bytes | None:
    """The blob in a `topology` key; None if there is none, or none that is base64."""
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None

"""SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding, both sides, as far as it is arithmetic.

Nonces come from outside, and so does the result of the slow step: `salted_password` is a pure function that
a shell runs in a thread. Passwords are their UTF-8 bytes without SASLprep, as RedDB's drivers take them. User
names are `[A-Za-z0-9._-]{1,64}`, so nothing in a message is ever escaped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from redwire.errors import AuthenticationFailed
from redwire.handshake import USER_NAME

ITERATIONS = 16_384
"""For new verifiers, and for the challenge of a user who does not exist: four times what RFC 7677 asks for,
some 20 ms of a client's time at each connection.
"""
ITERATIONS_MIN = 4_096
"""RFC 7677 asks for so many at least."""
ITERATIONS_MAX = 600_000
"""More is a server that wants us to burn our time."""
SALT_BYTES = 16
"""By chance never the same for two users: who breaks one verifier has not broken another."""

_NONCE = re.compile(r"[!-+\--~]{1,256}\Z")  # printable ASCII without the comma
_GS2 = "n,,"
_BINDING = "biws"  # base64 of _GS2


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps instead of a password: no log-in by itself, yet guesses can be tried on it."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


class Challenge(msgspec.Struct, frozen=True):
    """What a client needs, beside the password, for `salted_password`."""

    salt: bytes
    iterations: int


def salted_password(password: str, challenge: Challenge) -> bytes:
    """The slow step (PBKDF2, some 10 ms at 16,384 iterations): run it in a thread. It releases the GIL."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), challenge.salt, challenge.iterations)


def make_verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> Verifier:
    """The verifier of a new password; as slow as `salted_password`. `salt` is `SALT_BYTES` random bytes."""
    assert ITERATIONS_MIN <= iterations <= ITERATIONS_MAX
    salted = salted_password(password, Challenge(salt, iterations))
    stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    return Verifier(salt, iterations, stored_key, _hmac(salted, b"Server Key"))


def fake_verifier(secret: bytes, user: str) -> Verifier:
    """A verifier that no password meets, the same on every node and at every try for the same user.

    `secret` belongs to the cluster. With a stable salt and the usual iteration count a stranger cannot tell a
    user who does not exist from one who does.
    """
    salt, stored_key, server_key = (
        _hmac(secret, label + user.encode()) for label in (b"salt:", b"stored:", b"server:")
    )
    return Verifier(salt[:SALT_BYTES], ITERATIONS, stored_key, server_key)


class ServerScram:
    """The server's side: `challenge`, then `finish`. The client's messages may be wrapped in JSON."""

    def __init__(self, nonce: str) -> None:
        assert _NONCE.match(nonce)
        self._nonce = nonce
        self._client_first_bare = ""
        self._server_first = ""
        self._verifier: Verifier | None = None

    def challenge(self, client_first: bytes, lookup: Callable[[str], Verifier]) -> bytes:
        """The server-first message. `lookup` has a verifier for any name: `fake_verifier` for unknown ones.

        Raises `AuthenticationFailed` for a message that cannot be.
        """
        text = _unwrapped(client_first, "client_first")
        gs2, bare = text[: len(_GS2)], text[len(_GS2) :]
        fields = _fields(bare)
        if gs2 != _GS2 or list(fields) != ["n", "r"]:
            raise AuthenticationFailed("malformed client-first message")
        if not USER_NAME.match(fields["n"]) or not _NONCE.match(fields["r"]):
            raise AuthenticationFailed("malformed user name or nonce in client-first message")
        self._verifier = verifier = lookup(fields["n"])
        self._nonce = fields["r"] + self._nonce
        self._client_first_bare = bare
        salt = base64.b64encode(verifier.salt).decode()
        self._server_first = f"r={self._nonce},s={salt},i={verifier.iterations}"
        return self._server_first.encode()

    def finish(self, client_final: bytes) -> str:
        """The server signature, base64, if the proof is right; only after `challenge`.

        Raises `AuthenticationFailed`, in the same words for a wrong password and a user who does not exist.
        """
        assert self._verifier is not None
        text = _unwrapped(client_final, "client_final")
        fields = _fields(text)
        if list(fields) != ["c", "r", "p"]:
            raise AuthenticationFailed("malformed client-final message")
        if fields["c"] != _BINDING:
            raise AuthenticationFailed("channel binding must be biws")
        if not hmac.compare_digest(fields["r"].encode(), self._nonce.encode()):
            raise AuthenticationFailed("nonce mismatch")
        message = _auth_message(self._client_first_bare, self._server_first, self._nonce)
        signature = _hmac(self._verifier.stored_key, message)
        client_key = _xor(signature, _unbase64(fields["p"]) or b"")
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key):
            raise AuthenticationFailed("wrong user or password")
        return base64.b64encode(_hmac(self._verifier.server_key, message)).decode()


class ClientScram:
    """The client's side of one exchange: `first`, `challenge`, `final`, `verify`, in this order."""

    def __init__(self, user: str, nonce: str) -> None:
        """Raises `AuthenticationFailed` for a user name that no server of ours can have."""
        assert _NONCE.match(nonce)
        if not USER_NAME.match(user):
            raise AuthenticationFailed(f"user name {user[:80]!r} is not 1 to 64 of letters, digits, . _ -")
        self._nonce = nonce
        self._bare = f"n={user},r={nonce}"
        self._server_first = ""
        self._signature = b""

    def first(self) -> bytes:
        """The client-first message."""
        return (_GS2 + self._bare).encode()

    def challenge(self, server_first: bytes) -> Challenge:
        """What the server asks for. Raises `AuthenticationFailed` for what no honest server asks."""
        text = server_first.decode("utf-8", "replace")
        fields = _fields(text)
        if list(fields)[:3] != ["r", "s", "i"]:
            raise AuthenticationFailed("malformed server-first message")
        nonce = fields["r"]
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not _NONCE.match(nonce):
            raise AuthenticationFailed("server nonce does not extend client nonce")
        iterations = int(fields["i"]) if re.fullmatch(r"[0-9]{1,9}", fields["i"]) else 0
        if iterations < ITERATIONS_MIN:
            raise AuthenticationFailed(
                f"SCRAM iteration count {iterations} is below minimum {ITERATIONS_MIN}"
            )
        if iterations > ITERATIONS_MAX:
            raise AuthenticationFailed(
                f"SCRAM iteration count {iterations} is above maximum {ITERATIONS_MAX}"
            )
        salt = _unbase64(fields["s"])
        if not salt:
            raise AuthenticationFailed("server salt is not valid base64")
        self._nonce, self._server_first = nonce, text
        return Challenge(salt, iterations)

    def final(self, salted: bytes) -> bytes:
        """The client-final message, from what `salted_password` gave for the challenge."""
        message = _auth_message(self._bare, self._server_first, self._nonce)
        client_key = _hmac(salted, b"Client Key")
        proof = _xor(client_key, _hmac(hashlib.sha256(client_key).digest(), message))
        self._signature = _hmac(_hmac(salted, b"Server Key"), message)
        return f"c={_BINDING},r={self._nonce},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, v: str | None) -> None:
        """Check by the `v` of AuthOk that the server knew our verifier. Raises `AuthenticationFailed`."""
        assert self._signature
        if v is None:
            raise AuthenticationFailed("SCRAM server signature is missing")
        if not hmac.compare_digest(_unbase64(v) or b"", self._signature):
            raise AuthenticationFailed("SCRAM server signature did not verify")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    """Both as long as a SHA-256; anything else gives bytes that no proof can be."""
    if len(left) != len(right):
        return b""
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _auth_message(client_first_bare: str, server_first: str, nonce: str) -> bytes:
    return f"{client_first_bare},{server_first},c={_BINDING},r={nonce}".encode()


def _unbase64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _unwrapped(message: bytes, key: str) -> str:
    """The text of a client message, which some drivers send as `{"<key>": text}`."""
    try:
        if not message.startswith(b"{"):
            return message.decode()
        text = msgspec.json.decode(message, type=dict[str, str]).get(key, "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = ""
    return text if text.isascii() else ""


def _fields(message: str) -> dict[str, str]:
    """The attributes of a message in order, split at commas and the first `=` (a nonce may hold more).

    A message with an attribute that comes twice or has no `=` has no attributes.
    """
    pairs = [part.partition("=") for part in message.split(",")]
    fields = {name: value for name, separator, value in pairs if separator}
    return fields if len(fields) == len(pairs) else {}

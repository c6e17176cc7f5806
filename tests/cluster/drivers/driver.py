"""What all of RedDB's drivers do alike on the wire.

They share nothing with the packages under test, neither frames nor SCRAM, so that two sides cannot make one
mistake together: a socket, `struct`, `json` and `hashlib` are all there is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from tests.cluster.drivers.values import params, text

TIMEOUT_S = 30.0
"""After which most drivers give up."""
HEADER = struct.Struct("<IBBHQ")
FRAME_BYTES_MAX = 16 << 20

QUERY, RESULT, ERROR, BULK_INSERT, BULK_OK = 0x01, 0x02, 0x03, 0x04, 0x05
BULK_INSERT_BINARY, QUERY_BINARY, BULK_INSERT_PREVALIDATED = 0x06, 0x07, 0x08
HELLO, HELLO_ACK, AUTH_REQUEST, AUTH_RESPONSE, AUTH_OK, AUTH_FAIL = range(0x10, 0x16)
BYE, PING, PONG, GET, DELETE, DELETE_OK = range(0x16, 0x1C)
QUERY_WITH_PARAMS = 0x28
PARAMS = 0x1


class Refused(Exception):
    """The node did not let the driver in: the reason of its AuthFail."""


class EngineError(Exception):
    """The text of an Error."""


class Broken(Exception):
    """What a driver cannot go on after: the node does not speak as it expects."""


class Received(NamedTuple):
    kind: int
    stream: int
    correlation: int
    payload: bytes


@dataclass
class Credentials:
    """What a user gives a driver; nothing of it for a stranger."""

    user: str | None = None
    password: str | None = None
    token: str | None = None


class Line:
    """A TLS connection that carries frames."""

    def __init__(self, address: tuple[str, int], ca: Path, family: type[Driver]) -> None:
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["redwire/1"])
        context.check_hostname = family.checks_host
        if family.tls_max is not None:
            context.maximum_version = family.tls_max
        sock = socket.create_connection(address, timeout=TIMEOUT_S)
        if family.nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(sock, server_hostname=family.host or address[0])

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_frame(self, kind: int, correlation: int, payload: bytes = b"", stream: int = 0) -> None:
        self.send(HEADER.pack(HEADER.size + len(payload), kind, 0, stream, correlation) + payload)

    def receive(self) -> Received:
        """The next frame. Raises `Broken` at the end, and for a frame that no driver takes."""
        length, kind, flags, stream, correlation = HEADER.unpack(self.exactly(HEADER.size))
        if not HEADER.size <= length <= FRAME_BYTES_MAX:
            raise Broken(f"a frame of {length} bytes")
        if flags:
            raise Broken(f"flags {flags:#04x}: not every driver can decompress")
        return Received(kind, stream, correlation, self.exactly(length - HEADER.size))

    def exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise Broken(f"the connection ended after {len(data)} of {count} bytes")
            data += piece
        return bytes(data)

    def ended(self) -> bool:
        """Whether the other side closes, without a word more."""
        return self.socket.recv(1) == b""

    def close(self) -> None:
        self.socket.close()


class Driver:
    """What all families do alike, and the particulars of each as attributes."""

    name: ClassVar[str]
    preface: ClassVar[bytes] = b"\xfe\x01"
    checks_host: ClassVar[bool] = True
    host: ClassVar[str | None] = None
    nodelay: ClassVar[bool] = True
    tls_max: ClassVar[ssl.TLSVersion | None] = None
    nonce_bytes: ClassVar[int] = 18
    wraps_scram: ClassVar[bool] = False
    speaks_scram: ClassVar[bool] = True
    scram_methods: ClassVar[tuple[str, ...]] = ("scram-sha-256",)
    one_counter: ClassVar[bool] = False
    first_correlation: ClassVar[int] = 1

    def __init__(self, address: tuple[str, int], ca: Path, credentials: Credentials) -> None:
        self.credentials = credentials
        self.line = Line(address, ca, type(self))
        self.method = ""
        self.session: Any = None
        self._count = 0
        try:
            self._shake_hands()
        except BaseException:
            self.line.close()
            raise
        self._count = self._count if self.one_counter else self.first_correlation - 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.line.close()

    # --- the handshake

    def _shake_hands(self) -> None:
        self.line.send(self.preface)
        hello = {"versions": [1], "auth_methods": self.methods(), "features": 0, "client_name": self.name}
        self._send(HELLO, self.json(hello))
        ack = self._expect(HELLO_ACK)
        self.method = self.ack_method(ack)
        self.ack_features = self.features_of(ack)
        match self.method:
            case "anonymous":
                self._send(AUTH_RESPONSE, b"")
            case "bearer":
                if self.credentials.token is None:
                    raise Refused("server demanded bearer but no token was supplied")
                self._send(AUTH_RESPONSE, self.json({"token": self.credentials.token}))
            case "scram-sha-256":
                self._scram()
            case other:
                raise Broken(f"server picked unsupported auth method: {other}")
        if self.method != "scram-sha-256":
            self.welcomed(self._expect(AUTH_OK))

    def methods(self) -> Sequence[str]:
        """What Hello offers."""
        if self.credentials.token is not None:
            return ["bearer"]
        if self.credentials.user is not None:
            return self.scram_methods
        return ["anonymous", "bearer"]

    def ack_method(self, ack: bytes) -> str:
        return self._text(json.loads(ack), "auth")

    def features_of(self, body: bytes) -> int:
        return int(json.loads(body).get("features", 0))

    def welcomed(self, ok: bytes) -> None:
        """Take in AuthOk."""
        self.session = json.loads(ok)
        self.features = int(self.session.get("features", self.ack_features))

    def signature_of(self, ok: bytes) -> str | None:
        signature = json.loads(ok).get("v")
        assert signature is None or isinstance(signature, str)
        return signature

    def _scram(self) -> None:
        user, password = self.credentials.user, self.credentials.password
        assert user is not None and password is not None
        nonce = base64.b64encode(secrets.token_bytes(self.nonce_bytes)).decode()
        bare = f"n={user},r={nonce}"
        self._send(AUTH_RESPONSE, self._wrapped("client_first", f"n,,{bare}"))
        server_first = self._expect(AUTH_REQUEST).decode()
        parts = dict(part.split("=", 1) for part in server_first.split(","))
        if not parts["r"].startswith(nonce) or int(parts["i"]) < 4096:
            raise Broken(f"server-first {server_first!r}")
        salt = base64.b64decode(parts["s"], validate=True)
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, int(parts["i"]))
        without_proof = f"c=biws,r={parts['r']}"
        message = f"{bare},{server_first},{without_proof}".encode()
        key = hmac.digest(salted, b"Client Key", "sha256")
        signed = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signed, strict=True))).decode()
        self._send(AUTH_RESPONSE, self._wrapped("client_final", f"{without_proof},p={proof}"))
        ok = self._expect(AUTH_OK)
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        signature = self.signature_of(ok)
        if signature is None or base64.b64decode(signature) != hmac.digest(server_key, message, "sha256"):
            raise Broken("the server signature did not verify")
        self.welcomed(ok)

    def _wrapped(self, key: str, message: str) -> bytes:
        return self.json({key: message}) if self.wraps_scram else message.encode()

    # --- requests

    def json(self, value: object) -> bytes:
        """How this family writes JSON."""
        return json.dumps(value, separators=(",", ":")).encode()

    def request(self, kind: int, payload: bytes = b"") -> int:
        """Send one request; its correlation."""
        return self._send(kind, payload)

    def answer(self, kind: int, correlation: int) -> bytes:
        """The payload of the next frame, which must be of `kind`. Raises `EngineError` or `Broken`."""
        received = self.line.receive()
        self.check(received, correlation)
        if received.kind == ERROR:
            raise EngineError(received.payload.decode())
        if received.kind != kind:
            raise Broken(f"expected kind {kind:#04x}, got {received.kind:#04x}")
        return received.payload

    def check(self, received: Received, correlation: int) -> None:
        """What this family checks of every reply, beside its kind."""

    def ask(self, kind: int, payload: bytes, wanted: int) -> bytes:
        return self.answer(wanted, self.request(kind, payload))

    def ping(self) -> None:
        self.ask(PING, b"", PONG)

    def insert(self, collection: str, document: object) -> Any:
        """What the family makes of the answer."""
        body = self.json({"collection": collection, "payload": document})
        return self.inserted(self.ask(BULK_INSERT, body, BULK_OK))

    def bulk_insert(self, collection: str, documents: Sequence[object]) -> Any:
        body = self.json({"collection": collection, "payloads": documents})
        return self.inserted_many(self.ask(BULK_INSERT, body, BULK_OK), len(documents))

    def inserted(self, body: bytes) -> Any:
        return None

    def inserted_many(self, body: bytes, count: int) -> Any:
        return None

    def get(self, collection: str, ident: object) -> Any:
        body = self.json({"collection": collection, "id": str(ident)})
        return json.loads(self.ask(GET, body, RESULT))

    def delete(self, collection: str, ident: object) -> Any:
        body = self.json({"collection": collection, "id": str(ident)})
        return json.loads(self.ask(DELETE, body, DELETE_OK))

    def query(self, sql: str, *values: bytes) -> Any:
        """Run a statement; `values` are encoded already. The result's JSON."""
        if not values:
            return json.loads(self.ask(QUERY, sql.encode(), RESULT))
        if not self.features & PARAMS:
            raise Broken("PARAMS_UNSUPPORTED: the server does not advertise parameters")
        return json.loads(self.ask(QUERY_WITH_PARAMS, params(sql, *values), RESULT))

    def find(self, collection: str, ident: str) -> Any:
        """`documents.get` of the helper layer: a statement with a parameter, then the first of `rows`."""
        rows = self.query(f"SELECT * FROM {collection} WHERE rid = $1 LIMIT 1", text(ident)).get("rows")
        return rows[0] if rows else None

    def documents(self, collection: str, limit: int = 100) -> Any:
        """`documents.list` of the helper layer."""
        rows = self.query(f"SELECT * FROM {collection} ORDER BY rid ASC LIMIT {limit}").get("rows")
        return rows or []

    def bye(self) -> None:
        """Say Bye, and see the connection end; drivers do not wait so long."""
        correlation = self.request(BYE)
        received = self.line.receive()
        assert (received.kind, received.correlation, received.payload) == (BYE, correlation, b"")
        assert self.line.ended()

    def _send(self, kind: int, payload: bytes) -> int:
        self._count += 1
        self.line.send_frame(kind, self._count, payload)
        return self._count

    def _expect(self, kind: int) -> bytes:
        """One step of the handshake."""
        received = self.line.receive()
        if received.kind == AUTH_FAIL:
            raise Refused(self.reason_of(received.payload))
        if received.kind != kind:
            raise Broken(f"expected kind {kind:#04x}, got {received.kind:#04x}: {received.payload!r}")
        return received.payload

    def reason_of(self, body: bytes) -> str:
        return self._text(json.loads(body), "reason")

    @staticmethod
    def _text(fields: Any, key: str) -> str:
        value = fields.get(key) if isinstance(fields, dict) else None
        if not isinstance(value, str):
            raise Broken(f"{key!r} is missing in {fields!r}")
        return value

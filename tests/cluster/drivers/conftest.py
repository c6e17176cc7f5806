"""RedDB's drivers as they behave on the wire, and a cluster for them.

Each class stands in for one family of drivers, as far as its wire behaviour goes: how it greets, wraps,
counts and checks, and what breaks it. They share nothing with the packages under test, neither frames nor
SCRAM, so that two sides cannot make one mistake together: a socket, `struct`, `json` and `hashlib` are all
there is.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import pytest
import yaml

from redwire.message.admin import PutToken

TIMEOUT_S = 30.0
"""After which most drivers give up."""
PASSWORD = "correct horse, battery & staple"
HEADER = struct.Struct("<IBBHQ")
FRAME_BYTES_MAX = 16 << 20

QUERY, RESULT, ERROR, BULK_INSERT, BULK_OK = 0x01, 0x02, 0x03, 0x04, 0x05
BULK_INSERT_BINARY, QUERY_BINARY, BULK_INSERT_PREVALIDATED = 0x06, 0x07, 0x08
HELLO, HELLO_ACK, AUTH_REQUEST, AUTH_RESPONSE, AUTH_OK, AUTH_FAIL = range(0x10, 0x16)
BYE, PING, PONG, GET, DELETE, DELETE_OK = range(0x16, 0x1C)
QUERY_WITH_PARAMS = 0x28
KNOWN_TO_GO = {*range(0x01, 0x09), *range(0x10, 0x1C), *range(0x20, 0x29)}
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


class Python(Driver):
    """Raw SCRAM; features from AuthOk alone; ids wanted back; `exists` and `documents.get` by `entity`."""

    name = "reddb-asyncio/0.1"
    first_correlation = 4

    def welcomed(self, ok: bytes) -> None:
        self.session = json.loads(ok)
        self.features = int(self.session.get("features", 0))

    def inserted(self, body: bytes) -> Any:
        result = json.loads(body)
        ident = result.get("rid", result.get("id"))
        if ident is None:
            raise Broken("INVALID_RESPONSE: insert() response missing rid")
        return ident

    def inserted_many(self, body: bytes, count: int) -> Any:
        result = json.loads(body)
        idents = result.get("rids", result.get("ids"))
        if not isinstance(idents, list) or len(idents) != count:
            raise Broken(f"INVALID_RESPONSE: bulk_insert() expected {count} rids")
        return idents

    def exists(self, collection: str, ident: str) -> bool:
        result = self.get(collection, ident)
        entity = result.get("entity", result)
        return entity is not None and entity != {}

    def find(self, collection: str, ident: str) -> Any:
        return self.get(collection, ident).get("entity") or None

    @staticmethod
    def value(value: object) -> bytes:
        """How the driver encodes a parameter."""
        match value:
            case None:
                return b"\x00"
            case bool():
                return b"\x01" + bytes((value,))
            case int():
                return b"\x02" + struct.pack("<q", value)
            case float():
                return b"\x03" + struct.pack("<d", value)
            case str():
                return text(value)
            case {"$bytes": str(encoded)}:
                return sized(5, base64.b64decode(encoded))
            case {"$ts": int(seconds)}:
                return b"\x08" + struct.pack("<q", seconds)
            case list() | tuple():
                return b"\x06" + struct.pack(f"<I{len(value)}f", len(value), *value)
            case dict():
                return sized(7, json.dumps(value, separators=(",", ":"), sort_keys=True).encode())
        raise AssertionError(value)


class Go(Driver):
    """One counter of correlations; known kinds only; ids by way of doubles; a session id or nothing."""

    name = "reddb-go/0.1"
    wraps_scram = True
    one_counter = True

    def welcomed(self, ok: bytes) -> None:
        super().welcomed(ok)
        if not self.session.get("session_id"):
            raise Broken("without a session id the driver waits for another frame, for ever")

    def check(self, received: Received, correlation: int) -> None:
        if received.kind not in KNOWN_TO_GO:
            raise Broken(f"unknown kind {received.kind:#04x}")

    def inserted(self, body: bytes) -> Any:
        self.inserted_many(body, 1)

    def inserted_many(self, body: bytes, count: int) -> Any:
        result = json.loads(body, parse_int=float)
        assert int(result["affected"]) == count
        return [each if isinstance(each, str) else str(int(each)) for each in result.get("ids", ())]


class Java(Driver):
    """Offers SCRAM and bearer together; wraps SCRAM in JSON; ignores what an insert answers."""

    name = "reddb-jvm/0.1"
    wraps_scram = True
    nonce_bytes = 24
    scram_methods = ("scram-sha-256", "bearer")


class Php(Driver):
    """As Java, and compares the correlation of every reply; an empty document is `[]`; Nagle is on."""

    name = "reddb-php/0.1"
    wraps_scram = True
    nodelay = False
    scram_methods = ("scram-sha-256", "bearer")

    def json(self, value: object) -> bytes:
        return json.dumps(value, separators=(",", ":")).replace("{}", "[]").encode()

    def check(self, received: Received, correlation: int) -> None:
        if received.correlation != correlation:
            raise Broken(f"correlation id mismatch: expected {correlation}, got {received.correlation}")


class Cpp(Driver):
    """Looks for quoted words in the raw text of the handshake; TLS 1.2; any host name will do."""

    name = "reddb-cpp"
    one_counter = True
    checks_host = False
    host = "somewhere.else.example"
    tls_max = ssl.TLSVersion.TLSv1_2

    @staticmethod
    def scanned(body: bytes, key: str) -> str | None:
        """What stands behind the first `"key"`, wherever that is: a text, or digits."""
        _, found, rest = body.decode().partition(f'"{key}"')
        rest = rest.lstrip()
        if not found or not rest.startswith(":"):
            return None
        rest = rest[1:].lstrip()
        if rest.startswith('"'):
            return rest[1:].partition('"')[0].replace("\\/", "/")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        return digits or None

    def ack_method(self, ack: bytes) -> str:
        method = self.scanned(ack, "auth")
        if method is None:
            raise Broken("HelloAck missing 'auth' field")
        return method

    def features_of(self, body: bytes) -> int:
        return int(self.scanned(body, "features") or 0)

    def signature_of(self, ok: bytes) -> str | None:
        return self.scanned(ok, "v")

    def welcomed(self, ok: bytes) -> None:
        self.session = {key: self.scanned(ok, key) for key in ("session_id", "role", "username")}
        self.features = self.features_of(ok) or self.ack_features

    def reason_of(self, body: bytes) -> str:
        return self.scanned(body, "reason") or "auth refused"


class JsClient(Driver):
    """No SCRAM; writes on and pairs answers by their order; binary rows; documents by `entity`."""

    name = "reddb-js/0.2"
    speaks_scram = False

    def inserted(self, body: bytes) -> Any:
        result = json.loads(body)
        ident = result.get("rid") if result.get("rid") is not None else result.get("id")
        if ident is None:
            raise Broken("ENGINE_TOO_OLD: insert() requires RedDB engine >= 1.0.9")
        return ident

    def inserted_many(self, body: bytes, count: int) -> Any:
        result = json.loads(body)
        idents = result.get("rids", result.get("ids"))
        if not isinstance(idents, list) or len(idents) != count:
            raise Broken(f"INVALID_RESPONSE: bulkInsert() expected {count} rids")
        return idents

    def find(self, collection: str, ident: str) -> Any:
        return self.get(collection, ident).get("entity")

    def bulk_insert_binary(self, collection: str, columns: Sequence[str], *rows: bytes, kind: int) -> int:
        """`rows` are the encoded values of one row each."""
        parts = [short(collection), struct.pack("<H", len(columns)), *map(short, columns)]
        body = b"".join([*parts, struct.pack("<I", len(rows)), *rows])
        answer = self.ask(kind, body, BULK_OK)
        if len(answer) < 8:
            raise Broken("BulkOk truncated: expected 8-byte count")
        return int(struct.unpack_from("<Q", answer)[0])

    def select(self, sql: str) -> list[dict[str, Any]]:
        """A SELECT without parameters: kind 07, whose answer is JSON, or else binary."""
        body = self.ask(QUERY_BINARY, sql.encode(), RESULT)
        with contextlib.suppress(ValueError):
            result = json.loads(body)
            return list(result["rows"])
        return unpacked(body)

    def query(self, sql: str, *values: bytes) -> Any:
        """Newer versions ask every statement with parameters, and make rows of the envelope."""
        if not values and sql.lower().lstrip().startswith("select"):
            return {"rows": self.select(sql)}
        result = json.loads(self.ask(QUERY_WITH_PARAMS, params(sql, *values), RESULT))
        envelope = result.get("result", result)
        rows = envelope.get("rows") or result.get("rows")
        return {**result, "rows": rows or [record["values"] for record in envelope.get("records", ())]}


class Js(JsClient):
    """The older JavaScript driver, at the protocol's older minor version; a Query where nothing is bound."""

    preface = b"\xfe\x00"

    def query(self, sql: str, *values: bytes) -> Any:
        return Driver.query(self, sql, *values)


FAMILIES: dict[str, type[Driver]] = {
    "python": Python,
    "go": Go,
    "java": Java,
    "php": Php,
    "cpp": Cpp,
    "js": Js,
    "js-client": JsClient,
}


def sized(tag: int, data: bytes) -> bytes:
    return struct.pack("<BI", tag, len(data)) + data


def text(value: str) -> bytes:
    """A parameter of tag 04."""
    return sized(4, value.encode())


def short(value: str) -> bytes:
    return struct.pack("<H", len(value.encode())) + value.encode()


def params(sql: str, *values: bytes, trailer: bytes = b"") -> bytes:
    """The body of a QueryWithParams."""
    head = struct.pack("<I", len(sql.encode())) + sql.encode() + struct.pack("<I", len(values))
    return b"".join([head, *values, trailer])


def unpacked(body: bytes) -> list[dict[str, Any]]:
    """The rows of a binary Result."""
    at = 0

    def take(layout: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from(layout, body, at)
        at += struct.calcsize(layout)
        return value

    def words(length: int) -> str:
        nonlocal at
        at += length
        return body[at - length : at].decode()

    readers: dict[int, Callable[[], Any]] = {
        0: lambda: None,
        1: lambda: take("<q"),
        2: lambda: take("<d"),
        3: lambda: words(take("<I")),
        4: lambda: bool(take("B")),
        5: lambda: take("<Q"),
    }
    columns = [words(take("<H")) for _ in range(take("<H"))]
    rows = [{column: readers[take("B")]() for column in columns} for _ in range(take("<I"))]
    assert at == len(body)
    return rows


@dataclass
class Shop:
    """A primary and a replica. Users `app` and `v` may write, `reader` may not; strangers may write at the
    primary, and are not let in at the replica.
    """

    fleet: Any
    tokens: dict[str, str] = field(default_factory=dict)
    primary: str = "eu-1"
    PASSWORD: ClassVar[str] = PASSWORD
    Refused: ClassVar[type[Exception]] = Refused
    EngineError: ClassVar[type[Exception]] = EngineError
    Broken: ClassVar[type[Exception]] = Broken
    text: ClassVar[Callable[[str], bytes]] = staticmethod(text)
    params: ClassVar[Callable[..., bytes]] = staticmethod(params)

    @property
    def ca(self) -> Path:
        return Path(self.fleet.folder) / "ca.pem"

    def address(self, node: str) -> tuple[str, int]:
        return "127.0.0.1", self.fleet.ports[node]

    def connect(
        self,
        family: str,
        *,
        node: str = "eu-1",
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
    ) -> Any:
        """A driver of this family: with a password, with a token, or as a stranger."""
        credentials = Credentials(user, password, token)
        return FAMILIES[family](self.address(node), self.ca, credentials)

    def dial(self, family: str) -> Any:
        """Only TLS, as this family does it; nothing is said."""
        return Line(self.address(self.primary), self.ca, FAMILIES[family])

    def log_in(self, family: str, *, node: str = "eu-1", user: str = "app") -> Any:
        """A driver of this family as `user`: by password where it can, else by token."""
        if FAMILIES[family].speaks_scram:
            return self.connect(family, node=node, user=user, password=PASSWORD)
        return self.connect(family, node=node, token=self.tokens[user])

    def level(self) -> None:
        """Wait until the replica has applied what the primary has."""
        self.fleet.converge()


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Iterator[Shop]:
    fleet = module_fleet("eu-1", "us-1", start=False)
    for node, strangers in (("eu-1", "write"), ("us-1", "off")):
        path = fleet.config_path(node)
        document = yaml.safe_load(path.read_text()) | {"auth": {"anonymous": strangers}}
        path.write_text(yaml.safe_dump(document, sort_keys=False))
    fleet.start()
    fleet.wait_ready()
    shop = Shop(fleet)
    for user, role in (("app", "write"), ("v", "write"), ("reader", "read")):
        fleet.add_user(user, PASSWORD, role, topology_read=False)
        shop.tokens[user] = secrets.token_urlsafe(32)
        digest = hashlib.sha256(shop.tokens[user].encode()).digest()
        fleet.db.admin.change_account(PutToken(id=f"{user}-1", user=user, role=role, sha256=digest))
    shop.level()
    yield shop

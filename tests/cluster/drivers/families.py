"""RedDB's drivers as they behave on the wire.

Each class stands in for one family of drivers, as far as its wire behaviour goes: how it greets, wraps,
counts and checks, and what breaks it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import struct
from collections.abc import Sequence
from typing import Any

from tests.cluster.drivers.driver import (
    BULK_OK,
    QUERY_BINARY,
    QUERY_WITH_PARAMS,
    RESULT,
    Broken,
    Driver,
    Received,
)
from tests.cluster.drivers.values import params, short, sized, text, unpacked

KNOWN_TO_GO = {*range(0x01, 0x09), *range(0x10, 0x1C), *range(0x20, 0x29)}


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

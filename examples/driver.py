"""What RedDB's drivers send, by hand: `REDWIRE_URI=reds://app:secret@… python examples/driver.py`.

Python's standard library alone, so that it can be written again in any language: docs/PROTOCOL.md, 1 to 3.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import socket
import ssl
import struct
import sys
from base64 import b64decode, b64encode
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

URI = os.environ.get("REDWIRE_URI") or sys.exit(
    "set REDWIRE_URI to the cluster, such as reds://app:secret@eu-1.example.net/?ca=certs/ca.pem"
)
HEADER = struct.Struct("<IBBHQ")
"""Length with this header, kind, flags, stream, correlation."""
QUERY, RESULT, ERROR, BULK_INSERT, BULK_OK, GET = 0x01, 0x02, 0x03, 0x04, 0x05, 0x19
HELLO, HELLO_ACK, AUTH_REQUEST, AUTH_RESPONSE, AUTH_OK = 0x10, 0x11, 0x12, 0x13, 0x14


class Driver:
    """One connection to one node: a request, its answer, the next request."""

    def __init__(self, host: str, port: int, ca: str, user: str, password: str) -> None:
        plain = socket.create_connection((host, port), timeout=30)
        self.socket = ssl.create_default_context(cafile=ca).wrap_socket(plain, server_hostname=host)
        self.count = 0
        self.socket.sendall(b"\xfe\x01")
        self.ask(HELLO, {"versions": [1], "auth_methods": ["scram-sha-256"], "features": 0}, HELLO_ACK)
        self._log_in(user, password)

    def ask(self, kind: int, body: object, wanted: int) -> bytes:
        """Send one frame, return the body of the answer, which has to be of the kind `wanted`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.count += 1
        self.socket.sendall(HEADER.pack(HEADER.size + len(data), kind, 0, 0, self.count) + data)
        length, answer, _, _, _ = HEADER.unpack(self._exactly(HEADER.size))
        text = self._exactly(length - HEADER.size)
        if answer != wanted:
            sys.exit(f"the node says: {text.decode()}")
        return text

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.socket.recv(size - len(data)) or sys.exit("the node has closed the connection")
        return data

    def _log_in(self, user: str, password: str) -> None:
        """SCRAM-SHA-256, RFC 5802; the node proves that it knows the password, too."""
        bare = f"n={user},r={secrets.token_urlsafe(18)}"
        first = self.ask(AUTH_RESPONSE, f"n,,{bare}".encode(), AUTH_REQUEST).decode()
        given = dict(part.split("=", 1) for part in first.split(","))
        if not given["r"].startswith(bare.partition("r=")[2]):
            sys.exit("the node answers another login than this one")
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b64decode(given["s"]), int(given["i"]))
        final = f"c=biws,r={given['r']}"
        signed = f"{bare},{first},{final}".encode()
        key = hmac.digest(salted, b"Client Key", "sha256")
        mask = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = b64encode(bytes(a ^ b for a, b in zip(key, mask, strict=True))).decode()
        told = json.loads(self.ask(AUTH_RESPONSE, f"{final},p={proof}".encode(), AUTH_OK))
        expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        if not hmac.compare_digest(b64decode(told["v"]), expected):
            sys.exit("this node does not know the password: it is not the cluster's")

    def insert(self, collection: str, document: dict[str, Any]) -> Any:
        """Write a document; how many, and its id."""
        return json.loads(self.ask(BULK_INSERT, {"collection": collection, "payload": document}, BULK_OK))

    def get(self, collection: str, ident: str) -> Any:
        """Read a document by its id."""
        return json.loads(self.ask(GET, {"collection": collection, "id": ident}, RESULT))

    def select(self, sql: str) -> Any:
        """The rows of a statement."""
        return json.loads(self.ask(QUERY, sql.encode(), RESULT))["rows"]


def main() -> None:
    """Insert, Get and SELECT, on the first host of the URI: writes want the primary."""
    uri = urlsplit(URI)
    who, _, hosts = uri.netloc.rpartition("@")
    user, _, password = who.partition(":")
    host, _, port = hosts.split(",")[0].partition(":")
    if not password:
        sys.exit("this one logs in by password: reds://user:password@host/?ca=…")
    db = Driver(host, int(port or 5050), parse_qs(uri.query)["ca"][0], unquote(user), unquote(password))

    inserted = db.insert("lamps", {"name": "desk lamp", "watts": 7})
    print(f"insert: {inserted}")
    ident = str(inserted["id"])  # its place in the log, as the document names none
    print(f"get: {db.get('lamps', ident)}")
    found = db.select(f"SELECT id, doc ->> '$.watts' AS watts FROM lamps WHERE id = '{ident}'")
    print(f"select: {found}")


if __name__ == "__main__":
    main()

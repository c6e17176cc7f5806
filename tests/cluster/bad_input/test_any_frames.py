"""Frames of every kind, sound and then spoilt, in every role: whatever they say, the node lives on."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from redwire.body import encode
from redwire.errors import ProtocolError
from redwire.frame import HEADER, Kind
from redwire.message.client import Open, Resolve
from redwire.message.peer import Ack, Heartbeat, SnapshotFetch
from redwire.message.read import Fetch, Scan
from redwire.record import NO_CLIENT, Op, Record
from tests.reports import report

ROUNDS = 4
FRAMES = 60
ROLES = ("ops", "reader", "writer", "us-1", None)

STATEMENT = b"SELECT $1, $2 AS b"
QUERY_VALUES = b"\x02" + struct.pack("<q", 5) + b"\x04\x01\0\0\0x"
NAMES = b"\x01\0c\x02\0\x02\0id\x01\0n"
SOUND: dict[int, list[bytes]] = {
    Kind.FETCH: [Fetch("good", "doc-1").encode()],
    Kind.SCAN: [Scan("good", "", 10).encode()],
    Kind.OPEN: [encode(Open("test", True))],
    Kind.RESOLVE: [Resolve(NO_CLIENT, 1).encode()],
    Kind.ACK: [Ack(1, 2, 2, 2, "eu-1").encode()],
    Kind.HEARTBEAT: [Heartbeat(1, 2, 2, 4, "eu-1").encode()],
    Kind.PEER_HELLO: [encode(report(name="dev"))],
    Kind.FOLLOW: [encode(report(name="dev"))],
    Kind.SNAPSHOT_FETCH: [encode(SnapshotFetch("", 0))],
    Kind.QUERY: [b"SELECT * FROM good LIMIT 2", b"SELECT doc FROM good WHERE id = 'x'", b"INSERT INTO c"],
    Kind.GET: [b'{"collection":"good","id":"doc-1"}'],
    Kind.DELETE: [b'{"collection":"bad","id":"x"}'],
    Kind.BULK_INSERT: [
        b'{"collection":"bad","payload":{"a":1}}',
        b'{"collection":"bad","payloads":[{"a":1},{"b":2}]}',
        b'{"collection":"bad","batch":true,"payloads":[{"fields":{"a":1}}]}',
    ],
    Kind.QUERY_WITH_PARAMS: [
        struct.pack("<I", len(STATEMENT)) + STATEMENT + struct.pack("<I", 2) + QUERY_VALUES
    ],
    Kind.BULK_INSERT_BINARY: [NAMES + b"\x01\0\0\0\x03\x01\0\0\0k\x01" + struct.pack("<q", 3)],
}
SPLINTERS = (b"\0", b"\xff" * 8, b"\x80", b"\xbf\xff", b'"', b"{", b"[" * 50)


def spoilt(chance: random.Random, data: bytes) -> bytes:
    """`data` with up to four wounds: a byte changed, cut off, added, put in, or taken out."""
    body = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 2, 4])):
        at = chance.randrange(len(body) + 1)
        match chance.randrange(5):
            case 0 if at < len(body):
                body[at] = chance.randrange(256)
            case 1:
                del body[at:]
            case 2:
                body += chance.randbytes(chance.randrange(30))
            case 3:
                body[at:at] = chance.choice(SPLINTERS)
            case _:
                del body[at : at + chance.randrange(1, 9)]
    return bytes(body)


def any_frame(chance: random.Random, sound: dict[int, list[bytes]]) -> bytes:
    kind = chance.choice([*sound, *sound, chance.randrange(256)])
    whole = chance.choice(sound.get(kind) or [chance.randbytes(chance.randrange(200))])
    body, flags = spoilt(chance, whole), chance.choice([0] * 12 + [1, 2, 4])
    return (
        HEADER.pack(16 + len(body), kind, flags, chance.choice([0, 0, 7]), chance.randrange(1 << 40)) + body
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_frame_in_any_role_harms_the_node_or_another_session(site: Any, seed: int) -> None:
    chance = random.Random(seed)
    put, delete = Record(Op.PUT, "bad", "k", b'{"a":1}'), Record(Op.DELETE, "bad", "z")
    sound = SOUND | {Kind.WRITE: [site.write_body(put, delete)]}
    for _ in range(ROUNDS):
        for role in ROLES:
            _converse(site, chance, role, sound)
        site.check()


def _converse(site: Any, chance: random.Random, role: str | None, sound: dict[int, list[bytes]]) -> None:
    wire = site.login(role)
    for _ in range(FRAMES):
        wire.send(any_frame(chance, sound))
        if chance.random() < 0.2:
            for answer in wire.words(0.02):
                assert answer.kind in set(Kind), answer
        if wire.ended:
            wire.close()
            wire = site.login(role)
    try:
        wire.words(0.1)
    except ProtocolError as error:
        pytest.fail(f"the node's own framing broke: {error}")
    wire.close()

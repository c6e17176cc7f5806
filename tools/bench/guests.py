"""A process of unusual clients: many that do nothing, or one that asks for much and never reads an answer.

Started with a `Party` on standard input; says `ready` once the clients are there, or once the one that never
reads finds that the node does not read on either, and stays until its standard input ends.
"""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from enum import Enum

import anyio
import anyio.to_thread
import msgspec

from redwire import uri
from redwire.body import decode, encode
from redwire.client import connect, dialler
from redwire.dial import Dialled
from redwire.document import encode_record
from redwire.errors import ChannelClosed
from redwire.frame import Kind, encode_header
from redwire.message.client import Open, Opened, encode_write_frame_body
from redwire.message.read import Fetch
from redwire.pending import request_head
from redwire.record import REQUEST_HEADER, Op
from redwire.session_keys import SessionKeys

DIALS_AT_ONCE = 32
"""TLS keeps both cores busy with these; a node lets 256 in that are not authenticated yet."""
NAME = "redwire-bench"
WRITES = 4_000
"""As many as one session may have under way, nearly."""
FETCHES = 4_000
"""Of `LARGE_BYTES` each they are 256 MB, which no buffer between the two ends holds."""
STUCK_S = 3.0
"""The node reads no more when what was sent has waited so long."""
CALL_MS = 60_000
"""Longer than any wait of this benchmark: no write is given up."""


class Manner(Enum):
    """What the clients do."""

    IDLE = "idle"
    NEVER_READS = "never reads"


class Party(msgspec.Struct, frozen=True):
    """`count` clients of a manner. One that never reads asks for the document `ident`, over and over."""

    uri: str
    manner: Manner
    count: int
    collection: str
    ident: str = ""


async def stay_idle(party: Party) -> None:
    """Be so many clients that are connected and do nothing."""
    door = anyio.Semaphore(DIALS_AT_ONCE)
    inside = 0
    complete = anyio.Event()

    async def visit() -> None:
        nonlocal inside
        await door.acquire()
        async with connect(party.uri, name=NAME):
            door.release()
            inside += 1
            if inside == party.count:
                complete.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        for _ in range(party.count):
            tasks.start_soon(visit)
        await complete.wait()
        await _until_told()
        tasks.cancel_scope.cancel()


async def never_read(party: Party) -> None:
    """Send writes and reads on one connection, and take no answer."""
    config = uri.parse(party.uri)
    dialled = await dialler(config, NAME).dial(config.seeds[0])
    with closing(dialled.channel) as channel:
        keys = SessionKeys((await _opened(dialled)).client_id)
        for number in range(WRITES):
            record = encode_record(Op.PUT, party.collection, f"unread-{number}", {"n": number})
            head = request_head(REQUEST_HEADER.size + len(record), 0, 1, keys, keys.take())
            body = encode_write_frame_body(CALL_MS, 1, "", head + record)
            channel.write(encode_header(Kind.WRITE, len(body), number + 1), body)
        asked = Fetch(party.collection, party.ident).encode()
        frame = encode_header(Kind.FETCH, len(asked), WRITES + 1) + asked
        channel.write(frame * FETCHES)
        with anyio.move_on_after(STUCK_S):
            with suppress(ChannelClosed):  # the node may have had enough of us, which is an answer too
                await channel.drain_below(1)
        await _until_told()


async def _opened(dialled: Dialled) -> Opened:
    body = encode(Open(NAME, subscribe=False))
    dialled.channel.write(encode_header(Kind.OPEN, len(body), 0), body)
    while True:
        for frame in await dialled.receive():
            if frame.kind == Kind.OPENED:
                return decode(frame.payload, Opened)


async def _until_told() -> None:
    print("ready", flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)


async def main() -> None:
    """Do what the party on standard input is about."""
    party = msgspec.json.decode(await anyio.to_thread.run_sync(sys.stdin.readline), type=Party)
    match party.manner:
        case Manner.IDLE:
            await stay_idle(party)
        case Manner.NEVER_READS:
            await never_read(party)


if __name__ == "__main__":
    anyio.run(main)

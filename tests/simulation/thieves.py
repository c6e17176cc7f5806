"""Those who have seen keys of other users, in errors and logs, and use them as if they were their own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from machines import Machine
from truth import Ident
from writers import COLLECTION, Conversation, Fate, Write, answered

from cluster.client_ids import SEAL_BYTES
from redwire.body import decode, encode
from redwire.errors import Code, RedwireError
from redwire.frame import Kind
from redwire.message.client import Open, Opened, Resolve, encode_write_frame_body
from redwire.record import NO_CLIENT, Key, Op, Record, encode_record, encode_write

NEW_KEYS = 5
"""Of those it prefers some that are under way."""


class Thief:
    """Writes and asks under stolen keys until told to stop: `failure` is the first time that it was let.
    `writes` are none that anybody may ever find.
    """

    def __init__(
        self, name: str, machines: Sequence[Machine], stolen: Sequence[Ident], chance: random.Random
    ) -> None:
        self.name = name
        self.writes: list[Write] = []
        self.failure = ""
        self.stopping = False
        self._machines = machines
        self._stolen = stolen
        self._chance = chance
        self._pause_s = chance.choice((0.02, 0.2))
        self._own = b""

    async def run(self) -> None:
        """Steal for ever."""
        while not self.stopping:
            await asyncio.sleep(self._chance.expovariate(1.0 / self._pause_s))
            leading = [each for each in self._machines if each.leads and each.service is not None]
            if leading and self._stolen:
                delay_s = self._chance.uniform(0.001, 0.03)
                talk = Conversation(self._chance.choice(leading), delay_s, user=self.name)
                await self._use(talk, *self._key())

    def _key(self) -> Ident:
        """One that was stolen; now and then with a seal of its own below it."""
        chance = self._chance
        client, sequence = chance.choice(self._stolen[-NEW_KEYS:] if chance.random() < 0.7 else self._stolen)
        if self._own and chance.random() < 0.2:
            client = client[:-SEAL_BYTES] + self._own[-SEAL_BYTES:]
        return client, max(1, sequence + chance.choice((0, 0, 0, 1)))

    async def _use(self, talk: Conversation, client: bytes, sequence: int) -> None:
        if not self._own:
            frame = await talk.ask(Kind.OPEN, encode(Open(self.name, False)))
            if frame is not None and frame.kind == Kind.OPENED:
                client = decode(frame.payload, Opened).client_id
                self._own = b"" if client == NO_CLIENT else client
        elif self._chance.random() < 0.5:
            frame = await talk.ask(Kind.RESOLVE, Resolve(client, sequence).encode())
            self._heard("ask for", sequence, None if frame is None else answered(frame), Code.FORBIDDEN)
        else:
            write = Write(f"{self.name}-{len(self.writes)}", Op.PUT, b"{}", "", Fate.REFUSED)
            self.writes.append(write)
            record = encode_record(Record(write.op, COLLECTION, write.ident, write.doc))
            key = Key(client, sequence, self._chance.choice((1, sequence)))
            request = encode_write([record], key, atomic=False)
            body = encode_write_frame_body(2_000, self._chance.choice((1, 2)), "", request)
            frame = await talk.ask(Kind.WRITE, body)
            heard = None if frame is None else answered(frame)
            write.said.append(f"under a stolen key: {heard}")
            self._heard("write under", sequence, heard, Code.KEY_EXPIRED)

    def _heard(self, what: str, sequence: int, answer: object, refusal: Code) -> None:
        """Whatever is right, it is told that the key is not its own, that somebody else leads, or that it
        cannot be told yet.
        """
        others = (Code.NOT_PRIMARY, Code.NOT_READY)
        refused = isinstance(answer, RedwireError) and answer.code in (refusal, *others)
        if answer is not None and not refused:
            text = f"{self.name} may {what} sequence {sequence} of another user: {answer}"
            self.failure = self.failure or text

"""Those who use the client: the real one, over lines of the network, as an application would.

What it promises, and is held to here:

    a write that returned       is in the history as it was asked for, once, at the LSN of its receipt
    one that was refused        is not there
    what resolve said           is true
    a read with a token         shows what its holder wrote
    a cluster that serves       serves this client too, within `PATIENCE_S`
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
from lines import Network
from machines import HERE, Machine
from truth import Truth
from writers import COLLECTION, Fate, Receipts, Write

from redwire import clock, link, pending, pool, reads, writes
from redwire.client import Client
from redwire.errors import Code, DeadlineExceeded, NotConfirmed, RedwireError, TokenLost, UnknownOutcome
from redwire.frame import Frame, FrameDecoder
from redwire.handshake import Role
from redwire.message.client import RecordStatus
from redwire.position import Token
from redwire.receipt import Committed, Inserted
from redwire.record import Key, Op
from redwire.stream import Channel
from redwire.uri import ConnectionConfig

LIMIT_S = 20.0
"""Of a write or read."""
PATIENT_S = 0.8 * LIMIT_S
"""An error that comes so late is one of a call that waited: its last try may end before the deadline."""
SLACK_S = 0.1
"""Beyond a call's deadline, or for closing a client: nothing waits there for anybody."""
PATIENCE_S = 10.0
"""A node that has served others for so long serves this client by then: a primary that says nothing is
given up after eight, and who waits for one tries every address about once a second.
"""
GAP_S = 2.0
"""Between two acknowledgements of a cluster that serves."""


class Call(Enum):
    """What is asked of the client about writes, as a failure tells of it."""

    PUT = "put"
    PUT_NEW = "put over nothing"
    INSERT = "insert"
    INSERT_ROWS = "insert rows"
    RESOLVE = "resolve"

    def fate(self, error: RedwireError) -> Fate | None:
        """What `error` says of the writes; None for nothing: a resolve that was refused knows no more."""
        if isinstance(error, NotConfirmed | UnknownOutcome):
            return Fate.DOUBTFUL
        return Fate.REFUSED if self is not Call.RESOLVE or error.code is Code.NOT_FOUND else None


QUICK_MAX = 80
"""Writes that follow one that waits, at most: several times what a small window has room for."""
FORGOTTEN_MAX = 12
"""Writes in a row whose keys were forgotten: each is tried under a new client id once, and those that are
under way together may share one that others crowd out.
"""
SLOW_S = 2 * LIMIT_S
"""Of a write that may wait long for its policy."""
WRITES = (Call.PUT, Call.PUT_NEW, Call.INSERT, Call.INSERT_ROWS)
Written = Coroutine[Any, Any, Committed] | Coroutine[Any, Any, Inserted]


class Serving:
    """Since when which machine acknowledges what its clients ask for without a policy of their own, over and
    over. `failure` is of whom it did not serve meanwhile, though nothing stood between them.
    """

    def __init__(self, network: Network) -> None:
        self.failure = ""
        self._network = network
        self._since_s: dict[str, tuple[float, float]] = {}

    def acknowledged(self, machine: Machine) -> None:
        """`machine` has just acknowledged a write."""
        now_s = asyncio.get_running_loop().time()
        since_s, last_s = self._since_s.get(machine.name, (now_s, now_s))
        self._since_s[machine.name] = (since_s if now_s - last_s <= GAP_S else now_s, now_s)

    def missed(self, who: str, what: str, error: RedwireError) -> None:
        """Somebody who waited until its deadline got nothing but `error`."""
        now_s = asyncio.get_running_loop().time()
        for name, (since_s, last_s) in self._since_s.items():
            since_s = max(since_s, self._network.disturbed_s(who, name))
            if now_s - last_s <= GAP_S and now_s - since_s >= PATIENCE_S:
                served = f"{name} has served others for {now_s - since_s:.0f} s"
                self.failure = (
                    self.failure or f"{who} could not {what} within {LIMIT_S:g} s: {error}; {served}"
                )


class Application:
    """Writes and reads until told to stop. `writes` is all that it ever asked for. It is a place of the
    network, whose lines to machines are cut now and then. `copies` are as many as there are beside the
    primary's; `much` is how often it writes many beside one that waits.
    """

    number = 1
    listening = False
    powered = True

    def __init__(
        self,
        name: str,
        machines: Sequence[Machine],
        network: Network,
        receipts: Receipts,
        serving: Serving,
        copies: int,
        truth: Truth,
        chance: random.Random,
    ) -> None:
        self.name = name
        self.context = contextvars.copy_context()
        self.writes: list[Write] = []
        self.failure = ""
        self.stopping = False
        self._machines = machines
        self._receipts = receipts
        self._serving = serving
        self._slow = f"ack_n={copies}", f"ack_n={copies}", "majority & regions(us,ap)"
        self._truth = truth
        self._chance = chance
        self.much = 0.1
        self._pause_s = chance.choice((0.02, 0.2, 1.0))
        self._seen: tuple[Token, Write] | None = None
        self._forgotten = 0
        network.places[name] = self

    def accept(self, channel: Channel, dialler: str) -> None:
        """Nobody dials it."""
        raise AssertionError

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """It has no process that others run things in."""
        raise AssertionError

    def _broken(self, text: str) -> None:
        """A promise was; the first one counts."""
        self.failure = self.failure or f"{self.name} {text}"

    async def run(self) -> None:
        """Be started again and again."""
        self.context.run(HERE.set, self)
        await asyncio.get_running_loop().create_task(self._lives(), context=self.context)

    async def _lives(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.stopping:
            try:
                left_s = await self._live()
                if loop.time() - left_s > SLACK_S:
                    self._broken(f"took {loop.time() - left_s:g} s to close")
            except RedwireError as error:  # nobody was reached at the start
                await asyncio.sleep(self._chance.uniform(0.1, 1.0))
                if isinstance(error, DeadlineExceeded):
                    self._serving.missed(self.name, "reach anybody", error)

    async def _live(self) -> float:
        """One client; when it began to be closed."""
        chance, loop = self._chance, asyncio.get_running_loop()
        known = chance.sample([*self._machines], chance.randint(1, len(self._machines)))
        seeds = tuple(machine.addr for machine in known)
        config = ConnectionConfig(seeds, tls=False, timeout_ms=int(LIMIT_S * 1000))
        async with Client(config, name=self.name, chance=random.Random(chance.random())) as db:
            for _ in range(chance.choice((5, 50, 500))):
                if self.stopping:
                    break
                await asyncio.sleep(chance.expovariate(1.0 / self._pause_s))
                if chance.random() < 0.3 and self._seen is not None:
                    await self._read(db, *self._seen)
                elif chance.random() < self.much:
                    await self._write_much(db)
                else:
                    await self._write(db)
            return loop.time()

    async def _write(self, db: Client) -> None:
        call = self._chance.choice(WRITES)
        op = Op.PUT if call in (Call.PUT, Call.PUT_NEW) else Op.INSERT
        writes = [self._wanted(op) for _ in range(3 if call is Call.INSERT_ROWS else 1)]
        first, rows = writes[0], [(write.ident, write.doc) for write in writes]
        if call is Call.PUT:
            written: Written = db.put(COLLECTION, first.ident, first.doc)
        elif call is Call.PUT_NEW:
            written = db.put(COLLECTION, first.ident, first.doc, if_version=0)
        elif call is Call.INSERT:
            written = db.insert(COLLECTION, first.doc, first.ident)
        else:
            there = [] if self._seen is None else [(self._seen[1].ident, first.doc)]
            written = db.insert_many(COLLECTION, rows + there)
        key = await self._asked(writes, call, written)
        if key is not None and self._chance.random() < 0.7:
            await asyncio.sleep(self._chance.choice((0.0, 1.0, 10.0)))
            await self._asked(writes, Call.RESOLVE, db.resolve(key))

    async def _write_much(self, db: Client) -> None:
        """One write under a policy that may wait for long, and many that need not wait for it."""
        slow, loop = self._wanted(Op.PUT, self._chance.choice(self._slow)), asyncio.get_running_loop()
        put = db.put(COLLECTION, slow.ident, slow.doc, policy=slow.policy, timeout_s=SLOW_S)
        waits = loop.create_task(self._asked([slow], Call.PUT, put, SLOW_S))
        try:
            count = self._chance.choice((20, QUICK_MAX))
            together, pause_s = self._chance.choice((1, 5)), self._chance.choice((0.0, 0.1))
            while count > 0 and not waits.done() and not self.stopping:
                writes = [self._wanted(Op.PUT) for _ in range(together)]
                puts = [db.put(COLLECTION, write.ident, write.doc) for write in writes]
                asked = (self._asked([one], Call.PUT, put) for one, put in zip(writes, puts, strict=True))
                await asyncio.gather(*asked)
                await asyncio.sleep(pause_s)
                count -= together
        finally:
            await waits

    def _wanted(self, op: Op, policy: str = "") -> Write:
        doc = msgspec.json.encode({"n": len(self.writes), "pad": "x" * self._chance.choice((10, 3_000))})
        write = Write(f"{self.name}-{len(self.writes)}", op, doc, policy)
        self.writes.append(write)
        return write

    async def _asked(
        self, writes: Sequence[Write], call: Call, written: Written, limit_s: float = LIMIT_S
    ) -> Key | None:
        """Hold what `written` says of `writes`, one request; its key where that is open."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            committed = await written
        except RedwireError as error:
            for write in writes:
                write.said.append(f"{call.value}: {error}")
                write.fate = call.fate(error) or write.fate
            self._late(loop.time() - began_s, f"{call.value} {writes[0].ident}", error, limit_s)
            self._forgotten += error.code is Code.KEY_EXPIRED and call is not Call.RESOLVE
            if error.code is Code.INVALID or self._forgotten > FORGOTTEN_MAX:
                self._broken(f"could not {call.value} {writes[0].ident}: {error}")
            key = getattr(error, "key", None)
            if key is not None:
                if "its key is forgotten" in error.message and self._truth.remembers(key.client):
                    self._broken(f"let go of the key of {writes[0].ident}, and sent it again: {error}")
                self._receipts.keys.append((key.client, key.sequence))
            return key
        for write, row in zip(writes, committed.records, strict=False):
            write.fate, write.lsn, write.status = Fate.COMMITTED, row.version, row.status
            write.said.append(f"{call.value}: {row}")
            self._receipts.came(write, committed.receipt)
        for row in committed.records[len(writes) :]:
            if row.status is not RecordStatus.EXISTS:
                self._broken(f"inserted {row.id} once more: {row}")
        self._forgotten, token = 0, committed.receipt.token
        if self._seen is None or token.lsn >= self._seen[0].lsn:  # who waited longest may have written first
            self._seen = token, writes[-1]
        return None

    def _late(self, took_s: float, what: str, error: RedwireError, limit_s: float = LIMIT_S) -> bool:
        """Whether `error` is what a call says at its deadline; none says anything later."""
        if took_s > limit_s + SLACK_S:
            self._broken(f"heard after {took_s:g} s that it could not {what}: {error}")
        waited = limit_s == LIMIT_S and took_s >= PATIENT_S
        if waited:
            self._serving.missed(self.name, what, error)
        return waited

    async def _read(self, db: Client, token: Token, last: Write) -> None:
        """A document that it wrote, or all of them, anywhere."""
        mode, all_ = self._chance.choice(("primary", "nearest", "any")), self._chance.random() < 0.3
        wanted = [last] if not all_ else [each for each in self.writes if each.fate is Fate.COMMITTED]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            if all_:
                documents = db.scan(COLLECTION, after=f"{self.name}-", read=mode, at_least=token)
                found = [each async for each in documents]
            else:
                found = [
                    each for each in [await db.get(COLLECTION, last.ident, read=mode, at_least=token)] if each
                ]
        except RedwireError as error:
            what = f"read {last.ident} from {mode}"
            if not self._late(loop.time() - began_s, what, error) or isinstance(error, TokenLost):
                self._broken(f"could not {what}: {error}")
            return
        there = {each.id: (each.version, each.raw) for each in found}
        for write in wanted:
            if there.get(write.ident) != (write.lsn, write.doc):
                at = there.get(write.ident, ("no LSN", b""))[0]
                text = f"reads {write.ident} from {mode} at {at}, wrote it at {write.lsn}"
                self._broken(text)


class Side:
    """The client's side of a connection whose handshake is over."""

    def __init__(self) -> None:
        self._decoder = FrameDecoder()

    def receive_data(self, data: bytes) -> list[Frame]:
        """The frames that are whole now."""
        return self._decoder.receive_data(data)

    def receive_eof(self) -> None:
        """There is nothing half."""


@contextmanager
def applied(network: Network) -> Iterator[None]:
    """Inside, clients dial machines of the network, by its clock."""

    async def dial(host: str, port: int, *_: object, client_name: str, taken: object) -> SimpleNamespace:
        channel = await network.dial(HERE.get(), host)
        established = SimpleNamespace(role=Role.WRITE)
        return SimpleNamespace(channel=channel, connection=Side(), established=established, early=[])

    virtual = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    with ExitStack() as stack:
        stack.enter_context(patch.object(pool, "dial", dial))
        for module in (clock, link, pending, reads, writes):
            stack.enter_context(patch.object(module, "time", virtual))
        yield

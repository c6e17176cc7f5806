"""Those who write: each sends one write at a time to whoever leads, and pursues it as a client does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import msgspec
from machines import Machine
from truth import Ident

from cluster.cluster_config import ClusterConfig
from cluster.primary import Primary
from cluster.session import Session
from redwire.body import decode, encode
from redwire.errors import Code, NotConfirmed, RedwireError
from redwire.frame import Frame, Kind
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.message.admin import encode_command
from redwire.message.client import (
    Open,
    Opened,
    Outcome,
    RecordStatus,
    Resolve,
    WrittenEntry,
    decode_written,
    encode_write_frame_body,
)
from redwire.message.failure import Failure
from redwire.message.settings import ChangeSettings, SettingsChange
from redwire.position import ClusterId, Token
from redwire.receipt import Receipt, open_receipt
from redwire.record import NO_CLIENT, Op, Record, encode_record, encode_write
from redwire.session_keys import SessionKeys
from regions.commit_policy import CommitPolicy
from regions.quorum import satisfied_by

ANSWER_S = 8.0
"""How long one attempt may take, the way there and back included."""
COLLECTION = "docs"
SHELVES = tuple(f"shelf-{number}" for number in range(4))
"""Documents that all writers write and delete, beside those that are each written once."""
USERS = ("app", "shop", "till")
"""Who writes: keys are of the user to whom their client id was issued."""


class Fate(Enum):
    """What a writer knows of a write in the end."""

    UNDER_WAY = "under way"
    COMMITTED = "committed"
    REFUSED = "refused"
    DOUBTFUL = "not confirmed, or unknown"


@dataclass(slots=True)
class Write:
    """One write of one document. `lsn` is the one in its receipt, `said` what its writer heard, in order.
    `key` and `results`, of all records of its request, are known of what a `Writer` wrote.
    """

    ident: str
    op: Op
    doc: bytes
    policy: str
    fate: Fate = Fate.UNDER_WAY
    lsn: int = 0
    status: RecordStatus | None = None
    shelf: str = ""
    key: tuple[bytes, int] | None = None
    results: list[tuple[RecordStatus, int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


class Receipts:
    """What was acknowledged: how far by the reigns of each term, and to whom. `failure` is the first receipt
    whose policy was not met by the disks of `machines` as it left. `tokens` are those that writers
    hold, `ids` of what they wrote, `keys` those that others than their owners may have seen; `served` hears
    of who acknowledged a write by no policy of its own.
    """

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.failure = ""
        self._machines = machines
        self.tokens: list[Token] = []
        self.ids: list[str] = []
        self.keys: list[Ident] = []
        self._confirmed: dict[int, int] = {}
        self.served: Callable[[Machine], None] = lambda machine: None

    def left(self, machine: Machine, receipt: Receipt) -> None:
        """`machine` acknowledges a write."""
        role = machine.node.role if machine.node is not None else None
        if isinstance(role, Primary):
            term = role.reign.term
            self._confirmed[term] = max(receipt.lsn, self._confirmed.get(term, 0))
            holders = {each.config.node.id for each in self._machines if each.held >= receipt.lsn}
            policy, me = CommitPolicy.parse(receipt.requested), machine.config.node.id
            # other members count from the commit of their record on, a moment before it is applied; what was
            # met by those of before may be told then
            counted = [role.changes.policies._membership, role.coordinator.membership]
            if role.changes.settings.lsn > receipt.lsn:
                records = machine.node.storage.state.cluster_records()
                then = [record for lsn, record in records if lsn <= receipt.lsn]
                counted += [ClusterConfig.from_record(record).membership for record in then[-1:]]
            if not any(satisfied_by(policy, me, holders, members) for members in counted):
                text = f"{machine.name} calls LSN {receipt.lsn} committed by {policy}"
                self.failure = self.failure or f"{text}; it is on {sorted(holders)}"

    def confirmed(self, term: int) -> int:
        """The highest LSN that reigns up to `term` have acknowledged."""
        return max((lsn for reign, lsn in self._confirmed.items() if reign <= term), default=0)

    def came(self, write: Write, receipt: Receipt) -> None:
        """A writer holds `receipt`."""
        self.tokens.append(receipt.token)
        self.ids.append(write.ident)


class Conversation:
    """One session with the process on a machine; `ask` waits for the answer, and for its way."""

    def __init__(
        self,
        machine: Machine,
        delay_s: float,
        receipts: Receipts | None = None,
        *,
        user: str = "app",
        admin: bool = False,
    ) -> None:
        assert machine.service is not None
        self.machine = machine
        self.number = machine.number
        self._delay_s = delay_s
        self._receipts = receipts
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._asked = 0
        role = Role.ADMIN if admin else Role.WRITE
        who = Principal(PrincipalKind.USER, "ops" if admin else user, role, topology_read=True)
        self._session = Session(machine.service, who, self)

    @property
    def open(self) -> bool:
        """Whether the same process runs still."""
        return self.machine.service is not None and self.machine.number == self.number

    @property
    def cluster(self) -> ClusterId:
        """The cluster of the node at the other end; "" for one that has never joined any."""
        assert self.machine.node is not None
        return ClusterId(self.machine.node.storage.meta.cluster)

    async def ask(self, kind: Kind, payload: bytes, limit_s: float = ANSWER_S) -> Frame | None:
        """The answer; None when the process has gone, or when there is none in time."""
        await asyncio.sleep(self._delay_s)
        if not self.open:
            return None
        self._asked += 1
        number, loop = self._asked, asyncio.get_running_loop()
        answer = self._waiting[number] = loop.create_future()
        frame = Frame(kind, 0, 0, number, payload)
        self.handed(frame)
        self.machine.context.copy().run(self._session.handle, frame)
        try:
            async with asyncio.timeout(limit_s):
                frame = await answer
        except TimeoutError:
            return None
        finally:
            del self._waiting[number]
        await asyncio.sleep(self._delay_s)
        return frame if self.open else None

    def handed(self, frame: Frame) -> None:
        """The session gets `frame` now."""

    # --- as the wire of the session

    peer = "app"
    buffered_bytes = 0
    gone = False

    def when_below(self, limit_bytes: int, call: Callable[[], None]) -> None:
        raise AssertionError("everything is taken at once")

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        """An answer leaves the node."""
        if kind == Kind.WRITTEN:
            block, entries = decode_written(payload)
            for entry in entries:
                if self._receipts is not None and self.open and entry.outcome is Outcome.COMMITTED:
                    self._receipts.left(self.machine, open_receipt(block, entry, self.cluster, entry.count))
                self._answer(entry.correlation, Frame(kind, 0, 0, entry.correlation, payload))
        else:
            self._answer(correlation, Frame(kind, 0, 0, correlation, payload))

    def _answer(self, number: int, frame: Frame) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(frame)


class Writer:
    """Writes until told to stop. `writes` is all that it ever asked for."""

    def __init__(
        self,
        name: str,
        machines: Sequence[Machine],
        policies: Sequence[str],
        chance: random.Random,
        receipts: Receipts,
    ) -> None:
        self.name = name
        self.writes: list[Write] = []
        self.stopping = False
        self.pause_s = chance.choice((0.005, 0.02, 0.2))
        self._user = chance.choice(USERS)
        self._machines = machines
        self._policies = policies
        self._chance = chance
        self._receipts = receipts
        self._talk: Conversation | None = None
        self._keys: SessionKeys | None = None
        self._versions: dict[str, int] = {}  # of shelves, as last heard
        self._done: list[bytes] = []  # what was committed, as it was sent

    async def run(self) -> None:
        """Write for ever."""
        while not self.stopping:
            await asyncio.sleep(self._chance.expovariate(1.0 / self.pause_s))
            await self.write()
            if self._done and self._chance.random() < 0.1:
                await self._stray()

    async def write(self, limit_s: float = 20.0) -> Write:
        """One write, pursued for `limit_s`."""
        number, chance = len(self.writes), self._chance
        doc = msgspec.json.encode({"n": number, "pad": "x" * chance.choice((10, 100, 3_000))})
        op = chance.choice((Op.PUT, Op.INSERT))
        write = Write(f"{self.name}-{number}", op, doc, chance.choice(self._policies))
        self.writes.append(write)
        await self._pursue(write, asyncio.get_running_loop().time() + limit_s)
        return write

    async def _pursue(self, write: Write, until_s: float) -> None:
        request, sequence, attempt, doubt = b"", 0, 1, False
        loop = asyncio.get_running_loop()
        while loop.time() < until_s:
            talk = await self._converse()
            if talk is None:
                await asyncio.sleep(self._chance.uniform(0.1, 0.5))
                continue
            if not request:
                assert self._keys is not None
                sequence = self._keys.take()
                key = self._keys.key(sequence, ())
                write.key = (key.client, sequence)
                self._receipts.keys.append(write.key)
                atomic = self._chance.random() < 0.3
                request = encode_write([*map(encode_record, self._records(write))], key, atomic=atomic)
            body = encode_write_frame_body(int(ANSWER_S * 1000), attempt, write.policy, request)
            frame = await talk.ask(Kind.WRITE, body)
            if frame is None:
                write.said.append("lost")
                doubt, attempt = True, attempt + 1
                self._talk = None
                continue
            answer = answered(frame)
            if isinstance(answer, WrittenEntry) and answer.outcome is Outcome.COMMITTED:
                self._committed(write, frame, answer, talk)
                self._done.append(body)
                break
            if isinstance(answer, WrittenEntry | NotConfirmed):
                write.said.append("not confirmed")
                doubt, attempt = True, attempt + 1
                if self._chance.random() < 0.3:
                    break
                continue
            write.said.append(f"{answer.code} by {talk.machine.name}")
            if answer.code is Code.NOT_PRIMARY:
                self._talk = None
            elif not answer.retry:
                if doubt and await self._absent(talk, sequence):
                    doubt = False
                write.fate = Fate.DOUBTFUL if doubt else Fate.REFUSED
                if answer.code is Code.KEY_EXPIRED:
                    self._keys = self._talk = None  # forgotten: it is somebody else from now on
                break
            await asyncio.sleep(self._chance.uniform(0.05, 0.5))
        if write.fate is Fate.UNDER_WAY:
            write.fate = Fate.DOUBTFUL if doubt else Fate.REFUSED
        if self._keys is not None and sequence:
            if write.fate is not Fate.DOUBTFUL:
                self._keys.close(sequence)
            else:
                self._keys.keep(sequence)

    async def _stray(self) -> None:
        """What was written comes once more, as from a line that held it for long, and does nothing."""
        talk = await self._converse()
        if talk is not None:
            await talk.ask(Kind.WRITE, self._chance.choice(self._done))

    def _records(self, write: Write) -> list[Record]:
        """The document, and with it now and then one that others write too."""
        chance, found = self._chance, [Record(write.op, COLLECTION, write.ident, write.doc)]
        if chance.random() < 0.5:
            shelf, op = chance.choice(SHELVES), chance.choice((Op.PUT, Op.PUT, Op.INSERT, Op.DELETE))
            doc = b"" if op is Op.DELETE else msgspec.json.encode({"by": write.ident})
            version = self._versions.get(shelf, 0) if chance.random() < 0.3 and op is not Op.INSERT else None
            found.append(Record(op, COLLECTION, shelf, doc, version))
            write.shelf = shelf
        return found

    def _committed(self, write: Write, frame: Frame, entry: WrittenEntry, talk: Conversation) -> None:
        block, _ = decode_written(frame.payload)
        write.fate, write.lsn = Fate.COMMITTED, entry.first_lsn
        write.results = [*entry.results]
        (write.status, version), *shelf = write.results
        if shelf:
            self._versions[write.shelf] = shelf[0][1]
        self._receipts.came(write, open_receipt(block, entry, talk.cluster, entry.count))
        if not write.policy:
            self._receipts.served(talk.machine)
        write.said.append(f"committed at {entry.first_lsn}: {write.status.name} {version}")

    async def _absent(self, talk: Conversation, sequence: int) -> bool:
        """Whether the primary says that the key was never executed, and never will be."""
        assert self._keys is not None
        frame = await talk.ask(Kind.RESOLVE, Resolve(self._keys.client, sequence).encode())
        if frame is None or frame.kind != Kind.FAILURE:
            return False
        return decode(frame.payload, Failure).to_error().code is Code.NOT_FOUND

    async def open(self, *, anew: bool = False) -> None:
        """Get a client id of whoever leads, if it has none; `anew`: in another session."""
        if anew:
            self._talk = None
        await self._converse()

    async def _converse(self) -> Conversation | None:
        """The conversation with whoever seems to lead."""
        if self._talk is not None and self._talk.open:
            return self._talk
        leading = [each for each in self._machines if each.leads and each.service is not None]
        if not leading:
            return None
        machine = self._chance.choice(leading)
        await asyncio.sleep(0.01)
        if machine.service is None:
            return None
        self._talk = Conversation(machine, self._chance.uniform(0.001, 0.03), self._receipts, user=self._user)
        if self._keys is None:
            self._keys = await self._opened(self._talk)
        if self._keys is None:
            self._talk = None
        return self._talk

    async def _opened(self, talk: Conversation) -> SessionKeys | None:
        """The keys of a client id that the node at the other end issues; None when it does not."""
        frame = await talk.ask(Kind.OPEN, encode(Open(self.name, False)))
        if frame is None or frame.kind != Kind.OPENED:
            return None
        client = decode(frame.payload, Opened).client_id
        return None if client == NO_CLIENT else SessionKeys(client)


async def change(machine: Machine, wanted: SettingsChange, lost: Sequence[str] = ()) -> str:
    """Ask `machine` to change the settings; what came of it."""
    if machine.service is None:
        return "gone"
    talk = Conversation(machine, 0.01, admin=True)
    asked = encode_command(10_000, encode(ChangeSettings(change=wanted, lost=tuple(lost))))
    frame = await talk.ask(Kind.CHANGE_SETTINGS, asked, 10.0)
    if frame is None:
        return "no answer"
    return str(decode(frame.payload, Failure).to_error()) if frame.kind == Kind.FAILURE else "done"


def answered(frame: Frame) -> WrittenEntry | RedwireError:
    """What became of a write, or of a key that was asked for."""
    if frame.kind == Kind.FAILURE:
        return decode(frame.payload, Failure).to_error()
    _, entries = decode_written(frame.payload)
    return next(entry for entry in entries if entry.correlation == frame.correlation)

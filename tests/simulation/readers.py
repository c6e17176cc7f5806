"""Those who read: each asks any machine for one thing at a time, with a token or without.

An answer is looked at as it leaves the node. What is promised of it, and no more:

    always              it is what the history holds at the LSN that it names, and that is committed by then
    with a token        that LSN is not below the token's
    by who leads        nor below what any reign up to its own has acknowledged before the question came; what
                        a later one has acknowledged is not known to who was replaced
    STALE               no sooner than after the wait that was asked for
    TOKEN_LOST          never: no history is replaced here
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec
from machines import Machine
from truth import Truth
from writers import COLLECTION, SHELVES, Conversation, Receipts

from cluster.primary import Primary
from redwire.body import decode
from redwire.errors import Code
from redwire.frame import Frame, Kind
from redwire.message.failure import Failure
from redwire.message.read import Fetch, Fetched, Scan, Scanned
from redwire.position import Lsn, Term, Token

REFUSALS = frozenset((Code.NOT_READY, Code.BUSY, Code.STALE))
"""What a read may be answered instead: each passes by itself."""
ANSWER_S = 8.0
"""Twice the longest wait for a token, and the way there and back."""
WAITS_MS = (0, 20, 500, 3_000)
LIMITS = (1, 10, 1_000)


class Question(msgspec.Struct):
    """One read. It came to the node at `came_s`, and `owed` is the LSN that its answer must not be below."""

    asked: Fetch | Scan
    owed: int = 0
    came_s: float = 0.0


class Promises:
    """Holds each answer against what is promised. `failure` is the first that was broken."""

    def __init__(self, truth: Truth, receipts: Receipts) -> None:
        self.answered = 0
        self.failure = ""
        self._truth = truth
        self._receipts = receipts

    def came(self, machine: Machine, question: Question) -> None:
        """The question has come to the node."""
        assert machine.node is not None
        role, token = machine.node.role, question.asked.token
        question.came_s = asyncio.get_running_loop().time()
        question.owed = token.lsn if token is not None else 0
        if isinstance(role, Primary):
            question.owed = max(question.owed, self._receipts.confirmed(role.reign.term))

    def leaves(self, machine: Machine, question: Question, kind: int, payload: bytes) -> None:
        """The answer leaves the node."""
        self.answered += 1
        wrong = self._refused(question, payload) if kind == Kind.FAILURE else self._read(question, payload)
        if wrong:
            self.broken(machine, question, wrong)

    def broken(self, machine: Machine, question: Question, wrong: str) -> None:
        """A promise was."""
        role = machine.node.role_name if machine.node is not None else "gone"
        text = f"{machine.name} ({role}) was asked for {question.asked}, owing LSN {question.owed}: {wrong}"
        self.failure = self.failure or text

    def _refused(self, question: Question, payload: bytes) -> str:
        error = decode(payload, Failure).to_error()
        if error.code not in REFUSALS:
            return f"it says {error}"
        waited_ms = (asyncio.get_running_loop().time() - question.came_s) * 1000
        if error.code is Code.STALE and waited_ms < question.asked.wait_ms - 1:
            return f"it says {error} after {waited_ms:.0f} ms"
        return ""

    def _read(self, question: Question, payload: bytes) -> str:
        answer = read(question.asked, payload)
        if not self._truth.stands(answer.term, answer.applied):
            return f"it answers as of LSN {answer.applied} in term {answer.term}, which is not committed"
        if answer.applied < question.owed:
            return f"it answers as of LSN {answer.applied}"
        true = self._truth.answer(question.asked, answer.term, answer.applied)
        return f"as of LSN {answer.applied} it shows {different(answer, true)}" if answer != true else ""


class Enquiry(Conversation):
    """A conversation whose answers are looked at."""

    def __init__(self, machine: Machine, delay_s: float, promises: Promises) -> None:
        super().__init__(machine, delay_s)
        self._promises = promises
        self._questions: dict[int, Question] = {}
        self._next: Question | None = None

    async def read(self, asked: Fetch | Scan) -> Fetched | Scanned | Failure | None:
        """The answer; None when the process has gone."""
        self._next = question = Question(asked)
        kind = Kind.FETCH if isinstance(asked, Fetch) else Kind.SCAN
        frame = await self.ask(kind, asked.encode(), ANSWER_S)
        if frame is None:
            if self.open:
                self._promises.broken(self.machine, question, f"no answer within {ANSWER_S:g} s")
            return None
        if frame.kind == Kind.FAILURE:
            return decode(frame.payload, Failure)
        return read(asked, frame.payload)

    def handed(self, frame: Frame) -> None:
        assert self._next is not None
        self._promises.came(self.machine, self._next)
        self._questions[frame.correlation] = self._next

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        if self.open:
            self._promises.leaves(self.machine, self._questions.pop(correlation), kind, payload)
        super().send(kind, payload, correlation, stream)


class Reader:
    """Reads until told to stop. One that carries its tokens never goes back in time."""

    def __init__(
        self, machines: Sequence[Machine], receipts: Receipts, promises: Promises, chance: random.Random
    ) -> None:
        self.stopping = False
        self.pause_s = chance.choice((0.05, 0.3))
        self._carries = chance.random() < 0.5
        self._machines = machines
        self._receipts = receipts
        self._promises = promises
        self._chance = chance
        self._seen: Token | None = None

    async def run(self) -> None:
        """Read for ever."""
        while not self.stopping:
            await asyncio.sleep(self._chance.expovariate(1.0 / self.pause_s))
            machine = self._whom()
            if machine is not None:
                await self.read(machine, self._asked())

    async def read(self, machine: Machine, asked: Fetch | Scan) -> Fetched | Scanned | None:
        """One read; None when it was refused, or the process has gone."""
        enquiry = Enquiry(machine, self._chance.uniform(0.001, 0.03), self._promises)
        answer = await enquiry.read(asked)
        if not isinstance(answer, Fetched | Scanned):
            return None
        if self._carries and self._seen is not None and answer.applied < self._seen.lsn:
            self._promises.broken(machine, Question(asked), f"{answer.applied} after {self._seen.lsn}")
        if enquiry.cluster:
            self._seen = Token(enquiry.cluster, Term(answer.term), Lsn(answer.applied))
        return answer

    def _whom(self) -> Machine | None:
        there = [machine for machine in self._machines if machine.service is not None]
        leading = [machine for machine in there if machine.leads]
        if leading and self._chance.random() < 0.4:
            there = leading
        return self._chance.choice(there) if there else None

    def _asked(self) -> Fetch | Scan:
        chance, token = self._chance, self._token()
        wait_ms, ids = chance.choice(WAITS_MS), self._receipts.ids
        after = chance.choice(ids) if ids and chance.random() < 0.5 else chance.choice(SHELVES)
        if chance.random() < 0.7:
            return Fetch(COLLECTION, after, token, wait_ms)
        return Scan(COLLECTION, chance.choice(("", after)), chance.choice(LIMITS), token, wait_ms)

    def _token(self) -> Token | None:
        if self._carries:
            return self._seen
        tokens = self._receipts.tokens
        if not tokens or self._chance.random() < 0.4:
            return None
        return self._chance.choice(tokens[-3:] if self._chance.random() < 0.7 else tokens)


def read(asked: Fetch | Scan, payload: bytes) -> Fetched | Scanned:
    """What an answer says."""
    return Fetched.decode(payload) if isinstance(asked, Fetch) else Scanned.decode(payload)


def different(answer: Fetched | Scanned, true: Fetched | Scanned) -> str:
    """Where an answer is not what it should be."""
    if isinstance(answer, Scanned) and isinstance(true, Scanned):
        rows = {(row.id, row.version) for row in answer.rows} ^ {(row.id, row.version) for row in true.rows}
        return f"{len(answer.rows)} documents instead of {len(true.rows)}, which differ in {sorted(rows)[:4]}"
    assert isinstance(answer, Fetched) and isinstance(true, Fetched)
    return f"version {answer.version} instead of {true.version}"

"""An open client: its links, the writes and reads that go over them, and the tasks that keep it going."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

import anyio
from anyio.abc import TaskGroup

from redwire.arguments import policy_text, require_address, seconds
from redwire.commands import Commands
from redwire.document import cut
from redwire.errors import (
    UNSETTLED_HINT,
    AuthenticationFailed,
    ChannelClosed,
    Code,
    ConnectFailed,
    DeadlineExceeded,
    NotConfirmed,
    ProtocolError,
    RedwireError,
    RequestInvalid,
    UnknownOutcome,
)
from redwire.frame import Kind
from redwire.household import Household
from redwire.link import Link, entry_of
from redwire.message.client import Outcome, RecordStatus, Resolve
from redwire.pending import check_conditions
from redwire.pool import Pool
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.question import Question, unreached
from redwire.reads import Reads
from redwire.receipt import Committed
from redwire.record import Key
from redwire.routing import Primary
from redwire.session_keys import WriteKey
from redwire.writes import Writes

if TYPE_CHECKING:
    import random


class Session:
    """Made by `begin`; whoever made it calls `end`. `timeout_s` is the default deadline; `loop` is the event
    loop in which it was made, and in which alone it can be used.
    """

    def __init__(
        self, pool: Pool, household: Household, chance: random.Random, client_id: bytes, timeout_s: float
    ) -> None:
        assert pool.cluster is not None
        self.loop = asyncio.get_running_loop()
        self.pool = pool
        self.cluster: ClusterId = pool.cluster
        self.reads = Reads(pool, chance)
        self.writes = Writes(pool, household.tasks, chance, client_id)
        self.commands = Commands(pool)
        self._household = household
        self._timeout_s = timeout_s
        household.ending = self.writes.close
        household.tasks.start_soon(self.writes.watch)

    @classmethod
    async def begin(
        cls, make_pool: Callable[[TaskGroup], Pool], chance: random.Random, timeout_s: float
    ) -> Self:
        """Reach any one node. Raises `AuthenticationFailed`, `ConnectFailed`, and `DeadlineExceeded`, with
        what stood against it last as its cause.
        """
        household = Household()
        await household.open()
        try:
            pool = make_pool(household.tasks)
            link = await _any_link(pool, timeout_s)
            assert link.opened is not None
            return cls(pool, household, chance, link.opened.client_id, timeout_s)
        except BaseException:
            await household.close()
            raise

    async def end(self) -> None:
        """Close every link; whoever waits is told as `Client.__aexit__` says. Raises what a task of the
        client raised, by a bug or because a callback did.
        """
        try:
            self.writes.close()
        finally:
            await self._household.close()

    async def write(
        self,
        records: Sequence[bytes],
        ids: Sequence[str],
        policy: str | None,
        timeout_s: float | None,
        *,
        atomic: bool = True,
    ) -> Committed:
        """Write encoded records as one request. Raises as `Client.put`; `Conflict` only if `atomic`."""
        text, limit_s = policy_text(policy), self.limit_s(timeout_s)
        return await self.writes.write(records, ids, policy=text, atomic=atomic, timeout_s=limit_s)

    async def write_rows(
        self, records: Sequence[bytes], ids: Sequence[str], policy: str | None, timeout_s: float | None
    ) -> tuple[Committed, ...]:
        """Write encoded records that stand for themselves, in as many requests as it takes. Raises as
        `Client.insert_many`.
        """
        pieces: list[Committed] = []
        for start, end in cut(records):
            try:
                piece = records[start:end], ids[start:end]
                pieces.append(await self.write(*piece, policy, timeout_s, atomic=False))
            except RedwireError as error:
                told = _told_of_rows(error, start)
                told.facts["rows_committed"] = start
                if told is error:
                    raise
                raise told from error
        return tuple(pieces)

    async def resolve(self, key: Key, timeout_s: float | None) -> Committed:
        """What became of the write with this key. Raises as `Client.resolve`."""
        limit_s = self.limit_s(timeout_s)
        end_s = time.monotonic() + limit_s

        def body(_: int) -> bytes:
            remaining_ms = max(0, int((end_s - time.monotonic()) * 1000))
            return Resolve(key.client, key.sequence, remaining_ms).encode()

        try:
            block, entry = entry_of(await self.reads.ask(Kind.RESOLVE, body, Primary(), limit_s, waits=True))
            if entry.outcome is not Outcome.COMMITTED:
                raise ProtocolError("a Resolve was answered with a write that is still open")
        except NotConfirmed as error:
            error.key = key
            raise
        except RedwireError as error:
            if error.code in (Code.NOT_FOUND, Code.KEY_EXPIRED):
                raise
            raise _unanswered(key, error) from error  # the question came to nothing, not the write
        self.writes.resolved(key)
        if isinstance(key, WriteKey) and len(key.ids) == entry.count:
            ids, atomic = key.ids, key.atomic
        else:
            ids = ("",) * entry.count
            atomic = entry.count == 1 or any(status is RecordStatus.ABORTED for status, _ in entry.results)
        committed = Committed(ids, entry, block, self.cluster)
        if atomic:
            check_conditions(committed, [ident or "the document" for ident in ids])
        return committed

    async def ask_node(
        self, kind: Kind, answer: Kind, addr: str | None, timeout_s: float | None, body: bytes = b""
    ) -> bytes:
        """Ask the node at `addr`, or any; as `Question.put`."""
        limit_s = self.limit_s(timeout_s)
        if addr is not None:
            require_address("addr", addr)
        return await Question(self.pool, kind, answer, body).put(addr, limit_s)

    @property
    def trouble(self) -> str:
        """Why calls still wait; "" if nothing is known to be wrong."""
        unmet = "" if self.pool.leading is not None else self.pool.trouble
        return self.writes.trouble or self.reads.trouble or self.commands.trouble or unmet

    def limit_s(self, timeout_s: float | None) -> float:
        """The deadline of a call that asked for `timeout_s`. Raises `RequestInvalid` for what is none."""
        return self._timeout_s if timeout_s is None else seconds("timeout_s", timeout_s)

    def token(self, term: int, applied: int) -> Token:
        """What a node had seen that answered with this position."""
        return Token(self.cluster, Term(term), Lsn(applied))


def _told_of_rows(error: RedwireError, start: int) -> RedwireError:
    """The error of a piece of rows that begins at `start`: it names the row as the caller counts."""
    if isinstance(error, RequestInvalid) and error.record is not None:
        return error.at(error.record + start)
    if isinstance(place := error.facts.get("record"), int):
        error.facts["record"] = place + start
    return error


async def _any_link(pool: Pool, timeout_s: float) -> Link:
    with anyio.move_on_after(timeout_s):
        return await pool.any_link()
    raise unreached(pool, timeout_s) from next(reversed(pool.failures.values()), None)


def _unanswered(key: Key, error: RedwireError) -> UnknownOutcome:
    """Nobody said what became of the write with `key`."""
    unreached = isinstance(error, AuthenticationFailed | ChannelClosed | ConnectFailed)
    phase, hint = "connect" if unreached else "answer", error.hint
    if isinstance(error, DeadlineExceeded):
        phase, hint = error.phase, UNSETTLED_HINT if error.sent else error.hint
    unknown = UnknownOutcome(error.message, phase=phase, hint=hint)
    unknown.key = key
    return unknown

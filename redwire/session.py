"""An open client: its links, the writes and reads that go over them, and the tasks that keep it going."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Self

import anyio
from anyio.abc import TaskGroup

from redwire.arguments import policy_text, require_address, seconds
from redwire.commands import Commands
from redwire.dial import stuck_hint
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
    Refused,
    RequestInvalid,
    UnknownOutcome,
)
from redwire.frame import Kind
from redwire.grace import Limit
from redwire.household import Household
from redwire.link import Link, entry_of, payload
from redwire.message.client import Outcome, RecordStatus, Resolve
from redwire.pending import check_conditions
from redwire.pool import Pool
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.reads import Reads
from redwire.receipt import Committed
from redwire.record import Key
from redwire.routing import Primary
from redwire.session_keys import WriteKey
from redwire.writes import Writes

if TYPE_CHECKING:
    import random

LEADER_S = 0.5
"""How long the primary is looked for where any node can answer for the cluster: one that is well is known by
then, and who looks in trouble does not wait for one that is not.
"""
PATIENCE_S = 1.0
"""And how long one node may take with its answer before the next one is asked instead: answers come from
memory, and a second is three times around the earth.
"""
AGAIN_S = 0.1
"""Before the nodes are asked again when none has answered, or it is looked whether another one is reached."""


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
        """Ask the node at `addr`; without it the primary, or any node that answers where that does not within
        a moment.
        """
        limit_s = self.limit_s(timeout_s)
        silent: list[str] = []
        with Limit(limit_s):
            if addr is None:
                return await self._ask_any(kind, answer, body, min(PATIENCE_S, limit_s / 3), silent)
            require_address("addr", addr)
            link = self.pool.link(addr)
            await link.settled.wait()
            silent.append(addr)
            return payload(await link.ask(kind, body), answer)
        if not silent:
            raise _unreached(limit_s, self.pool)
        text = f"no node answered within {limit_s:g} s: {', '.join(dict.fromkeys(silent))} said nothing"
        raise DeadlineExceeded(text, phase="answer", sent=True, hint=stuck_hint(silent[0]))

    async def _ask_any(
        self, kind: Kind, answer: Kind, body: bytes, patience_s: float, silent: list[str]
    ) -> bytes:
        """Ask one node after the other, the primary first; `silent` grows by each of them. Has no deadline:
        cancel it.
        """
        pool, asked = self.pool, set[Link]()
        link = await _leader_or_any(pool, min(LEADER_S, patience_s))
        while True:
            silent.append(link.addr)
            try:
                with Limit(patience_s):
                    return payload(await link.ask(kind, body), answer)
            except (ChannelClosed, ConnectFailed):
                pass  # another one may answer
            asked.add(link)
            pool.look_around()
            other = await _another(pool, asked, patience_s)
            if other is None:
                await anyio.sleep(AGAIN_S)
                asked.clear()
                patience_s *= 2
            link = other or await pool.any_link()

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
    raise _unreached(timeout_s, pool) from next(reversed(pool.failures.values()), None)


async def _leader_or_any(pool: Pool, patience_s: float) -> Link:
    with anyio.move_on_after(patience_s):
        return await pool.leader()
    return await pool.any_link()


async def _another(pool: Pool, asked: Collection[Link], patience_s: float) -> Link | None:
    """A node that was not `asked`, as soon as there is a line to one; None where none comes."""
    with anyio.move_on_after(patience_s):
        while True:
            other = next((link for link in pool.usable_links() if link not in asked), None)
            if other is not None or not pool.dialling:
                return other
            await anyio.sleep(AGAIN_S)
    return None


def _unreached(timeout_s: float, pool: Pool) -> DeadlineExceeded:
    """Nobody could be asked; and what stands against that, if anything is known."""
    refused = any(isinstance(error, Refused) for error in pool.failures.values())
    what = "that was reached could answer" if refused else "was reached"
    text = f"no node {what} within {timeout_s:g} s" + (f": {pool.trouble}" if pool.trouble else "")
    return DeadlineExceeded(text, phase=pool.phase, hint=pool.hint)


def _unanswered(key: Key, error: RedwireError) -> UnknownOutcome:
    """Nobody said what became of the write with `key`."""
    unreached = isinstance(error, AuthenticationFailed | ChannelClosed | ConnectFailed)
    phase, hint = "connect" if unreached else "answer", error.hint
    if isinstance(error, DeadlineExceeded):
        phase, hint = error.phase, UNSETTLED_HINT if error.sent else error.hint
    unknown = UnknownOutcome(error.message, phase=phase, hint=hint)
    unknown.key = key
    return unknown

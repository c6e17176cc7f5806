"""The writes of one client: sent at once where nothing stands against it, pursued until they have an outcome.

A write that is simply answered costs no task: the link's reader finds its `Pending` by correlation and
settles it. Only when something goes wrong does a task take over, as long as `Course` knows what to do next.
One watchman ends the writes whose deadline has come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from redwire.course import Again, Ask, End, Rekey, Step
from redwire.errors import (
    BodyInvalid,
    ChannelClosed,
    Code,
    DeadlineExceeded,
    RedwireError,
    Refused,
    TooLarge,
)
from redwire.frame import Kind
from redwire.grace import Limit
from redwire.household import require_loop
from redwire.link import Link, entry_of
from redwire.message.client import Resolve, encode_write_frame_body
from redwire.pending import Pending, PendingRows, request_head, unproven
from redwire.places import Places
from redwire.pool import Pool
from redwire.receipt import Committed
from redwire.record import ATOMIC, OPEN_MAX, RECORDS_MAX, REQUEST_BYTES_MAX, REQUEST_HEADER, Key

if TYPE_CHECKING:
    import random


class Writes:
    """The writes of one client. `cluster` is where they go."""

    def __init__(self, pool: Pool, tasks: TaskGroup, chance: random.Random, client_id: bytes) -> None:
        assert pool.cluster is not None
        self.cluster = pool.cluster
        self.chance = chance
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._tasks = tasks
        # in their order, each with what is being done about it, None if an answer is awaited
        self._unfinished: dict[Pending, anyio.CancelScope | None] = {}
        self._places = Places(pool, tasks, client_id, lambda: len(self._unfinished))
        self._watch_at_s = float("inf")
        self._earlier = anyio.Event()
        self._closed = False

    @property
    def trouble(self) -> str:
        """Why one of them was not answered yet; "" if nothing is known to be wrong."""
        courses = (pending.course for pending in self._unfinished if pending.course is not None)
        return next((course.trouble.message for course in courses if course.trouble is not None), "")

    @property
    def _unmet(self) -> tuple[str, str]:
        """What stands against a line to the primary, if anything is known, and what to do about it."""
        return ("", "") if self._pool.leading is not None else (self._pool.trouble, self._pool.hint)

    def submit(
        self,
        encoded: Sequence[bytes],
        ids: Sequence[str],
        *,
        policy: str,
        atomic: bool,
        timeout_s: float,
        waited_s: float = 0.0,
        callback: Callable[[Pending], None] | None = None,
        now: bool = False,
    ) -> Pending:
        """Begin to write these encoded records, as one request under one key. Never waits. Unless `now`
        nothing leaves before the event loop goes on, so the key can be stored first.

        `atomic`: all of them or none, and none raises `Conflict`; else each stands for itself, even if there
        is only one. Of `timeout_s` it has waited so much already.

        Raises `TooLarge`, `ChannelClosed`, and `Refused`: BUSY when `OPEN_MAX` keys are under way, NOT_READY
        before any node could issue a client id.
        """
        if self._closed:
            raise ChannelClosed("the client was closed", retry=False)
        length = REQUEST_HEADER.size + sum(map(len, encoded))
        if len(encoded) > RECORDS_MAX:
            code = Code.BATCH_TOO_LARGE
            raise TooLarge("records in one request", len(encoded), RECORDS_MAX, code=code)
        if length > REQUEST_BYTES_MAX:
            raise TooLarge("request bytes", length, REQUEST_BYTES_MAX)
        place = self._places.take()
        if place is None:
            raise self._no_place()
        keys, sequence = place
        flags = ATOMIC if atomic and len(encoded) > 1 else 0
        request = b"".join((request_head(length, flags, len(encoded), keys, sequence), *encoded))
        make = Pending if atomic else PendingRows
        pending = make(self, keys, sequence, request, ids, policy, timeout_s)
        pending.callback = callback
        pending.deadline_s -= waited_s
        self._unfinished[pending] = None
        if pending.deadline_s < self._watch_at_s:
            self._earlier.set()
        link = self._pool.leading
        if link is None or link.crowded:
            pending.park()
        else:
            self._transmit(pending, link, now=now)
        return pending

    async def write(
        self,
        encoded: Sequence[bytes],
        ids: Sequence[str],
        *,
        policy: str,
        atomic: bool,
        timeout_s: float,
    ) -> Committed:
        """As `submit`, and wait for the outcome; for a place in the window too. Cancelling forgets it."""
        waited_s = 0.0
        if self._places.full:
            began_s = time.monotonic()
            with anyio.move_on_after(timeout_s) as waiting:
                await self._places.wait()
            if waiting.cancelled_caught:
                raise self._never_placed(timeout_s)
            waited_s = time.monotonic() - began_s
        pending = self.submit(
            encoded, ids, policy=policy, atomic=atomic, timeout_s=timeout_s, waited_s=waited_s, now=True
        )
        try:
            return await pending.wait()
        finally:
            pending.forget()

    def _no_place(self) -> Refused:
        if self._places.trouble:
            return Refused(Code.NOT_READY, self._places.trouble, hint="retry")
        return Refused(Code.BUSY, f"{OPEN_MAX} writes are under way", hint="wait for some of them")

    def _never_placed(self, timeout_s: float) -> DeadlineExceeded:
        how, without = f"not sent within {timeout_s:g} s", self._places.trouble
        if not without:
            return DeadlineExceeded(f"{how}: {OPEN_MAX} writes are under way", phase="send")
        why, hint = self._unmet
        text = "; ".join(filter(None, (f"{how}: {without}", why)))
        return DeadlineExceeded(text, phase=self._pool.phase, hint=hint)

    def require_loop(self) -> None:
        """Raises `RequestInvalid` in another event loop than the client's, or in none."""
        require_loop(self._loop)

    def finished(self, pending: Pending) -> None:
        """`pending` has its outcome."""
        pursuit = self._unfinished.pop(pending, None)
        if pursuit is not None:
            pursuit.cancel()
        self._places.admit()

    def pursue(self, pending: Pending, step: Step) -> None:
        """Have a task do what is to be done next about `pending`."""
        self._tasks.start_soon(self._pursue, pending, step)

    def resolved(self, key: Key) -> None:
        """Somebody asked what became of `key`, and was told: it need not be remembered for long."""
        self._places.resolved(key)

    async def watch(self) -> None:
        """End every write whose deadline comes. Run once, in the client's task group."""
        while True:
            self._earlier = anyio.Event()
            now_s = time.monotonic()
            for pending in [each for each in self._unfinished if each.deadline_s <= now_s]:
                pending.expire(self._pool.phase, *self._unmet)
            self._watch_at_s = min((each.deadline_s for each in self._unfinished), default=float("inf"))
            with Limit(self._watch_at_s - time.monotonic()):
                await self._earlier.wait()

    def close(self) -> None:
        """The client is being closed: whoever waits is told so, and nothing new begins.

        Everybody is told, whatever a callback raises; that is raised then.
        """
        self._closed = True
        self._places.dismiss()
        with ExitStack() as told:
            for pending in self._unfinished:
                told.callback(pending.abandon)

    async def _pursue(self, pending: Pending, step: Step) -> None:
        if pending.done:
            return
        with anyio.move_on_after(pending.deadline_s - time.monotonic()) as pursuit:
            self._unfinished[pending] = pursuit
            following: Step | None = step
            while following is not None and not pending.done:
                following = await self._do(pending, following)

    async def _do(self, pending: Pending, step: Step) -> Step | None:
        """Take one step of a course; the one after it, None when an answer is awaited or has come."""
        assert pending.course is not None
        match step:
            case Again(pause_s):
                await anyio.sleep(pause_s)
                if pending.course.lonely:
                    self._pool.look_around()
                try:
                    link = await self._roomy_link()
                except RedwireError as error:
                    return pending.course.failed(error)
                if not pending.done:
                    self._transmit(pending, link)
                return None
            case Ask(pause_s):
                await anyio.sleep(pause_s)
                return await self._ask(pending)
            case Rekey():
                return await self._renew(pending)
            case End(error):
                pending.end(error)
                return None

    def _transmit(self, pending: Pending, link: Link, *, now: bool = True) -> None:
        attempt = 1
        if pending.course is not None:
            attempt = pending.course.attempt
            pending.course.sent()
        remaining_ms = max(0, int((pending.deadline_s - time.monotonic()) * 1000))
        body = encode_write_frame_body(remaining_ms, attempt, pending.policy, pending.request)
        link.send(Kind.WRITE, body, pending, now=now)

    async def _roomy_link(self) -> Link:
        while True:
            link = await self._pool.leader()
            if not link.crowded:
                return link
            try:
                await link.drained()
            except ChannelClosed:
                await anyio.lowlevel.checkpoint()  # until the pool knows, too

    async def _ask(self, pending: Pending) -> Step | None:
        assert pending.course is not None
        try:
            link = await self._pool.leader()
            remaining_ms = max(0, int((pending.deadline_s - time.monotonic()) * 1000))
            body = Resolve(pending.keys.client, pending.sequence, remaining_ms).encode()
            block, entry = entry_of(await link.ask(Kind.RESOLVE, body))
            default = link.opened.policy if link.opened is not None else ""
            if (error := unproven(pending, default, block, entry, self.cluster)) is not None:
                return End(error)
        except RedwireError as error:
            if error.code is Code.NOT_FOUND:
                return pending.course.absent()
            return pending.course.unanswered(error)
        with suppress(BodyInvalid):  # then `pending` goes on by itself, as after a lost connection
            pending.written(block, entry)
        return None

    async def _renew(self, pending: Pending) -> Step | None:
        """Give `pending` a key of a new client id; a write that has its outcome by then takes none."""
        assert pending.course is not None
        pending.course.unissued = await self._places.replace(pending.keys)
        if pending.course.unissued is not None:
            return Rekey()
        place = await self._places.another(lambda: pending.done)
        if place is None:
            return None
        pending.rekey(*place)
        return Again(0.0)

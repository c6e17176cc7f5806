"""What clients read and wrote while nodes died and others led fits one order, and real time beside it."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Self

import anyio
import pytest

from redwire import Client, connect
from redwire.errors import Code, Conflict, NotConfirmed, RedwireError, Refused, UnknownOutcome
from redwire.position import Token
from redwire.receipt import Committed
from redwire.record import Key
from tests.one_order import ABSENT, Event, Found, Wrote, violations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROUNDS = int(os.environ.get("ONE_ORDER_ROUNDS", "1"))
"""Each takes some fifteen seconds; more of them for a longer look."""
IDS = ("a", "b", "c", "d")
WRITERS, READERS = 6, 3
PAUSE_S = 0.003
CALL_S = 2.0
COLLECTION = "order"
Settled = Committed | Conflict | None
"""What came of a write: None where it is never executed."""


class Told:
    """What clients were told: `events`, and `never`, the values of writes that are never executed. `seen` is
    the version of each document that somebody was told last.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.never: list[int] = []
        self.seen = dict.fromkeys(IDS, ABSENT)
        self.values = itertools.count(1)


class Lane:
    """One client with one thing under way at a time."""

    def __init__(self, db: Client, told: Told, chance: random.Random) -> None:
        self._db = db
        self._told = told
        self._chance = chance
        self._token: Token | None = None

    async def write(self) -> None:
        """One write of any kind, with a condition or without, and what it takes to learn what came of it."""
        db, value, ident = self._db, next(self._told.values), self._chance.choice(IDS)
        version = self._told.seen[ident] if self._chance.random() < 0.7 else None
        kind = self._chance.choice(("put", "put", "put", "insert", "delete"))
        needed = ABSENT if kind == "insert" else version

        async def call() -> Committed:
            if kind == "insert":
                return await db.insert(COLLECTION, {"value": value}, ident, timeout_s=CALL_S)
            if kind == "delete":
                deleted = await db.delete(COLLECTION, ident, if_version=version, timeout_s=CALL_S)
                return deleted.committed
            return await db.put(COLLECTION, ident, {"value": value}, if_version=version, timeout_s=CALL_S)

        began = time.monotonic()
        settled = await self._settled(call)
        ended = time.monotonic()
        if not isinstance(settled, Committed):
            self._told.never.append(value)
        if isinstance(settled, Conflict):
            assert settled.receipt is not None
            self._told.seen[ident] = settled.version
            found = Found(began, ended, ident, settled.version, settled.receipt.lsn)
            self._told.events.append(found)
        elif settled is not None:
            after, lsn = None if kind == "delete" else value, settled.receipt.lsn
            self._told.seen[ident] = ABSENT if after is None else lsn
            self._told.events.append(Wrote(began, ended, ident, lsn, after, needed))

    async def _settled(self, call: Callable[[], Awaitable[Committed]]) -> Settled:
        """What came of a write; one that was left open is asked for until that is known."""
        try:
            return await call()
        except Conflict as conflict:
            return conflict
        except (NotConfirmed, UnknownOutcome) as error:
            assert error.key is not None
            return await self._resolved(error.key)
        except RedwireError:
            return None

    async def _resolved(self, key: Key) -> Settled:
        while True:
            try:
                return await self._db.resolve(key, timeout_s=CALL_S)
            except Conflict as conflict:
                return conflict
            except Refused as error:
                if error.code is Code.NOT_FOUND:
                    return None
                assert error.code is not Code.KEY_EXPIRED
            except RedwireError:
                pass
            await anyio.sleep(PAUSE_S)

    async def read(self) -> None:
        """One read: of whoever leads, or of the nearest, which is to have what this lane has seen."""
        ident, told = self._chance.choice(IDS), self._told
        token = self._token if self._chance.random() < 0.4 else None
        began = time.monotonic()
        try:
            if token is None:
                document = await self._db.get(COLLECTION, ident, timeout_s=CALL_S)
            else:
                document = await self._db.get(
                    COLLECTION, ident, read="nearest", at_least=token, timeout_s=CALL_S
                )
        except RedwireError:
            return
        ended, asked = time.monotonic(), None if token is None else token.lsn
        if document is None:
            told.events.append(Found(began, ended, ident, ABSENT, None, asked=asked))
        else:
            self._token, value = document.token, document.value["value"]
            lsn = document.token.lsn
            told.events.append(Found(began, ended, ident, document.version, lsn, value, asked))


class Crowd:
    """Many lanes over a cluster, in a thread of their own, from entry to exit; half of them in `region`."""

    def __init__(self, uri: str, region: str) -> None:
        self.told = Told()
        self._uri = uri
        self._region = region
        self._crash: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the crowd does not come to an end"
        if self._crash is not None:
            raise self._crash

    def goes_on(self, more: int = 200) -> None:
        """Return when so many more events were told."""
        target, deadline = len(self.told.events) + more, time.monotonic() + 60
        while len(self.told.events) < target:
            assert self._thread.is_alive(), f"the crowd ended: {self._crash!r}"
            assert time.monotonic() < deadline, "nobody is told anything"
            time.sleep(0.02)

    def _run(self) -> None:
        try:
            anyio.run(self._main)
        except BaseException as error:
            self._crash = error

    async def _main(self) -> None:
        async with anyio.create_task_group() as lanes:
            for lane in range(WRITERS + READERS):
                lanes.start_soon(self._lane, lane)

    async def _lane(self, number: int) -> None:
        async with connect(f"{self._uri}&region={self._region}" if number % 2 else self._uri) as db:
            lane = Lane(db, self.told, random.Random(number))
            while not self._stopping.is_set():
                await (lane.write() if number < WRITERS else lane.read())
                await anyio.sleep(PAUSE_S)


def test_what_clients_are_told_fits_one_order_while_nodes_die_and_others_lead(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1", "ap-1", replica_timeout_ms=1_000)
    with Crowd(shop.uri(), "us") as crowd:
        for turn in range(ROUNDS):
            chance = random.Random(turn)
            crowd.goes_on()
            killed_and_back(shop, chance.choice(shop.followers))
            crowd.goes_on()
            shop.kill(shop.leader)
            shop.lead(shop.leader)
            crowd.goes_on()
            silent = chance.choice(shop.followers)
            shop.pause(silent)
            time.sleep(1.5)
            shop.resume(silent)
            crowd.goes_on()
            old = shop.leader
            shop.kill(old)
            shop.crown(chance.choice(shop.followers))
            shop.start_node(old)
            crowd.goes_on()
            old, new = shop.leader, chance.choice(shop.followers)
            assert shop.terminate(old) == 0
            shop.crown(new)
            shop.start_node(old)
            crowd.goes_on()
    shop.check_same_documents(COLLECTION)
    told = crowd.told
    assert list(violations(told.events, told.never)) == []
    kinds = Counter(type(event).__name__ for event in told.events)
    assert kinds["Wrote"] > 200 and kinds["Found"] > 200, kinds


def killed_and_back(shop: Any, node: str) -> None:
    """A node dies and is started again."""
    shop.kill(node)
    shop.start_node(node)

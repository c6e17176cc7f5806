"""Drivers' idempotency keys: one text, one key of the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cluster.client_ids import issue_lsn
from cluster.driver_keys import UNRESOLVED_MAX, DriverKeys
from cluster.effects import Fate, Result
from cluster.errors import DiskFailed
from cluster.keys import within_window
from cluster.state import State
from redwire.errors import Code, Refused
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.position import Lsn, Term
from redwire.record import Key, Op, Record

APP = Principal(PrincipalKind.USER, "app", Role.WRITE, False)
ROW = Record(Op.INSERT, "c", "", b"{}")
TERM = Term(1)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path / "state.db")
    yield opened
    opened.close()


async def key_of(keys: DriverKeys, state: State, text: str, principal: Principal = APP) -> Key:
    claim = await keys.claim(principal, text, state, state.applied.lsn, TERM)
    keys.release(claim)
    return claim.key


async def test_a_new_key_is_issued_at_the_applied_lsn_and_may_be_logged(
    state: State, written_log: Any
) -> None:
    state.apply([written_log.write(ROW, ROW, ROW)])
    key = await key_of(DriverKeys(), state, "k")
    assert issue_lsn(key.client) == 3 and within_window(key) and key.sequence == key.oldest >= 1
    assert state.lookup(key) is None


async def test_an_executed_key_is_found_again_by_anyone_who_has_the_state(
    state: State, written_log: Any
) -> None:
    first = await key_of(DriverKeys(), state, "k")
    state.apply([written_log.write(ROW, key=first)])
    state.apply([written_log.write(ROW, key=Key(b"\7" + bytes(23), 1, 1))])
    assert await key_of(DriverKeys(), state, "k") == first
    assert await key_of(DriverKeys(), state, "l") != first


async def test_the_same_text_of_another_principal_is_another_key(state: State, written_log: Any) -> None:
    keys = DriverKeys()
    others = [
        Principal(PrincipalKind.USER, "other", Role.WRITE, False),
        Principal(PrincipalKind.ANONYMOUS, "app", Role.WRITE, False),
    ]
    mine = await key_of(keys, state, "k")
    state.apply([written_log.write(ROW, key=mine)])
    assert mine not in [await key_of(keys, state, "k", other) for other in others]


async def test_a_key_under_way_is_shared_and_forgotten_with_its_last_user(state: State) -> None:
    keys = DriverKeys()
    one = await keys.claim(APP, "k", state, Lsn(0), TERM)
    two = await keys.claim(APP, "k", state, Lsn(9), TERM)
    assert one is two and one.attempt == 1
    keys.release(one)
    assert await keys.claim(APP, "k", state, Lsn(9), TERM) is one
    keys.release(one)
    keys.release(one)
    assert await keys.claim(APP, "k", state, Lsn(9), TERM) is not one


async def test_a_key_that_may_be_in_the_log_is_kept_for_its_next_attempt(state: State) -> None:
    keys = DriverKeys()
    claim = await keys.claim(APP, "k", state, Lsn(0), TERM)
    claim.logged += 1
    keys.release(claim)
    again = await keys.claim(APP, "k", state, Lsn(9), TERM)
    assert again is claim and again.attempt == 2


async def test_claims_at_once_get_one_key(state: State) -> None:
    keys = DriverKeys()
    found: list[Key] = []

    async def claim(applied: int) -> None:
        found.append((await keys.claim(APP, "k", state, Lsn(applied), TERM)).key)

    async with anyio.create_task_group() as tasks:
        for applied in range(5):
            tasks.start_soon(claim, applied)
    assert len(found) == 5 and len(set(found)) == 1


async def test_another_reign_trusts_the_state_alone(state: State) -> None:
    keys = DriverKeys()
    old = await keys.claim(APP, "k", state, Lsn(0), TERM)
    old.logged += 1
    new = await keys.claim(APP, "k", state, Lsn(5), Term(2))
    assert new is not old and issue_lsn(new.key.client) == 5
    old.logged = 0
    keys.release(old)
    assert await keys.claim(APP, "k", state, Lsn(9), Term(2)) is new


async def test_a_claim_of_an_earlier_reign_takes_no_key_of_this_one_with_it(
    state: State, written_log: Any
) -> None:
    keys = DriverKeys()
    old = await keys.claim(APP, "k", state, Lsn(0), TERM)
    state.apply([written_log.write(ROW, key=old.key)])
    await keys.claim(APP, "another", state, Lsn(1), Term(2))
    keys.release(old)
    assert (await keys.claim(APP, "k", state, Lsn(1), Term(2))).key == old.key


class Memory:
    """A key state that knows what it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: set[Key] = set()

    def lookup(self, key: Key) -> Result | None:
        return Result(Fate.CLOSED, 1) if key in self.known else None


async def test_beyond_the_bound_a_new_key_is_refused_until_older_ones_are_applied(state: State) -> None:
    keys, memory = DriverKeys(), Memory(state.path)
    claims = [await keys.claim(APP, f"k{number}", memory, Lsn(0), TERM) for number in range(UNRESOLVED_MAX)]
    for claim in claims:
        claim.logged += 1
        keys.release(claim)
    with pytest.raises(Refused) as busy:
        await keys.claim(APP, "one more", memory, Lsn(0), TERM)
    assert busy.value.code is Code.BUSY and busy.value.retry
    assert await keys.claim(APP, "k7", memory, Lsn(0), TERM) is claims[7]
    memory.known.add(claims[3].key)
    claim = await keys.claim(APP, "one more", memory, Lsn(0), TERM)
    assert claim.users == 1


async def test_the_key_memory_is_read_once_a_reign(state: State, written_log: Any, tmp_path: Path) -> None:
    executed = await key_of(DriverKeys(), state, "k")
    state.apply([written_log.write(ROW, key=executed)])
    keys, memory = DriverKeys(), Memory(state.path)
    memory.known.add(executed)
    await keys.claim(APP, "one", memory, Lsn(1), TERM)
    memory.path = tmp_path / "none.db"
    assert (await keys.claim(APP, "k", memory, Lsn(1), TERM)).key == executed
    with pytest.raises(DiskFailed):
        await keys.claim(APP, "two", memory, Lsn(1), Term(2))
    memory.path = state.path
    assert (await keys.claim(APP, "k", memory, Lsn(1), Term(2))).key == executed

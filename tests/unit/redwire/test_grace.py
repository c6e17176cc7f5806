"""Deadlines in a loop that was held up: what has arrived by then counts, and nobody waits for more."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

import redwire
from redwire import grace
from redwire.errors import Conflict
from redwire.frame import Frame, Kind
from redwire.grace import GRACE_S, LATE_S, Limit
from redwire.message.admin import RemoveUser
from redwire.message.client import WriteEnvelope

pytestmark = pytest.mark.anyio
DEADLINE_S = 0.3
HELD_UP_S = DEADLINE_S + 2 * LATE_S


async def test_a_deadline_that_is_told_in_time_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace, "LATE_S", 60.0)  # of a machine that is busy, too
    monkeypatch.setattr(grace, "GRACE_S", 60.0)
    with anyio.fail_after(30), Limit(DEADLINE_S) as limit:
        await anyio.sleep_forever()
    assert limit.cancelled_caught


async def test_without_a_deadline_it_is_left_as_it_was_entered() -> None:
    with Limit(float("inf")) as limit:
        await anyio.sleep(0)
    assert not limit.cancelled_caught


async def test_a_loop_that_was_held_up_takes_what_has_come_and_no_more() -> None:
    for sleeps_s, in_time in ((0.0, True), (10 * GRACE_S, False)):
        with Limit(DEADLINE_S) as limit:
            time.sleep(HELD_UP_S)
            await anyio.sleep(sleeps_s)
        assert limit.cancelled_caught is not in_time


async def test_an_answer_that_came_while_its_program_was_busy_is_the_answer(cluster: Any) -> None:
    def fetch(wire: Any, frame: Frame) -> None:
        type(leader).fetch(leader, wire, frame)
        time.sleep(HELD_UP_S)

    def commit(node: Any, wire: Any, frame: Frame, envelope: WriteEnvelope) -> None:
        node.commit(wire, frame, envelope)
        time.sleep(HELD_UP_S)

    leader = cluster.leader
    async with redwire.connect(cluster.uri()) as db:
        await db.put("products", "p1", {})
        leader.script.append(commit)
        written = await db.put("products", "p1", {"n": 1}, timeout_s=DEADLINE_S)
        leader.HANDLERS = leader.HANDLERS | {Kind.FETCH: lambda node, *asked: fetch(*asked)}
        found = await db.get("products", "p1", timeout_s=DEADLINE_S)
    assert found is not None and found.version == written.version


async def test_what_an_administrator_asks_is_kept_to_its_deadline_alike(cluster: Any) -> None:
    def held_up(wire: Any, frame: Frame) -> None:
        type(leader).HANDLERS[frame.kind](leader, wire, frame)
        time.sleep(HELD_UP_S)

    leader = cluster.leader
    kinds = (Kind.STATUS_REQUEST, Kind.ACCOUNT)
    leader.HANDLERS = leader.HANDLERS | {kind: lambda node, *asked: held_up(*asked) for kind in kinds}
    async with redwire.connect(cluster.uri()) as db:
        assert (await db.status(timeout_s=DEADLINE_S)).own.id == "eu-1"
        assert (await db.status(leader.addr, timeout_s=DEADLINE_S)).own.id == "eu-1"
        with pytest.raises(Conflict, match="there is no user bob"):
            await db.admin.change_account(RemoveUser("bob"), timeout_s=DEADLINE_S)

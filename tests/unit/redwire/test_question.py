"""What any node can answer: who is asked, for how long, and what is said when nobody answers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import pytest

import redwire
from redwire import errors
from redwire import question as question_module
from redwire.frame import Frame, Kind
from redwire.question import Question


async def test_where_the_primary_is_silent_the_next_node_is_asked_once_there_is_a_line_to_it(cluster) -> None:
    def far(node, wire, frame) -> None:
        asyncio.get_running_loop().call_later(0.4, node.open, wire, frame)

    async with redwire.connect(cluster.uri(cluster.leader)) as db:
        assert (await db.status()).own.id == "eu-1"
        cluster.leader.frozen = True
        for node in cluster.nodes[1:]:
            node.open_script.append(far)
        began_s = time.monotonic()
        assert (await db.status()).own.id in ("us-1", "ap-1")
        assert time.monotonic() - began_s < 2.5


async def test_a_question_to_one_node_that_is_silent_says_so(cluster) -> None:
    silent = cluster.nodes[1]
    async with redwire.connect(cluster.uri()) as db:
        link = db._opened().pool.link(silent.addr)
        await link.settled.wait()
        silent.frozen = True
        with pytest.raises(errors.DeadlineExceeded) as late:
            await db.status(silent.addr, timeout_s=0.3)
    told = late.value
    assert (told.message, told.phase) == (
        f"no node answered within 0.3 s: {silent.addr} said nothing",
        "answer",
    )
    assert "packets of full size arrive" in told.hint


class OneLink:
    """A pool, and its only link: to a node that does not lead, and answers after `takes_s`."""

    addr = "us-1:5050"
    leader = staticmethod(anyio.sleep_forever)
    dialling = False

    def __init__(self, takes_s: float) -> None:
        self.tries = 0
        self._takes_s = takes_s

    async def any_link(self) -> OneLink:
        return self

    def usable_links(self) -> list[OneLink]:
        return [self]

    def look_around(self) -> None:
        """There is nobody else."""

    async def ask(self, kind: Kind, body: bytes) -> Frame:
        self.tries += 1
        await anyio.sleep(self._takes_s)
        return Frame(Kind.STATUS, 0, 0, 1, body)


async def asked(link: OneLink) -> bytes:
    pool: Any = link
    return await Question(pool, Kind.STATUS_REQUEST, Kind.STATUS, b"how").put(None, 10.0)


async def test_where_nobody_is_known_to_lead_any_node_is_asked_in_a_moment(monkeypatch: Any) -> None:
    monkeypatch.setattr(question_module, "LEADER_S", 0.01)
    monkeypatch.setattr(question_module, "PATIENCE_S", 60.0)
    with anyio.fail_after(3):
        assert await asked(OneLink(0.0)) == b"how"


async def test_who_has_not_answered_in_time_is_given_twice_as_much_the_next_time(monkeypatch: Any) -> None:
    monkeypatch.setattr(question_module, "PATIENCE_S", 0.02)
    monkeypatch.setattr(question_module, "AGAIN_S", 0.001)
    link = OneLink(0.1)
    assert await asked(link) == b"how"
    assert link.tries >= 4, "0.02, 0.04 and 0.08 s were not enough"

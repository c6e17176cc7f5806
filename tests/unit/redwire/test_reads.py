"""Reads of the client: who is asked, how fresh the answer is, and what follows when there is none."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from functools import partial
from typing import Any

import anyio
import pytest

import redwire
from redwire import errors
from redwire.errors import Code
from redwire.frame import Kind
from redwire.position import Lsn, Term, Token


async def test_a_scan_goes_page_by_page_in_order_and_stops_at_its_limit(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        await db.insert_many("products", [(f"{number:05}", {"n": number}) for number in range(1_500)])
        everything = [document.id async for document in db.scan("products")]
        some = [document.id async for document in db.scan("products", after="01000", limit=3)]
        exact = [document.id async for document in db.scan("products", limit=1_000)]
    assert everything == sorted(everything) and len(everything) == 1_500
    assert some == ["01001", "01002", "01003"] and len(exact) == 1_000


async def test_reads_go_where_the_mode_says(cluster) -> None:
    async with redwire.connect(cluster.uri(region="us")) as db:
        await db.put("products", "p1", {})
        for mode, node in [("primary", 0), ("region:ap", 2), ("nearest", 1)]:
            before = [each.fetches for each in cluster.nodes]
            assert await db.get("products", "p1", read=mode) is not None
            after = [each.fetches for each in cluster.nodes]
            assert after[node] == before[node] + 1, mode
        before = cluster.nodes[0].fetches
        for _ in range(4):
            await db.get("products", "p1", read="any")
        assert cluster.nodes[0].fetches == before


async def test_a_region_that_does_not_exist_is_refused_at_once(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        with anyio.fail_after(3), pytest.raises(errors.Refused, match="MISSING_REGIONS.*ap, eu, us"):
            await db.get("products", "p1", read="region:moon")


async def test_a_replica_behind_the_token_is_followed_by_the_primary(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        written = await db.put("products", "p1", {})
        cluster.nodes[1].applied_back = cluster.nodes[2].applied_back = 1
        assert await db.get("products", "p1", read="any", at_least=written.receipt.token) is not None
        assert await db.get("products", "p1", read="any", at_least=str(written.receipt.token)) is not None
        assert cluster.nodes[0].fetches == 2
        with pytest.raises(errors.Refused, match="STALE"):
            await db.get("products", "p1", read="region:us", at_least=written.receipt.token, timeout_s=0.3)


async def test_a_lost_token_is_never_answered_from_another_history(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        cluster.nodes[1].reads.append(errors.TokenLost("term 3 wrote it"))
        with pytest.raises(errors.TokenLost):
            await db.get("products", "p1", read="region:us", at_least=Token(cluster.id, Term(1), Lsn(1)))
        assert cluster.nodes[0].fetches == 0


async def test_a_read_goes_on_to_the_next_node_when_one_is_gone(cluster) -> None:
    async with redwire.connect(cluster.uri(cluster.nodes[0], region="us")) as db:
        await db.put("products", "p1", {})
        cluster.stop(cluster.nodes[1])
        with anyio.fail_after(5):
            assert await db.get("products", "p1", read="nearest") is not None


async def test_a_node_that_cannot_be_reached_in_time_holds_up_one_read_and_not_the_next_ones(cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster.addresses["us-1"] = f"127.0.0.1:{silent.getsockname()[1]}"
        async with redwire.connect(cluster.uri(cluster.leader, region="us")) as db:
            took_s = []
            for _ in range(5):
                began_s = time.monotonic()
                assert await db.get("products", "p1", read="nearest", timeout_s=5) is None
                took_s.append(time.monotonic() - began_s)
    assert sum(each_s > 0.9 for each_s in took_s) == 1


async def test_a_read_with_little_time_goes_on_to_the_next_node_when_one_is_silent(cluster) -> None:
    async with redwire.connect(cluster.uri(region="us")) as db:
        assert await db.get("products", "p1", read="nearest") is None
        cluster.nodes[1].frozen = True
        assert await db.get("products", "p1", read="nearest", timeout_s=1) is None
        (silent,) = (node for node in db.routing.nodes if node.failures)
    assert silent.addr == cluster.nodes[1].addr


async def test_a_node_that_is_far_has_the_way_to_it_on_top_of_what_a_short_read_gives_it(cluster) -> None:
    def far(node, wire, frame) -> None:
        asyncio.get_running_loop().call_later(0.3, handlers[frame.kind], node, wire, frame)

    node, handlers = cluster.nodes[1], cluster.nodes[1].HANDLERS
    node.HANDLERS = handlers | dict.fromkeys((Kind.OPEN, Kind.FETCH), far)
    async with redwire.connect(cluster.uri(region="us")) as db:
        for timeout_s in (10, 0.5):
            assert await db.get("products", "p1", read="nearest", timeout_s=timeout_s) is None
    assert [each.fetches for each in cluster.nodes] == [0, 2, 0]


async def test_a_node_that_answers_one_read_after_the_other_is_left_by_none(cluster, monkeypatch) -> None:
    silence_s, node = 0.2, cluster.nodes[1]
    monkeypatch.setattr("redwire.inquiry.SILENCE_S", silence_s)
    fetch, came = node.HANDLERS[Kind.FETCH], deque[tuple[Any, ...]]()
    async with redwire.connect(cluster.uri(region="us")) as db, anyio.create_task_group() as tasks:
        await db.get("products", "p1", read="nearest")
        monkeypatch.setitem(node.HANDLERS, Kind.FETCH, lambda *asked: came.append(asked))
        for _ in range(10):
            tasks.start_soon(partial(db.get, "products", "p1", read="nearest"))
        for _ in range(10):
            await anyio.sleep(silence_s / 2)
            fetch(*came.popleft())
    assert [each.fetches for each in cluster.nodes] == [0, 11, 0]


async def test_a_node_that_answers_no_read_any_more_is_followed_by_the_next(cluster, monkeypatch) -> None:
    silence_s = 0.2
    monkeypatch.setattr("redwire.inquiry.SILENCE_S", silence_s)
    async with redwire.connect(cluster.uri(region="us")) as db:
        assert await db.get("products", "p1", read="nearest") is None
        cluster.nodes[1].frozen = True
        began_s = anyio.current_time()
        assert await db.get("products", "p1", read="nearest") is None
        assert silence_s <= anyio.current_time() - began_s < 5


async def test_a_read_that_nobody_answers_names_its_phase(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        cluster.nodes[0].frozen = True
        with pytest.raises(errors.DeadlineExceeded) as late:
            await db.get("products", "p1", timeout_s=0.2)
        cluster.nodes[0].frozen = False
        assert await db.get("products", "p1") is None
    assert late.value.phase == "answer"


async def test_what_stands_against_a_read_is_told_while_it_waits_and_not_once_it_is_over(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        cluster.nodes[1].reads.extend([errors.Refused(Code.STALE, "behind")] * 100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(expect_stale, db)
            while "STALE" not in db.routing.trouble:
                await anyio.sleep(0.01)
        assert db.routing.trouble == ""


async def expect_stale(db: redwire.Client) -> None:
    with pytest.raises(errors.Refused, match="STALE"):
        await db.get("products", "p1", read="region:us", timeout_s=0.5)


async def test_a_read_that_may_pass_is_asked_again(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        cluster.nodes[0].reads.append(errors.Refused(Code.NOT_READY, "a new reign"))
        assert await db.get("products", "p1") is None


@pytest.mark.parametrize("read", ["primary", "region:eu"])
async def test_a_read_that_the_primary_keeps_says_whom_it_waited_for_and_what_to_do(cluster, read) -> None:
    silent = cluster.nodes[0]
    async with redwire.connect(cluster.uri()) as db:
        assert await db.get("products", "p1", read=read) is None
        silent.frozen = True
        with pytest.raises(errors.DeadlineExceeded) as late:
            await db.get("products", "p1", read=read, timeout_s=0.3)
    told = late.value
    text = f"no answer within 0.3 s, in phase answer: {silent.addr} did not answer within "
    seconds = told.message.removeprefix(text).removesuffix(" s")
    assert 0.3 <= float(seconds) < 3, "a busy machine hears of the deadline later"
    assert (told.phase, told.sent) == ("answer", True)
    assert told.hint == (errors.ELSEWHERE_HINT if read == "primary" else "")


async def test_a_region_whose_node_takes_the_connection_and_no_more_is_told_as_that(cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster.addresses["us-1"] = f"127.0.0.1:{silent.getsockname()[1]}"
        async with redwire.connect(cluster.uri(cluster.leader, region="us")) as db:
            with pytest.raises(errors.DeadlineExceeded) as late:
                await db.get("products", "p1", read="region:us", timeout_s=0.5)
    told = late.value
    assert "in phase connect: " in told.message and "does not finish the handshake" in told.message

"""The real feed against fake nodes over real TLS."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

import anyio
import pytest

from redwire.errors import AuthenticationFailed, ChannelClosed
from redwire.message.settings import BindRegion
from tools.monitor.feed import ClusterFeed
from tools.monitor.steering import Request
from tools.monitor.watch import Arrived, Ended, Lost

PATIENCE_S = 20


class Heard:
    """News in the order in which it came."""

    def __init__(self) -> None:
        self._news: deque[object] = deque()
        self._more = anyio.Event()

    def post(self, news: object) -> None:
        self._news.append(news)
        self._more.set()

    async def until(self, kind: type, **facts: object):
        """The next news of this kind with these facts."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                while not self._news:
                    self._more = anyio.Event()
                    await self._more.wait()
                found = self._news.popleft()
                if isinstance(found, kind) and all(getattr(found, n) == v for n, v in facts.items()):
                    return found


@pytest.fixture
async def follow(cluster, told) -> AsyncIterator[Callable[[ClusterFeed], Heard]]:
    """Follow a feed until the test is over."""
    async with anyio.create_task_group() as tasks:

        def begin(feed: ClusterFeed) -> Heard:
            heard = Heard()
            tasks.start_soon(feed.follow, heard.post)
            return heard

        yield begin
        tasks.cancel_scope.cancel()


async def test_documents_come_from_one_node_with_the_role_that_it_gives(cluster, follow) -> None:
    eu = cluster.nodes[0]
    news = follow(ClusterFeed(cluster.uri(eu), "test"))
    first = await news.until(Arrived)
    second = await news.until(Arrived)
    assert (first.addr, first.status.cluster.name, first.role) == (eu.addr, "shop", "write")
    assert second.addr == eu.addr and second.at_ms > first.at_ms


async def test_when_its_node_is_lost_another_that_a_document_named_is_asked(cluster, follow) -> None:
    eu = cluster.nodes[0]
    news = follow(ClusterFeed(cluster.uri(eu), "test"))
    await news.until(Arrived, addr=eu.addr)
    cluster.stop(eu)
    lost = await news.until(Lost, addr=eu.addr)
    moved = await news.until(Arrived)
    assert lost.reason and moved.addr in [node.addr for node in cluster.nodes[1:]]


async def test_a_node_that_hangs_is_left_too(cluster, follow) -> None:
    eu = cluster.nodes[0]
    news = follow(ClusterFeed(cluster.uri(), "test"))
    await news.until(Arrived, addr=eu.addr)
    eu.frozen = True
    await news.until(Lost, addr=eu.addr)
    await news.until(Arrived, addr=cluster.nodes[1].addr)


async def test_a_node_that_lost_the_primary_is_left_for_one_that_sees_him(cluster, follow, told) -> None:
    ap = cluster.nodes[2]
    told.blind = {"eu-1", "us-1"}
    news = follow(ClusterFeed(cluster.uri(), "test"))
    assert (await news.until(Arrived)).status.primary.state == "lost"
    found = await news.until(Arrived, addr=ap.addr)
    assert found.status.primary.state == "leading"


async def test_while_nobody_is_there_it_says_so_and_goes_on_trying(cluster, follow, monkeypatch) -> None:
    monkeypatch.setattr("tools.monitor.feed.CONNECT_MS", 600)
    for node in cluster.nodes:
        node.frozen = True
    news = follow(ClusterFeed(cluster.uri(), "test"))
    await news.until(Lost, addr="")
    for node in cluster.nodes:
        node.frozen = False
        for wire in list(node.wires):
            wire.channel.close()
    await news.until(Arrived)


async def test_who_is_not_let_in_is_told_and_nothing_is_tried_on(cluster, follow) -> None:
    news = follow(ClusterFeed(cluster.uri(token="nobody"), "test"))
    ended = await news.until(Ended)
    assert isinstance(ended.error, AuthenticationFailed)


async def test_nothing_is_changed_through_a_feed_that_reaches_nobody(cluster) -> None:
    feed = ClusterFeed(cluster.uri(), "test")
    with pytest.raises(ChannelClosed, match="no node is reached"):
        await feed.change(Request(BindRegion("us-1", "us"), "us-1"), based_on=0, dry_run=True)

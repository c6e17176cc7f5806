"""What the links between two regions add to a round trip: pings to a node, through them and without."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

import msgspec

from redwire import uri as connection_uri
from redwire.client import dialler
from redwire.dial import Dialled
from redwire.frame import Kind, encode_header
from tools.dev.dev_cluster import DevCluster
from tools.dev.place import typed
from tools.dev.plan import pair_name, parse_pair
from tools.errors import ClusterMissing, LinkInvalid

CLIENT_NAME = "redwire dev ping"


class Pinged(msgspec.Struct, frozen=True):
    """Medians of `count` round trips from the region `here` to `node` in `there`: through links, and without.

    The two take turns: a node that has not been spoken to for a while takes longer, by either way.
    """

    here: str
    there: str
    node: str
    count: int
    through_ms: float
    direct_ms: float

    @property
    def added_ms(self) -> float:
        """What the links add."""
        return self.through_ms - self.direct_ms


class Way(msgspec.Struct, frozen=True):
    """From the region `here` to `node` in `there`, through links that add `rtt_ms` to each round trip."""

    here: str
    there: str
    node: str
    rtt_ms: float


class Line:
    """An open connection to the first node of a URI, on which pings go out one after the other."""

    def __init__(self, dialled: Dialled) -> None:
        self._dialled = dialled

    @classmethod
    @asynccontextmanager
    async def to(cls, uri: str) -> AsyncIterator[Line]:
        """Connect, and close at the end. Raises `ConnectFailed`, `AuthenticationFailed`."""
        config = connection_uri.parse(uri)
        dialled = await dialler(config, CLIENT_NAME).dial(config.seeds[0])
        with closing(dialled.channel):
            yield cls(dialled)

    async def ping_ms(self) -> float:
        """How long the node's answer took. Raises `ChannelClosed`."""
        began_s = time.perf_counter()
        self._dialled.channel.write(encode_header(Kind.PING, 0, 0))
        while not any(frame.kind == Kind.PONG for frame in await self._dialled.receive()):
            pass
        return (time.perf_counter() - began_s) * 1000


def way(cluster: DevCluster, pair: str) -> Way:
    """From the first region of the pair to the first node that runs in the second one.

    Raises `PlanInvalid`, `ClusterMissing` when none runs there, and `LinkInvalid` when the link is cut,
    or the links do not say how they are.
    """
    here, there = parse_pair(pair, cluster.plan.regions)
    status = cluster.status()
    if status.links_why:
        again = f"start all of it again: {typed(cluster.folder, 'down')}; {typed(cluster.folder, 'up')}"
        raise LinkInvalid(status.links_why, hint=again)
    running = (each.id for each in status.nodes if each.region == there and each.pid is not None)
    node = next(running, None)
    if node is None:
        down = next(node.id for node in cluster.plan.nodes if node.region == there)
        raise ClusterMissing(
            f"no node runs in {there}", hint=f"start one: {typed(cluster.folder, 'start', down)}"
        )
    rtt_ms = 0.0
    for distance in status.distances:
        if {distance.here, distance.there} == {here, there}:
            rtt_ms = distance.rtt_ms
            if distance.cut_from:
                hint = f"heal it: {typed(cluster.folder, 'heal', pair)}"
                raise LinkInvalid(f"no ping comes back: {pair_name(here, there)} is {distance}", hint=hint)
    return Way(here, there, node, rtt_ms)


async def measure(cluster: DevCluster, way: Way, count: int, tell: Callable[[int], None]) -> Pinged:
    """Ping `count` times by either way; `tell` hears after how many.

    Raises `ConnectFailed` or `ChannelClosed` when the node does not answer.
    """
    here, node = way.here, way.node
    through_ms: list[float] = []
    direct_ms: list[float] = []
    async with Line.to(cluster.uri(node, within=here)) as through, Line.to(cluster.uri(node)) as direct:
        for done in range(1, count + 1):
            through_ms.append(await through.ping_ms())
            direct_ms.append(await direct.ping_ms())
            tell(done)
    medians_ms = statistics.median(through_ms), statistics.median(direct_ms)
    return Pinged(here, way.there, node, count, *medians_ms)

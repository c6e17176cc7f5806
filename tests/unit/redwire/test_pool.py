"""What the links of one client have in common, without a network."""

from __future__ import annotations

import random

import anyio

from redwire.errors import ConnectFailed
from redwire.handshake import Anonymous
from redwire.pool import Dialler, Pool
from redwire.routing import Router
from redwire.topology import Endpoint, ReplicaEntry, Topology


def topology(epoch: int, *replicas: str) -> bytes:
    entries = tuple(ReplicaEntry(addr, "eu", True, 0, 1) for addr in replicas)
    return Topology(epoch, Endpoint("p:1", "eu"), entries).encode()


async def test_an_address_that_has_left_the_cluster_is_no_trouble_any_more() -> None:
    router = Router(["p:1"], None, True, random.Random(1))
    async with anyio.create_task_group() as tasks:
        pool = Pool(router, Dialler(None, Anonymous(), "test"), tasks)
        pool.learned(topology(1, "old:1", "new:1"))
        for addr in ("old:1", "new:1"):
            pool.failures[addr] = ConnectFailed(f"{addr} is out", retry=True)
        assert pool.trouble == "new:1 is out; old:1 is out"
        pool.learned(topology(2, "new:1"))
        assert pool.trouble == "new:1 is out"

"""What the nodes of `redwire dev` do now, as they say: their files say it only until a take-over."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from msgspec.structs import replace

from redwire.errors import RedwireError
from tools.cli.connection import onlooker
from tools.dev.dev_cluster import DevStatus, NodeState

ANSWER_S = 1.5
"""All are asked at once, on this machine and past the links; whoever is slower hangs."""


async def asked(status: DevStatus, uri: Callable[[str], str]) -> DevStatus:
    """`status` with the role that every running node says it has; `uri` leads to one node. Of those that do
    not answer in time, and of those that have not joined, the role stays that of the file.
    """
    told: dict[str, str] = {}

    async def ask(node: str, addr: str) -> None:
        try:
            async with onlooker(uri(node), addr) as client:
                told[node] = (await client.status(addr)).own.role
        except RedwireError:
            pass  # it is there or not: that is what `state` says

    with anyio.move_on_after(ANSWER_S):
        async with anyio.create_task_group() as tasks:
            for node in status.nodes:
                if node.state is NodeState.RUNNING:
                    tasks.start_soon(ask, node.id, node.addr)
    return replace(
        status,
        nodes=tuple(
            replace(node, role=told.get(node.id, node.role), told=node.id in told) for node in status.nodes
        ),
    )

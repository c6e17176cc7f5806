"""The end of a start: every replica follows the primary, and every node knows a user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from redwire.client import Client
from redwire.message.admin import PutUser

POLL_S = 0.1
"""Seen as at once, and ten questions a second cost nothing."""


async def all_follow(client: Client, replicas: int, check: Callable[[], None], *, timeout_s: float) -> int:
    """Wait until so many replicas are healthy; how many are. `check` raises when waiting makes no sense."""
    healthy = 0

    async def follow() -> bool:
        nonlocal healthy
        check()
        healthy = sum(replica.healthy for replica in (await client.topology()).replicas)
        return healthy == replicas

    await eventually(follow, timeout_s=timeout_s)
    return healthy


async def make_user(client: Client, user: PutUser, *, timeout_s: float) -> bool:
    """Make a user; whether every member knew of it in time. `client` is an administrator's."""
    done = await client.admin.change_account(user)

    async def known() -> bool:
        status = await client.status()
        return all((node.applied or 0) >= done.lsn for node in status.nodes)

    return await eventually(known, timeout_s=timeout_s)


async def eventually(holds: Callable[[], Awaitable[bool]], *, timeout_s: float) -> bool:
    """Ask until `holds` says True; False when it never did."""
    with anyio.move_on_after(timeout_s):
        while True:
            if await holds():
                return True
            await anyio.sleep(POLL_S)
    return False

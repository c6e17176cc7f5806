"""The addresses that a node listens on."""

from __future__ import annotations

import anyio
from anyio.abc import SocketStream
from anyio.streams.stapled import MultiListener

from cluster.address import Address
from cluster.errors import ListenFailed

BACKLOG = 1_024
"""Clients of a node that was gone come back at once; the idle thousand that a node is measured with fit."""
ACCEPT_AGAIN_S = 0.1
"""Where none could be accepted, descriptors are missing as a rule: asking more often would bring none."""


async def listen(address: Address, key: str) -> MultiListener[SocketStream]:
    """Take `address`, which `key` of the configuration names. Raises `ListenFailed`."""
    try:
        return await anyio.create_tcp_listener(
            local_host=address.host, local_port=address.port, backlog=BACKLOG
        )
    except OSError as error:
        text = f"cannot listen on {address}: {error.strerror}"
        raise ListenFailed(text, hint=f"another process has the port, or {key} is wrong") from error

"""The addresses of a host, looked up where nobody has to wait for the end of it.

A resolver that hangs does so for half a minute, and cannot be told to stop. The event loop's own threads are
waited for where a loop or the interpreter ends; the one of a look-up is not. Who dials anew after its own
ten seconds has a handful of them at most.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any

Found = Sequence[tuple[int, int, int, str, tuple[Any, ...]]]
"""What `socket.getaddrinfo` returns."""


async def look_up(host: str, port: int) -> Found:
    """Where to connect to. An address costs no thread. Cancelling this leaves the look-up of a name to its
    own end. Raises `socket.gaierror`, or `UnicodeError` for what can be no name.
    """
    with suppress(socket.gaierror):
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Found] = loop.create_future()
    Thread(target=_look_up, args=(loop, found, host, port), name="redwire-lookup", daemon=True).start()
    return await found


def _look_up(loop: asyncio.AbstractEventLoop, found: asyncio.Future[Found], host: str, port: int) -> None:
    """In the thread."""
    try:
        told = partial(found.set_result, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        told = partial(found.set_exception, error)
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(_tell, found, told)


def _tell(found: asyncio.Future[Found], told: partial[None]) -> None:
    """In the loop, where the call may have been cancelled."""
    if not found.done():
        told()

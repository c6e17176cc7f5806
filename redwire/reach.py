"""A host over TCP: its addresses, and a connection to whichever of them takes one."""

from __future__ import annotations

import os
import socket
import ssl

from aiohappyeyeballs import start_connection

from redwire.errors import ConnectFailed
from redwire.lookup import Found, look_up

NEXT_ADDRESS_S = 0.25
"""How long one address of a host may keep the next one waiting (RFC 8305, section 5)."""


async def find(host: str, port: int) -> Found:
    """Where the host is, at least one address. Has no deadline: cancel it. Raises `ConnectFailed`."""
    try:
        return await look_up(host, port)
    except (socket.gaierror, UnicodeError) as error:
        name = address(host, port)
        passing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        text, hint = f"cannot find {name}: {why(error)}", "" if passing else "check the name of the host"
        raise ConnectFailed(text, retry=passing, addr=name, hint=hint) from error


async def reach(found: Found, name: str) -> socket.socket:
    """A connection to one of the addresses `found` of `name`. Has no deadline: cancel it. Raises
    `ConnectFailed`.
    """
    try:
        return await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_S)
    except OSError as error:
        raise ConnectFailed(f"cannot connect to {name}: {why(error)}", retry=True, addr=name) from error


def beside(found: Found, sock: socket.socket) -> Found:
    """The addresses in `found` that `sock` does not lead to; none if it cannot be told which it leads to."""
    try:
        there = sock.getpeername()[:2]
    except OSError:
        return ()
    left = [each for each in found if each[4][:2] != there]
    return left if len(left) < len(found) else ()  # 0.0.0.0 leads to 127.0.0.1


def address(host: str, port: int) -> str:
    """host:port, an address of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def why(error: BaseException) -> str:
    """What happened to a socket, or to the TLS over it, in one line."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, OSError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0)  # asyncio puts a text of its own into the exception
    return str(error) or "the other side closed it"

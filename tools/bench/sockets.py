"""TCP's own byte counters of this machine's connections, as the kernel gives them by `sock_diag(7)`."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator

import msgspec

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_AND_DUMP = 0x301
_ESTABLISHED = 1 << 1
_INFO = 2
_HEADER = struct.Struct("=IHHII")
_QUERY = struct.Struct("=BBBxI48x")
_SOCKET_ID = struct.Struct(">HH")  # in a diag message: the ports, behind four bytes
_SOCKET_BYTES = 72  # of a `struct inet_diag_msg`
_ATTRIBUTE = struct.Struct("=HH")
_BYTES = struct.Struct("=QQ")  # acked, received
_BYTES_AT = 120  # `tcpi_bytes_acked` in a `struct tcp_info`
RECEIVE_BYTES = 1 << 16
"""More than the kernel puts into one answer of a dump."""


class Connection(msgspec.Struct, frozen=True):
    """One established connection. Bytes are payload: what the peer has acknowledged, and what came."""

    port: int
    peer_port: int
    acked_bytes: int
    received_bytes: int


def connections() -> list[Connection]:
    """Every established IPv4 connection of this machine, each of its ends. Raises `OSError` where it is not
    allowed.
    """
    query = _QUERY.pack(socket.AF_INET, socket.IPPROTO_TCP, 1 << (_INFO - 1), _ESTABLISHED)
    header = _HEADER.pack(_HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, _REQUEST_AND_DUMP, 1, 0)
    found: list[Connection] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(5.0)
        netlink.send(header + query)
        while True:
            messages = list(split(netlink.recv(RECEIVE_BYTES)))
            found += [parse(body) for kind, body in messages if kind == _SOCK_DIAG_BY_FAMILY]
            if not messages or any(kind != _SOCK_DIAG_BY_FAMILY for kind, _ in messages):
                return found


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The kinds and bodies of the netlink messages in `data`."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def parse(message: bytes) -> Connection:
    """One socket's diagnosis; counts are 0 where the kernel does not tell them."""
    port, peer_port = _SOCKET_ID.unpack_from(message, 4)
    at, counts = _SOCKET_BYTES, (0, 0)
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            break
        if kind == _INFO and length >= _ATTRIBUTE.size + _BYTES_AT + _BYTES.size:
            counts = _BYTES.unpack_from(message, at + _ATTRIBUTE.size + _BYTES_AT)
        at += (length + 3) & ~3
    return Connection(port, peer_port, *counts)


def moved_bytes(found: Iterable[Connection], port: int, peer_ports: frozenset[int]) -> tuple[int, int]:
    """Bytes over connections to `port`, both ways: those whose other end is in `peer_ports`, and the rest."""
    inside = outside = 0
    for each in found:
        if each.port == port:
            size = each.acked_bytes + each.received_bytes
            if each.peer_port in peer_ports:
                inside += size
            else:
                outside += size
    return inside, outside

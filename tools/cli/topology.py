"""`redwire topology`: what a node's handshake tells of the cluster's shape."""

from __future__ import annotations

import random
from typing import NamedTuple

import anyio
import click
import msgspec

from redwire import topology as blob
from redwire import uri as connection_uri
from redwire.client import dialler
from redwire.dial import Dialled
from redwire.errors import ConnectFailed, RedwireError
from redwire.frame import Kind, encode_header
from redwire.handshake import Established
from redwire.message.client import TopologyNotice
from redwire.routing import Router
from redwire.topology import ReplicaEntry, Topology
from tools.cli.connection import CLIENT_NAME, uri_option
from tools.cli.output import json_option, show

DIAL_S = 2.5
"""How long one node may take: the next one may be well."""


class Told(NamedTuple):
    """What the node at `addr` said, and whether it has lost the primary, None if it did not say."""

    addr: str
    established: Established
    primary_lost: bool | None


@click.command()
@uri_option
@json_option
def topology(uri: str, as_json: bool) -> None:
    """Show the cluster's shape as a node's handshake tells it: to strangers, and to this user."""
    addr, established, lost = anyio.run(_ask, uri)
    hello, full = _decoded(established.hello_topology), _decoded(established.topology)
    lines = [f"{addr} says in HelloAck: {hello or 'nothing'}"]
    lines.append(f"and in AuthOk, to {established.username}: {full or 'nothing more'}")
    if lost:
        lines.append("NO PRIMARY: the node has lost it, and tells what it heard last")
    lines += [_replica_line(replica, stale=bool(lost)) for replica in (full.replicas if full else ())]
    document = {
        "asked": addr,
        "server": established.server,
        "user": established.username,
        "role": str(established.role),
        "primary_lost": lost,
        "hello": None if hello is None else msgspec.to_builtins(hello),
        "full": None if full is None else msgspec.to_builtins(full),
    }
    show(document, "\n".join(lines), as_json=as_json)


def _replica_line(replica: ReplicaEntry, *, stale: bool) -> str:
    health = "healthy" if replica.healthy else "not healthy"
    lag = "lag unknown" if replica.lag_ms is None else f"{replica.lag_ms} ms behind"
    if stale:  # it was so when there was a primary to judge it
        health, lag = f"was {health}", "lag unknown"
    rebuilt = ", being rebuilt" if replica.rebootstrapping else ""
    return f"  {replica.addr} ({replica.region}) {health}, {lag}, applied {replica.last_applied_lsn}{rebuilt}"


async def _ask(uri: str) -> Told:
    """Authenticate with the first seed that answers; what it said."""
    config = connection_uri.parse(uri)
    door = dialler(config, CLIENT_NAME)
    failure: RedwireError | None = None
    for addr in Router(config.seeds, config.region, config.discovery, random.Random()).dial_order(0):
        silent = ConnectFailed(f"{addr} did not answer within {DIAL_S:g} s", retry=True)
        try:
            with anyio.move_on_after(DIAL_S):
                dialled = await door.dial(addr)
                try:
                    return Told(addr, dialled.established, await _lost(dialled))
                finally:
                    dialled.channel.close()
            failure = silent
        except RedwireError as error:
            failure = error
    assert failure is not None
    raise failure


async def _lost(dialled: Dialled) -> bool | None:
    """Whether the node says that it has lost the primary."""
    dialled.channel.write(encode_header(Kind.TOPOLOGY_REQUEST, 0, 1), b"")
    while True:
        for frame in await dialled.receive():
            if frame.correlation == 1:
                known = frame.kind == Kind.TOPOLOGY
                return TopologyNotice.decode(frame.payload).primary_lost if known else None


def _decoded(data: bytes | None) -> Topology | None:
    return None if data is None else blob.decode(data)

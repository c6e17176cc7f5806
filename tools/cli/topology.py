"""`redwire topology`: what a node's handshake tells of the cluster's shape."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import anyio
import click
import msgspec

from redwire import topology as blob
from redwire import uri as connection_uri
from redwire.body import decode
from redwire.client import dialler
from redwire.dial import Dialled
from redwire.errors import ConnectFailed, RedwireError
from redwire.frame import Kind, encode_header
from redwire.handshake import Established
from redwire.message.client import TopologyNotice
from redwire.message.failure import Failure
from redwire.routing import Router
from redwire.topology import ReplicaEntry, Topology
from tools.cli.connection import CLIENT_NAME, uri_option
from tools.cli.output import json_option, show_parts
from tools.grid import Grid, Legend, Parts, Words

DIAL_S = 2.5
"""How long one node may take: the next one may be well."""
COLUMNS = ("told in", "address", "region", "role", "health", "lag", "applied")
LEFT = 5
"""So many of them are words."""


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
    epochs = dict.fromkeys(str(told.epoch) for told in (hello, full) if told is not None)
    said = [f"asked {addr}, as {established.username} with role {established.role}"]
    if epochs:
        said.append(f"epoch {', then '.join(epochs)}")
    if lost:
        said.append("NO PRIMARY: the node has lost it, and tells what it heard last")
    rows = [*_rows("HelloAck", hello, stale=bool(lost)), *_rows("AuthOk", full, stale=bool(lost))]
    document = {
        "addr": addr,
        "server": established.server,
        "user": established.username,
        "role": str(established.role),
        "primary_lost": lost,
        "hello": None if hello is None else msgspec.to_builtins(hello),
        "full": None if full is None else msgspec.to_builtins(full),
    }
    legend = (
        "HelloAck tells it to everybody, AuthOk to this user; lag and applied may be as old as the epoch, "
        "as they are now: redwire lag; ? is unknown"
    )
    parts: Parts = [Words("\n".join(said)), Grid("", COLUMNS, rows, left=LEFT), Legend(legend)]
    show_parts(document, parts, as_json=as_json)


def _rows(told_in: str, told: Topology | None, *, stale: bool) -> list[Sequence[str]]:
    """A line for each node, the primary first."""
    if told is None:
        return [(told_in, "nothing", *[""] * (len(COLUMNS) - 2))]
    first = (told_in, told.primary.addr or "none", told.primary.region, "primary", "", "", "")
    return [first, *(_replica_row(replica, stale=stale) for replica in told.replicas)]


def _replica_row(replica: ReplicaEntry, *, stale: bool) -> Sequence[str]:
    health = "healthy" if replica.healthy else "not healthy"
    lag = "?" if replica.lag_ms is None else f"{replica.lag_ms} ms"
    if stale:  # it was so when there was a primary to judge it
        health, lag = f"was {health}", "?"
    if replica.rebootstrapping:
        health += ", being rebuilt"
    return "", replica.addr, replica.region, "replica", health, lag, str(replica.last_applied_lsn)


async def _ask(uri: str) -> Told:
    """Authenticate with the first seed that answers; what it said."""
    config = connection_uri.parse(uri)
    door = dialler(config, CLIENT_NAME)
    failure: RedwireError | None = None
    for addr in Router(config.seeds, config.region, config.discovery, random.Random()).dial_order(0):
        silent = ConnectFailed(f"{addr} did not answer within {DIAL_S:g} s", retry=True, addr=addr)
        try:
            with anyio.move_on_after(DIAL_S):
                dialled = await door.dial(addr)
                with closing(dialled.channel):
                    return Told(addr, dialled.established, await _lost(dialled))
            failure = silent
        except RedwireError as error:
            failure = error
    assert failure is not None
    raise failure


async def _lost(dialled: Dialled) -> bool | None:
    """Whether the node says that it has lost the primary. Raises what it says of the connection instead."""
    dialled.channel.write(encode_header(Kind.TOPOLOGY_REQUEST, 0, 1), b"")
    while True:
        for frame in await dialled.receive():
            if frame.kind == Kind.FAILURE and not frame.correlation:
                raise decode(frame.payload, Failure).to_error()
            if frame.correlation == 1:
                known = frame.kind == Kind.TOPOLOGY
                return TopologyNotice.decode(frame.payload).primary_lost if known else None


def _decoded(data: bytes | None) -> Topology | None:
    return None if data is None else blob.decode(data)

"""`redwire user`, `status` and `topology`: who may come in, and how the cluster is."""

from __future__ import annotations

import hashlib
import random
import secrets
import sys
from functools import partial
from typing import Any

import anyio
import click
import msgspec

from redwire import topology as blob
from redwire import uri as connection_uri
from redwire.client import Client, dialler
from redwire.connection import Established
from redwire.errors import ConnectFailed, RedwireError, RequestInvalid
from redwire.handshake import USER_NAME
from redwire.message.admin import (
    AccountChange,
    AccountDone,
    PutToken,
    RemoveToken,
    RemoveUser,
    UserRole,
)
from redwire.routing import Router
from redwire.topology import Topology
from tools.accounts import password_user
from tools.cli.connection import CLIENT_NAME, uri_option, with_client
from tools.cli.output import json_option, show

TOKEN_BYTES = 32
STATUS_S = 3.0
"""How long `status` waits for a node before it calls it unreachable."""

_role = click.option(
    "--role", type=click.Choice(("read", "write", "admin")), required=True, help="What it may do."
)


@click.group()
def user() -> None:
    """Make and remove users and bearer tokens; takes an administrator's certificate in the URI."""


@user.command()
@click.argument("name")
@_role
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input, one line.")
@click.option(
    "--topology/--no-topology",
    "topology_read",
    default=True,
    show_default=True,
    help="Whether it may see every node.",
)
@uri_option
@json_option
def add(
    name: str, role: UserRole, password_stdin: bool, topology_read: bool, uri: str, as_json: bool
) -> None:
    """Make the user NAME, or replace its role and password.

    The password does not leave this machine: what is sent and stored is a verifier.
    """
    _require_name(name)
    change = password_user(name, _password(password_stdin), role, topology_read=topology_read)
    done = _change(uri, change)
    show(
        {"user": name, "role": role, "topology_read": topology_read, **_position(done)},
        f"user {name} may {role} (LSN {done.lsn})",
        as_json=as_json,
    )


@user.command()
@click.argument("name")
@uri_option
@json_option
def remove(name: str, uri: str, as_json: bool) -> None:
    """Remove the user NAME and all its tokens."""
    _require_name(name)
    done = _change(uri, RemoveUser(name))
    show(
        {"user": name, "removed": True, **_position(done)},
        f"user {name} is gone, and its tokens (LSN {done.lsn})",
        as_json=as_json,
    )


@user.command()
@click.argument("name")
@_role
@click.option("--id", "ident", help="What to call the token.  [default: made from its hash]")
@uri_option
@json_option
def token(name: str, role: UserRole, ident: str | None, uri: str, as_json: bool) -> None:
    """Make a bearer token that acts for the user NAME; it is shown this once and stored nowhere."""
    secret = secrets.token_urlsafe(TOKEN_BYTES)
    digest = hashlib.sha256(secret.encode()).digest()
    ident = ident or f"{name[:48]}-{digest.hex()[:12]}"
    _require_name(name)
    _require_name(ident)
    done = _change(uri, PutToken(id=ident, user=name, role=role, sha256=digest))
    show(
        {"id": ident, "user": name, "role": role, "token": secret, **_position(done)},
        f"token {ident} may {role} as {name} (LSN {done.lsn}); keep it, it is not shown again:\n{secret}",
        as_json=as_json,
    )


@user.command()
@click.argument("ident", metavar="ID")
@uri_option
@json_option
def revoke(ident: str, uri: str, as_json: bool) -> None:
    """Revoke the bearer token ID."""
    _require_name(ident)
    done = _change(uri, RemoveToken(ident))
    show({"id": ident, "revoked": True, **_position(done)}, f"token {ident} is revoked", as_json=as_json)


@click.command()
@click.option("--node", "addr", metavar="HOST:PORT", help="Only this node.")
@uri_option
@json_option
def status(addr: str | None, uri: str, as_json: bool) -> None:
    """Show how every node is: its role, its log, and how far its copy goes."""
    nodes = with_client(uri, partial(_all_status, addr=addr))
    if all("error" in node for node in nodes):
        reasons = "; ".join(f"{node['addr']}: {node['error']}" for node in nodes)
        raise ConnectFailed(f"no node answered: {reasons}", retry=True)
    show({"nodes": nodes}, "\n".join(map(_status_line, nodes)), as_json=as_json)


@click.command()
@uri_option
@json_option
def topology(uri: str, as_json: bool) -> None:
    """Show the cluster's shape as a node's handshake tells it: to strangers, and to this user."""
    addr, established = anyio.run(_handshake, uri)
    hello, full = _decoded(established.hello_topology), _decoded(established.topology)
    lines = [f"{addr} says in HelloAck: {hello or 'nothing'}"]
    lines.append(f"and in AuthOk, to {established.username}: {full or 'nothing more'}")
    for replica in full.replicas if full is not None else ():
        lag = "lag unknown" if replica.lag_ms is None else f"{replica.lag_ms} ms behind"
        health = "healthy" if replica.healthy else "not healthy"
        rebuilt = ", being rebuilt" if replica.rebootstrapping else ""
        text = f"  {replica.addr} ({replica.region}) {health}, {lag}, applied {replica.last_applied_lsn}"
        lines.append(text + rebuilt)
    document = {
        "asked": addr,
        "server": established.server,
        "user": established.username,
        "role": str(established.role),
        "hello": None if hello is None else msgspec.to_builtins(hello),
        "full": None if full is None else msgspec.to_builtins(full),
    }
    show(document, "\n".join(lines), as_json=as_json)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    if not password:
        raise RequestInvalid("the password is empty", hint="write it on the first line of standard input")
    return password


def _require_name(name: str) -> None:
    if not USER_NAME.match(name):
        raise RequestInvalid(f"{name[:80]!r} is no name", hint="1 to 64 of A-Z a-z 0-9 . _ -")


def _change(uri: str, change: AccountChange) -> AccountDone:
    async def call(client: Client) -> AccountDone:
        return await client.change_account(change)

    return with_client(uri, call)


def _position(done: AccountDone) -> dict[str, int]:
    return {"lsn": done.lsn, "term": done.term}


async def _all_status(client: Client, *, addr: str | None) -> list[dict[str, Any]]:
    """The status documents of `addr` or of all nodes, each with its address; an error where there is none."""
    if addr is not None:
        addrs = [addr]
    else:
        shape = await client.topology()
        known = (shape.primary.addr, *(replica.addr for replica in shape.replicas))
        addrs = [each for each in dict.fromkeys(known) if each] or list(client.config.seeds)
    found: dict[str, dict[str, Any]] = {}

    async def ask(each: str) -> None:
        try:
            found[each] = {"addr": each} | await client.status(each, timeout_s=STATUS_S)
        except RedwireError as error:
            found[each] = {"addr": each, "error": str(error)}

    async with anyio.create_task_group() as tasks:
        for each in addrs:
            tasks.start_soon(ask, each)
    return [found[each] for each in addrs]


def _status_line(node: dict[str, Any]) -> str:
    if "error" in node:
        return f"{node['addr']}  unreachable: {node['error']}"
    log = node["log"]
    text = (
        f"{node['addr']}  {node['node']} ({node['region']})  {node['role']}, term {node['term']}, "
        f"log to {log['end']}, durable {log['durable']}, watermark {log['watermark']}, "
        f"applied {node['applied']}"
    )
    return "\n".join((text, *map(_member_line, node.get("members", ()))))


def _member_line(member: dict[str, Any]) -> str:
    state = "healthy" if member["healthy"] else f"not healthy: {member['why']}"
    return (
        f"    {member['id']} ({member['region']}, {member['kind']})  durable {member['durable']}, "
        f"applied {member['applied']}, {_lag(member['lag'])}, {state}"
    )


def _lag(lag: dict[str, Any]) -> str:
    if lag["state"] != "behind":
        return str(lag["state"]).replace("_", " ")
    return "behind by " + ", ".join(f"{value} {name}" for name, value in lag.items() if name != "state")


async def _handshake(uri: str) -> tuple[str, Established]:
    """Authenticate with the first seed that answers; what it said."""
    config = connection_uri.parse(uri)
    door = dialler(config, CLIENT_NAME)
    failure: RedwireError | None = None
    for addr in Router(config.seeds, config.region, config.discovery, random.Random()).dial_order(0):
        try:
            dialled = await door.dial(addr)
        except RedwireError as error:
            failure = error
            continue
        dialled.channel.close()
        return addr, dialled.established
    assert failure is not None
    raise failure


def _decoded(data: bytes | None) -> Topology | None:
    return None if data is None else blob.decode(data)

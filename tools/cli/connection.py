"""What every verb that talks to a cluster shares: where it is, and how its call is run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import TypeVar

import anyio
import click

from redwire import uri as connection_uri
from redwire.client import Client, connect

F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")

CLIENT_NAME = "redwire-cli"
LOOK_MS = 5_000
"""Whoever looks wants to see now what there is: this long for reaching any node, and again for its answer."""


def uri_option(function: F) -> F:
    """Give a command `--uri`, which arrives as `uri`."""
    return click.option(
        "--uri",
        envvar="REDWIRE_URI",
        required=True,
        metavar="URI",
        help="The cluster: reds://user:password@host:5050/?ca=ca.pem  [env: REDWIRE_URI]",
    )(function)


def policy_option(function: F) -> F:
    """Give a command `--policy`."""
    return click.option(
        "--policy", metavar="POLICY", help="Commit policy, such as majority or regions(eu,us)."
    )(function)


def timeout_option(function: F) -> F:
    """Give a command `--timeout`, in seconds, which arrives as `timeout_s`."""
    return click.option(
        "--timeout", "timeout_s", type=click.FloatRange(min=0.001), metavar="S", help="Deadline in seconds."
    )(function)


def with_client(uri: str, call: Callable[[Client], Awaitable[T]]) -> T:
    """Connect, run `call` with the client, and disconnect."""
    return anyio.run(partial(_run, uri, call))


async def _run(uri: str, call: Callable[[Client], Awaitable[T]]) -> T:
    async with connect(uri, name=CLIENT_NAME) as client:
        return await call(client)


def onlooker(uri: str, addr: str | None) -> Client:
    """A client for looking, at any node that answers or at `addr` alone. Raises as `redwire.connect`."""
    config = connection_uri.parse(uri)
    config = replace(config, timeout_ms=min(config.timeout_ms, LOOK_MS))
    if addr is not None:
        config = replace(config, seeds=(addr,), discovery=False)
    return Client(config, name=CLIENT_NAME, chance=Random())

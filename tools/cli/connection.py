"""What every verb that talks to a cluster shares: where it is, and how its call is run."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Self, TypeVar

import anyio
import click

from redwire.client import Client
from redwire.errors import (
    ELSEWHERE_HINT,
    UNSETTLED_HINT,
    ChannelClosed,
    Code,
    ConnectFailed,
    DeadlineExceeded,
    NotPrimary,
    Refused,
    UnknownOutcome,
)
from redwire.pending import Pending
from redwire.reads import read_mode
from redwire.routing import InRegion, Primary, ReadMode
from redwire.spelling import guess
from redwire.uri import parse
from tools.cli.failure import URI_VARIABLE
from tools.cli.parsed import Seconds
from tools.cli.printer import say

F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")

CLIENT_NAME = "redwire-cli"
PATIENCE_S = 2.0
"""How long nothing is said of a wait: most are over by then."""
REPEAT_S = 10.0
"""Then it is said again why: often enough to see that it still tries, seldom enough to read."""
_SILENT_HINTS = (ELSEWHERE_HINT, UNSETTLED_HINT)
"""What the client says of a primary that says nothing."""
AGAIN_S = 0.1
"""Before a client without an id asks again for one."""
_LOG = logging.getLogger("redwire")
_ADDR = re.compile(r"\S+:[0-9]{1,5}")
LOOK_MS = 5_000
"""Whoever looks wants to see now what there is: this long for reaching any node, and again for its answer."""


def _uri_value(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """Callback of `--uri`: without it, and without `URI_VARIABLE`, no cluster is named."""
    if not value and not ctx.resilient_parsing:
        raise click.UsageError(
            f"which cluster? Pass --uri URI, or export {URI_VARIABLE}; "
            'for one on this machine: eval "$(redwire dev uri)"',
            ctx,
        )
    return value or ""


def uri_option(function: F) -> F:
    """Give a command `--uri`, which arrives as `uri`."""
    return click.option(
        "--uri",
        envvar=URI_VARIABLE,
        callback=_uri_value,
        metavar="URI",
        help="The cluster: reds://user:password@host:5050/?ca=ca.pem  [env: REDWIRE_URI]",
    )(function)


def policy_option(function: F) -> F:
    """Give a command `--policy`."""
    return click.option(
        "--policy", metavar="POLICY", help="Commit policy, such as majority or regions(eu,us)."
    )(function)


def timeout_option(of: str = "") -> Callable[[F], F]:
    """Give a command `--timeout`, in seconds, which arrives as `timeout_s`; `of` what, if not of all."""
    text = f"Deadline in seconds{of and ' '}{of}."
    return click.option("--timeout", "timeout_s", type=Seconds(min=0.001), metavar="S", help=text)


def with_client(
    uri: str, call: Callable[[Client], Awaitable[T]], timeout_s: float | None = None, *, long: bool = False
) -> T:
    """Connect, run `call` with the client, and disconnect.

    `timeout_s` is how long connecting may take, and the call, None for the URI's. Where either waits, that is
    said on standard error, unless the command has `--json`. A `long` call takes its time: only what is wrong
    is said then.
    """
    config = parse(uri)
    if timeout_s is not None:
        config = replace(config, timeout_ms=max(1, int(timeout_s * 1000)))
    client = Client(config, name=CLIENT_NAME, chance=random.Random())
    return anyio.run(_run, client, call, _quiet(), long)


async def _run(client: Client, call: Callable[[Client], Awaitable[T]], quiet: bool, long: bool) -> T:
    with _Notices(client, quiet=quiet) as notices:
        async with _opened(client):
            notices.begin(long=long)
            try:
                return await call(client)
            except (DeadlineExceeded, NotPrimary, UnknownOutcome) as error:
                if error.hint in ("", *_SILENT_HINTS):
                    error.hint = _leaderless_hint(client, error)
                raise


async def begun(client: Client, submit: Callable[[float], Pending]) -> Pending:
    """What `submit` begins of a write that has so many seconds, once the client has an id to write under:
    just after a start no node can issue one. Raises `DeadlineExceeded` where none can until the deadline.
    """
    limit_s = client.config.timeout_ms / 1000
    waited_s = 0.0
    while True:
        try:
            return submit(limit_s - waited_s)
        except Refused as error:
            if error.code is not Code.NOT_READY:
                raise
            waited_s += AGAIN_S
            if waited_s >= limit_s:
                why = "; ".join(filter(None, (error.without_code, client.routing.trouble)))
                text = f"not sent within {limit_s:g} s: {why}"
                raise DeadlineExceeded(text, phase="select") from error
        await anyio.sleep(AGAIN_S)


@asynccontextmanager
async def _opened(client: Client) -> AsyncIterator[Client]:
    """The client, open inside. What ends because nobody was reached, or answered, says in its facts who could
    have been.
    """
    with _addresses(client):
        async with client:
            with _addresses(client):
                yield client


@contextmanager
def _addresses(client: Client) -> Iterator[None]:
    try:
        yield
    except (ConnectFailed, DeadlineExceeded, UnknownOutcome) as error:
        with suppress(ChannelClosed):  # the client is closed again: it was told inside
            error.facts["addresses"] = [node.addr for node in client.routing.nodes]
        raise


def _leaderless_hint(client: Client, error: DeadlineExceeded | NotPrimary | UnknownOutcome) -> str:
    """What to type when nodes answer and none of them leads, or is of the region that was asked for, or
    whoever leads is silent; "" when that is not what is wrong.
    """
    silent = error.hint in _SILENT_HINTS
    sought = silent or isinstance(error, NotPrimary) or error.phase in ("select", "connect")
    well = [node.addr for node in client.routing.nodes if node.rtt_us is not None and not node.failures]
    if not sought or not (well or silent):
        return ""
    mode = _read_mode(client)
    missing = "no node of that region was reached" if isinstance(mode, InRegion) else "no primary was found"
    hint = "the primary may hang" if silent else missing
    hint += f", though {', '.join(well)} can be reached" if well else ""
    hint += ": see redwire status, redwire doctor"
    if isinstance(mode, Primary | InRegion):
        hint += "; --read any reads from whoever answers"
    return hint


def _read_mode(client: Client) -> ReadMode | None:
    """Where the command that runs reads, None for one that does not."""
    context = click.get_current_context(silent=True)
    if context is None or "read" not in context.params:
        return None
    asked = context.params["read"]
    return client.config.read if asked is None else read_mode(asked)


class _Saying(logging.Handler):
    """Says what is logged; where that cannot leave, whoever logged it goes on."""

    def emit(self, record: logging.LogRecord) -> None:
        """As `say`."""
        with suppress(OSError):
            say(f"redwire: {record.getMessage()}", err=True)


class _Notices:
    """Says what a client waits for, and for how long it still may, from `PATIENCE_S` on and now and then; and
    what it warns of, at once.

    It speaks of connecting until `begin`, and of the call from then on.
    """

    def __init__(self, client: Client, *, quiet: bool) -> None:
        self._client = client
        self._quiet = quiet
        self._long = self._said = False
        self._end_s = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._warnings = logging.NullHandler() if quiet else _Saying()

    def __enter__(self) -> Self:
        _LOG.addHandler(self._warnings)
        self.begin(long=False)
        return self

    def __exit__(self, *error: object) -> None:
        _LOG.removeHandler(self._warnings)
        self.end()

    def begin(self, *, long: bool) -> None:
        """Begin to count anew."""
        self._long, self._said = long, False
        self._end_s = time.monotonic() + self._client.config.timeout_ms / 1000
        if not self._quiet:
            self._wait(PATIENCE_S)

    def end(self) -> None:
        """Say nothing more."""
        if self._next is not None:
            self._next.cancel()

    def _wait(self, seconds: float) -> None:
        self.end()
        self._next = asyncio.get_running_loop().call_later(seconds, self._speak)

    def _speak(self) -> None:
        trouble = self._client.routing.trouble
        left_s = self._end_s - time.monotonic()
        if self._long and trouble:
            say(f"redwire: waiting: {trouble}", err=True)
        elif not self._long and left_s > 0:
            if trouble or not self._said:
                why = trouble or "no answer yet"
                say(f"redwire: waiting, {left_s:.0f} s more at most: {why}", err=True)
            self._said = True
        self._wait(REPEAT_S if trouble else PATIENCE_S)


def node_option(text: str) -> Callable[[F], F]:
    """Give a command `--node`, which arrives as `node`: None, or what `addr_of` takes."""
    return click.option("--node", metavar="NODE|HOST:PORT", help=text)


def is_addr(node: str) -> bool:
    """Whether a node was named by its address."""
    return _ADDR.fullmatch(node) is not None


async def addr_of(client: Client, node: str | None) -> str | None:
    """Where the member called `node` is reached, as any node knows it; an address, and None, stay
    as they are.

    Raises `click.UsageError` when there is no such member.
    """
    if node is None or is_addr(node):
        return node
    known = {each.id: each.addr for each in (await client.status()).nodes}
    if known.get(node):
        return known[node]
    hint = guess(node, known, f"nodes are {', '.join(known)}")
    example = next(filter(None, known.values()), "eu-1.example.net:5050")
    raise click.UsageError(f"{node!r} is no node, and no address such as {example}; {hint}")


@asynccontextmanager
async def watcher(uri: str, addr: str | None) -> AsyncIterator[Client]:
    """As `onlooker`; what it waits for while it connects is said as in `with_client`."""
    client = _onlooker(uri, addr)
    with _Notices(client, quiet=_quiet()) as notices:
        async with _opened(client):
            notices.end()
            yield client


def onlooker(uri: str, addr: str | None) -> AbstractAsyncContextManager[Client]:
    """A client for looking, at any node that answers or at `addr` alone. Raises as `redwire.connect`."""
    return _opened(_onlooker(uri, addr))


def _onlooker(uri: str, addr: str | None) -> Client:
    config = parse(uri)
    config = replace(config, timeout_ms=min(config.timeout_ms, LOOK_MS))
    if addr is not None:
        config = replace(config, seeds=(addr,), discovery=False)
    return Client(config, name=CLIENT_NAME, chance=random.Random())


def _quiet() -> bool:
    """Whether the command at work prints JSON, and nothing for people."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("as_json"))

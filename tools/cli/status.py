"""`redwire status`, `lag` and `events`: views of the one status document that every node has."""

from __future__ import annotations

from collections.abc import Iterable

import anyio
import click
import msgspec

from redwire.errors import RedwireError
from redwire.node_role import NodeRole
from redwire.printable import printable
from redwire.status import EVENTS_MAX, Event, NodeStatus, Status
from tools import figures
from tools.cli import words
from tools.cli.connection import addr_of, is_addr, node_option, uri_option, watcher
from tools.cli.failure import failure
from tools.cli.output import json_option, show_parts, to_json_line
from tools.cli.printer import say
from tools.grid import Grid, Part, Parts, Words

FOLLOW_S = 1.0
"""The nodes tell each other once a second."""
SHOWN_MAX = 10 * EVENTS_MAX
"""What was shown already, whichever node tells it again: each node has its own hundred."""

_node_option = node_option("As this node knows it.")


@click.command()
@_node_option
@uri_option
@json_option
def status(node: str | None, uri: str, as_json: bool) -> None:
    """Show how the cluster is: who leads, whether writes are accepted, every region and every node.

    Any node that answers is asked; the first line says whose view it is.
    """
    found = anyio.run(_look, uri, node)
    parts: list[Part] = [Words("\n".join(words.head_lines(found)))]
    if found.regions:
        heads = ("region", "voters", "nodes", "durable", "holds watermark", "completes")
        parts.append(Grid("", heads, _regions(found)))
    columns = (
        "node",
        "region",
        "role",
        "health",
        "durable",
        "applied",
        "lag",
        "log kept",
        "rtt",
        "disk free",
    )
    show_parts(found.plain(), [*parts, Grid("", columns, _nodes(found))], as_json=as_json)


@click.command()
@_node_option
@uri_option
@json_option
def lag(node: str | None, uri: str, as_json: bool) -> None:
    """Show how far every node is behind the primary, and when it will have caught up."""
    found = anyio.run(_look, uri, node)
    plain = found.plain()
    nodes = [{key: node[key] for key in ("id", "region", "role", "lag")} for node in plain["nodes"]]
    shown = {key: plain[key] for key in ("schema", "vantage", "primary", "head", "watermark")}
    lines = [f"primary  {words.primary(found.primary, found.vantage.at_ms)}"]
    if found.vantage.hides_others:
        lines.append(words.NOT_SHOWN)
    rows = [
        (
            node.id,
            words.region(node),
            node.lag.state.replace("_", " "),
            figures.count(node.lag.records),
            figures.size(node.lag.bytes),
            figures.duration(node.lag.ms),
            words.there_in(node.lag),
            "" if node.lag.state != "unknown" else words.since(node.lag.since_at_ms, found.vantage.at_ms),
        )
        for node in found.nodes
        if node.role != NodeRole.PRIMARY
    ]
    heads = ("node", "region", "lag", "records", "bytes", "age", "there in", "last heard")
    parts: Parts = [Words("\n".join(lines)), Grid("", heads, rows)]
    show_parts({**shown, "nodes": nodes}, parts, as_json=as_json)


@click.command()
@click.option("--follow", is_flag=True, help="Go on: show what happens from now on as well.")
@_node_option
@uri_option
@json_option
def events(follow: bool, node: str | None, uri: str, as_json: bool) -> None:
    """Show what happened of late, on every node that can be heard; with --json one event a line."""
    anyio.run(show_events, uri, node, follow, as_json)


async def _asked(uri: str, node: str | None) -> str | None:
    """The address of the node that alone is to be asked."""
    if node is None or is_addr(node):
        return node
    async with watcher(uri, None) as client:
        return await addr_of(client, node)


async def _look(uri: str, node: str | None) -> Status:
    addr = await _asked(uri, node)
    async with watcher(uri, addr) as client:
        return await client.status(addr)


async def show_events(uri: str, node: str | None, follow: bool, as_json: bool) -> None:
    """Print events, each once. `follow` has no end: it outlasts a node that is silent, restarts or is away,
    and says so once as long as the reason stays the same.
    """
    addr = await _asked(uri, node)
    async with watcher(uri, addr) as client:
        shown, silence = Shown(), ""
        while True:
            try:
                _show_new(await client.status(addr), shown, as_json)
                silence = ""
            except RedwireError as error:
                if not (follow and error.retry):
                    raise
                if str(error) != silence:
                    silence, told = str(error), failure(error)
                    say(told.to_json(ended=False) if as_json else f"redwire: {silence}", err=True)
            if not follow:
                return
            await anyio.sleep(FOLLOW_S)


class Shown:
    """The events that were shown; of more than `SHOWN_MAX` those that were told last."""

    def __init__(self) -> None:
        self._events: dict[Event, None] = {}

    def __len__(self) -> int:
        return len(self._events)

    def new(self, events: Iterable[Event]) -> list[Event]:
        """Those of `events` that were not shown yet; they are now."""
        found = []
        for event in events:
            if event in self._events:
                del self._events[event]
            else:
                found.append(event)
            self._events[event] = None
        for event in list(self._events)[:-SHOWN_MAX]:
            del self._events[event]
        return found


def _show_new(found: Status, shown: Shown, as_json: bool) -> None:
    """Print the events that are not in `shown`."""
    for event in shown.new(found.events):
        line = _line(event, found.vantage.at_ms)
        say(to_json_line(msgspec.to_builtins(event)) if as_json else printable(line))


def _line(event: Event, now_ms: int) -> str:
    """One event; an older one with its date."""
    when = figures.moment(event.at_ms, now_ms)
    return f"{when:<12}  {event.level:<7}  {event.node}  {event.kind}: {event.text}"


def _regions(found: Status) -> list[tuple[str, ...]]:
    holds = {None: figures.UNKNOWN, True: "yes", False: "no"}
    return [
        (
            region.name,
            figures.count(region.voters),
            " ".join(region.nodes),
            figures.count(region.durable),
            holds[region.holds_watermark],
            figures.share(region.completes),
        )
        for region in found.regions
    ]


def _nodes(found: Status) -> list[tuple[str, ...]]:
    return [
        (
            node.id,
            words.region(node),
            node.role,
            words.health(node),
            figures.count(node.durable),
            figures.count(node.applied),
            *_behind(node, found.vantage.at_ms),
            figures.size(node.disk.free_bytes),
        )
        for node in found.nodes
    ]


def _behind(node: NodeStatus, now_ms: int) -> tuple[str, str, str]:
    """Its lag, its slot and its round trip: of a follower; a primary has none of them."""
    if node.role == NodeRole.PRIMARY:
        return "", "", ""
    return words.lag(node.lag, now_ms), words.slot(node.slot), figures.micros(node.rtt_us)

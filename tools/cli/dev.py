"""`redwire dev`: regions on this machine, started, looked at, cut apart, and ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TypeVar

import anyio
import click

from redwire.handshake import DNS_LABEL
from tools.cli.dev_roles import asked as asked_roles
from tools.cli.dev_view import Pings, Steps, follow, last_lines, status_document, status_parts
from tools.cli.group import Group
from tools.cli.output import json_option, show, show_parts
from tools.cli.parsed import parsed
from tools.dev.bring_up import bring_up
from tools.dev.dev_cluster import DevCluster, by_hand
from tools.dev.ping import measure, way
from tools.dev.place import folder_of, typed
from tools.dev.plan import DEFAULT_NAME, DEFAULT_RTT_MS, Wanted, meant, parse_region, parse_rtt
from tools.errors import ClusterMissing, Interrupted, PlanInvalid
from tools.grid import Words
from tools.rtt import parse_ms

PINGS = 200
"""Over 80 ms they take half a minute, both ways together; a median needs no more."""
LOG_LINES = 20
"""A screen has room for them and for the question."""

F = TypeVar("F", bound=Callable[..., object])


def _name(text: str) -> str:
    if not DNS_LABEL.match(text):
        raise PlanInvalid(f"{text!r} is no cluster name", hint="use a-z, 0-9 and - inside, at most 63")
    return text


def place_options(function: F) -> F:
    """Give a command `--name` and `--dir`, which arrive as `name` and `folder`."""
    for option in (
        click.option(
            "--dir",
            "folder",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of the cluster.  [default: one of its name in the user's state folder]",
        ),
        click.option(
            "--name",
            type=parsed(_name),
            metavar="NAME",
            help=f"Which cluster, where there are several.  [default: {DEFAULT_NAME}]",
        ),
    ):
        function = option(function)
    return function


def on_cluster(function: Callable[..., object]) -> Callable[..., object]:
    """Give a command `--name`, `--dir` and `--json`; it gets the cluster instead of the first two."""

    @wraps(function)
    def call(*arguments: object, name: str | None, folder: Path | None, **options: object) -> object:
        return function(_open(name, folder), *arguments, **options)

    return place_options(json_option(call))


@click.group("dev", cls=Group)
def command() -> None:
    """Regions on this machine: real nodes, certificates, and links between them that take their time.

    The processes live on until `redwire dev down`. Everything is in one folder.
    """


@command.command()
@click.option(
    "--region",
    "regions",
    type=parsed(parse_region),
    metavar="REGION:NODES",
    multiple=True,
    help="A region and its number of nodes, such as eu:2; repeatable. The first one's first node leads.  "
    "[default: eu:2, us:2, ap:1]",
)
@click.option(
    "--rtt",
    "rtts",
    type=parsed(parse_rtt),
    metavar="PAIR=TIME",
    multiple=True,
    help=f"Round trip of two regions, such as eu-us=80ms; repeatable. Other pairs: {DEFAULT_RTT_MS:g}ms.",
)
@click.option(
    "--jitter",
    "jitter_ms",
    type=parsed(parse_ms),
    metavar="TIME",
    help="A round trip takes up to that much more.",
)
@click.option("--policy", help="Commit policy of writes that name none.  [default: majority]")
@click.option(
    "--floor", help="Commit policy that every write has to meet.  [default, and 'none': the policy]"
)
@place_options
@json_option
def up(
    regions: tuple[tuple[str, int], ...],
    rtts: tuple[tuple[str, float], ...],
    jitter_ms: float | None,
    policy: str | None,
    floor: str | None,
    name: str | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Start a cluster, or start one again with its data.

    What was asked for the first time needs no option later; round trips and jitter may change each time.
    """
    asked = {"policy": policy, "floor": floor}
    settings: dict[str, str | None] = {key: value for key, value in asked.items() if value is not None}
    if floor == "none":
        settings["floor"] = None
    wanted, where = Wanted(name, regions, rtts, jitter_ms, settings), folder or folder_of(name)
    try:
        with Steps(quiet=as_json) as steps:
            cluster = bring_up(where, wanted, steps.step)
    except KeyboardInterrupt as interrupt:
        raise _interrupted(interrupt, where) from None
    status = anyio.run(asked_roles, cluster.status(), cluster.uri)
    uris = {"admin": cluster.admin_uri(), "app": cluster.app_uri()}
    uses = (
        f"as the administrator:    export REDWIRE_URI='{uris['admin']}'\n"
        f"as an application:       export REDWIRE_URI='{uris['app']}'\n"
        f"as one in a region:      {typed(cluster.folder, 'uri', '--in', cluster.plan.regions[-1])}"
    )
    document = status_document(status) | {"uris": uris}
    show_parts(document, [*status_parts(status), Words(uses)], as_json=as_json)


@command.command()
@on_cluster
def status(cluster: DevCluster, as_json: bool) -> None:
    """Show the nodes, who leads, their processes, and how far the regions lie apart now.

    The role is what a node says; of one that does not answer what its file says, and that is said.
    """
    found = anyio.run(asked_roles, cluster.status(), cluster.uri)
    show_parts(status_document(found), status_parts(found), as_json=as_json)


@command.command()
@click.option("--purge", is_flag=True, help="Remove data, certificates and logs as well.")
@on_cluster
def down(cluster: DevCluster, purge: bool, as_json: bool) -> None:
    """End everything that was started, and nothing else."""
    ended = cluster.down(purge=purge)
    text = f"ended {', '.join(ended)}" if ended else "nothing ran"
    left = {} if purge else {node: process.pid for node, process in by_hand(cluster, {}).items()}
    text += "".join(f"; {node} (process {pid}) was started by hand and runs on" for node, pid in left.items())
    text += f"; removed its data in {cluster.folder}" if purge else f"; its data stays in {cluster.folder}"
    document = {"name": cluster.plan.name, "dir": str(cluster.folder), "ended": ended, "purged": purge}
    document["left_running"] = left
    show(document, text, as_json=as_json)


@command.command()
@click.argument("node")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on as the node says more.")
@click.option(
    "-n", "lines", type=click.IntRange(min=0), default=LOG_LINES, show_default=True, help="How many."
)
@on_cluster
def logs(cluster: DevCluster, node: str, following: bool, lines: int, as_json: bool) -> None:
    """Show the last lines that NODE said. With -f until Ctrl-C, which ends it with 130 as everything else."""
    path = cluster.log_path(cluster.node(node))
    if following and as_json:
        raise click.UsageError("--follow has no end, and --json prints one document")
    said = last_lines(path, lines)
    show({"node": node, "file": str(path), "lines": said.lines}, "\n".join(said.lines), as_json=as_json)
    if following:
        follow(path, said.end)


@command.command()
@click.option("--admin", is_flag=True, help="As the administrator instead of an application's user.")
@click.option("--in", "within", default="", metavar="REGION", help="As far from the nodes as REGION is.")
@on_cluster
def uri(cluster: DevCluster, admin: bool, within: str, as_json: bool) -> None:
    """Print the URI of the cluster, to be used as in: eval "$(redwire dev uri)"."""
    found = cluster.admin_uri(within) if admin else cluster.app_uri(within)
    show({"uri": found}, f"export REDWIRE_URI='{found}'", as_json=as_json)


@command.command()
@click.argument("pair")
@click.option("--one-way", is_flag=True, help="Only what the first region sends to the second.")
@on_cluster
def cut(cluster: DevCluster, pair: str, one_way: bool, as_json: bool) -> None:
    """Let nothing pass between two regions, such as eu-us, until they are healed."""
    cluster.distances.cut(pair, one_way=one_way)
    _show_distances(cluster, as_json)


@command.command()
@click.argument("pair")
@click.argument("rtt", type=parsed(parse_ms))
@on_cluster
def slow(cluster: DevCluster, pair: str, rtt: float, as_json: bool) -> None:
    """Give two regions another round trip, such as 400ms, until they are healed."""
    cluster.distances.slow(pair, rtt)
    _show_distances(cluster, as_json)


@command.command()
@click.argument("pair", required=False)
@on_cluster
def heal(cluster: DevCluster, pair: str | None, as_json: bool) -> None:
    """Undo every cut and slow, or those of one PAIR."""
    cluster.distances.heal(pair)
    _show_distances(cluster, as_json)


@command.command()
@click.argument("pair")
@click.option("--count", type=click.IntRange(min=1), default=PINGS, show_default=True, help="How many pings.")
@on_cluster
def ping(cluster: DevCluster, pair: str, count: int, as_json: bool) -> None:
    """Measure what the links between two regions add to a round trip.

    Pings go from the first region to a node of the second, through the links and without them, in turns.
    """
    found_way = way(cluster, pair)
    with Pings(found_way, count, quiet=as_json) as pings:
        found = anyio.run(partial(measure, cluster, found_way, count, pings.at))
    show(
        {
            "here": found.here,
            "there": found.there,
            "node": found.node,
            "count": count,
            "through_ms": round(found.through_ms, 3),
            "direct_ms": round(found.direct_ms, 3),
            "added_ms": round(found.added_ms, 3),
        },
        f"{found.here} to {found.node}: {found.added_ms:.2f} ms added, {found.through_ms:.2f} ms through the "
        f"links, {found.direct_ms:.2f} ms without; medians of {count}",
        as_json=as_json,
    )


def _interrupted(interrupt: KeyboardInterrupt, folder: Path) -> Interrupted:
    """What ends `up` after a signal, which may have come when all was up: what runs, the system says."""
    found = DevCluster.open(folder).processes() if DevCluster.is_one(folder) else {}
    runs = f"still running: {', '.join(found)}" if found else "nothing that was started runs any more"
    error = Interrupted(f"interrupted; {runs}", number=interrupt.args[0] if interrupt.args else signal.SIGINT)
    error.hint = f"end it: {typed(folder, 'down')}" if found else ""
    return error


def _on_node(verb: str, done: str, call: Callable[[DevCluster, str], int], text: str) -> None:
    """A verb that does something to one node."""

    @command.command(verb, help=text)
    @click.argument("node")
    @on_cluster
    def act(cluster: DevCluster, node: str, as_json: bool) -> None:
        pid = call(cluster, node)
        document = {"node": node, "done": verb, "pid": pid}
        show(document, f"{node} (process {pid}) {done}", as_json=as_json)


_on_node("kill", "was killed", DevCluster.kill, "End NODE at once, as a power failure would.")
_on_node("start", "listens", DevCluster.start, "Start NODE again, with its data.")
_on_node("pause", "is paused", DevCluster.pause, "Make NODE hang: it is there, and silent.")
_on_node("resume", "goes on", DevCluster.resume, "Let a paused NODE go on.")


def _show_distances(cluster: DevCluster, as_json: bool) -> None:
    found = cluster.status()
    lines = [f"{distance.here}-{distance.there}: {distance}" for distance in found.distances]
    show({"distances": status_document(found)["distances"]}, "\n".join(lines), as_json=as_json)


def _open(name: str | None, folder: Path | None) -> DevCluster:
    """The cluster that was named. Raises `ClusterMissing`, with the one that was meant."""
    where = folder or folder_of(name)
    if folder is None and not DevCluster.is_one(where):
        others: Sequence[str] = ()
        if where.parent.is_dir():
            others = sorted(path.name for path in where.parent.iterdir() if DevCluster.is_one(path))
        name = name or DEFAULT_NAME
        hint = meant(name, others, "others") if others else f"make one: {typed(where, 'up')}"
        verb = click.get_current_context().info_name
        hint += f"; one that was made with --dir is named by it: redwire dev {verb} --dir FOLDER"
        raise ClusterMissing(f"there is no cluster called {name}", hint=hint)
    return DevCluster.open(where)

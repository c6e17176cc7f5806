"""What `redwire dev` shows: the steps of a start, what runs, how far regions lie apart, the end of a log."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.console import Console

from tools.cli.printer import say
from tools.dev.dev_cluster import DevNode, DevStatus
from tools.dev.ping import Way
from tools.dev.place import typed
from tools.grid import Grid, Part, Words

FOLLOW_S = 0.2
"""What a person takes for at once."""
TAIL_BYTES = 1 << 20
"""The last lines of a log are looked for in so much of it."""


class Steps:
    """The steps of a start on standard error: as they are done, and on a terminal that something goes on."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._status = self._console.status("starting")
        self._began_s = time.monotonic()

    def __enter__(self) -> Self:
        self._status.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.__exit__(kind, error, trace)

    def step(self, done: str) -> None:
        """Something is done."""
        seconds = time.monotonic() - self._began_s
        self._console.print(f"{seconds:5.1f} s  {done}", markup=False, soft_wrap=True)


class Pings:
    """What is measured and for how long about, on standard error; on a terminal also how far it has come."""

    def __init__(self, way: Way, count: int, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._status = self._console.status("")
        self._way = way
        self._count = count

    def __enter__(self) -> Self:
        seconds = max(1, round(self._count * self._way.rtt_ms / 1000))
        text = (
            f"pinging {self._way.node} from {self._way.here}, {self._count} times through the links "
            f"and {self._count} times without them; about {seconds} s"
        )
        self._console.print(text, markup=False, soft_wrap=True)
        self.at(0)
        self._status.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.__exit__(kind, error, trace)

    def at(self, done: int) -> None:
        """So many of them are done."""
        self._status.update(f"{done} of {self._count}")


def status_document(status: DevStatus) -> dict[str, Any]:
    """Everything for programs."""
    document: dict[str, Any] = msgspec.to_builtins(status, enc_hook=str)
    return {
        "name": status.name,
        "dir": str(status.folder),
        "nodes": document["nodes"],
        "links": {"pid": status.links_pid, "why": status.links_why},
        "distances": document["distances"],
    }


def status_parts(status: DevStatus) -> list[Part]:
    """Everything for people: the nodes, and the round trips between their regions."""
    nodes = [
        (node.id, node.region, _role(node), node.addr, str(node.pid or "-"), _state(node))
        for node in status.nodes
    ]
    columns = ("node", "region", "role", "address", "pid", "state")
    parts: list[Part] = [Grid(f"{status.name}, in {status.folder}", columns, nodes)]
    if status.links_why:
        again = f"{typed(status.folder, 'down')}; {typed(status.folder, 'up')}"
        parts.append(Words(f"The links are process {status.links_pid}; {status.links_why}: {again}"))
    elif status.links_pid is not None:
        parts += [_matrix(status), Words(f"The links are process {status.links_pid}.")]
    elif len({node.region for node in status.nodes}) > 1:
        parts.append(Words("The links between the regions are down."))
    return parts


def _role(node: DevNode) -> str:
    return node.role if node.told else f"{node.role}, by its file"


def _state(node: DevNode) -> str:
    return f"{node.state}, by hand" if node.by_hand else str(node.state)


def _matrix(status: DevStatus) -> Grid:
    regions = list(dict.fromkeys(node.region for node in status.nodes))
    cells: dict[tuple[str, str], str] = {}
    for distance in status.distances:
        cells[distance.here, distance.there] = cells[distance.there, distance.here] = str(distance)
    lines = [(here, *(cells.get((here, there), "-") for there in regions)) for here in regions]
    return Grid("Round trips", ("region", *regions), lines)


class Said(msgspec.Struct, frozen=True):
    """The last lines of a log, which ended at the byte `end`."""

    lines: list[str]
    end: int


def last_lines(path: Path, count: int) -> Said:
    """The last `count` lines, without line ends; none of a log that was not begun."""
    if not path.exists():
        return Said([], 0)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        data = file.read()
    lines = data.decode(errors="replace").splitlines()
    return Said(lines[len(lines) - count :] if count < len(lines) else lines, size)


def follow(path: Path, end: int) -> None:
    """Print what comes to a log behind the byte `end`, until interrupted."""
    while not path.exists():
        time.sleep(FOLLOW_S)
    with path.open("rb") as file:
        file.seek(end)
        while True:
            data = file.read()
            if not data:
                time.sleep(FOLLOW_S)
                continue
            say(data.decode(errors="replace"), nl=False)
            sys.stdout.flush()

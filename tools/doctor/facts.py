"""What the doctor knows before it judges, as plain values: gathered at one moment, or made up by a test."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import msgspec

from cluster.config import NodeConfig
from cluster.inspection import Inspection
from cluster.settings import Settings
from redwire.errors import RedwireError
from redwire.status import NodeStatus, Status
from tools.dev.place import typed


class Lack(Enum):
    """Why a node that was asked gave no status."""

    SILENCE = "nothing came from it"
    PAPER = "as SILENCE: what is there shows a certificate that is not accepted here"
    REFUSAL = "it is there, and did not let us in"
    DATE = "as REFUSAL, by TLS: by its clock our certificate has ended, or not begun"
    WAITING = "it is there, and has not joined its cluster yet"
    FOREIGN = "it answers as a node of another cluster than the others: nothing that it says counts"


class Asked(msgspec.Struct, frozen=True):
    """One node, asked from here. `member` is "" for a host that did not say who it is.

    `lack` is why there is no `status`, and says nothing where there is one. `missing` are the members that a
    node which waits does not hear, as far as it says.

    `ahead_ms` is its clock minus ours, right to within `unsure_ms`: half the round trip.
    """

    member: str
    addr: str
    status: Status | None = None
    ahead_ms: float = 0.0
    unsure_ms: float = 0.0
    error: str = ""
    hint: str = ""
    lack: Lack = Lack.SILENCE
    missing: tuple[str, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether nothing came from it that is known to be its own."""
        return self.status is None and self.lack in (Lack.SILENCE, Lack.PAPER)

    @property
    def waits(self) -> bool:
        """Whether it has not joined its cluster yet."""
        return self.status is None and self.lack is Lack.WAITING

    @property
    def name(self) -> str:
        """How people know it."""
        return self.member or self.addr


class Paper(msgspec.Struct, frozen=True):
    """A certificate in a file of this machine; `what` says whose, `ends_at_ms` is ms since 1970."""

    what: str
    file: str
    ends_at_ms: int
    mend: str


class Door(msgspec.Struct, frozen=True):
    """A member's address, as the node of a file dials it from this machine; `error` is "" when it opened."""

    member: str
    addr: str
    error: str


class FileFacts(msgspec.Struct, frozen=True):
    """A node.yaml of this machine. Without `config` it cannot be read, and `error` says why."""

    path: str
    config: NodeConfig | None = None
    inspection: Inspection | None = None
    error: RedwireError | None = None
    doors: tuple[Door, ...] = ()


class Facts(msgspec.Struct, frozen=True):
    """Everything. `now_ms` is the clock here, since 1970; `asked` is empty where no URI was given or none of
    its files could be used, then `trust` says why. `twins` answer by the name of one of `asked`, and are
    another process. `hosts` are those of the URI. `settings` are those in force, or why nobody told them;
    None where no file is to be held against them. `dev` is the folder of the cluster of `redwire dev` that
    the URI names, None for every other one.
    """

    now_ms: int
    version: str
    hosts: tuple[str, ...] = ()
    asked: tuple[Asked, ...] = ()
    twins: tuple[Asked, ...] = ()
    papers: tuple[Paper, ...] = ()
    trust: RedwireError | None = None
    file: FileFacts | None = None
    settings: Settings | RedwireError | None = None
    dev: Path | None = None

    @property
    def views(self) -> list[Status]:
        """The documents of all nodes that answered, the best first: the primary's own, then those that see
        one, then those of nodes that see none.
        """
        found = [each.status for each in self.asked if each.status is not None]
        return sorted(found, key=_rank)

    @property
    def view(self) -> Status | None:
        """The best of them."""
        return next(iter(self.views), None)

    def node(self, name: str) -> NodeStatus | None:
        """One member as it says itself, else as another node heard it at first hand."""
        own = (view.own for view in self.views if view.vantage.node == name)
        rows = (view.node(name) for view in self.views)
        heard = (row for row in rows if row is not None and row.rtts_us)
        return next(own, None) or next(heard, None)

    def revival(self, name: str) -> str:
        """What brings a node of `redwire dev` back; "" where no such cluster is looked at."""
        if self.dev is None or not name:
            return ""
        start, resume, logs = (typed(self.dev, verb, name) for verb in ("start", "resume", "logs"))
        return f"{start} (if it is paused: {resume}); what it said: {logs}"


def _rank(view: Status) -> tuple[bool, bool]:
    return view.primary.state != "leading", view.primary.node != view.vantage.node

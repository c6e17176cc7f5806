"""How far the regions of a running cluster lie apart, and how that is changed while it runs."""

from __future__ import annotations

import msgspec

from tools.dev.cluster_folder import LINKS, ClusterFolder
from tools.dev.link import Direction, LinkStatus
from tools.dev.place import typed
from tools.dev.plan import parse_pair
from tools.dev.process import find
from tools.errors import ClusterMissing, LinkInvalid


class Distance(msgspec.Struct, frozen=True):
    """Two regions: the round trip that their links add now, and from which of them nothing passes."""

    here: str
    there: str
    rtt_ms: float
    jitter_ms: float
    cut_from: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.rtt_ms:g} ms" + (f" + {self.jitter_ms:g}" if self.jitter_ms else "")
        match self.cut_from:
            case ():
                return text
            case (sender,):
                other = self.there if sender == self.here else self.here
                return f"{text}, cut {sender} to {other}"
            case _:
                return f"{text}, cut"


class Distances:
    """The links between a cluster's regions. All methods raise `LinkInvalid` when these do not answer, and
    as `parse_pair`; those that change something raise `ClusterMissing` when no links run. A pair is written
    `eu-us`; the order counts for `cut` only.
    """

    def __init__(self, cluster: ClusterFolder) -> None:
        self._cluster = cluster

    def now(self) -> tuple[Distance, ...]:
        """Every pair of regions, in the order of the regions."""
        links = msgspec.json.decode(self._cluster.command("status"), type=list[LinkStatus])
        first = {(link.here, link.there): link for link in reversed(links)}
        return tuple(_distance(first[pair]) for pair in self._cluster.plan.rtt_ms)

    def cut(self, pair: str, *, one_way: bool) -> None:
        """Let nothing pass between two regions, or `one_way` nothing that the first one sends."""
        here, there = self._pair(pair)
        self._tell("cut", _name(here, there), *(("from", here) if one_way else ()))

    def slow(self, pair: str, rtt_ms: float) -> None:
        """Give two regions another round trip."""
        self._tell("slow", _name(*self._pair(pair)), str(rtt_ms / 2))

    def heal(self, pair: str | None) -> None:
        """Undo `cut` and `slow`, for one pair or for all."""
        self._tell("heal", *(() if pair is None else (_name(*self._pair(pair)),)))

    def _pair(self, text: str) -> tuple[str, str]:
        return parse_pair(text, self._cluster.plan.regions)

    def _tell(self, *words: str) -> None:
        plan, commands = self._cluster.plan, self._cluster.commands
        if LINKS in commands and LINKS not in find({LINKS: commands[LINKS]}):
            hint = f"start all of it: {typed(self._cluster.folder, 'up')}"
            raise ClusterMissing(f"the links of {plan.name} do not run", hint=hint)
        answer = self._cluster.command(" ".join(words))
        if answer != "ok":
            raise LinkInvalid(f"the links answered {answer}")


def _name(here: str, there: str) -> str:
    """What the links call a pair."""
    return "-".join(sorted((here, there)))


def _distance(link: LinkStatus) -> Distance:
    senders = {Direction.OUT: link.here, Direction.BACK: link.there}
    cut_from = tuple(senders[direction] for direction in link.cut)
    return Distance(link.here, link.there, 2 * link.one_way_ms, 2 * link.jitter_ms, cut_from)

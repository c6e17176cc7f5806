"""A cluster on this machine before it exists: nodes, distances, and how people write them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import msgspec
from msgspec.structs import replace

from redwire.handshake import DNS_LABEL
from redwire.position import Region
from redwire.spelling import guess
from tools import rtt
from tools.errors import PlanInvalid

DEFAULT_RTT_MS = 100.0
"""Between two regions of which nobody said how far they lie apart."""
DEFAULT_NAME = "dev"
DEFAULT_REGIONS = (("eu", 2), ("us", 2), ("ap", 1))
NODES_MAX = 32
"""More processes than that on one machine show how it swaps, and nothing about regions."""


class NodePlan(msgspec.Struct, frozen=True):
    """One node to be. The first plan of a cluster leads."""

    id: str
    region: str
    kind: str = "voter"


class ClusterPlan(msgspec.Struct, frozen=True):
    """A cluster to be. `rtt_ms` maps pairs of regions to the round trip between them; between others there
    are no links, and no delay. A round trip takes up to `jitter_ms` more.

    `settings` go into each node.yaml's `cluster:` section as they are, `node_sections` beside it.
    """

    nodes: tuple[NodePlan, ...]
    name: str = "shop"
    rtt_ms: Mapping[tuple[str, str], float] = msgspec.field(default_factory=dict)
    jitter_ms: float = 0.0
    settings: Mapping[str, Any] = msgspec.field(default_factory=dict)
    node_sections: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def leader(self) -> NodePlan:
        """The node that leads at first."""
        return self.nodes[0]

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region once, in the order of the nodes."""
        return tuple(dict.fromkeys(node.region for node in self.nodes))

    def one_way_ms(self, here: str, there: str) -> float | None:
        """The delay of one direction between two regions; None where there is no link."""
        rtt_ms = self.rtt_ms.get((here, there), self.rtt_ms.get((there, here)))
        return None if rtt_ms is None or here == there else rtt_ms / 2


class Wanted(msgspec.Struct, frozen=True):
    """What somebody asked for, as far as it was said: None or empty stands for whatever is there already.

    `regions` are (name, nodes), `rtts` (pair as written, ms), `settings` as in `ClusterPlan`.
    """

    name: str | None = None
    regions: tuple[tuple[str, int], ...] = ()
    rtts: tuple[tuple[str, float], ...] = ()
    jitter_ms: float | None = None
    settings: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def plan(self, before: ClusterPlan | None, *, give_up: str = "") -> ClusterPlan:
        """The plan to start, where `before` was started earlier. Distances may change from one start to the
        next; what stands in the nodes' files and in the log may not. Raises `PlanInvalid`, whose hint names
        `give_up`, the command that removes what is there.
        """
        if before is None:
            nodes = plan_nodes(self.regions or DEFAULT_REGIONS)
            regions = dict.fromkeys(node.region for node in nodes)
            rtt_ms = plan_rtts(regions, self.rtts)
            return ClusterPlan(
                nodes, self.name or DEFAULT_NAME, rtt_ms, self.jitter_ms or 0.0, dict(self.settings)
            )
        differing = []
        if self.name not in (None, before.name):
            differing.append(f"is called {before.name}, not {self.name}")
        if self.regions and plan_nodes(self.regions) != before.nodes:
            differing.append(f"consists of {', '.join(node.id for node in before.nodes)}")
        for key, value in self.settings.items():
            if value != before.settings.get(key):
                there = before.settings.get(key) or "by default"
                differing.append(f"was made with {key} {there}, not {value or 'none'}")
        if differing:
            hint = "leave these options out" + (f", or give its data up: {give_up}" if give_up else "")
            raise PlanInvalid(f"the cluster that is there {'; '.join(differing)}", hint=hint)
        return replace(
            before,
            rtt_ms=_changed_rtts(before, self.rtts),
            jitter_ms=before.jitter_ms if self.jitter_ms is None else self.jitter_ms,
        )


def _changed_rtts(before: ClusterPlan, named: Sequence[tuple[str, float]]) -> dict[tuple[str, str], float]:
    """The round trips of `before` but for those that are named. Raises as `plan_rtts`."""
    pairs = {frozenset(parse_pair(text, before.regions)) for text, _ in named}
    asked = plan_rtts(before.regions, named)
    kept = {pair: ms for pair, ms in before.rtt_ms.items() if frozenset(pair) not in pairs}
    return {pair: ms for pair, ms in asked.items() if frozenset(pair) in pairs} | kept


def plan_nodes(regions: Sequence[tuple[str, int]]) -> tuple[NodePlan, ...]:
    """`eu:2` makes eu-1 and eu-2. The first region leads. Raises `PlanInvalid`."""
    counts = Counter(region for region, _ in regions)
    for region, times in counts.items():
        if times > 1:
            raise PlanInvalid(
                f"the region {region} is named {times} times", hint="name it once, with its nodes"
            )
    nodes = tuple(NodePlan(f"{region}-{n}", region) for region, count in regions for n in range(1, count + 1))
    if len(nodes) > NODES_MAX:
        raise PlanInvalid(f"that makes {len(nodes)} nodes, {NODES_MAX} is the most")
    names = Counter(pair_name(here, there) for here, there in permutations(counts, 2))
    if twice := [name for name, times in names.items() if times > 1]:
        raise PlanInvalid(f"{twice[0]} could be two pairs of these regions", hint="rename one of them")
    return nodes


def plan_rtts(regions: Iterable[str], named: Iterable[tuple[str, float]]) -> dict[tuple[str, str], float]:
    """The round trip of every pair of `regions`: as `named` (`("eu-us", 80.0)`), or
    `DEFAULT_RTT_MS`.

    Raises as `parse_pair`, and `PlanInvalid` for a pair that is named twice.
    """
    regions = tuple(regions)
    rtt_ms: dict[tuple[str, str], float] = {}
    for text, ms in named:
        pair = parse_pair(text, regions)
        if rtt_ms.keys() & {pair, pair[::-1]}:
            raise PlanInvalid(f"the round trip of {text} is given twice")
        rtt_ms[pair] = ms
    for pair in combinations(regions, 2):
        if pair[::-1] not in rtt_ms:
            rtt_ms.setdefault(pair, DEFAULT_RTT_MS)
    return rtt_ms


def parse_region(text: str) -> tuple[str, int]:
    """(region, nodes) from `eu:2`; `eu` alone is one node. Raises `PlanInvalid`."""
    region, _, count = text.partition(":")
    if not DNS_LABEL.match(region) or len(region) > 60:
        raise PlanInvalid(f"{region!r} is no region name", hint="use a-z, 0-9 and - inside, at most 60")
    if not re.fullmatch(r"[1-9][0-9]?|", count) or text.endswith(":"):
        raise PlanInvalid(f"{text!r} does not say how many nodes", hint=f"write {region}:2")
    return region, int(count or 1)


def parse_rtt(text: str) -> tuple[str, float]:
    """(pair as written, ms) from `eu-us=80ms`. Raises `PlanInvalid`, `RttInvalid`."""
    pair, equals, duration = text.partition("=")
    if not equals or not pair:
        raise PlanInvalid(f"{text!r} is no round trip", hint="write eu-us=80ms")
    return pair, rtt.parse_ms(duration)


def parse_pair(text: str, regions: Sequence[str]) -> tuple[str, str]:
    """The two regions that `text` names, in that order. Raises `RttInvalid`, with the pair that was meant,
    and `PlanInvalid` for a region and itself.
    """
    pair = rtt.parse_pair(text, [Region(region) for region in regions])
    for here, there in permutations(pair, 2):
        if text == pair_name(here, there):
            return here, there
    raise PlanInvalid(f"{text} is one region and itself", hint="name two regions, as in eu-us")


def pair_name(here: str, there: str) -> str:
    """How people write a pair."""
    return f"{here}-{there}"


def meant(word: str, words: Iterable[str], what: str) -> str:
    """A hint for a name that is not there: the one that was meant, or what there is."""
    words = list(words)
    return guess(word, words, f"{what} are {', '.join(words)}" if words else f"there are no {what}")

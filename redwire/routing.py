"""Which node a client talks to: the primary for writes, the right replica for reads.

What is known comes from three sources: the seeds that the application configured (kept for ever),
topologies that the cluster sent (a newer epoch replaces an older one, and the reverse only where nobody of
the newer term is left), and what the client itself met: round trips, failures, who said that it leads.
Nothing here waits or dials; time and chance are passed in.

Rules of a read: a node that failed comes last until its back-off ends, and comes back by itself; among nodes
that are about equally near the least recently chosen goes first, so that no node serves long runs; a sample
that is old counts as none, so that a node which was slow once is tried again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from redwire.topology import Endpoint, ReplicaEntry, Topology

if TYPE_CHECKING:
    import random

RTT_WEIGHT = 0.2
"""Weight of a new sample in the moving average: five samples forget the past."""
SAMPLE_AGE_MAX_MS = 60_000
"""Ways change: a node that was not measured for a minute gets a turn, and is measured by it."""
NEAR_FACTOR = 1.5
NEAR_SLACK_US = 1_000
"""Nodes within half more, and a millisecond, of the nearest are as near: jitter must not make a favourite."""
BACKOFF_FIRST_MS = 100
"""A process that starts anew listens again within a second: the fourth try finds it."""
BACKOFF_MAX_MS = 10_000
"""A region that comes back is read from again within ten seconds; until then each client costs it six dials a
minute.
"""
SEEK_MAX_MS = 1_000
"""Who waits for a primary tries each address about once a second: whichever comes back is soon found, and a
crowd of clients costs it a dial a second each.
"""


class Primary(msgspec.Struct, frozen=True):
    """Read from the primary: sees every write that it confirmed.

    One that is cut off and was replaced does not know it, and answers as of then to clients that reach no
    newer one; a token of what must be seen is proof against that.
    """


class Nearest(msgspec.Struct, frozen=True):
    """Read from the nearest node, the client's own region first."""


class InRegion(msgspec.Struct, frozen=True):
    """Read in this region only, never elsewhere."""

    name: str


class AnyNode(msgspec.Struct, frozen=True):
    """Spread reads over the replicas; the primary serves when no replica can."""


ReadMode = Primary | Nearest | InRegion | AnyNode


class AddressStatus(msgspec.Struct, frozen=True):
    """One address as the router sees it. `rtt_us` None: never measured. `retry_ms` is when it may be tried
    again, by the monotonic clock: 0, or past, for an address that is not in back-off.
    """

    addr: str
    region: str | None
    rtt_us: int | None
    failures: int
    retry_ms: int
    seed: bool


class RouterStatus(msgspec.Struct, frozen=True):
    """A snapshot. `epoch` is -1 before the first topology; `trouble` is why calls still wait, "" if it is not
    known that anything is wrong.
    """

    epoch: int
    primary: str | None
    nodes: tuple[AddressStatus, ...]
    trouble: str = ""


class Router:
    """The choice of node for one client.

    `seeds` are "host:port" and at least one; `region` is the client's own, None if it has none; without
    `discovery` only seeds are ever dialled, whatever addresses the cluster advertises.
    """

    def __init__(
        self, seeds: Sequence[str], region: str | None, discovery: bool, chance: random.Random
    ) -> None:
        assert seeds
        self._seeds = tuple(dict.fromkeys(seeds))
        self._region = region
        self._discovery = discovery
        self._topology: Topology | None = None
        self._leader: tuple[int, str] | None = None
        self._met = _Experience(self._seeds, chance)

    @property
    def topology(self) -> Topology | None:
        """The topology in force."""
        return self._topology

    def update(self, topology: Topology) -> bool:
        """Take over `topology` if it says more than the one in force; whether it did.

        An older epoch never replaces a newer one. At the same epoch the fuller view wins: a primary-only
        view, as strangers get it, takes nothing away.
        """
        known = self._topology
        if known is not None and topology.epoch < known.epoch:
            return False
        if known is not None and topology.epoch == known.epoch and (known.replicas or not topology.replicas):
            return False
        self._topology = topology
        self._met.keep((*self._seeds, *self._advertised()))
        if self._leader is not None and not self._met.knows(self._leader[1]):
            self._leader = None
        return True

    def revert(self, topology: Topology) -> None:
        """Take over `topology` although it is older than the one in force: whose nodes are gone for good."""
        self._topology = self._leader = None
        self.update(topology)

    def met(self, addr: str, region: str, term: int, *, leads: bool) -> None:
        """The node at `addr` answered: its region, and whether it leads in `term`.

        This is how a primary is found behind addresses that the cluster does not advertise.
        """
        if not self._met.knows(addr):
            return
        self._met.node(addr).region = region
        if leads and (self._leader is None or term >= self._leader[0]):
            self._leader = (term, addr)
        elif not leads and self._leader is not None and self._leader[1] == addr:
            self._leader = None

    def primary(self) -> str | None:
        """Where writes go; None if nobody knows.

        The advertised primary, unless a node said that it leads in a term newer than the topology's.
        """
        advertised = self._topology.primary.addr if self._topology else ""
        if self._topology is None or not advertised or not self._may_dial(advertised):
            return self._leader[1] if self._leader else None
        if self._leader is not None and self._leader[0] > self._topology.term:
            return self._leader[1]
        return advertised

    def dial_order(self, now_ms: int) -> list[str]:
        """Every address worth trying to find the primary, the likeliest first; those in back-off last."""
        primary = self.primary()
        first = [] if primary is None else [primary]
        return self._met.ready_first((*first, *self._advertised(), *self._seeds), now_ms)

    def read_candidates(self, mode: ReadMode, now_ms: int) -> list[str]:
        """Where to read, best first; empty if no node is known that `mode` allows.

        Replicas that are being rebuilt are left out; unhealthy ones follow all others. The caller takes the
        first that works and tells `observed` or `failed`.
        """
        primary = self.primary()
        match mode:
            case Primary():
                return [] if primary is None else [primary]
            case Nearest():
                order = self._nearest_first(now_ms) + self._unhealthy()
            case InRegion(name):
                everyone = self._nearest_first(now_ms) + self._unhealthy()
                order = [addr for addr in everyone if self._region_of(addr) == name]
            case AnyNode():
                replicas = [addr for addr in self._readable() if addr != primary]
                last = [] if primary is None else [primary]
                order = self._met.least_recent_first(replicas) + last + self._unhealthy()
        order = self._met.ready_first(order, now_ms)
        if order:
            self._met.choose(order[0])
        return order

    def observed(self, addr: str, rtt_us: int, now_ms: int) -> None:
        """An answer came from `addr` after `rtt_us`: one more sample, and the end of any back-off."""
        self._met.observed(addr, rtt_us, now_ms)

    def failed(self, addr: str, now_ms: int, held_ms: int = 0) -> int:
        """`addr` could not be reached, or did not answer and so held a call up for `held_ms`; when to try it
        again, in the clock of `now_ms`.
        """
        return self._met.failed(addr, now_ms, held_ms)

    def rtt_us(self, addr: str) -> float:
        """How long answers of `addr` take, on average; 0 if none was measured."""
        return self._met.node(addr).rtt_us or 0.0

    def seek_ms(self, addr: str) -> int:
        """When who waits for a primary may try `addr` again: sooner than others, where it was away for long;
        in the past, or 0, for a node that is not in back-off.
        """
        return self._met.node(addr).seek_ms

    def status(self) -> RouterStatus:
        """What the router knows now."""
        nodes = tuple(
            AddressStatus(
                addr,
                self._region_of(addr),
                None if node.rtt_us is None else round(node.rtt_us),
                node.failures,
                node.retry_ms,
                addr in self._seeds,
            )
            for addr, node in self._met.items()
        )
        return RouterStatus(self._topology.epoch if self._topology else -1, self.primary(), nodes)

    def _may_dial(self, addr: str) -> bool:
        return self._discovery or addr in self._seeds

    def _replicas(self) -> tuple[ReplicaEntry, ...]:
        return self._topology.replicas if self._topology else ()

    def _advertised(self) -> list[str]:
        if self._topology is None:
            return []
        addrs = (self._topology.primary.addr, *(entry.addr for entry in self._topology.replicas))
        return [addr for addr in addrs if addr and self._may_dial(addr)]

    def _readable(self) -> list[str]:
        """Nodes that may serve a read: not those known to be unhealthy or being rebuilt.

        A full list from the cluster is the whole truth: seeds may be other names of the same nodes. Without
        one, and without discovery, the seeds are read too.
        """
        unfit = {entry.addr for entry in self._replicas() if not entry.healthy or entry.rebootstrapping}
        seeds = () if self._discovery and self._replicas() else self._seeds
        return [addr for addr in dict.fromkeys((*self._advertised(), *seeds)) if addr not in unfit]

    def _unhealthy(self) -> list[str]:
        sick = [entry.addr for entry in self._replicas() if not entry.healthy and not entry.rebootstrapping]
        return [addr for addr in sick if self._may_dial(addr)]

    def _region_of(self, addr: str) -> str | None:
        entries: tuple[Endpoint | ReplicaEntry, ...] = self._replicas()
        if self._topology is not None:
            entries = (self._topology.primary, *entries)
        advertised = (entry.region for entry in entries if entry.addr == addr)
        return next(advertised, self._met.node(addr).region)

    def _nearest_first(self, now_ms: int) -> list[str]:
        """Readable nodes, those of the own region first, in each part by distance."""
        home: list[str] = []
        away: list[str] = []
        for addr in self._readable():
            at_home = self._region is not None and self._region_of(addr) == self._region
            (home if at_home else away).append(addr)
        return self._met.by_distance(home, now_ms) + self._met.by_distance(away, now_ms)


@dataclass(slots=True, eq=False)
class _Node:
    """What the client itself knows of one address."""

    region: str | None = None
    rtt_us: float | None = None
    sampled_ms: int = 0
    failures: int = 0
    retry_ms: int = 0
    seek_ms: int = 0
    chosen: int = 0


class _Experience:
    """What the client lived through with each address, and the orders that follow from it."""

    def __init__(self, addrs: Iterable[str], chance: random.Random) -> None:
        self._nodes = {addr: _Node() for addr in addrs}
        self._chance = chance
        self._turn = 0

    def items(self) -> Iterable[tuple[str, _Node]]:
        return self._nodes.items()

    def knows(self, addr: str) -> bool:
        return addr in self._nodes

    def node(self, addr: str) -> _Node:
        """The record of `addr`; a throw-away one for an address that has left the cluster."""
        return self._nodes.get(addr) or _Node()

    def keep(self, addrs: Iterable[str]) -> None:
        """From now on these addresses; those known before keep their record."""
        self._nodes = {addr: self.node(addr) for addr in addrs}

    def choose(self, addr: str) -> None:
        self._turn += 1
        self.node(addr).chosen = self._turn

    def observed(self, addr: str, rtt_us: int, now_ms: int) -> None:
        node = self.node(addr)
        average = self._fresh_rtt_us(node, now_ms)
        sample = float(max(rtt_us, 1))
        node.rtt_us = sample if average is None else average + RTT_WEIGHT * (sample - average)
        node.sampled_ms = now_ms
        node.failures = node.retry_ms = node.seek_ms = 0

    def failed(self, addr: str, now_ms: int, held_ms: int) -> int:
        """The pause doubles from 100 ms to 10 s; half of it is chance, to keep clients from one rhythm. Who
        keeps callers waiting is left alone for twice as long, or every other call would wait for it.
        """
        node = self.node(addr)
        pause_ms = min(max(BACKOFF_FIRST_MS << min(node.failures, 16), 2 * held_ms), BACKOFF_MAX_MS)
        share = 0.5 + 0.5 * self._chance.random()
        node.failures += 1
        node.retry_ms = max(node.retry_ms, now_ms + round(pause_ms * share))
        node.seek_ms = now_ms + round(min(pause_ms, SEEK_MAX_MS) * share)
        return node.retry_ms

    def by_distance(self, addrs: list[str], now_ms: int) -> list[str]:
        """Those about as near as the nearest take turns, the rest follow by distance.

        A node without a recent sample counts as near: it gets one turn, and is measured by it.
        """
        distance_us = {addr: self._fresh_rtt_us(self.node(addr), now_ms) or 0.0 for addr in addrs}
        nearest_us = min((value for value in distance_us.values() if value), default=0.0)
        near_us = nearest_us * NEAR_FACTOR + NEAR_SLACK_US
        near = self.least_recent_first(addr for addr in addrs if distance_us[addr] <= near_us)
        far = (addr for addr in addrs if distance_us[addr] > near_us)
        return near + sorted(far, key=distance_us.__getitem__)

    def least_recent_first(self, addrs: Iterable[str]) -> list[str]:
        return sorted(addrs, key=lambda addr: self.node(addr).chosen)

    def ready_first(self, addrs: Iterable[str], now_ms: int) -> list[str]:
        """Each address once; those in back-off behind all others, the first to be free again first."""
        return sorted(dict.fromkeys(addrs), key=lambda addr: max(self.node(addr).retry_ms - now_ms, 0))

    def _fresh_rtt_us(self, node: _Node, now_ms: int) -> float | None:
        return node.rtt_us if now_ms - node.sampled_ms <= SAMPLE_AGE_MAX_MS else None

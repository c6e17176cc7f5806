"""Who of those that nobody knows yet has to go when one more comes: a pure rule, by where they come from.

Places are shared by address: whoever has most gives way, so that one address keeps no other one out, however
fast it comes again. Among its own, and where nobody has more than another, chance decides: an honest
handshake is soon over, and whoever says nothing is met by chance in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from itertools import islice
from typing import Protocol

PATIENCE_S = 2.0
"""An honest handshake is over by then, from anywhere on earth: whoever takes longer is the first to go."""
KEPT_MAX = 32
"""Places that only the addresses of members may take, an eighth of all at most."""
KNOWN_MAX = 256
"""Addresses from which members came; there are 64 members, and some of them move."""
BY_CHANCE_A_SECOND = 2_000
"""Of those that go by chance. A handshake of 10 ms then survives nine times in ten, and a storm of honest
ones does not thin itself out; beyond it the newcomer is turned away, which costs the node next to nothing.
"""
BY_CHANCE_AT_ONCE = 64
_NETWORK_GROUPS = 4
"""Of the eight groups of an IPv6 address: whoever has one address has the 2^64 beside it."""

Chance = Callable[[int], int]
"""A number from 0 to below the one given, such as `random.randrange`."""


class Stay(Protocol):
    """The part of a connection's life that can be cut short."""

    def cancel(self) -> None:
        """End it."""


class Strangers:
    """Those that are in and unknown, by origin: as `origin` has it.

    `named` has the hosts that the settings name for members, of which those that are addresses count;
    `let_in` adds those from which members have come. Such an origin may have `kept` places more than others.
    """

    def __init__(self, most: int, chance: Chance, named: Callable[[], frozenset[str]]) -> None:
        """There are `most` at a time."""
        self._most = most
        self._kept = min(KEPT_MAX, most // 8)
        self._chance = chance
        self._named = named
        self._hosts = frozenset[str]()  # as they were named last; `_members` are where those are
        self._members = frozenset[str]()
        self._let_in: dict[str, None] = {}  # the latest last
        self._here: dict[str, dict[Stay, float]] = {}  # of each origin in order of arrival
        self._origins: dict[Stay, str] = {}
        self._by_chance = float(BY_CHANCE_AT_ONCE)
        self._filled_s = 0.0

    def __len__(self) -> int:
        return len(self._origins)

    def place(self, origin: str, now_s: float) -> bool:
        """Whether there is a place for one more from `origin`. Somebody may have to go for it."""
        if len(self) < self._most - self._kept:
            return True
        self._heed(self._named())
        if len(self) < self._most and self._known(origin):
            return True
        victim = self._victim(origin, now_s)
        if victim is None:
            return False
        self.remove(victim)
        victim.cancel()
        return True

    def add(self, stay: Stay, origin: str, now_s: float) -> None:
        """One more is in."""
        self._here.setdefault(origin, {})[stay] = now_s
        self._origins[stay] = origin

    def remove(self, stay: Stay) -> str | None:
        """It is gone, or known: where it came from; None if it was not here."""
        origin = self._origins.pop(stay, None)
        if origin is not None:
            others = self._here[origin]
            del others[stay]
            if not others:
                del self._here[origin]
        return origin

    def let_in(self, origin: str) -> None:
        """A member has come from there, and proved it."""
        self._let_in.pop(origin, None)
        self._let_in[origin] = None
        if len(self._let_in) > KNOWN_MAX:
            del self._let_in[next(iter(self._let_in))]

    def _heed(self, hosts: frozenset[str]) -> None:
        """Addresses are parsed when others are named, not for every newcomer of a flood."""
        if hosts != self._hosts:
            self._hosts, self._members = hosts, frozenset(map(_origin_of, hosts))

    def _victim(self, origin: str, now_s: float) -> Stay | None:
        """Of those who have most the eldest, if it has had its time or the newcomer has fewer; else anyone
        of them, as often as that may be.
        """
        weights = {each: self._weight(each) for each in self._here}
        heaviest = max(weights.values(), default=0)
        fullest = [self._here[each] for each, weight in weights.items() if weight == heaviest]
        if not fullest:
            return None
        since_s, eldest = min(
            ((since_s, stay) for since_s, stay in map(_first, fullest)), key=lambda each: each[0]
        )
        if self._weight(origin) + 1 < heaviest or now_s - since_s >= PATIENCE_S:
            return eldest
        if not self._spends_chance(now_s):
            return None
        number = self._chance(sum(map(len, fullest)))
        for stays in fullest:
            if number < len(stays):
                return next(islice(stays, number, None))
            number -= len(stays)
        return None

    def _spends_chance(self, now_s: float) -> bool:
        """Whether one more may go by chance; then it counts."""
        more = (now_s - self._filled_s) * BY_CHANCE_A_SECOND
        self._by_chance, self._filled_s = min(self._by_chance + more, BY_CHANCE_AT_ONCE), now_s
        if self._by_chance < 1:
            return False
        self._by_chance -= 1
        return True

    def _weight(self, origin: str) -> int:
        """How many are from there, beyond the places that are kept for it."""
        return len(self._here.get(origin, ())) - (self._kept if self._known(origin) else 0)

    def _known(self, origin: str) -> bool:
        return origin in self._let_in or origin in self._members


def origin(address: str) -> str:
    """What counts as one sender: an IPv4 address, also one that is written as IPv6, or an IPv6 network of 64
    bits.
    """
    if ":" not in address:
        return address
    bare = address.partition("%")[0]
    if "." in bare:
        return bare.rpartition(":")[2]
    head, gap, tail = bare.partition("::")
    groups = head.split(":") if head else []
    if gap:
        behind = tail.split(":") if tail else []
        groups += ["0"] * (8 - len(groups) - len(behind)) + behind
    return ":".join(groups[:_NETWORK_GROUPS])


def _origin_of(host: str) -> str:
    """Where a host is whose address is written in any way; a name as it is."""
    try:
        place = ip_address(host.strip("[]"))
    except ValueError:
        return host
    mapped = place.ipv4_mapped if isinstance(place, IPv6Address) else None
    return origin((mapped or place).compressed)


def _first(stays: dict[Stay, float]) -> tuple[float, Stay]:
    stay, since_s = next(iter(stays.items()))
    return since_s, stay

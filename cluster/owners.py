"""Whose clients the memory of keys knows, and who of them has most (R9)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

import msgspec

from cluster.client_ids import OWNER_BYTES, owner_of


class Owner(msgspec.Struct):
    """The clients of one owner in the order of their last write, and what they take together."""

    clients: OrderedDict[bytes, None] = msgspec.field(default_factory=OrderedDict)
    held: int = 0


class Owners:
    """All owners that have a client. Equal where they have the same ones, which take the same."""

    def __init__(self) -> None:
        self._owners: dict[bytes, Owner] = {}
        self._by_clients = _Ranking(self._owners, lambda owner: len(owner.clients))
        self._by_held = _Ranking(self._owners, lambda owner: owner.held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Owners) and self._owners == other._owners

    def __iter__(self) -> Iterator[Owner]:
        return iter(self._owners.values())

    def wrote(self, client: bytes, grown: int) -> None:
        """`client`, new or not, wrote last, and takes `grown` bytes more."""
        whose = owner_of(client)
        owner = self._owners.get(whose)
        if owner is None:
            owner = self._owners[whose] = Owner()
        before = len(owner.clients)
        owner.clients[client] = None
        owner.clients.move_to_end(client)
        owner.held += grown
        self._by_held.changed(whose)
        if len(owner.clients) != before:
            self._by_clients.changed(whose)

    def forget(self, client: bytes, held: int) -> None:
        """`client` is gone, which took `held` bytes."""
        whose = owner_of(client)
        owner = self._owners[whose]
        owner.held -= held
        del owner.clients[client]
        if not owner.clients:
            del self._owners[whose]
        self._by_held.changed(whose)
        self._by_clients.changed(whose)

    def crowding(self) -> bytes:
        """Of the owner who has most clients, the one that wrote last the longest ago."""
        return next(iter(self._by_clients.first().clients))

    def heaviest(self) -> bytes:
        """Likewise, of the owner whose clients take most."""
        return next(iter(self._by_held.first().clients))


class _Ranking:
    """Finds who of `owners` has most by `weight`, looking only at those that changed since it was asked last:
    while the memory is full it is asked for each client that is new, also when the memory is built again.
    """

    def __init__(self, owners: dict[bytes, Owner], weight: Callable[[Owner], int]) -> None:
        self._owners = owners
        self._weight = weight
        self._heap: list[tuple[int, int]] = []  # of each what it weighs, and what it weighed before
        self._changed: set[bytes] = set()

    def changed(self, whose: bytes) -> None:
        """The owner `whose` weighs more or less than before, is new or is gone."""
        self._changed.add(whose)

    def first(self) -> Owner:
        """Who has most; of several the last by name, on every node the same. There is one."""
        heap, owners = self._heap, self._owners
        if len(heap) + len(self._changed) > 2 * len(owners):  # most are of before
            heap[:] = [self._entry(whose) for whose in owners]
            heapify(heap)
        else:
            for whose in self._changed & owners.keys():
                heappush(heap, self._entry(whose))
        self._changed.clear()
        while True:
            weight, number = heap[0]
            owner = owners.get((-number).to_bytes(OWNER_BYTES, "big"))
            if owner is not None and self._weight(owner) == -weight:
                return owner
            heappop(heap)

    def _entry(self, whose: bytes) -> tuple[int, int]:
        return -self._weight(self._owners[whose]), -int.from_bytes(whose, "big")

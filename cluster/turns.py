"""Who is next where many ask and some ask for much: one of each asker's, in turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """What waits: for each asker in order of arrival, and the askers round robin.

    Whoever waits for one thing only is next after one of each other asker, however much these wait for.
    """

    def __init__(self, asker_of: Callable[[T], Hashable]) -> None:
        self._asker_of = asker_of
        self._waiting: OrderedDict[Hashable, deque[T]] = OrderedDict()  # in order of their next turns
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, item: T) -> None:
        """Let `item` wait. Its asker's turn is the last, unless something of theirs waits already."""
        self._waiting.setdefault(self._asker_of(item), deque()).append(item)
        self._count += 1

    def popleft(self) -> T:
        """Take the next one. Raises `KeyError` where nothing waits."""
        asker, items = self._waiting.popitem(last=False)
        item = items.popleft()
        if items:
            self._waiting[asker] = items
        self._count -= 1
        return item

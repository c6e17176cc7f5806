"""Bytes of requests that wait: of all, and of each who waits for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cluster.queued import Queued

ANN, BOB = object(), object()


def waiting(caller: object, size: int) -> Any:
    return SimpleNamespace(caller=caller, request=bytes(size))


def test_nobody_waits_for_anything_at_first() -> None:
    queued = Queued()
    assert (queued.size, queued.of(ANN)) == (0, 0)


def test_what_each_waits_for_is_told_apart_and_leaves_as_it_came() -> None:
    queued, first, second, other = Queued(), waiting(ANN, 9_000), waiting(ANN, 5_000), waiting(BOB, 7_000)
    for each in (first, other, second):
        queued.add(each)
    assert (queued.size, queued.of(ANN), queued.of(BOB)) == (21_000, 14_000, 7_000)
    queued.remove(first)
    assert (queued.size, queued.of(ANN), queued.of(BOB)) == (12_000, 5_000, 7_000)
    queued.remove(second)
    assert (queued.size, queued.of(ANN)) == (7_000, 0)
    queued.clear()
    assert (queued.size, queued.of(BOB)) == (0, 0)

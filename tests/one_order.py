"""Whether what clients were told fits one order of all writes, that of their LSNs, and real time beside it.

Strict serializability of single documents, decided exactly: a record's LSN says where it stands, so nothing
has to be searched for. An event begins before its request is sent and ends after its answer came.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec

ABSENT = 0
"""The version of a document that is not there."""


class Wrote(msgspec.Struct, frozen=True):
    """The record at `lsn` made the document `value`, None where it deleted it, and needed to find the version
    `needed`, None for whichever.
    """

    began: float
    ended: float
    id: str
    lsn: int
    value: int | None
    needed: int | None = None


class Found(msgspec.Struct, frozen=True):
    """The state at `lsn` held `version` of the document: a read, or a write whose condition did not hold.

    A read that was asked for a state not below `asked` is held to that, and not to what others were told
    before; with `asked` None it is. `lsn` is None where nothing was found and the answer names no state.
    """

    began: float
    ended: float
    id: str
    version: int
    lsn: int | None
    value: int | None = None
    asked: int | None = None


Event = Wrote | Found


def violations(events: Iterable[Event], never: Iterable[int] = ()) -> Iterator[str]:
    """What no order explains, in words. `never` are the values of writes that were certainly not executed."""
    found = sorted(events, key=lambda event: event.began)
    stories: dict[str, Story] = defaultdict(Story)
    for wrote in sorted((each for each in found if isinstance(each, Wrote)), key=lambda each: each.lsn):
        stories[wrote.id].add(wrote)
    yield from _two_at_one_lsn(found)
    for event in found:
        yield from stories[event.id].objections(event)
    yield from _out_of_time(found, stories)
    undone = set(never)
    for event in found:
        if event.value in undone:
            yield f"{event} holds a value that was never to be written"


class Story:
    """The versions of one document, oldest first."""

    def __init__(self) -> None:
        self._lsns: list[int] = []
        self._writes: list[Wrote] = []

    def add(self, wrote: Wrote) -> None:
        self._lsns.append(wrote.lsn)
        self._writes.append(wrote)

    def before(self, lsn: int) -> Wrote | None:
        """The last write below `lsn`."""
        at = bisect_right(self._lsns, lsn - 1)
        return self._writes[at - 1] if at else None

    def absent_above(self, lsn: int) -> bool:
        """Whether there was no document at `lsn` or at some later LSN."""
        at = bisect_right(self._lsns, lsn)
        return at == 0 or any(write.value is None for write in self._writes[at - 1 :])

    def objections(self, event: Event) -> Iterator[str]:
        """What is wrong with it, whenever it was."""
        if isinstance(event, Found) and event.lsn is None:
            return
        assert event.lsn is not None
        before = self.before(event.lsn if isinstance(event, Wrote) else event.lsn + 1)
        version = ABSENT if before is None or before.value is None else before.lsn
        wanted = event.needed if isinstance(event, Wrote) else event.version
        if wanted is not None and wanted != version:
            yield f"{event}: the version there is {version}, by {before}"
        elif isinstance(event, Found) and event.value is not None and before is not None:
            if event.value != before.value:
                yield f"{event} is not what was written: {before}"
            if event.ended < before.began:
                yield f"{event} ended before {before} began"


def _two_at_one_lsn(events: Sequence[Event]) -> Iterator[str]:
    writes = sorted((each for each in events if isinstance(each, Wrote)), key=lambda each: each.lsn)
    for one, other in pairwise(writes):
        if one.lsn == other.lsn:
            yield f"{one} and {other} have one LSN"


def _out_of_time(events: Sequence[Event], stories: dict[str, Story]) -> Iterator[str]:
    """Whatever began after something else had ended stands above it."""
    ends = sorted((event for event in events if event.lsn is not None), key=lambda event: event.ended)
    floor, last, at = 0, None, 0
    for event in events:
        while at < len(ends) and ends[at].ended < event.began:
            if _counts(ends[at]) and (ends[at].lsn or 0) > floor:
                floor, last = ends[at].lsn or 0, ends[at]
            at += 1
        least = floor
        if isinstance(event, Found):
            least = floor if event.asked is None else event.asked
        if event.lsn is None:
            if not stories[event.id].absent_above(least):
                yield f"{event}: it was there from LSN {least} on, which was told before by {last}"
        elif event.lsn < least or (isinstance(event, Wrote) and event.lsn == least):
            yield f"{event} stands below LSN {least}, which was told before by {last}"


def _counts(event: Event) -> bool:
    """Whether later events have to stand above it: what a follower read out is no promise of the primary."""
    return isinstance(event, Wrote) or event.asked is None

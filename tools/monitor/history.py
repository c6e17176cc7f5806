"""What the status documents of the last minutes said, one sample a second, with gaps where none came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from redwire.status import Event, Stage, Status

SAMPLES_MAX = 1_800
"""Half an hour: as far back as a chart of 120 columns reaches at 15 s a column."""
EVENTS_KEPT = 500
"""Five documents full, so that an event stays to be read after the nodes have dropped it."""
BRIDGED = 2
"""A document that comes a little late leaves a second without any: that is no gap yet."""


class Sample(msgspec.Struct, frozen=True):
    """One second. `lags` has each node's records behind, None where that is not known."""

    second: int
    rate: float | None
    stages: Mapping[str, Stage]
    lags: Mapping[str, int | None]


class History:
    """Samples by the monitor's own clock, the oldest first. Of documents in one second the last counts."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)

    def add(self, status: Status, at_ms: int) -> None:
        """Keep what `status` says; `at_ms` never goes back."""
        sample = Sample(
            second=at_ms // 1_000,
            rate=status.commits.rate,
            stages=status.commits.stages,
            lags={node.id: lag_records(node.lag.state, node.lag.records) for node in status.nodes},
        )
        if self._samples and self._samples[-1].second == sample.second:
            self._samples.pop()
        self._samples.append(sample)

    @property
    def seconds(self) -> int:
        """How far back it reaches."""
        return self._samples[-1].second - self._samples[0].second + 1 if self._samples else 0

    def series(
        self, read: Callable[[Sample], float | None], columns: int, step_s: int, now_ms: int
    ) -> list[float | None]:
        """The highest value in each of the last `columns` steps up to `now_ms`; None where none is known."""
        newest = now_ms // 1_000 // step_s
        found: list[float | None] = [None] * columns
        last = None
        for sample in reversed(self._samples):
            column = columns - 1 - (newest - sample.second // step_s)
            if column < 0:
                break
            value = read(sample)
            bridge = last is not None and 1 < last - column <= BRIDGED
            for place in (column, column + 1) if bridge else (column,):
                if value is not None and 0 <= place < columns:
                    found[place] = max(value, found[place] or 0.0)
            last = column
        if last is not None and columns > 1 and found[-1] is None:
            found[-1] = found[-2]  # the document of this second is still on its way
        return found

    def grows(self, node: str, over_s: int) -> bool:
        """Whether `node` has been behind for `over_s` seconds and is no nearer than it was then."""
        if not self._samples:
            return False
        since = self._samples[-1].second - over_s
        window = [sample.lags.get(node) for sample in self._samples if sample.second >= since]
        if self._samples[0].second > since or not all(window):
            return False
        return (window[-1] or 0) >= (window[0] or 0)


def lag_records(state: str, records: int | None) -> int | None:
    """Records behind as a figure: none for one that has caught up."""
    return 0 if state == "caught_up" else records if state == "behind" else None


class EventBook:
    """Events of all documents, each once, the newest first."""

    def __init__(self) -> None:
        self.events: tuple[Event, ...] = ()
        self._known: set[tuple[str, int, int]] = set()

    def add(self, events: tuple[Event, ...]) -> None:
        """Keep those that were not known."""
        fresh = [event for event in events if self._key(event) not in self._known]
        if fresh:
            together = sorted((*fresh, *self.events), key=lambda event: (event.at_ms, event.sequence))
            self.events = tuple(reversed(together[-EVENTS_KEPT:]))
            self._known = {self._key(event) for event in self.events}

    @staticmethod
    def _key(event: Event) -> tuple[str, int, int]:
        return event.node, event.sequence, event.at_ms

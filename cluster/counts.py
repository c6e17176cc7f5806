"""What a node has counted since its process began: the numbers that only rise, for whoever wants rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from cluster.commit_times import Sample
from cluster.histogram import Buckets, Histogram
from redwire.errors import Code
from redwire.position import NodeId
from redwire.status import STAGES


class CountsStatus(msgspec.Struct, frozen=True):
    """One moment of `Counts`. `commits` are requests, `stages` and `completed` count batches."""

    commits: int
    completed: Mapping[NodeId, int]
    stages: Mapping[str, Buckets]
    not_confirmed: int
    refused: Mapping[Code, int]
    sessions: int
    sessions_begun: int


@dataclass(slots=True, eq=False)
class Counts:
    """For the event loop's thread only."""

    _commits: int = 0
    _completed: Counter[NodeId] = field(default_factory=Counter)
    _stages: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in STAGES})
    _not_confirmed: int = 0
    _refused: Counter[Code] = field(default_factory=Counter)
    _sessions: int = 0
    _sessions_begun: int = 0

    def committed(self, sample: Sample) -> None:
        """A batch was applied while this node leads."""
        self._commits += sample.requests
        if sample.by is not None:
            self._completed[sample.by] += 1
        for name, histogram in self._stages.items():
            took_us: int | None = getattr(sample, name)
            if took_us is not None:
                histogram.note(took_us)

    def answered(self, code: Code) -> None:
        """A client was told an error."""
        if code is Code.NOT_CONFIRMED:
            self._not_confirmed += 1
        else:
            self._refused[code] += 1

    def session_begun(self) -> None:
        """A client is in."""
        self._sessions += 1
        self._sessions_begun += 1

    def session_ended(self) -> None:
        """And out again."""
        self._sessions -= 1

    def status(self) -> CountsStatus:
        """A frozen snapshot."""
        return CountsStatus(
            commits=self._commits,
            completed=dict(self._completed),
            stages={name: histogram.status() for name, histogram in self._stages.items()},
            not_confirmed=self._not_confirmed,
            refused=dict(self._refused),
            sessions=self._sessions,
            sessions_begun=self._sessions_begun,
        )

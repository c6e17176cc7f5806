"""Where the time of a commit goes: one sample a batch over a short window, summed up once a second at most.

A sample speaks for the request of its batch that waited longest. What was not seen is None and counts in no
percentile.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from cluster.effects import Flight, Now
from redwire.position import NodeId
from redwire.status import STAGES, Commits, Stage

SAMPLES_MAX = 1_024
"""Batches: with more than a hundred a second the window begins later, and a p99 still rests on ten of them.
"""
WINDOW_MS = 10_000
"""What an operator calls now; one slow write a second makes ten of them."""
SUMMARY_MS = 1_000
"""How long a summary is handed out again: sorting a thousand samples is not for every look."""
NOTED_MAX = 256
"""Batches that wait to be made samples of, on a node that is too busy for its ticks."""
LATELY_SHARE = 1 / 8
"""Of one batch in what commits take lately."""


class Sample(NamedTuple):
    """One batch, applied at `at_ms`. `by` completed its commit rule; `STAGES` are microseconds."""

    at_ms: int
    requests: int
    by: NodeId | None
    queue: int | None
    local_fsync: int | None
    wire: int | None
    remote_fsync: int | None
    apply: int | None
    total: int | None


class _Noted(msgspec.Struct, frozen=True):
    """A batch of `requests` that was applied at `now`; the rest is as in its `Flight`, made in the order of
    arrival.
    """

    now: Now
    requests: int
    arrived_us: int
    made_us: int
    me: NodeId
    acks: list[tuple[NodeId, int]]
    completing: int | None
    committed_us: int | None
    remote_us: int | None

    def sample(self) -> Sample:
        """What it tells."""
        now, arrived_us, committed_us = self.now, self.arrived_us, self.committed_us
        by, after_us = (None, 0) if self.completing is None else self.acks[self.completing]
        abroad = self.remote_us if by not in (None, self.me) else None
        return Sample(
            at_ms=now.ms,
            requests=self.requests,
            by=by,
            queue=self.made_us - arrived_us if arrived_us else None,
            local_fsync=next((took for node, took in self.acks if node == self.me), None),
            wire=None if abroad is None else max(0, after_us - abroad),
            remote_fsync=abroad,
            apply=None if committed_us is None else now.us - committed_us,
            total=now.us - arrived_us if arrived_us else None,
        )


@dataclass(slots=True, eq=False)
class CommitTimes:
    """The batches of one reign that were applied within the window; the eldest go first.

    `on_sample` gets each of them, for counts that outlive the window and the reign.
    """

    lately_us: float = 0.0
    """From the making of a batch to its application, the last ones weighing most."""
    on_sample: Callable[[Sample], None] = lambda sample: None
    _noted: list[_Noted] = field(default_factory=list)
    _samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    _summary: Commits = field(default_factory=Commits)
    _summary_ms: int | None = None
    _began_ms: int | None = None

    def begin(self, now_ms: int) -> None:
        """The reign begins: there was nothing to see before."""
        self._began_ms = now_ms

    def note(self, flight: Flight, now: Now) -> None:
        """`flight` was applied. A batch of the node's own records is no request and tells nothing."""
        proposals = [proposal for proposal in flight.proposals if proposal is not None]
        if not proposals:
            return
        self.lately_us += (now.us - flight.made_us - self.lately_us) * LATELY_SHARE
        arrived_us, me = proposals[0].arrived_us, flight.batch.reign.primary
        noted = _Noted(
            now,
            len(proposals),
            arrived_us,
            flight.made_us,
            me,
            flight.acks,
            flight.completing,
            flight.committed_us,
            flight.remote_us,
        )
        self._noted.append(noted)
        if len(self._noted) >= NOTED_MAX:
            self.settle()

    def settle(self) -> None:
        """Make samples of what was noted: of many at once, each costs a fraction of what one alone would."""
        noted, self._noted = self._noted, []
        for each in noted:
            sample = each.sample()
            self._samples.append(sample)
            self.on_sample(sample)

    def summary(self, now_ms: int) -> Commits:
        """What the window holds; at most `SUMMARY_MS` old. `waiting` is for the caller to fill in."""
        self.settle()
        if self._summary_ms is None or now_ms - self._summary_ms >= SUMMARY_MS:
            self._summary, self._summary_ms = self._sum_up(now_ms), now_ms
        return self._summary

    def _sum_up(self, now_ms: int) -> Commits:
        samples = self._samples
        whole = len(samples) == SAMPLES_MAX
        while samples and now_ms - samples[0].at_ms > WINDOW_MS:
            samples.popleft()
            whole = False
        began_ms = now_ms - WINDOW_MS if self._began_ms is None else self._began_ms
        if whole:  # a full ring begins in the middle of the window
            began_ms = samples[0].at_ms
        window_ms = max(1, min(WINDOW_MS, now_ms - began_ms))
        count = sum(sample.requests for sample in samples)
        commits = Commits(
            window_ms=window_ms,
            count=count,
            rate=round(count * 1_000 / window_ms, 1),
            completed_by=dict(Counter(sample.by for sample in samples if sample.by is not None)),
        )
        stages = {name: _stage(getattr(sample, name) for sample in samples) for name in STAGES}
        return msgspec.structs.replace(commits, **stages)


def _stage(values: Iterable[int | None]) -> Stage:
    """The median and the 99th percentile of what was seen."""
    seen = sorted(value for value in values if value is not None)
    if not seen:
        return Stage()
    return Stage(p50_us=seen[len(seen) // 2], p99_us=seen[len(seen) * 99 // 100])

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


@dataclass(slots=True, eq=False)
class CommitTimes:
    """The batches of one reign that were applied within the window; the eldest go first.

    `on_sample` gets each of them, for counts that outlive the window and the reign.
    """

    lately_us: float = 0.0
    """From the making of a batch to its application, the last ones weighing most."""
    on_sample: Callable[[Sample], None] = lambda sample: None
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
        me = flight.batch.reign.primary
        arrived_us = proposals[0].arrived_us or None  # the batch was made in the order of arrival
        by, after_us = (None, 0) if flight.completing is None else flight.acks[flight.completing]
        abroad = flight.remote_us if by not in (None, me) else None
        local = next((took for node, took in flight.acks if node == me), None)
        committed_us = flight.committed_us
        sample = Sample(
            at_ms=now.ms,
            requests=len(proposals),
            by=by,
            queue=None if arrived_us is None else flight.made_us - arrived_us,
            local_fsync=local,
            wire=None if abroad is None else max(0, after_us - abroad),
            remote_fsync=abroad,
            apply=None if committed_us is None else now.us - committed_us,
            total=None if arrived_us is None else now.us - arrived_us,
        )
        self._samples.append(sample)
        self.on_sample(sample)

    def summary(self, now_ms: int) -> Commits:
        """What the window holds; at most `SUMMARY_MS` old. `waiting` is for the caller to fill in."""
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

"""Memory of the primary in situations that could fill it, and how fast a follower that lagged comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import anyio
import msgspec

from redwire.client import Client, connect
from redwire.document import encode_record
from redwire.pending import Pending
from redwire.record import Op
from redwire.status import Status
from tools.bench.figures import Figure
from tools.bench.guests import FETCHES, WRITES, Manner, Party
from tools.bench.nodes import COLLECTION, DOCUMENT_BYTES, Nodes
from tools.bench.proc import resident_mb
from tools.bench.worker import Worker
from tools.errors import BenchImpossible

IDLE_CLIENTS = 1_000
"""What the target of 40 MB is for."""
LAG_WRITES = 50_000
"""Some 10 MB of log, more than a follower's channel holds."""
LAG_IN_FLIGHT = 1_024
"""As with eight times 128, the highest load of the throughput figures."""
CATCH_UP_REQUESTS = 300
"""With the rows of each some 60 MB of log, as much as a segment holds."""
CATCH_UP_ROWS = 1_000
"""A request of 200 KB: a batch takes in four of them."""
LARGE_BYTES = 64 << 10
"""Of the document that the client which never reads asks for: all its answers are 256 MB and more."""
SAMPLE_S = 0.05
"""Twenty looks a second see every peak that lasts, and cost a thousandth of a core."""
POLL_S = 0.01
"""The rate of a catch-up of a second is known to a hundredth."""
UNREAD_S = 8.0
"""The node stops reading after 8 MiB of answers, long before."""
QUIET_S = 2.0
"""What a tick or a checkpoint frees is free by then."""
CATCH_UP_S = 120.0
"""At half a megabyte a second something is broken."""
CALL_S = 120.0
"""As long as the longest wait beside it."""


def resident(nodes: Nodes, when: str) -> list[Figure]:
    """What the primary, and the largest replica, hold now."""
    figures = [Figure(f"primary, {when}", resident_mb(nodes.leader_pid), "MB")]
    others = [pid for pid in nodes.pids if pid != nodes.leader_pid]
    if others:
        figures.append(Figure(f"largest replica, {when}", max(map(resident_mb, others)), "MB"))
    return figures


def idle_clients(nodes: Nodes) -> list[Figure]:
    """What `IDLE_CLIENTS` that do nothing cost the primary."""
    before = _quiet_mb(nodes)
    party = Party(nodes.uri, Manner.IDLE, IDLE_CLIENTS, COLLECTION)
    with Worker("tools.bench.guests", party) as guests:
        guests.line()
        cost = _quiet_mb(nodes) - before
    return [Figure(f"primary, {IDLE_CLIENTS:,} idle clients added", cost, "MB", f"{before:.0f} MB before")]


def unread_answers(nodes: Nodes) -> list[Figure]:
    """What a client costs that writes and reads on and on, and takes no answer.

    Raises `BenchImpossible` where that client did not come: then nothing was measured.
    """
    anyio.run(_put_large, nodes.uri)
    before = _quiet_mb(nodes)
    party = Party(nodes.uri, Manner.NEVER_READS, 1, COLLECTION, "large")
    peak = Peak(nodes.leader_pid)
    with Worker("tools.bench.guests", party) as guest:
        until_s = time.monotonic() + UNREAD_S
        while time.monotonic() < until_s:
            peak.look()
            time.sleep(SAMPLE_S)
        guest.line()  # it came, and is stuck
    asked = f"{WRITES:,} writes, then {FETCHES:,} reads of {LARGE_BYTES >> 10} KiB each"
    note = f"{before:.0f} MB before; {asked}, {FETCHES * LARGE_BYTES / 1e6:.0f} MB in all"
    return [Figure("primary, added at most by a client that never reads", peak.mb - before, "MB", note)]


def lagging_follower(nodes: Nodes, say: Callable[[str], None]) -> list[Figure]:
    """Stop one replica, write on, and let it come back."""
    lagging = nodes.cluster.plan.nodes[-1].id
    if len(nodes.pids) < 3:
        return [Figure("follower catch-up", None, "MB/s", "takes three nodes")]
    before = _quiet_mb(nodes)
    nodes.cluster.signal_node(lagging, signal.SIGSTOP)
    try:
        say(f"{lagging} is stopped; {LAG_WRITES:,} writes go on")
        peak = anyio.run(_write_on, nodes)
        note = (
            f"{before:.0f} MB before; {LAG_WRITES:,} writes of {DOCUMENT_BYTES} B while {lagging} is stopped"
        )
        figures = [Figure("primary, added at most under a follower that lags", peak - before, "MB", note)]
        say(f"{CATCH_UP_REQUESTS * CATCH_UP_ROWS:,} more documents in bulk, for the catch-up")
        backlog = anyio.run(_fill, nodes.uri)
    finally:
        nodes.cluster.signal_node(lagging, signal.SIGCONT)
    say(f"{lagging} goes on")
    return figures + anyio.run(_catch_up, nodes.uri, lagging, backlog)


@dataclass(slots=True, eq=False)
class Peak:
    """The most that was seen."""

    pid: int
    mb: float = 0.0

    def look(self) -> None:
        """Look now."""
        self.mb = max(self.mb, resident_mb(self.pid))


class Backlog(msgspec.Struct, frozen=True):
    """What a follower has to fetch: the bulk part begins behind `bulk_first` and ends at `head`."""

    bulk_bytes: int
    bulk_first: int
    head: int


def _quiet_mb(nodes: Nodes) -> float:
    time.sleep(QUIET_S)
    return resident_mb(nodes.leader_pid)


async def _put_large(uri: str) -> None:
    async with connect(uri) as client:
        await client.put(COLLECTION, "large", {"text": "x" * LARGE_BYTES})


async def _write_on(nodes: Nodes) -> float:
    """Do the writes, one request each, and look at the primary meanwhile."""
    peak = Peak(nodes.leader_pid)
    text = "x" * (DOCUMENT_BYTES - 30)
    async with connect(nodes.uri) as client:
        records = (
            [encode_record(Op.PUT, COLLECTION, f"l{number:06}", {"n": 1_000_000 + number, "text": text})]
            for number in range(LAG_WRITES)
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_look_on, peak)
            await _submit_all(client, records, LAG_IN_FLIGHT)
            tasks.cancel_scope.cancel()
    return peak.mb


async def _look_on(peak: Peak) -> None:
    while True:
        peak.look()
        await anyio.sleep(SAMPLE_S)


async def _fill(uri: str) -> Backlog:
    """Load documents in bulk, which makes a long log in little time."""
    text = "x" * (DOCUMENT_BYTES - 30)
    size = 0

    def requests() -> Iterator[list[bytes]]:
        nonlocal size
        for request in range(CATCH_UP_REQUESTS):
            numbers = range(request * CATCH_UP_ROWS, (request + 1) * CATCH_UP_ROWS)
            records = [
                encode_record(Op.PUT, COLLECTION, f"c{number:06}", {"n": 1_000_000 + number, "text": text})
                for number in numbers
            ]
            size += sum(map(len, records))
            yield records

    async with connect(uri) as client:
        first = _end(await client.status())
        await _submit_all(client, requests(), 8)
        return Backlog(size, first, _end(await client.status()))


async def _submit_all(client: Client, requests: Iterator[list[bytes]], in_flight: int) -> None:
    """Write every request, so many at a time. Raises what any of them raises."""
    room = anyio.Semaphore(in_flight)
    failures: list[Pending] = []

    def answered(pending: Pending) -> None:
        room.release()
        if pending.error is not None:
            failures.append(pending)

    for records in requests:
        await room.acquire()
        ids = [""] * len(records)
        client.submit(records, ids, timeout_s=CALL_S, callback=answered)
        if failures:
            break
    for _ in range(in_flight):
        await room.acquire()
    for pending in failures:
        raise BenchImpossible(f"a write failed: {pending.error}")


async def _catch_up(uri: str, lagging: str, backlog: Backlog) -> list[Figure]:
    """Watch the follower come back: the log first, then its state."""
    began = time.monotonic()
    moments: list[tuple[float, int]] = []
    applied_s: float | None = None
    async with connect(uri) as client:
        while applied_s is None:
            await anyio.sleep(POLL_S)
            durable, applied = _stand(await client.status(), lagging)
            moments.append((time.monotonic() - began, durable))
            if applied >= backlog.head:
                applied_s = time.monotonic() - began
            elif time.monotonic() - began > CATCH_UP_S:
                note = f"at LSN {durable} of {backlog.head} after {CATCH_UP_S:g} s"
                return [Figure("follower catch-up", None, "MB/s", note)]
    return catch_up_figures(moments, applied_s, backlog)


def catch_up_figures(
    moments: Sequence[tuple[float, int]], applied_s: float, backlog: Backlog
) -> list[Figure]:
    """From (seconds, durable LSN) in their order: the speed of the log over the bulk part of the backlog."""
    reached = next(at for at, durable in moments if durable >= backlog.head)
    entered = next(at for at, durable in moments if durable > moments[0][1] or durable >= backlog.bulk_first)
    part = [(at, durable) for at, durable in moments if backlog.bulk_first <= durable and at <= reached]
    (from_s, from_lsn), (to_s, to_lsn) = part[0], part[-1]
    share = (to_lsn - from_lsn) / (backlog.head - backlog.bulk_first)
    speed = backlog.bulk_bytes * share / 1e6 / (to_s - from_s) if to_s > from_s else None
    size_mb = backlog.bulk_bytes * share / 1e6
    note = f"over {size_mb:.0f} MB of records; it moved {entered:.1f} s after it went on"
    return [
        Figure(
            "follower catch-up, log durable", speed, "MB/s", note if speed else "faster than two looks at it"
        ),
        Figure("follower catch-up, all applied", applied_s, "s", f"{backlog.head:,} is the last LSN"),
    ]


def _end(status: Status) -> int:
    """Where the primary's log ends."""
    assert status.head is not None, "no primary is in sight"
    return status.head


def _stand(status: Status, name: str) -> tuple[int, int]:
    """How far the primary knows `name` to be: durable and applied."""
    node = status.node(name)
    assert node is not None
    return node.durable or 0, node.applied or 0

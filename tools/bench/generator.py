"""One process of load: connects, keeps writes under way, and counts what is answered inside a window.

Started by `tools.bench.window` with a `Task` on standard input; says `ready` once it is connected, then reads
a `Span` and runs until its end. What it found is one JSON line. The clock of all processes is the machine's
monotonic one.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import AsyncExitStack
from importlib.util import find_spec

import anyio
import anyio.to_thread
import msgspec

from redwire.client import Client, connect
from redwire.pending import Pending

RECEIPT_EVERY = 20
"""Of so many commits one receipt is opened, for the breakdown: opening each would be load of another kind."""
CALL_S = 30.0
"""A write takes milliseconds: who waits for this one measures a cluster that is broken."""


class Task(msgspec.Struct, frozen=True):
    """What to write: documents of `document_bytes`, at random ids below `ids`, to the primary `leader`."""

    uri: str
    leader: str
    connections: int
    in_flight: int
    collection: str
    ids: int
    document_bytes: int
    seed: int


class Span(msgspec.Struct, frozen=True):
    """The window, in seconds of the monotonic clock."""

    begin_s: float
    end_s: float


class Found(msgspec.Struct, frozen=True):
    """What was answered inside the window. Times in µs; `own_disk_us` and `rule_met_us` are samples."""

    latencies_us: list[int]
    failed: int
    first_failure: str
    own_disk_us: list[int]
    rule_met_us: list[int]


class Lane:
    """One place in flight: as soon as a write is answered the next one leaves."""

    __slots__ = ("_began_ns", "_client", "_crew")

    def __init__(self, crew: Crew, client: Client) -> None:
        self._crew = crew
        self._client = client
        self._began_ns = 0

    def send(self) -> None:
        """Send the next write."""
        crew = self._crew
        ident, document = crew.next_document()
        self._began_ns = time.monotonic_ns()
        self._client.submit_put(
            crew.task.collection, ident, document, timeout_s=CALL_S, callback=self._answered
        )

    def _answered(self, pending: Pending) -> None:
        now_ns = time.monotonic_ns()
        if self._crew.counted(pending, self._began_ns, now_ns):
            self.send()


class Crew:
    """All lanes of this process, and what they count together."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.lanes: list[Lane] = []
        self.finished = anyio.Event()
        self.found = Found([], 0, "", [], [])
        self._failed = 0
        self._first_failure = ""
        self._chance = random.Random(task.seed)
        self._count = 0
        self._running = 0
        self._begin_ns = self._end_ns = 0
        shape = len(msgspec.json.encode({"n": 1_000_000, "name": "", "text": ""}))
        self._text = "".join(self._chance.choices("abcdefghij", k=max(0, task.document_bytes - shape - 7)))

    async def run(self, span: Span) -> Found:
        """Keep every lane busy until the end of `span`."""
        self._begin_ns, self._end_ns = int(span.begin_s * 1e9), int(span.end_s * 1e9)
        self._running = len(self.lanes)
        for lane in self.lanes:
            lane.send()
        await self.finished.wait()
        return msgspec.structs.replace(self.found, failed=self._failed, first_failure=self._first_failure)

    def next_document(self) -> tuple[str, dict[str, object]]:
        """An id and a document, always of the same size."""
        self._count += 1
        number = int(self._chance.random() * self.task.ids)
        return f"d{number:06}", {"n": 1_000_000 + self._count, "name": f"d{number:06}", "text": self._text}

    def counted(self, pending: Pending, began_ns: int, now_ns: int) -> bool:
        """Count one answer; whether its lane goes on."""
        if self._begin_ns <= now_ns < self._end_ns:
            self._count_one(pending, (now_ns - began_ns) // 1000)
        if now_ns < self._end_ns:
            return True
        self._running -= 1
        if not self._running:
            self.finished.set()
        return False

    def _count_one(self, pending: Pending, latency_us: int) -> None:
        if pending.error is not None:
            self._failed += 1
            self._first_failure = self._first_failure or str(pending.error)
            return
        found = self.found
        found.latencies_us.append(latency_us)
        if len(found.latencies_us) % RECEIPT_EVERY == 1:
            receipt = pending.result().receipt
            if receipt.completed_by is not None:
                found.rule_met_us.append(receipt.completed_by.after_us)
            found.own_disk_us.extend(ack.after_us for ack in receipt.acks if ack.node == self.task.leader)


async def work() -> None:
    """Do the task that stands on standard input."""
    task = msgspec.json.decode(await anyio.to_thread.run_sync(sys.stdin.readline), type=Task)
    crew = Crew(task)
    async with AsyncExitStack() as stack:
        for _ in range(task.connections):
            client = await stack.enter_async_context(connect(task.uri, name="redwire-bench"))
            await client.status()
            crew.lanes += [Lane(crew, client) for _ in range(task.in_flight)]
        print("ready", flush=True)
        span = msgspec.json.decode(await anyio.to_thread.run_sync(sys.stdin.readline), type=Span)
        found = await crew.run(span)
        print(msgspec.json.encode(found).decode(), flush=True)
        # connected until it is ended: whoever counts the connections' bytes may not be done
        await anyio.to_thread.run_sync(sys.stdin.readline)


if __name__ == "__main__":
    anyio.run(work, backend_options={"use_uvloop": find_spec("uvloop") is not None})  # as the nodes do

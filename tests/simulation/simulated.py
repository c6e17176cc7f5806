"""Everything in a process that is simulated, put in its place for as long as a run takes."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
import anyio.to_thread
from disks import Faults, failing
from lines import Network
from machines import HERE, Machine
from sessions import Dialled, SimulatedNode, SimulatedServer, SimulatedService
from workers import Desk, SimulatedApplier, SimulatedDisk, SmallWal, Unthreaded

from cluster import (
    applier,
    apply_queue,
    disk,
    folds,
    journal,
    links,
    outbox,
    process,
    reader,
    server,
    sqlite_log,
    state,
    storage,
)
from redwire.errors import ConnectFailed

CHECKPOINT_BYTES = 128 << 10
"""So small that states are checkpointed within a run: before that no log is let go of."""
KEY_ENTRIES = 16
"""So few of what is stored of keys that was dropped: then it is written anew within a run."""


@contextmanager
def simulated(network: Network, chance: random.Random, announce_s: float) -> Iterator[None]:
    """Inside, processes live on simulated machines. A watermark that no batch carries leaves after
    `announce_s`.
    """

    async def dial(
        host: str, port: int, *_: object, server_hostname: str, client_name: str, taken: object = None
    ) -> Dialled:
        name = server_hostname.partition(".")[0]
        there = network.places[name]
        if isinstance(there, Machine) and there.config.reached_at.port != port:
            raise ConnectFailed(f"cannot connect to {host}:{port}: connection refused", retry=True)
        return Dialled(await network.dial(HERE.get(), name))

    async def run_sync(work: Callable[..., Any], *arguments: Any, **_: object) -> Any:
        await anyio.lowlevel.checkpoint_if_cancelled()  # as the real one begins
        with anyio.CancelScope(shield=True):
            await anyio.sleep(chance.uniform(0.0001, 0.002))
        return work(*arguments)

    async def listen(*_: object) -> AsyncExitStack:
        return AsyncExitStack()

    def token(size: int = 16) -> str:
        return chance.randbytes(size).hex()

    threads = SimpleNamespace(
        Condition=threading.Condition,
        Lock=threading.Lock,
        Semaphore=threading.Semaphore,
        Thread=Unthreaded,
        Event=threading.Event,
    )
    clock = SimpleNamespace(perf_counter_ns=lambda: HERE.get().now().us * 1_000)
    changes: list[tuple[Any, str, Any]] = [
        (links, "dial", dial),
        (anyio.to_thread, "run_sync", run_sync),
        (process, "listen", listen),
        (process, "now", lambda: HERE.get().now()),
        (process, "Node", SimulatedNode),
        (process, "Service", SimulatedService),
        (process, "Server", SimulatedServer),
        (server, "time", SimpleNamespace(monotonic=lambda: 0.0)),
        (journal, "Disk", SimulatedDisk),
        (disk, "time", clock),
        (apply_queue, "Applier", SimulatedApplier),
        (applier, "threading", threads),
        (folds, "threading", threads),
        (reader, "threading", threads),
        (storage, "ReadDesk", Desk),
        (storage, "Wal", SmallWal),
        (sqlite_log, "FOLD_BYTES", CHECKPOINT_BYTES),
        (state, "KEY_BYTES_SLACK", 60 * KEY_ENTRIES),
        (outbox, "ANNOUNCE_S", announce_s),
        (process, "random", SimpleNamespace(Random=lambda: random.Random(chance.random()))),
    ]
    nowhere = Faults()
    with ExitStack() as stack:
        stack.enter_context(failing(lambda: getattr(HERE.get(None), "faults", nowhere)))
        for module, name, value in changes:
            stack.enter_context(patch.object(module, name, value))
        for name in ("token_hex", "token_urlsafe"):
            stack.enter_context(patch.object(secrets, name, token))
        stack.enter_context(patch.object(secrets, "token_bytes", chance.randbytes))
        yield

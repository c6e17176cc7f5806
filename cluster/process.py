"""One node process: storage, node, links and listener, wired, and run until something ends it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from cluster import threads
from cluster.audit import Audit
from cluster.auth import Authenticator
from cluster.bell import Bell
from cluster.comparison import check_file, compare
from cluster.config import NodeConfig, ReplicationRole
from cluster.credentials import NodeCredentials
from cluster.drivers import Drivers
from cluster.effects import Now
from cluster.errors import ApplyStopped, NodeError, StateCorrupt, first
from cluster.events import EventKind
from cluster.exposure import exposed
from cluster.housekeeping import Housekeeping
from cluster.joining import userless
from cluster.links import Links
from cluster.listening import listen
from cluster.log_config import Level, Log
from cluster.node import Node
from cluster.opening import TakeOver
from cluster.overseers import Overseers
from cluster.rebuild import Rebuilder
from cluster.reign import Candidate
from cluster.reload import Reloader
from cluster.replica import Replica
from cluster.server import Server
from cluster.service import Service
from cluster.signals import Signals, ignore_hangups
from cluster.snapshot_library import SnapshotLibrary
from cluster.state import copy_bytes
from cluster.storage import Storage, follower
from redwire import __version__
from redwire.errors import RedwireError

LED_S = 0.1
"""How often it is looked whether there is a leader again."""


def now() -> Now:
    """The clocks of this machine."""
    return Now(time.monotonic_ns() // 1000, time.time_ns() // 1_000_000)


async def run(
    config: NodeConfig,
    credentials: NodeCredentials | None,
    note: Log,
    signals: Signals,
    take_over: TakeOver | None,
) -> int:
    """Run a node until a signal or a failure ends it; the exit code."""
    return await Process(config, credentials, note, signals, take_over=take_over).run()


class Process:
    """What a `redwire-node` consists of. Made inside the event loop that runs it.

    `credentials` is None where TLS is off.
    """

    def __init__(
        self,
        config: NodeConfig,
        credentials: NodeCredentials | None,
        note: Log,
        signals: Signals,
        *,
        take_over: TakeOver | None,
    ) -> None:
        self._config = config
        self._credentials = credentials
        self._note = note
        self._signals = signals
        self._take_over = take_over
        self._failure: BaseException | None = None
        self._scope = anyio.CancelScope()

    async def run(self) -> int:
        """Serve until a signal or a failure."""
        data_dir = self._config.node.data_dir
        self._note(f"redwire-node {__version__} opens {data_dir}, and looks through all of its log first")
        post = asyncio.get_running_loop().call_soon_threadsafe
        with threads.watched(lambda error: post(self._fail, error)):
            await self._run(Storage(self._config, post, self._fail))
        if self._failure is not None:
            told = threads.scarce(self._failure) or self._failure
            foreseen = isinstance(told, RedwireError)
            self._note(f"stopped: {told if foreseen else repr(told)}", Level.ERROR)
            return 1
        self._note("stopped")
        return 0

    async def _run(self, storage: Storage) -> None:
        audit = Audit(self._config.audit, storage.me, now, self._note)
        try:
            await self._check_settings(storage)
            with self._scope:
                await self._serve(storage, audit)
        except* RedwireError as group:
            self._failure = self._failure or first(group)
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await anyio.to_thread.run_sync(storage.close)
                except NodeError as error:
                    self._failure = self._failure or error
                await anyio.to_thread.run_sync(audit.close)

    async def _serve(self, storage: Storage, audit: Audit) -> None:
        config = self._config
        node = Node(storage, follower(storage, storage.watermark), now, self._note)
        node.roster.candidacy.aspires = config.node.role is ReplicationRole.PRIMARY
        storage.reads.on_damage = partial(self._damaged, node)
        service = Service(node, audit)
        library, authenticator = _library(storage), _authenticator(node, config)
        chance = random.Random()
        links = Links(node, config, self._credentials, chance)
        rebuilder = Rebuilder(node, links)
        node.outbox.rebuild = rebuilder.begin
        node.roster.lines = links
        credentials = self._credentials
        context = credentials.server_context if credentials is not None else lambda: None
        server = Server(service, authenticator, library, partial(Drivers, service), context)
        node.on_applied = partial(_applied, service, server)
        node.outbox.apply.awaited = lambda: service.reads.waiting
        reloader = Reloader(credentials, storage.lock, self._note)
        housekeeping = Housekeeping(node, service, config, library, credentials)
        housekeeping.on_settings = lambda: self._settings_changed(node, links)
        overseers = Overseers(config, service, authenticator, credentials, self._note, os.environ)
        listener = await listen(config.node.listen, "node.listen")
        async with listener, overseers, anyio.create_task_group() as tasks:
            tasks.start_soon(self._stops)
            tasks.start_soon(self._outlive_apply, node)
            tasks.start_soon(self._hangups, partial(overseers.reload, reloader.reload))
            tasks.start_soon(node.run)
            tasks.start_soon(server.serve, listener)
            tasks.start_soon(housekeeping.run)
            tasks.start_soon(library.run)
            tasks.start_soon(links.run)
            tasks.start_soon(rebuilder.run)
            tasks.start_soon(rebuilder.find_room)
            tasks.start_soon(audit.run)
            tasks.start_soon(overseers.run)
            self._greet(storage)
            if node.roster.candidacy.aspires:
                candidate = Candidate(node, config, chance, take_over=self._take_over)
                await candidate.run()
                await candidate.renew()

    def _greet(self, storage: Storage) -> None:
        for note in storage.notes:
            self._note(note)
        where = f"log ends at {storage.log.end}, applied {storage.applied.lsn}"
        self._note(f"listens on {self._config.node.listen}; {where}")
        for warning in [] if self._credentials is None else self._credentials.unnamed:
            self._note(str(warning), Level.WARNING)
        for warning in exposed(Path(self._config.node.data_dir)):
            self._note(str(warning), Level.WARNING)

    async def _check_settings(self, storage: Storage) -> None:
        """Hold this node's file against the log, and who is given up. Raises as `check_file`, and for names
        that no member ever had: the file need not have them all.
        """
        logged = [settings.cluster for settings in (await storage.logged()).settings]
        ever = [*storage.past_settings(), *logged]
        for warning in check_file(self._config, ever):
            self._note(str(warning), Level.WARNING)
        if self._take_over is not None:
            clusters = ever or [self._config.cluster]
            self._take_over.check(member.id for cluster in clusters for member in cluster.members)

    def _settings_changed(self, node: Node, links: Links) -> None:
        """Other settings are in force from here on."""
        links.match_settings()
        storage = node.storage
        settings = storage.settings
        text = settings.record.text if settings.record is not None else ""
        text = f"the settings of LSN {settings.lsn} are in force{': ' if text else ''}{text}"
        node.happened(EventKind.SETTINGS_CHANGED, text)
        for difference in compare(self._config.cluster, storage.past_settings()).unheard:
            self._note(f"not the file's: {difference}", Level.WARNING)

    def _damaged(self, node: Node, error: NodeError) -> None:
        """The state is not to be trusted: nobody reads it, and no primary decides by it."""
        node.damage.condemn(error)
        if node.leads or node.roster.candidacy.aspires:
            self._fail(error)

    async def _outlive_apply(self, node: Node) -> None:
        """Once nothing is applied any more the process ends. Where that is for what state or log hold, it
        waits until this node is led: whoever is to lead may need what only this log has. A snapshot that
        takes the place of the state meanwhile is applied to, as if nothing had been.
        """
        storage = node.storage
        failures: asyncio.Queue[BaseException] = asyncio.Queue()
        storage.applies.on_failure = failures.put_nowait
        while True:
            error, state = await failures.get(), storage.state
            if isinstance(error, StateCorrupt):
                self._damaged(node, error)
            while storage.state is state:
                if not (isinstance(error, StateCorrupt | ApplyStopped) and _unled(node)):
                    return self._fail(error)
                await anyio.sleep(LED_S)

    def _fail(self, error: BaseException) -> None:
        """The process ends: what it could not make durable it must not acknowledge."""
        self._failure = self._failure or error
        self._scope.cancel()

    async def _stops(self) -> None:
        """End the process when a signal asks for it, or has asked before there was a loop."""
        asked, loop, signals = Bell(), asyncio.get_running_loop(), self._signals
        signals.listen(lambda: loop.call_soon_threadsafe(asked.ring))
        try:
            await asked.wait()
        finally:
            signals.listen(None)
        assert signals.asked is not None
        self._note(f"{signals.asked.name}: stopping")
        self._scope.cancel()

    async def _hangups(self, reload: Callable[[], Awaitable[None]]) -> None:
        """Reload once after each SIGHUP, or after several that came together."""
        asked = Bell()
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGHUP, lambda number, frame: loop.call_soon_threadsafe(asked.ring))
        try:
            while True:
                await asked.wait()
                await reload()
        finally:
            ignore_hangups()


def _unled(node: Node) -> bool:
    """Whether it is a replica that nobody leads; so it is while a snapshot comes, which mends a state."""
    role = node.role
    return isinstance(role, Replica) and not node.roster.candidacy.aspires and role.leader is None


def _library(storage: Storage) -> SnapshotLibrary:
    """Snapshots of the state in use, which another one may replace."""
    return SnapshotLibrary(
        storage.data_dir / "snapshots",
        lambda path, recall: storage.state.snapshot_into(path, recall),
        lambda: storage.applied.lsn,
        lambda at: storage.log.continues(at),
        lambda: copy_bytes(storage.state.path) + storage.config.retention.disk_free_min_bytes,
    )


def _authenticator(node: Node, config: NodeConfig) -> Authenticator:
    """Judges by the settings and accounts that are applied at that moment."""
    storage = node.storage
    return Authenticator(
        lambda: storage.settings.cluster,
        config.auth.anonymous,
        lambda: storage.state.accounts(),
        storage.secret,
        node.announcer,
        lambda: userless(storage.meta.cluster, storage.settings.lsn),
    )


def _applied(service: Service, server: Server) -> None:
    """The state has moved on: reads may go on, and sessions may have to end."""
    service.reads.applied()
    server.guests.review(service.node.storage.state.accounts())

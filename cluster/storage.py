"""Everything of a node that lies in its data directory, opened in the one safe order.

The lock first, then `meta.cbor`, then the state, then the log, which recovery holds against both (DESIGN 7).
Callers live on the event loop; the disk thread owns log and meta, the apply thread owns the state, read
threads read.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from cluster import meta as meta_file
from cluster.apply_queue import ApplyQueue
from cluster.cluster_config import ClusterConfig
from cluster.config import NodeConfig
from cluster.data_lock import DataLock
from cluster.disk import DiskState, DiskStatus
from cluster.errors import ApplyStopped, DataDirForeign, DiskFailed, DiskFull, NoSpaceToStart
from cluster.files import translated
from cluster.journal import Journal
from cluster.log import Log
from cluster.log_room import NO_SPACE, LogRoom
from cluster.logged import Logged
from cluster.meta import Meta
from cluster.read_desk import ReadDesk
from cluster.replacement import (
    Replacement,
    check_named,
    clear_strays,
    require_joined,
    stray_generations,
)
from cluster.replica import Replica
from cluster.settings import Settings
from cluster.state import State
from cluster.threads import Post
from cluster.volume import LOG_FOLDER
from cluster.wal import Wal, make_room
from redwire.errors import BodyInvalid, RequestInvalid
from redwire.message.log import ClusterRecord
from redwire.message.peer import Report, report_terms, report_without
from redwire.node_role import NodeRole
from redwire.position import ClusterId, Incarnation, Lsn, NodeId, Position, Reign, Term

READ_BYTES = 1 << 20
"""A full batch at one read."""
UNSYNCED_S = 0.02
"""Until it is looked again for what is not on disk yet: little, and next to no work where a disk is full."""


class Storage:
    """One open data directory. `connect` starts the threads that write; `close` ends all of them.

    `state` is the state in use, for what it answers to any thread; `log` the log's outline. `watermark` is
    the highest one that the disk knew at the start (R5), `notes` what an operator should hear of the opening.
    """

    def __init__(self, config: NodeConfig, post: Post, fail: Callable[[BaseException], None]) -> None:
        """Raises what recovery finds: `LogCorrupt`, `StateCorrupt`, `DataDirInUse`, `NoSpaceToStart`, …"""
        self.config = config
        self.fail = fail
        self.notes: list[str] = []
        self._settings = Settings(Lsn(0), config.cluster)
        try:
            with translated(self.data_dir):
                self.lock = DataLock.take(self.data_dir)
                found = meta_file.load(self.data_dir)
                check_named(self.data_dir, found)
                self.meta = found or _new_directory(self.data_dir, self.me)
                self.state, wal, self.log = self._open()
        except DiskFull as error:
            raise NoSpaceToStart(error) from error
        self.watermark = Lsn(max(wal.watermark, self.state.applied.lsn))
        self.journal = Journal(wal, self.log, self.data_dir, self.meta, post, fail)
        self.applies = ApplyQueue(post, fail, lambda: self.log.durable)
        self.reads = ReadDesk(self.state.path, post, self.state.sqlite_log.way)

    def connect(self, on_durable: Callable[[Lsn], None]) -> None:
        """Start the threads that write. `on_durable` follows every sync."""
        self.journal.on_durable = on_durable
        self.journal.disk.start()
        self.applies.use(self.state)

    def close(self) -> None:
        """Finish what was asked for, and let go of the directory. Blocks for the last sync.

        Raises `DiskFailed` for a disk that hangs: as it may yet write, the directory stays locked until this
        process has ended.
        """
        self.applies.stop()
        self.reads.stop()
        finished = self.journal.stop()
        self.state.close()
        if not finished:
            late = f"the last sync has not ended within {self.journal.close_s:g} s"
            raise DiskFailed(self.data_dir, f"{late}; the directory stays locked until this process is gone")
        self.lock.close()

    @property
    def data_dir(self) -> Path:
        """Where all of it lies."""
        return Path(self.config.node.data_dir)

    @property
    def me(self) -> NodeId:
        """This node."""
        return self.config.node.id

    @property
    def applied(self) -> Position:
        """How far the state goes."""
        return self.state.applied

    @property
    def reign(self) -> Reign | None:
        """The reign in `meta.cbor`."""
        return Reign(self.meta.term, self.meta.primary) if self.meta.primary else None

    @property
    def settings(self) -> Settings:
        """What all nodes agree on, as far as this one applied the log; before that, what its file says.

        The same object until a later record is applied, however often an `apply` is undone for want of space.
        """
        records = self.state.cluster_records()
        lsn, record = records[-1] if records else (Lsn(0), None)
        if record is not None and lsn > self._settings.lsn:
            self._settings = Settings.of(record, lsn)
        return self._settings

    def past_settings(self) -> list[ClusterConfig]:
        """All that was ever in force here, the present one last; empty before the first record."""
        return [ClusterConfig.from_record(record) for _, record in self.state.cluster_records()]

    async def logged(self) -> Logged:
        """What the log above what is applied now decides. Nothing is appended meanwhile.

        Raises `ApplyStopped` at a batch that this version does not understand: another one is to start here.
        """
        found = Logged([], {})
        at, end = self.applied.lsn, self.log.end.lsn
        while at < min(end, self.log.end.lsn):  # a cut may end it earlier
            batches = await self.journal.read(at, READ_BYTES, end)
            if not batches:
                await anyio.sleep(UNSYNCED_S)
            for batch in batches:
                try:
                    found.take(batch)
                except (RequestInvalid, BodyInvalid) as error:
                    raise ApplyStopped(batch.last, str(error)) from error
                at = batch.last
        return found

    def room(self) -> LogRoom:
        """What there is and will be room for: nothing of both while the log, or the state that is to follow,
        has no space.
        """
        return NO_SPACE if self.applies.blocked else self.journal.room()

    def disk_status(self) -> DiskStatus:
        """The disk as log and state find it: it is full where either has no space."""
        status = self.journal.disk.status()
        if status.state is DiskState.WORKING and self.applies.blocked:
            return msgspec.structs.replace(status, state=DiskState.FULL, room_bytes=0)
        return status

    def report(self, role: NodeRole, watermark: Lsn, follows: NodeId | None, stands: Term) -> Report:
        """Where this node stands, for its peers; `follows` is whoever leads it now, `stands` the term for
        which it asks for votes.
        """
        meta, log, node, vote = self.meta, self.log, self.config.node, self.journal.disk.meta.vote
        return Report(
            cluster=meta.cluster,
            name=self.config.cluster.name,
            node=node.id,
            region=node.region,
            incarnation=meta.incarnation,
            process=self.lock.process,
            role=role,
            term=meta.term,
            primary=meta.primary,
            follows=follows or "",
            stands=stands,
            vote=vote.term,
            voted_for=vote.node or "",
            other_vote=vote.other,
            last_term=log.end.term,
            last_lsn=log.end.lsn,
            last_chain=log.end.chain,
            watermark=watermark,
            applied=self.applied.lsn,
            base=log.base.lsn,
            reached_at=str(self.config.reached_at),
            advertise=str(node.advertise or ""),
            terms=report_terms(log.terms),
            without=report_without(self.state.given_up()),
        )

    def admitted(self, record: ClusterRecord | None) -> Mapping[NodeId, Incarnation]:
        """The incarnations that count: by the cluster's record (`record` for a cluster in the making), and by
        what was admitted later.
        """
        record = record or self.settings.record
        named = {} if record is None else {m.id: m.incarnation for m in record.members if m.incarnation}
        return {NodeId(n): Incarnation(i) for n, i in named.items()} | dict(self.state.admits())

    def secret(self) -> bytes:
        """The cluster's secret; before there is a cluster, one that only this directory knows."""
        record = self.settings.record
        return record.secret if record is not None else self.meta.incarnation.encode()

    def save_reign(self, reign: Reign, cluster: ClusterId, done: Callable[[], None]) -> None:
        """Write the reign from now on, one that we follow, and its cluster where that was unknown."""
        self.meta = self.meta.in_reign(reign, cluster)
        self.journal.disk.save_meta(self.meta, lambda saved: done())

    def save_vote(self, reign: Reign) -> None:
        """Write the vote for `reign`; reports tell of it once it is on disk."""
        self.meta = msgspec.structs.replace(self.meta, vote=self.meta.vote.followed_by(reign))
        self.journal.disk.save_meta(self.meta)

    async def begin_reign(self, term: Term, cluster: ClusterId) -> None:
        """Write our own reign; it is on disk when this returns. Nobody hears of a new cluster before: should
        this process end first, another one is made.
        """
        begun, saved = self.meta.in_reign(Reign(term, self.me), cluster), anyio.Event()
        self.meta = msgspec.structs.replace(begun, cluster=self.meta.cluster)
        self.journal.disk.save_meta(begun, lambda _: saved.set())
        await saved.wait()
        self.meta = msgspec.structs.replace(self.meta, cluster=begun.cluster)

    async def replace(self, by: Replacement) -> None:
        """Put a snapshot in the place of state and log. Nothing is appended meanwhile."""
        await anyio.to_thread.run_sync(self.applies.stop)
        await anyio.to_thread.run_sync(self.reads.stop)
        done = anyio.Event()
        wal, disk = self.journal.wal, self.journal.disk

        def install() -> None:
            meta = msgspec.structs.replace(self.meta, watermark=max(self.meta.watermark, wal.watermark))
            self.meta, self.state = by.install(self.data_dir, meta, wal, self.state)
            disk.meta = self.meta

        disk.call(install, lambda nothing: done.set())
        await done.wait()
        self._settings = Settings(Lsn(0), self.config.cluster)  # the snapshot's may be of an earlier record
        self.log.restart(by.at, self.state.terms, self.state.batch_time_ms)
        self.reads.use(self.state.path, self.state.sqlite_log.way)
        self.applies.use(self.state)

    def _open(self) -> tuple[State, Wal, Log]:
        meta, folder = self.meta, self.data_dir / LOG_FOLDER
        if meta.node != self.me:
            raise DataDirForeign(self.data_dir, meta.node, self.me)
        clear_strays(self.data_dir, meta)
        make_room(folder, meta.incarnation, meta.generation)
        state = State.open(self.data_dir / meta.state_file)
        wal, found = Wal.open(
            folder,
            incarnation=meta.incarnation,
            generation=meta.generation,
            base=meta.base,
            base_terms=meta.terms,
            applied=state.applied.lsn,
            watermark=meta.watermark,
        )
        with ExitStack() as undo:
            undo.callback(wal.close)
            undo.callback(state.close)
            require_joined(state.path, state.applied, found.base, wal.position_at(state.applied.lsn))
            undo.pop_all()
        for generation in stray_generations(folder, meta):
            wal.remove_generation(generation)
        if found.cut_bytes:
            cut = f"cut {found.cut_bytes} bytes of an interrupted write from LSN {found.cut_from} on"
            self.notes.append(cut)
        time_ms = max(found.time_ms, state.batch_time_ms)
        return state, wal, Log(found.base, found.end, found.end.lsn, found.terms, time_ms)


def follower(storage: Storage, watermark: Lsn) -> Replica:
    """A follower of nobody yet, over the log and the state that are here now; `watermark` is the highest one
    known (R5).
    """
    log, meta = storage.log, storage.meta
    reign, applied = storage.reign, storage.applied.lsn
    return Replica(reign, log.end, log.durable, watermark, applied, meta.vote.reign)


def _new_directory(data_dir: Path, node: NodeId) -> Meta:
    meta = Meta(node=node, incarnation=Incarnation(secrets.token_hex(16)))
    meta_file.save(data_dir, meta)
    return meta

"""Snapshots that arrive: which are installed, which are refused, and when no other one is asked for."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from cluster import snapshot
from cluster.apply_feed import ApplyFeed
from cluster.damage import Damage
from cluster.effects import Rebuild
from cluster.errors import DiskFailed, DiskFull, StateCorrupt
from cluster.events import EventKind
from cluster.rebuild import Rebuilder
from cluster.replacement import Replacement
from cluster.roster import Candidacy
from cluster.snapshot import ROOM_BYTES, SnapshotReceiver
from cluster.snapshot_tries import IN_A_ROW_MAX
from cluster.storage import Storage
from redwire.errors import Code, RedwireError, Refused
from redwire.message.peer import SnapshotChunk, SnapshotManifest
from redwire.position import EMPTY, Lsn, Position

pytestmark = pytest.mark.anyio


MANIFEST = SnapshotManifest(snapshot="a1", lsn=0, term=0, chain=bytes(16), size=9, sha256=bytes(32))


class Bed:
    """A node that takes snapshots, with everything around the rebuilder as small as it can be."""

    def __init__(self, storage: Storage) -> None:
        self.told: list[tuple[EventKind, str]] = []
        self.receivers: list[SnapshotReceiver] = []
        self.folder = storage.data_dir / "snapshots"
        self.folder.mkdir()
        self.role = SimpleNamespace(watermark=Lsn(0))
        node: Any = SimpleNamespace(
            storage=storage,
            role=self.role,
            leads=False,
            roster=SimpleNamespace(rebuilding=False, installing=False, fetching=None, candidacy=Candidacy()),
            happened=lambda kind, text: self.told.append((kind, text)),
            damage=Damage(storage.me, lambda kind, text: self.told.append((kind, text))),
            outbox=SimpleNamespace(
                apply=ApplyFeed(storage.log, storage.journal.read, storage.applies, Lsn(0))
            ),
            stop_following=lambda: None,
            become_replica=lambda replica: None,
            on_applied=lambda: None,
        )
        self.damage: Damage = node.damage
        self.apply: ApplyFeed = node.outbox.apply
        session = SimpleNamespace(rebuild=self.receivers.append)
        links: Any = SimpleNamespace(session=lambda number: session)
        self.rebuilder = Rebuilder(node, links)

    async def finds_no_room(self) -> None:
        """The snapshot that was asked for begins to arrive."""
        about = self.folder / "incoming.cbor"
        about.symlink_to("/dev/full")
        with pytest.raises(DiskFull):
            await self.receivers.pop().begin(MANIFEST)
        about.unlink()

    @property
    def kinds(self) -> list[EventKind]:
        return [kind for kind, _ in self.told]

    async def offer(self, content: bytes, at: Position) -> None:
        """Have a snapshot arrive. Raises what refuses it."""
        self.rebuilder.begin(Rebuild(1, "the log is gone", False))
        manifest = SnapshotManifest(
            snapshot="a1",
            lsn=at.lsn,
            term=at.term,
            chain=at.chain,
            size=len(content),
            sha256=hashlib.sha256(content).digest(),
        )
        receiver = self.receivers.pop()
        await receiver.begin(manifest)
        await receiver.take(SnapshotChunk(0, content))
        await receiver.take(SnapshotChunk(len(content), b""))


@pytest.fixture
def bed(storage: Storage) -> Bed:
    return Bed(storage)


async def test_what_is_no_state_is_refused_and_after_two_in_a_row_not_asked_for(bed: Bed) -> None:
    for _ in range(IN_A_ROW_MAX):
        with pytest.raises(Refused, match="the snapshot cannot be used: .* is damaged") as caught:
            await bed.offer(b"documents" * 1_000, EMPTY)
        assert caught.value.code is Code.DAMAGED
        assert list(bed.folder.iterdir()) == []
    bed.rebuilder.begin(Rebuild(1, "the log is gone", False))
    assert bed.receivers == []
    kind, text = bed.told[-1]
    assert kind is EventKind.SNAPSHOT_GIVEN_UP
    assert "look at the node that they came from" in text and "retention" not in text


async def test_what_is_refused_may_be_gone_by_itself(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def removed(by: Replacement) -> None:
        by.file.unlink()
        raise StateCorrupt(by.file, "it is damaged")

    monkeypatch.setattr(Replacement, "check", removed)
    with pytest.raises(Refused, match="the snapshot cannot be used"):
        await bed.offer(b"documents", EMPTY)


async def test_a_snapshot_in_the_place_of_a_damaged_state_is_read(open_storage: Any) -> None:
    storage: Storage = open_storage(asyncio.get_running_loop().call_soon_threadsafe)
    storage.connect(lambda lsn: None)
    bed = Bed(storage)
    bed.damage.condemn(StateCorrupt(storage.state.path, "a row is missing"))
    copy = storage.data_dir / "copy.db"
    at = storage.state.snapshot_into(copy)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bed.apply.run)
        tasks.start_soon(bed.rebuilder.run)
        await bed.offer(copy.read_bytes(), at)
        tasks.cancel_scope.cancel()
    storage.close()
    assert bed.kinds[-1] is EventKind.SNAPSHOT_DONE
    bed.damage.check()
    assert bed.damage.whole is None


@pytest.mark.parametrize("to_lead", ["leads", "opens"])
async def test_who_begins_to_lead_by_its_own_log_takes_no_snapshot_in_its_place(
    bed: Bed, to_lead: str
) -> None:
    """It may have been asked for before that."""
    node: Any = bed.rebuilder._node
    setattr(node if to_lead == "leads" else node.roster.candidacy, to_lead, True)
    bed.rebuilder.begin(Rebuild(1, "the log is gone", False))
    assert bed.receivers == [] and node.roster.fetching is None


async def test_a_part_that_cannot_be_looked_at_ends_the_process_and_asks_for_nothing(bed: Bed) -> None:
    (bed.folder / "incoming.cbor").mkdir()
    node: Any = bed.rebuilder._node
    failed: list[RedwireError] = []
    node.storage.fail = failed.append
    bed.rebuilder.begin(Rebuild(1, "the log is gone", False))
    (error,) = failed
    assert isinstance(error, DiskFailed) and "incoming.cbor" in error.message
    assert bed.receivers == [] and node.roster.fetching is None


async def test_a_snapshot_below_what_is_known_committed_is_refused(bed: Bed, tmp_path: Path) -> None:
    bed.role.watermark = Lsn(3)
    with pytest.raises(Refused, match="below 3, which is known committed") as caught:
        await bed.offer(b"documents", EMPTY)
    assert caught.value.code is Code.PRIMARY_LACKS_COMMITTED
    assert list(bed.folder.iterdir()) == []


async def test_a_snapshot_without_room_is_told_once_and_asked_for_again_once_there_is(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [0]
    monkeypatch.setattr(snapshot, "free_bytes", lambda folder: free[0])
    bed.rebuilder.begin(Rebuild(1, "the log is gone", False))
    await bed.finds_no_room()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bed.rebuilder.find_room, 0.01)
        for session in (2, 3, 4):  # a line may end while it waits
            bed.rebuilder.begin(Rebuild(session, "the log is gone", False))
            await anyio.sleep(0.03)
        assert bed.receivers == [], "nothing is asked for"
        assert bed.kinds == [EventKind.SNAPSHOT_BEGUN, EventKind.DISK_FULL]
        free[0] = ROOM_BYTES
        with anyio.fail_after(5):
            while not bed.receivers:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert bed.kinds == [EventKind.SNAPSHOT_BEGUN, EventKind.DISK_FULL, EventKind.DISK_WORKING]
    await bed.finds_no_room()
    bed.rebuilder.begin(Rebuild(5, "the log is gone", False))
    assert bed.kinds[3:] == [EventKind.DISK_FULL], "it is full again"

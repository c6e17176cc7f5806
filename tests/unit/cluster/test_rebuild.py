"""Snapshots that arrive: which are installed, which are refused, and when no other one is asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.effects import Rebuild
from cluster.events import EventKind
from cluster.rebuild import IN_A_ROW_MAX, Rebuilder
from cluster.snapshot import SnapshotReceiver
from cluster.storage import Storage
from redwire.errors import Code, Refused
from redwire.message.peer import SnapshotChunk, SnapshotManifest
from redwire.position import EMPTY, Lsn, Position

pytestmark = pytest.mark.anyio


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
            roster=SimpleNamespace(rebuilding=False, installing=False, fetching=None),
            happened=lambda kind, text: self.told.append((kind, text)),
        )
        link = SimpleNamespace(rebuild=self.receivers.append)
        links: Any = SimpleNamespace(with_session=lambda session: link)
        self.rebuilder = Rebuilder(node, links)

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


async def test_a_snapshot_below_what_is_known_committed_is_refused(bed: Bed, tmp_path: Path) -> None:
    bed.role.watermark = Lsn(3)
    with pytest.raises(Refused, match="below 3, which is known committed") as caught:
        await bed.offer(b"documents", EMPTY)
    assert caught.value.code is Code.PRIMARY_LACKS_COMMITTED
    assert list(bed.folder.iterdir()) == []

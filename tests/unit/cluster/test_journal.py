"""The log at work: in which order a batch reaches those who wait for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.journal import Journal
from cluster.log import Log
from cluster.meta import Meta
from cluster.wal import Wal
from redwire.position import EMPTY, Incarnation, Lsn, NodeId, TermList
from redwire.record import Op, Record


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    incarnation = Incarnation("a" * 32)
    wal, found = Wal.open(
        tmp_path / "log",
        incarnation=incarnation,
        generation=1,
        base=EMPTY,
        base_terms=TermList(),
        applied=Lsn(0),
        watermark=Lsn(0),
    )
    log = Log(found.base, found.end, found.end.lsn, found.terms)
    meta = Meta(node=NodeId("eu-1"), incarnation=incarnation)
    return Journal(wal, log, tmp_path, meta, lambda callback, *args: callback(*args), lambda error: None)


def test_a_batch_is_known_then_handed_out_then_on_its_way_to_the_disk(
    journal: Journal, written_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(journal.disk, "append", lambda batch, watermark: order.append("disk"))
    batch = written_log.write(Record(Op.DELETE, "orders", "a"))
    journal.append(batch, Lsn(0), lambda young: order.append(f"followers, {journal.log.end.lsn}"))
    assert order == ["followers, 1", "disk"]

"""Bugs to plant: a simulator that does not find them finds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from cluster import opening
from cluster.journal import Journal
from cluster.keys import Absent, Keys, Remembered, Verdict
from cluster.opening import Opening
from cluster.reign import Candidate
from cluster.storage import Storage
from redwire.batch import Batch
from redwire.message.peer import Report
from redwire.position import Lsn, NodeId, Reign, Term
from redwire.record import Key
from regions.coordinator import QuorumCoordinator


@contextmanager
def acks_before_the_sync() -> Iterator[None]:
    """What is on its way to the disk counts as on it."""
    append = Journal.append

    def too_early(journal: Journal, batch: Batch, watermark: Lsn) -> None:
        append(journal, batch, watermark)
        journal._durable(batch.last)

    with patch.object(Journal, "append", too_early):
        yield


@contextmanager
def votes_in_memory_only() -> Iterator[None]:
    """A vote is told of, and forgotten at a crash."""

    def told(storage: Storage, reign: Reign) -> None:
        meta = storage.journal.disk.meta
        storage.journal.disk.meta = replace(meta, vote=meta.vote.followed_by(reign))

    with patch.object(Storage, "save_vote", told):
        yield


@contextmanager
def no_votes() -> Iterator[None]:
    """A take-over believes what the others report at the moment."""
    with patch.object(Opening, "_undecided", lambda *_: []):
        yield


@contextmanager
def one_copy_is_enough() -> Iterator[None]:
    """What is on the primary's disk is committed."""
    with patch.object(
        QuorumCoordinator, "commit_watermark", lambda table, *_: table.durable(table._table.me)
    ):
        yield


@contextmanager
def the_shorter_log_leads() -> Iterator[None]:
    """Nobody follows a longer log first."""
    with patch.object(opening, "_further", lambda *_: None):
        yield


@contextmanager
def keys_that_nobody_remembers() -> Iterator[None]:
    """A write that is tried again is executed again."""
    lookup = Keys.lookup

    def forgetful(keys: Keys, key: Key) -> Verdict:
        verdict = lookup(keys, key)
        return Absent() if isinstance(verdict, Remembered) else verdict

    with patch.object(Keys, "lookup", forgetful):
        yield


@contextmanager
def new_clusters_without_votes() -> Iterator[None]:
    """Whoever hears of a majority of empty members begins."""
    with patch.object(Opening, "_elected", lambda *_: None):
        yield


@contextmanager
def no_votes_for_who_led_last() -> Iterator[None]:
    """Whoever led last believes that it did."""
    missing = Opening._missing

    def believed(self: Opening, mine: Report, others: Mapping[NodeId, Report], term: Term) -> Any:
        led_last = self.wrote_last and opening._led_last(mine, others)
        return None if led_last else missing(self, mine, others, term)

    with patch.object(Opening, "_missing", believed):
        yield


@contextmanager
def candidates_that_never_give_way() -> Iterator[None]:
    """Whoever is outbid asks for more at once."""

    async def at_once(candidate: Candidate) -> None:
        """No wait."""

    with patch.object(Candidate, "_give_way", at_once):
        yield


PLANTS: Mapping[str, Callable[[], Any]] = {
    plant.__name__: plant
    for plant in (
        acks_before_the_sync,
        votes_in_memory_only,
        no_votes,
        one_copy_is_enough,
        the_shorter_log_leads,
        keys_that_nobody_remembers,
        new_clusters_without_votes,
        candidates_that_never_give_way,
        no_votes_for_who_led_last,
    )
}

"""Reads of documents in front of the reader: what is refused at once, what waits, and what damage becomes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.damage import Damage
from cluster.errors import DiskFailed, DiskFull, StateCorrupt
from cluster.node import Node
from cluster.reads import WAIT_MS_MAX, Reads
from redwire.errors import Code, RedwireError, Refused, RequestInvalid
from redwire.message.read import Fetch, Fetched, Scan
from redwire.position import ClusterId, Lsn, NodeId, Term, TermEntry, TermList, Token

CLUSTER = ClusterId("c" * 32)
TERMS = TermList((TermEntry(Term(1), Lsn(1), 0),))
FOUND = Fetched(True, 1, 1, 5, b"{}")


class Site:
    """A node that has applied LSN 5 of term 1, and whose reader answers when told."""

    def __init__(self, role: object = None) -> None:
        self.submitted: list[tuple[Fetch | Scan, Callable[[Any], None]]] = []
        self.pushed = 0
        self.now_ms = 0
        self.events: list[str] = []
        self.damage = Damage(NodeId("eu-1"), lambda kind, text: self.events.append(text))
        self.storage = SimpleNamespace(
            meta=SimpleNamespace(cluster=CLUSTER),
            state=SimpleNamespace(applied=SimpleNamespace(lsn=Lsn(5)), terms=TERMS),
            log=SimpleNamespace(terms=TERMS),
            reads=SimpleNamespace(documents=SimpleNamespace(submit=self._submit)),
        )
        node = SimpleNamespace(
            role=role,
            damage=self.damage,
            storage=self.storage,
            clock=lambda: SimpleNamespace(ms=self.now_ms),
            outbox=SimpleNamespace(apply=SimpleNamespace(push=self._push)),
        )
        self.reads = Reads(cast(Node, node))
        self.told: list[RedwireError | None] = []
        self.answers: list[Any] = []

    def _submit(self, asked: Fetch | Scan, answer: Callable[[Any], None]) -> None:
        self.submitted.append((asked, answer))

    def _push(self) -> None:
        self.pushed += 1

    def ask(self, lsn: int | None = None, wait_ms: int = 1_000, collection: str = "c") -> None:
        token = None if lsn is None else Token(CLUSTER, Term(1), Lsn(lsn))
        self.reads.when_fresh(Fetch(collection, "x", token, wait_ms), self.told.append)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.mark.parametrize("lsn", [None, 4, 5])
def test_what_the_state_covers_may_be_read_at_once(site: Site, lsn: int | None) -> None:
    site.ask(lsn)
    assert site.told == [None] and not site.reads.waiting and site.pushed == 0


def test_what_it_does_not_cover_waits_and_has_apply_go_on(site: Site) -> None:
    site.ask(7)
    assert site.told == [] and site.reads.waiting and site.pushed == 1
    site.storage.state.applied.lsn = Lsn(7)
    site.reads.applied()
    assert site.told == [None] and not site.reads.waiting


def test_a_state_that_a_snapshot_has_just_replaced_speaks_for_itself_and_not_through_the_old_log(
    site: Site,
) -> None:
    newer = TermList((*TERMS.entries, TermEntry(Term(2), Lsn(8), 0)))
    site.storage.state = SimpleNamespace(applied=SimpleNamespace(lsn=Lsn(9)), terms=newer)
    site.reads.when_fresh(Fetch("c", "x", Token(CLUSTER, Term(2), Lsn(9)), 0), site.told.append)
    assert site.told == [None]


def test_nothing_waits_longer_than_it_said_nor_longer_than_a_minute(site: Site) -> None:
    site.ask(7, wait_ms=50)
    site.ask(7, wait_ms=10 * WAIT_MS_MAX)
    site.now_ms = 50
    site.reads.tick()
    assert [error.code for error in site.told if error is not None] == [Code.STALE]
    site.now_ms = WAIT_MS_MAX
    site.reads.tick()
    assert [error.code for error in site.told if error is not None] == [Code.STALE, Code.STALE]


@pytest.mark.parametrize("name", ["", ".c", "sqlite_c", "a/b", "x" * 65])
def test_a_name_that_no_collection_has_is_refused(site: Site, name: str) -> None:
    with pytest.raises(RequestInvalid, match="collection name"):
        site.ask(collection=name)
    assert site.told == []


def test_a_reign_that_is_not_ready_reads_nothing_and_one_that_is_does(lead: Any) -> None:
    core = lead()
    core.begin()
    young = Site(core.core)
    with pytest.raises(Refused) as caught:
        young.ask()
    assert caught.value.code is Code.NOT_READY and young.told == []
    ready = Site(lead().serve().core)
    ready.ask()
    assert ready.told == [None]


def test_a_reign_knows_what_no_token_of_its_own_term_can_have_seen(lead: Any) -> None:
    core = lead().serve().core
    site, end = Site(core), core.end

    def ask(lsn: int, term: int) -> None:
        site.reads.when_fresh(Fetch("c", "x", Token(CLUSTER, Term(term), Lsn(lsn)), 1_000), site.told.append)

    site.storage.state.applied.lsn = Lsn(0)
    ask(end.lsn, core.reign.term)
    assert site.reads.waiting
    with pytest.raises(RequestInvalid, match=f"log ends at {end.lsn}") as caught:
        ask(end.lsn + 1, core.reign.term)
    assert caught.value.facts == {"lsn": end.lsn + 1, "term": core.reign.term, "head": end.lsn}
    ask(end.lsn + 1, core.reign.term + 1)
    assert site.told == [], "of another term it knows less"


def test_a_condemned_state_is_not_read(site: Site) -> None:
    site.damage.condemn(StateCorrupt(Path("state.db"), "a table is missing"))
    with pytest.raises(Refused) as caught:
        site.ask()
    assert caught.value.code is Code.DAMAGED


def test_what_is_read_is_passed_on_and_damage_without_the_names_of_our_files(site: Site) -> None:
    state = Path("/data/state.db")
    broken = StateCorrupt(state, "row 'x'"), DiskFailed(state, "unable to open database file")
    for result in (FOUND, *broken, Refused(Code.BUSY, "too many"), DiskFull(state, "for the state")):
        site.reads.read(Fetch("c", "x"), site.answers.append)
        site.submitted.pop()[1](result)
    found, damaged, gone, busy, full = site.answers
    assert (found, damaged.code, busy.code) == (FOUND, Code.DAMAGED, Code.BUSY)
    assert gone.code is Code.DAMAGED and full.code is Code.DISK_FULL and full.retry
    assert not any("state.db" in str(error) for error in (damaged, gone))
    assert ["/data/state.db" in event for event in site.events] == [True, True]

"""What a candidate does with the decisions: here, those of a reign that is renewed."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from cluster.effects import Now
from cluster.logged import Logged
from cluster.opening import Decision, Open, Refuse, Stand
from cluster.reign import Candidate
from cluster.roster import Roster
from redwire.errors import Code, Refused
from redwire.message.peer import Report
from redwire.position import Lsn, NodeId, Position, Reign, Term

QUICKER = Refuse(Refused(Code.TERM_TAKEN, "us-1 leads term 2 already"))


VOTERS = SimpleNamespace(voters=())


def candidate_of(node: Any, chance: random.Random | None = None) -> Candidate:
    config: Any = None
    return Candidate(node, config, chance or random.Random(1), take_over=None)


@pytest.mark.anyio
async def test_a_primary_that_is_outbid_and_finds_another_one_quicker_follows_that_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decisions: list[Decision] = [Stand(Term(2), [NodeId("us-1")]), QUICKER]
    said: list[str] = []
    ended: list[Refused] = []
    node: Any = SimpleNamespace(
        roster=Roster(),
        role=None,
        leads=True,
        clock=lambda: Now(1, 1),
        report=lambda: None,
        note=lambda text, *_: said.append(text),
        end_reign=ended.append,
    )

    async def opening(candidate: Candidate) -> Any:
        return SimpleNamespace(patience_ms=5, decide=lambda *_: decisions.pop(0))

    monkeypatch.setattr(Candidate, "_opening", opening)
    candidacy = node.roster.candidacy
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(candidate_of(node).renew)
        candidacy.outbid.ring()
        with anyio.fail_after(5):
            while not said:
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert [error.code for error in ended] == [Code.STALE_TERM]
    assert said == [f"leads no more: {QUICKER.error}"]
    assert not candidacy.aspires and not candidacy.stands and not decisions


@pytest.mark.anyio
async def test_a_primary_that_is_outbid_leads_on_while_something_stands_against_a_newer_reign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0
    told: list[str] = []
    node: Any = SimpleNamespace(
        roster=Roster(),
        role=None,
        leads=True,
        report=lambda: None,
        happened=lambda kind, text: told.append(f"{kind}: {text}"),
    )

    def refused(*_: object) -> Decision:
        nonlocal asked
        asked += 1
        return QUICKER

    async def opening(candidate: Candidate) -> Any:
        return SimpleNamespace(patience_ms=5, decide=refused)

    monkeypatch.setattr(Candidate, "_opening", opening)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(candidate_of(node).renew)
        with anyio.fail_after(5):
            while asked < 2:
                node.roster.candidacy.outbid.ring()
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    text = f"a member of a newer term stays away, and none may begin here: {QUICKER.error}"
    assert told == [f"member_unhealthy: {text}"], "once"
    assert not node.roster.candidacy.aspires, "and no reign was ended: the node has no way to"


@pytest.mark.anyio
async def test_what_still_tells_of_the_reign_before_does_not_end_the_newer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[Refused] = []
    node: Any = SimpleNamespace(
        roster=Roster(), role=None, leads=True, report=lambda: None, end_reign=ended.append
    )
    begun = anyio.Event()

    async def opening(candidate: Candidate) -> Any:
        return SimpleNamespace(patience_ms=5, decide=lambda *_: Open(Term(2)))

    async def run(candidate: Candidate, asked_ms: int) -> None:
        node.roster.candidacy.outbid.ring()
        begun.set()

    monkeypatch.setattr(Candidate, "_opening", opening)
    monkeypatch.setattr(Candidate, "run", run)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(candidate_of(node).renew)
        node.roster.candidacy.outbid.ring()
        with anyio.fail_after(5):
            await begun.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(ended) == 1
        begun = anyio.Event()
        node.roster.candidacy.outbid.ring()
        with anyio.fail_after(5):
            await begun.wait()
        assert len(ended) == 2
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_who_follows_a_longer_log_first_looks_around_anew_once_somebody_leads(
    vital_report: Callable[..., Report],
) -> None:
    longer = vital_report("us-1", lsn=9)
    leads = replace(vital_report("ap-1", lsn=9), role="primary", term=1, primary="ap-1")
    storage = SimpleNamespace(
        log=SimpleNamespace(end=Position(Term(1), Lsn(4), bytes(16)), durable=Lsn(4)),
        meta=SimpleNamespace(term=Term(1)),
    )
    node: Any = SimpleNamespace(roster=Roster(), role=None, storage=storage)
    node.roster.reports = {NodeId("us-1"): longer, NodeId("ap-1"): replace(leads, term=0)}
    candidate = candidate_of(node)
    with anyio.move_on_after(0.2) as waiting:
        await candidate._catch_up(NodeId("us-1"))
    assert waiting.cancelled_caught, "one of an older term leads: nothing has changed"
    node.roster.reports[NodeId("ap-1")] = leads
    with anyio.fail_after(5):
        await candidate._catch_up(NodeId("us-1"))


@pytest.mark.anyio
async def test_who_follows_a_longer_log_first_looks_around_anew_when_nothing_comes(
    vital_report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.pursuit.STALLED_S", 0.1)
    log = SimpleNamespace(end=Position(Term(1), Lsn(4), bytes(16)), durable=Lsn(4))
    storage = SimpleNamespace(log=log, meta=SimpleNamespace(term=Term(1)))
    node: Any = SimpleNamespace(roster=Roster(), role=None, storage=storage)
    node.roster.reports = {NodeId("us-1"): vital_report("us-1", lsn=9)}
    candidate = candidate_of(node)
    node.roster.installing = True
    with anyio.move_on_after(0.4) as waiting:
        await candidate._catch_up(NodeId("us-1"))
    assert waiting.cancelled_caught, "a snapshot is on its way"
    node.roster.installing = False
    with anyio.fail_after(5):
        await candidate._catch_up(NodeId("us-1"))


@pytest.mark.anyio
async def test_nothing_is_decided_by_a_log_that_a_snapshot_takes_the_place_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever sent it may be gone by then, and with it the reason to wait."""
    node: Any = SimpleNamespace(roster=Roster(), clock=lambda: Now(1, 1), report=lambda: None)
    node.roster.installing = True
    decided: list[bool] = []

    async def opening(candidate: Candidate) -> Any:
        decided.append(node.roster.installing)
        return SimpleNamespace(decide=lambda *_: QUICKER)

    monkeypatch.setattr(Candidate, "_opening", opening)
    with anyio.move_on_after(0.2) as waiting:
        await candidate_of(node).run()
    assert waiting.cancelled_caught and not decided
    node.roster.installing = False
    with pytest.raises(Refused), anyio.fail_after(5):
        await candidate_of(node).run()
    assert decided == [False]


@pytest.mark.anyio
async def test_nothing_is_decided_by_a_log_that_was_read_before_a_snapshot_began_to_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A member that was asked for its log before may say only then that it gives none: a reign that begun
    over ours would have its log, and its state, replaced under it.
    """
    node: Any = SimpleNamespace(roster=Roster(), clock=lambda: Now(1, 1), report=lambda: None)
    read: list[bool] = []

    async def opening(candidate: Candidate) -> Any:
        read.append(True)
        node.roster.fetching = 7 if len(read) == 1 else None
        return SimpleNamespace(decide=lambda *_: QUICKER)

    monkeypatch.setattr(Candidate, "_opening", opening)
    with anyio.move_on_after(0.2) as waiting:
        await candidate_of(node).run()
    assert waiting.cancelled_caught and read == [True]
    node.roster.fetching = None
    with pytest.raises(Refused), anyio.fail_after(5):
        await candidate_of(node).run()


@pytest.mark.anyio
async def test_a_candidate_that_is_outbid_asks_for_nothing_for_a_while_by_chance_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stands = [Stand(Term(term), [NodeId("us-1")]) for term in (2, 2, 3, 3, 5, 5)]
    decisions: list[Decision] = [*stands, QUICKER]
    asked: list[int] = []
    most: list[float] = []
    roster = Roster()
    monkeypatch.setattr(
        roster, "lines", SimpleNamespace(greet=lambda _: asked.append(roster.candidacy.stands))
    )
    node: Any = SimpleNamespace(
        roster=roster, role=None, clock=lambda: Now(1, 1), report=lambda: None, note=lambda *_: None
    )

    class Chance(random.Random):
        def uniform(self, a: float, b: float) -> float:
            assert not roster.candidacy.stands
            most.append(b)
            return 0.0

    async def opening(candidate: Candidate) -> Any:
        return SimpleNamespace(patience_ms=5, decide=lambda *_: decisions.pop(0))

    monkeypatch.setattr(Candidate, "_opening", opening)
    with pytest.raises(Refused), anyio.fail_after(5):
        await candidate_of(node, Chance(1)).run()
    assert asked == [2, 2, 3, 5]
    assert most == [0.1, 0.2]


class GrowingLog:
    """The storage of a node whose log is longer whenever it was read, up to `last`."""

    def __init__(self, last: int) -> None:
        self.me = NodeId("eu-1")
        self.meta = SimpleNamespace(term=Term(1))
        self.applied = SimpleNamespace(lsn=Lsn(2))
        self.log = SimpleNamespace(end=Position(Term(1), Lsn(4), bytes(16)), durable=Lsn(4))
        self.settings = SimpleNamespace(
            lsn=Lsn(1),
            record=None,
            cluster=SimpleNamespace(members=(), replica_timeout_ms=5, membership=VOTERS),
        )
        self.journal = self
        self.admitted = lambda record: {}
        self.read: list[Position] = []
        self._last = last

    async def logged(self) -> Logged:
        end = self.log.end
        self.read.append(end)
        self.log.end = Position(end.term, Lsn(min(self._last, end.lsn + 1)), end.chain)
        await anyio.lowlevel.checkpoint()
        return Logged([], {})

    async def last_reign(self) -> Reign:
        return Reign(self.log.end.term, self.me)


@pytest.mark.anyio
@pytest.mark.parametrize(("term", "read"), [(1, 0), (0, 6)])
async def test_a_log_that_follows_who_leads_is_not_read_to_its_end_which_never_comes(
    vital_report: Callable[..., Report], term: int, read: int
) -> None:
    """An answer of one that was asked before it led: nobody leads then beside it, whatever the log says."""
    storage = GrowingLog(last=10**9 if term else 9)
    candidate = candidate_of(SimpleNamespace(roster=Roster(), storage=storage, leads=False))
    leads = replace(vital_report("us-1"), role="primary", term=term, primary="us-1")
    candidate._node.roster.reports = {NodeId("us-1"): leads}
    with anyio.fail_after(1):
        await candidate._opening()
    assert len(storage.read) == read


@pytest.mark.anyio
async def test_a_reign_that_goes_on_is_outbid_also_where_its_log_never_stands_still() -> None:
    storage = GrowingLog(last=10**9)
    candidate = candidate_of(SimpleNamespace(roster=Roster(), storage=storage, leads=True))
    with anyio.fail_after(1):
        await candidate._opening()
        await candidate._opening()
    assert [position.lsn for position in storage.read] == [4, 5]


@pytest.mark.anyio
async def test_a_log_is_not_read_again_for_what_of_it_is_applied_meanwhile() -> None:
    def voting(*names: str) -> Any:
        voters = [SimpleNamespace(id=NodeId(name)) for name in names]
        return SimpleNamespace(
            members=voters, replica_timeout_ms=5, membership=SimpleNamespace(voters=voters)
        )

    storage = GrowingLog(last=4)
    first, second, third = (
        SimpleNamespace(lsn=Lsn(lsn), record=None, cluster=voting("eu-1", name))
        for lsn, name in ((1, "us-1"), (3, "ap-1"), (4, "ap-2"))
    )
    storage.settings = first

    async def logged() -> Any:
        storage.read.append(storage.log.end)
        storage.applied = SimpleNamespace(lsn=Lsn(3))  # while it is read
        storage.settings = second
        return Logged([second, third], {})  # type: ignore[list-item]

    storage.logged = logged  # type: ignore[method-assign]
    candidate = candidate_of(SimpleNamespace(roster=Roster(), storage=storage, leads=False))
    for _ in range(2):
        opening = await candidate._opening()
        assert opening.voters == {"eu-1", "ap-1", "ap-2"}, "what the applied settings replaced counts no more"
        assert opening.members == {"eu-1", "ap-1"}
    assert len(storage.read) == 1


@pytest.mark.anyio
async def test_settings_in_the_end_of_a_longer_log_are_seen_where_it_took_the_place_of_one_as_long() -> None:
    """A tail of ours was cut, and the same number of records came: no LSN tells, and apply lags behind."""
    log = SimpleNamespace(end=Position(Term(1), Lsn(4), bytes(16)), durable=Lsn(4))
    settings = SimpleNamespace(
        lsn=Lsn(1), record=None, cluster=SimpleNamespace(members=(), replica_timeout_ms=5, membership=VOTERS)
    )
    read: list[Position] = []

    async def logged() -> Logged:
        read.append(log.end)
        if len(read) == 2:  # more comes while it is read
            log.end = Position(Term(2), Lsn(5), bytes(16))
        return Logged([], {})

    async def last_reign() -> Reign:
        return Reign(log.end.term, NodeId("eu-1"))

    storage = SimpleNamespace(
        me=NodeId("eu-1"),
        meta=SimpleNamespace(term=Term(1)),
        applied=SimpleNamespace(lsn=Lsn(2)),
        settings=settings,
        log=log,
        journal=SimpleNamespace(last_reign=last_reign),
        logged=logged,
        admitted=lambda record: {},
    )
    candidate = candidate_of(SimpleNamespace(roster=Roster(), storage=storage, leads=False))
    await candidate._opening()
    await candidate._opening()
    ours = log.end
    theirs = log.end = Position(Term(2), Lsn(4), bytes(16))
    await candidate._opening()
    assert read == [ours, theirs, log.end]

"""What the core decided, carried out: each effect once, to whom it is for, and the watermark soon to all."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from msgspec.structs import replace

from cluster.answers import Answers, Shared
from cluster.effects import (
    Append,
    Beat,
    Commit,
    Cut,
    Drop,
    EndReign,
    Fate,
    Known,
    MetaSaved,
    Note,
    Now,
    Proposal,
    Rebuild,
    Reject,
    Release,
    Result,
    SaveMeta,
    SendAck,
    TailCut,
    Unconfirmed,
)
from cluster.events import EventKind
from cluster.feed import Feed
from cluster.inbox import Inbox
from cluster.log import Log
from cluster.outbox import ANNOUNCE_S, Outbox
from cluster.primary import Primary
from cluster.replica import Replica
from cluster.roster import Roster
from cluster.storage import Storage
from redwire.batch import Batch
from redwire.errors import Code, RedwireError, Refused
from redwire.frame import Kind
from redwire.message.peer import Ack, Heartbeat
from redwire.position import EMPTY, NO_REIGN, Lsn, NodeId, Position, Reign, Term, TermList
from redwire.record import Op, Record
from regions.coordinator import ProvedLess

GONE = Refused(Code.NOT_PRIMARY, "the reign is over")


class End:
    """A session with a member: the frames it was sent, and why it was dropped."""

    def __init__(self) -> None:
        self.node = NodeId("us-1")
        self.sent: list[tuple[int, bytes, bool]] = []
        self.dropped: list[RedwireError] = []

    def send(self, kind: int, payload: bytes, *, urgent: bool = False, correlation: int = 0) -> None:
        self.sent.append((kind, payload, urgent))

    def drop(self, error: RedwireError) -> None:
        self.dropped.append(error)

    @property
    def watermarks(self) -> list[int]:
        """What the heartbeats said."""
        return [Heartbeat.decode(body).watermark for kind, body, _ in self.sent if kind == Kind.HEARTBEAT]


class Pushed:
    """In the place of a `Feed`: how many batches it was given, and how often it was pushed."""

    def __init__(self) -> None:
        self.times = 0
        self.young: list[int] = []

    def push(self) -> None:
        self.times += 1

    def extend(self, young: Batch) -> None:
        self.young.append(young.last)


class Caller:
    """Whose proposals these are, and what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def released(self, shared: Shared, answers: Answers) -> None:
        self.told.append(("released", [proposal.correlation for proposal, _ in answers]))

    def known(self, proposal: Proposal, result: Result) -> None:
        self.told.append(("known", proposal.correlation))

    def unconfirmed(self, proposal: Proposal, shared: Shared | None, first: Lsn, message: str) -> None:
        self.told.append(("unconfirmed", (proposal.correlation, shared is not None, first, message)))

    def rejected(self, proposal: Proposal, error: RedwireError) -> None:
        self.told.append(("rejected", (proposal.correlation, error)))


class Site:
    """An outbox over a disk and an apply that only write down what they were told."""

    def __init__(self) -> None:
        self.did: list[tuple[object, ...]] = []
        self.log = Log(EMPTY, EMPTY, Lsn(0), TermList())
        journal = SimpleNamespace(append=self._append, cut=self._cut, read=None)
        storage = SimpleNamespace(
            log=self.log,
            journal=journal,
            applies=SimpleNamespace(take=self._take, full=lambda: False),
            applied=EMPTY,
            save_reign=self._save,
        )
        self.roster, self.inbox = Roster(), Inbox()
        self.outbox = Outbox(
            cast(Storage, storage), self.roster, self.inbox, lambda: Now(0, 7_000), self._note
        )
        self.end = End()
        self.roster.ends[3] = self.end

    def _append(self, batch: Any, commit: Lsn, hand_out: Callable[[Batch], None]) -> None:
        hand_out(batch)
        self.log.append(batch)
        self.did.append(("append", batch.last, commit))

    def _cut(self, to: Position, reason: str, done: Any) -> None:
        self.did.append(("cut", to, reason))
        done()

    def _take(self, batches: Any) -> None:
        self.did.append(("apply", [batch.last for batch in batches]))

    def _save(self, reign: Reign, cluster: str, done: Any) -> None:
        self.did.append(("save", reign, cluster))
        done()

    def _note(self, text: str, level: Any) -> None:
        self.did.append(("note", text))

    def follow(self) -> Pushed:
        """A follower in session 3 whose log is fed."""
        feed = Pushed()
        self.roster.feeds[3] = cast(Feed, feed)
        return feed


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def primary(lead: Any) -> Primary:
    core: Primary = lead().serve().core
    return core


REPLICA = Replica(NO_REIGN, EMPTY, Lsn(0), Lsn(0), Lsn(0))


def test_a_batch_goes_to_the_disk_and_is_applied_when_it_is_committed(
    site: Site, primary: Primary, fly: Any, propose: Any
) -> None:
    batch = fly(propose()).batch
    site.outbox.carry_out(Append(batch), primary)
    assert site.did == [("append", 1, 0)]
    site.outbox.carry_out(Commit(Lsn(1)), primary)
    assert site.did[1:] == [("apply", [1])]


def test_callers_hear_what_became_of_their_proposals_and_of_no_others(
    site: Site, primary: Primary, fly: Any, propose: Any
) -> None:
    one, two = Caller(), Caller()
    mine, more, other = propose(session=one), propose(session=one), propose(session=two)
    flight = fly(mine, more, other)
    result = Result(Fate.EXECUTED, 1, bytes(9))
    released = Release(flight, Lsn(3), [(mine, result), (other, result), (more, result)])
    site.outbox.carry_out(released, primary)
    assert one.told == [("released", [1, 2])] and two.told == [("released", [3])]
    site.outbox.carry_out(Known(mine, result), primary)
    site.outbox.carry_out(Reject(more, GONE), primary)
    assert one.told[1:] == [("known", 1), ("rejected", (2, GONE))]


def test_what_is_not_confirmed_shows_its_copies_and_its_lsn_if_it_was_logged_in_this_reign(
    site: Site, primary: Primary, fly: Any, propose: Any
) -> None:
    caller = Caller()
    first, second = propose(session=caller), propose(session=caller)
    flight = fly(first, second)
    site.outbox.carry_out(Unconfirmed(second, flight, "late"), primary)
    site.outbox.carry_out(Unconfirmed(first, None, "the reign ended"), primary)
    assert caller.told == [
        ("unconfirmed", (2, True, 2, "late")),
        ("unconfirmed", (1, False, 0, "the reign ended")),
    ]


def test_what_meta_and_log_were_told_comes_back_as_an_event(site: Site) -> None:
    site.outbox.carry_out(SaveMeta(Reign(Term(2), NodeId("us-1"))), REPLICA)
    site.outbox.carry_out(Cut(EMPTY, "it lost"), REPLICA)
    assert [type(event) for event in site.inbox.events()] == [MetaSaved, TailCut]
    assert [done[0] for done in site.did] == ["save", "cut"]


def test_acks_and_ends_go_to_their_session_and_nowhere_once_it_is_over(site: Site) -> None:
    ack = Ack(1, 5, 5, 5, "us-1")
    for session in (3, 4):
        site.outbox.carry_out(SendAck(session, ack), REPLICA)
        site.outbox.carry_out(Drop(session, GONE), REPLICA)
    assert site.end.sent == [(Kind.ACK, ack.encode(), False)] and site.end.dropped == [GONE]


def test_what_changes_the_role_is_for_whoever_owns_it(site: Site) -> None:
    heard: list[object] = []
    site.outbox.rebuild, site.outbox.end_reign = heard.append, heard.append
    rebuild = Rebuild(3, "too far behind", False)
    for effect in (rebuild, EndReign(GONE), Note("by the way")):
        site.outbox.carry_out(effect, REPLICA)
    assert heard == [rebuild, GONE] and site.did == [("note", "by the way")]


def test_a_member_that_proves_less_than_it_acked_is_an_event(site: Site) -> None:
    told: list[tuple[EventKind, str]] = []
    site.outbox.happened = lambda kind, text: told.append((kind, text))
    lost = ProvedLess(NodeId("us-1"), Lsn(4), Lsn(1))
    site.outbox.carry_out(lost, REPLICA)
    assert told == [(EventKind.MEMBER_PROVED_LESS, str(lost))]


def test_whoever_joins_is_fed_and_hears_the_watermark_at_once(site: Site, primary: Primary) -> None:
    feed = Pushed()
    site.outbox.follower_joined(3, cast(Feed, feed), primary)
    assert feed.times == 1 and site.end.watermarks == [primary.watermark]
    assert site.end.sent[0][2], "it overtakes what is on its way"


def test_a_batch_leaves_at_once_and_a_heartbeat_at_the_end_of_a_turn_when_one_is_due(
    site: Site, primary: Primary, written_log: Any
) -> None:
    feed = site.follow()
    site.outbox.tell_followers(primary)
    assert feed.young == [] and site.end.sent == []
    for ident in ("a", "b"):
        site.outbox.carry_out(Append(written_log.write(Record(Op.DELETE, "orders", ident))), primary)
    assert feed.young == [1, 2]
    site.outbox.tell_followers(primary)
    assert feed.young == [1, 2] and site.end.sent == []
    site.outbox.carry_out(Beat(), primary)
    site.outbox.tell_followers(primary)
    site.outbox.tell_followers(primary)
    assert feed.young == [1, 2] and len(site.end.watermarks) == 1


@pytest.mark.parametrize("carried", [False, True])
async def test_a_watermark_is_announced_soon_unless_a_batch_has_carried_it(
    site: Site, primary: Primary, carried: bool, written_log: Any
) -> None:
    site.follow()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.outbox.announce, lambda: primary)
        site.outbox.carry_out(Commit(Lsn(1)), primary)
        site.outbox.tell_followers(primary)
        if carried:
            batch = written_log.write(Record(Op.DELETE, "orders", "a"))
            site.outbox.carry_out(Append(replace(batch, watermark=Lsn(1))), primary)
        await anyio.sleep(3 * ANNOUNCE_S)
        tasks.cancel_scope.cancel()
    assert len(site.end.watermarks) == (0 if carried else 1)


async def test_a_watermark_that_a_batch_carried_is_not_announced_for_the_sake_of_a_younger_one(
    site: Site, primary: Primary, written_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load one is always younger: each batch carries the one before."""
    pauses: list[anyio.Event] = []

    async def pause(delay: float) -> None:
        assert delay == ANNOUNCE_S
        pauses.append(anyio.Event())
        await pauses[-1].wait()

    def commit(lsn: int) -> None:
        batch = written_log.write(Record(Op.DELETE, "orders", "a"))
        site.outbox.carry_out(Append(replace(batch, watermark=Lsn(lsn - 1))), primary)
        site.outbox.carry_out(Commit(Lsn(lsn)), primary)
        site.outbox.tell_followers(primary)

    site.follow()
    monkeypatch.setattr("cluster.outbox.anyio.sleep", pause)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.outbox.announce, lambda: primary)
        for lsn in range(1, 6):
            commit(lsn)
            await anyio.wait_all_tasks_blocked()
            assert len(pauses) == lsn and site.end.watermarks == []
            commit(lsn + 1)
            pauses[-1].set()
            await anyio.wait_all_tasks_blocked()
        assert site.end.watermarks == []
        pauses[-1].set()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert len(site.end.watermarks) == 1

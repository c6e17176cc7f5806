"""The follower: whom it accepts, what it cuts, what it acks and what it applies (R3 to R6)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.catchup import PARTED_HINT
from cluster.effects import (
    Append,
    Applied,
    BatchesReceived,
    Commit,
    Cut,
    Drop,
    Durable,
    Effect,
    HeartbeatReceived,
    MetaSaved,
    Note,
    Now,
    Rebuild,
    SaveMeta,
    SaveVote,
    SendAck,
    SourceFound,
    SourceLost,
    Stood,
    TailCut,
    Tick,
)
from cluster.primary import BEAT_MS
from cluster.replica import SILENCE_MS, FollowerState, Replica
from redwire.batch import Batch, make_batch
from redwire.errors import Code, ProtocolError
from redwire.message.peer import Ack, Following, Heartbeat
from redwire.position import EMPTY, EMPTY_CHAIN, Lsn, NodeId, Position, Reign, Term

ME, SOURCE = NodeId("us-1"), NodeId("eu-1")
FIRST, SECOND, RIVAL = Reign(Term(1), SOURCE), Reign(Term(2), SOURCE), Reign(Term(2), NodeId("ap-1"))


def batches(count: int, reign: Reign = FIRST, after: Position = EMPTY, watermark: int = 0) -> list[Batch]:
    """`count` batches of one record each."""
    made: list[Batch] = []
    for number in range(count):
        end = made[-1].position if made else after
        request = f"{reign} {number}".encode()
        made.append(make_batch(reign, end, [request], 1, end.lsn + 1, Lsn(watermark)))
    return made


@dataclass
class Follower:
    """A replica `us-1` without a node around it. Its log is `log`; what it orders is done by hand."""

    log: list[Batch] = field(default_factory=list)
    reign: Reign | None = None
    watermark: int = 0
    applied: int = 0
    durable: int | None = None
    ms: int = 1_000
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        durable = len(self.log) if self.durable is None else self.durable
        self.core = Replica(ME, self.reign, self.end, Lsn(durable), Lsn(self.watermark), Lsn(self.applied))

    @property
    def end(self) -> Position:
        return self.log[-1].position if self.log else EMPTY

    def at(self, lsn: int) -> Position | None:
        return EMPTY if lsn == 0 else next((each.position for each in self.log if each.last == lsn), None)

    def step(self, event) -> list[Effect]:
        effects = self.core.step(event, Now(self.ms * 1000, 0))
        for effect in effects:
            if isinstance(effect, Append):
                self.log.append(effect.batch)
            if isinstance(effect, Cut):
                self.log = [batch for batch in self.log if batch.last <= effect.to.lsn]
        self.effects += effects
        return effects

    def found(
        self,
        common: Position = EMPTY,
        *,
        session: int = 1,
        reign: Reign = FIRST,
        leads: bool = True,
        head: int = 0,
        watermark: int = 0,
        asked: Position | None = None,
        settled: bool = False,
    ) -> list[Effect]:
        """`eu-1` answers that both logs agree up to `common`."""
        reply = Following(
            term=reign.term,
            primary=reign.primary,
            leads=leads,
            common_term=common.term,
            common_lsn=common.lsn,
            common_chain=common.chain,
            head=head,
            watermark=watermark,
            settled=settled,
        )
        local, asked = self.at(common.lsn), asked or self.core.end
        return self.step(SourceFound(SOURCE, session, reply, local, asked))

    def follow(self, common: Position | None = None, **more) -> Follower:
        """It follows `eu-1`, everything that this takes is on disk, and nothing of it is news any more."""
        self.found(self.end if common is None else common, **more)
        self.settle()
        self.effects.clear()
        return self

    def settle(self) -> list[Effect]:
        """Its disk does what was ordered since the last time."""
        effects: list[Effect] = []
        for order in self.effects.copy():
            if isinstance(order, SaveMeta | Cut):
                effects += self.step(MetaSaved() if isinstance(order, SaveMeta) else TailCut())
        return effects

    def receive(self, *made: Batch, session: int = 1) -> list[Effect]:
        return self.step(BatchesReceived(session, made))

    def beat(
        self, *, reign: Reign = FIRST, head: int = 0, watermark: int = 0, session: int = 1
    ) -> list[Effect]:
        heartbeat = Heartbeat(reign.term, head, watermark, 0, reign.primary)
        return self.step(HeartbeatReceived(session, heartbeat))

    def wait(self, ms: int) -> list[Effect]:
        self.ms += ms
        return self.step(Tick())


@pytest.fixture
def empty() -> Follower:
    return Follower()


@pytest.fixture
def grown() -> Follower:
    """Five records of the first reign, all of them durable, two known to be committed and applied."""
    return Follower(batches(5), FIRST, watermark=2, applied=2)


def of(kind: type, effects) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


def ack(
    durable: int,
    *,
    applied: int = 0,
    received: int | None = None,
    reign: Reign = FIRST,
    session: int = 1,
    synced_us: int = 0,
):
    received = durable if received is None else received
    return SendAck(session, Ack(reign.term, durable, applied, received, reign.primary, synced_us))


# Finding a source


def test_an_empty_follower_follows_whom_it_hears_of_first(empty):
    assert empty.core.leader is None and empty.core.session is None
    assert empty.found(session=3) == [SaveMeta(FIRST)]
    assert empty.core.state is FollowerState.SETTLING
    assert empty.step(MetaSaved()) == [ack(0, session=3)]
    assert empty.core.state is FollowerState.FOLLOWING
    assert empty.core.session == 3 and empty.core.leader is not None
    assert empty.core.leader == FIRST.primary


def test_a_reign_that_is_on_disk_already_is_followed_at_once(grown):
    assert grown.found(grown.end) == [ack(5, applied=2)]
    assert grown.core.state is FollowerState.FOLLOWING


def test_the_reign_is_on_disk_before_the_first_ack_in_it(grown):
    assert grown.found(grown.end, reign=SECOND, watermark=4) == [SaveMeta(SECOND)]
    assert grown.step(Durable(Lsn(5))) == grown.beat(reign=SECOND, watermark=5) == []
    assert grown.step(MetaSaved()) == [ack(5, applied=2, reign=SECOND), Commit(Lsn(4))]


def test_the_tail_is_cut_before_the_first_ack(grown):
    save, cut = grown.found(grown.at(3), reign=SECOND)
    assert save == SaveMeta(SECOND)
    assert (cut.to.lsn, grown.core.end.lsn, grown.core.durable) == (3, 3, 3)
    assert "eu-1's log of term 2 goes on differently" in cut.reason
    assert grown.step(MetaSaved()) == []
    assert grown.step(TailCut()) == [ack(3, applied=2, reign=SECOND)]


def test_a_tail_may_be_cut_within_the_reign_that_is_on_disk(grown):
    """What this primary logged and lost with its disk, before anybody else had it."""
    assert [type(effect) for effect in grown.found(grown.at(4))] == [Cut]
    assert grown.step(TailCut()) == [ack(4, applied=2)]


def test_a_cut_makes_nothing_durable_that_was_not():
    follower = Follower(batches(5), FIRST, durable=1)
    follower.found(follower.at(3))
    assert follower.core.durable == 1


def test_orders_to_the_disk_outlive_the_session_and_the_next_one_waits_for_them(grown):
    grown.found(grown.at(3), reign=SECOND)
    grown.step(SourceLost(1))
    assert grown.found(grown.end, session=2, reign=SECOND) == []
    assert grown.step(MetaSaved()) == []
    assert grown.step(TailCut()) == [ack(3, applied=2, reign=SECOND, session=2)]


def test_orders_that_are_done_when_nobody_is_followed_begin_nothing(grown):
    grown.found(grown.end, reign=SECOND)
    grown.step(SourceLost(1))
    assert grown.step(MetaSaved()) == []
    assert grown.core.state is FollowerState.SEARCHING
    assert grown.found(grown.end, session=2, reign=SECOND) == [ack(5, applied=2, reign=SECOND, session=2)]


def test_what_the_source_knows_committed_is_applied_at_once(grown):
    assert grown.found(grown.end, head=9, watermark=9) == [ack(5, applied=2), Commit(Lsn(5))]
    status = grown.core.status()
    assert (status.source_head, status.watermark) == (9, 5)


def test_only_one_source_is_followed_at_a_time(grown):
    grown.follow()
    (drop,) = grown.found(grown.end, session=2)
    assert (drop.session, drop.error.code, drop.error.retry) == (2, Code.NOT_READY, True)
    assert drop.error.message == "NOT_READY: eu-1 answers, and eu-1 is followed already"
    assert grown.core.session == 1 and grown.core.state is FollowerState.FOLLOWING


def test_an_answer_for_another_end_of_the_log_is_asked_for_anew(grown):
    (drop,) = grown.found(grown.at(4), asked=grown.at(4))
    assert (drop.session, drop.error.code) == (1, Code.NOT_READY)
    assert f"ended at {grown.at(4)}, it ends at {grown.end}" in drop.error.message
    assert grown.core.state is FollowerState.SEARCHING and grown.core.reign == FIRST


@pytest.mark.parametrize(
    ("mine", "theirs", "code"),
    [
        pytest.param(SECOND, FIRST, Code.STALE_TERM, id="an older term"),
        pytest.param(SECOND, RIVAL, Code.TERM_TAKEN, id="the same term of another primary"),
        pytest.param(SECOND, SECOND, None, id="the same reign"),
        pytest.param(SECOND, Reign(Term(9), NodeId("ap-1")), None, id="a newer term"),
        pytest.param(None, RIVAL, None, id="the first one ever"),
    ],
)
def test_an_older_term_and_a_second_primary_of_a_term_are_refused(mine, theirs, code):
    follower = Follower(batches(5), mine)
    effects = follower.found(follower.end, reign=theirs)
    if code is None:
        assert follower.core.reign == theirs and not of(Drop, effects)
        return
    drop, note = effects
    assert (drop.session, drop.error.code) == (1, code)
    assert isinstance(note, Note) and note.text.startswith("eu-1 is refused: ")
    assert follower.core.state is FollowerState.SEARCHING and follower.core.reign == mine


def test_a_second_primary_of_a_term_is_followed_once_its_first_record_is_committed():
    follower = Follower(batches(5), SECOND)
    effects = follower.found(follower.end, reign=RIVAL, settled=True)
    assert follower.core.reign == RIVAL and not of(Drop, effects)


@pytest.mark.parametrize(("common", "refused"), [(0, True), (1, True), (2, False), (5, False)])
def test_what_is_known_committed_is_never_cut_whatever_the_term(common, refused, grown):
    effects = grown.found(grown.at(common), reign=Reign(Term(99), NodeId("ap-1")))
    codes = [drop.error.code for drop in of(Drop, effects)]
    assert codes == [Code.PRIMARY_LACKS_COMMITTED] * refused
    assert bool(of(Cut, effects)) is (not refused and common < 5)
    if refused:
        assert grown.core.reign == FIRST and grown.core.end.lsn == 5
        assert f"LSN {common + 1} to 2 are known committed" in of(Drop, effects)[0].error.message


@pytest.mark.parametrize(("theirs", "parted"), [(1, False), (2, True)])
def test_who_refuses_a_history_in_which_something_else_is_committed_says_that_the_two_have_parted(
    theirs, parted, grown
):
    (drop, _) = grown.found(grown.at(1), reign=SECOND, watermark=theirs)
    assert drop.error.code is Code.PRIMARY_LACKS_COMMITTED
    assert (drop.error.hint == PARTED_HINT) is parted


def test_another_history_of_what_is_known_committed_is_refused_although_the_terms_agree(grown):
    (drop, _) = grown.found(Position(Term(1), Lsn(2), b"x" * 16))
    assert drop.error.code is Code.PRIMARY_LACKS_COMMITTED
    assert "LSN 2 to 2 are known committed" in drop.error.message


def test_a_log_that_only_seems_to_agree_is_replaced_by_a_snapshot(grown):
    elsewhere = Position(Term(1), Lsn(4), b"x" * 16)
    (rebuild,) = grown.found(elsewhere)
    assert isinstance(rebuild, Rebuild) and (rebuild.session, rebuild.diverged) == (1, True)
    assert grown.core.state is FollowerState.SEARCHING and grown.core.end.lsn == 5


@pytest.mark.parametrize(("lsn", "refused"), [(2, True), (3, False)])
def test_a_log_that_differs_in_what_is_known_committed_is_refused_and_not_taken_over(lsn, refused, grown):
    """A source without our record at the common point shares less than it says, by one at least (R5)."""
    effects = grown.found(Position(Term(1), Lsn(lsn), b"x" * 16))
    assert [drop.error.code for drop in of(Drop, effects)] == [Code.PRIMARY_LACKS_COMMITTED] * refused
    assert len(of(Rebuild, effects)) == (not refused)


def test_a_common_point_within_a_batch_of_ours_is_none():
    whole = make_batch(FIRST, EMPTY, [b"three"], 3, 1, Lsn(0))
    follower = Follower([whole])
    (rebuild,) = follower.found(Position(Term(1), Lsn(2), EMPTY_CHAIN))
    assert isinstance(rebuild, Rebuild) and "disagree at LSN 2" in rebuild.reason


def test_what_is_applied_and_not_in_the_sources_log_is_not_undone_in_place():
    follower = Follower(batches(5), FIRST, watermark=0, applied=4)
    (rebuild,) = follower.found(follower.at(2))
    assert rebuild.diverged and "LSN 3 to 4 were applied here" in rebuild.reason
    assert follower.core.state is FollowerState.SEARCHING and follower.core.end.lsn == 5


# Lending a log (R5)


def test_a_node_about_to_lead_follows_a_longer_log_without_accepting_a_reign(grown):
    assert grown.found(grown.end, reign=Reign(Term(0), NodeId("")), leads=False) == [ack(5, applied=2)]
    assert grown.core.reign == FIRST and grown.core.leader is None
    more = batches(2, SECOND, grown.end)
    assert of(Append, grown.receive(*more)) == [Append(batch) for batch in more]
    assert grown.beat(reign=Reign(Term(0), NodeId("")), head=7) == []
    assert grown.step(Durable(Lsn(7))) == [ack(7, applied=2, synced_us=1)]


def test_a_node_that_never_followed_acks_in_no_reign(empty):
    assert empty.found(leads=False) == [ack(0, reign=Reign(Term(0), NodeId("")))]
    assert empty.core.reign is None


def test_a_lender_is_told_what_is_new_only(grown):
    grown.follow(leads=False)
    assert grown.step(Durable(Lsn(5))) == []
    grown.step(Applied(Lsn(3), []))
    assert grown.beat(head=5) == [ack(5, applied=3)]
    assert grown.beat(head=5) == []


def test_a_lender_too_is_refused_when_it_lacks_what_is_known_committed(grown):
    (drop, _) = grown.found(grown.at(1), leads=False)
    assert drop.error.code is Code.PRIMARY_LACKS_COMMITTED


# Following


def test_batches_that_continue_the_log_are_appended_and_acked_when_they_are_on_disk(empty):
    empty.follow()
    made = batches(3)
    assert empty.receive(*made) == [Append(batch) for batch in made]
    assert empty.core.end == made[-1].position and empty.core.status().source_head == 3
    assert empty.step(Durable(Lsn(2))) == [ack(2, received=3, synced_us=1)]
    assert empty.step(Durable(Lsn(3))) == [ack(3, synced_us=1)]


def test_no_batches_are_nothing(empty):
    empty.follow()
    assert empty.receive() == []


@pytest.mark.parametrize("event", ["batches", "heartbeat", "loss"])
def test_what_another_session_says_is_not_heard(event, grown):
    grown.follow()
    before = grown.core.status()
    match event:
        case "batches":
            effects = grown.receive(*batches(1, after=grown.end), session=9)
        case "heartbeat":
            effects = grown.beat(head=99, watermark=5, session=9)
        case _:
            effects = grown.step(SourceLost(9))
    assert effects == [] and grown.core.status() == before


@pytest.mark.parametrize("settling", [True, False])
def test_before_it_follows_it_hears_nothing(settling, grown):
    if settling:
        grown.found(grown.end, reign=SECOND)
    assert grown.receive(*batches(1, SECOND, grown.end)) == grown.beat(reign=SECOND, watermark=5) == []
    assert grown.core.end.lsn == 5 and grown.core.watermark == 2


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(batches(7)[6], id="a gap"),
        pytest.param(batches(5)[4], id="what is there already"),
        pytest.param(
            make_batch(FIRST, Position(Term(1), Lsn(5), b"x" * 16), [b"r"], 1, 9, Lsn(0)), id="chain"
        ),
        pytest.param(batches(1, SECOND, batches(5)[-1].position)[0], id="a term above the reign"),
    ],
)
def test_a_batch_that_does_not_continue_the_log_ends_the_session(batch, grown):
    grown.follow()
    (drop,) = grown.receive(batch)
    assert drop.session == 1 and isinstance(drop.error, ProtocolError)
    assert grown.core.state is FollowerState.SEARCHING and grown.core.end.lsn == 5


def test_a_batch_of_an_older_term_than_the_log_ends_the_session():
    follower = Follower(batches(2, SECOND), SECOND).follow(reign=SECOND)
    (drop,) = follower.receive(*batches(1, FIRST, follower.end))
    assert "does not continue" in str(drop.error)


def test_a_batch_of_the_same_term_by_another_primary_ends_the_session(grown):
    """A term has one primary, also within a log that chains well (R3)."""
    grown.follow(reign=SECOND)
    (drop,) = grown.receive(*batches(1, RIVAL, grown.end))
    assert drop.error.message == "eu-1 sends a batch of 2:ap-1 within the reign 2:eu-1"


def test_what_came_before_a_bad_batch_stays_appended(grown):
    grown.follow()
    good = batches(2, after=grown.end)
    *appends, drop = grown.receive(*good, good[0])
    assert appends == [Append(batch) for batch in good] and isinstance(drop, Drop)
    assert grown.core.end == good[-1].position
    assert grown.receive(*batches(1, after=grown.end)) == []  # nobody is followed any more


def test_older_terms_are_caught_up_through_to_the_reigns_own(empty):
    empty.follow(reign=SECOND)
    old = batches(2, FIRST)
    own = batches(2, SECOND, old[-1].position)
    assert len(of(Append, empty.receive(*old, *own))) == 4


@pytest.mark.parametrize("reign", [SECOND, RIVAL, Reign(Term(0), NodeId(""))])
def test_a_heartbeat_of_another_reign_ends_the_session(reign, grown):
    grown.follow()
    (drop,) = grown.beat(reign=reign)
    assert isinstance(drop.error, ProtocolError)
    assert grown.core.state is FollowerState.SEARCHING


def test_a_heartbeat_says_the_head_and_is_answered_by_an_ack(grown):
    grown.follow()
    assert grown.beat(head=9) == [ack(5, applied=2)]
    assert grown.core.status().source_head == 9
    grown.beat(head=7)
    assert grown.core.status().source_head == 9


def test_a_source_that_is_lost_is_looked_for_and_the_log_stays(grown):
    grown.follow()
    assert grown.step(SourceLost(1)) == grown.step(SourceLost(1)) == []
    assert (grown.core.state, grown.core.session, grown.core.end.lsn) == (FollowerState.SEARCHING, None, 5)


def test_a_sync_and_an_apply_without_a_source_are_noted(grown):
    assert grown.step(Durable(Lsn(5))) == grown.step(Applied(Lsn(5), [])) == []
    assert (grown.core.durable, grown.core.applied) == (5, 5)


def test_a_sync_of_before_a_cut_that_is_reported_after_it_counts_for_what_is_left():
    follower = Follower(batches(5), FIRST, durable=2)
    follower.found(follower.at(3))
    follower.step(Durable(Lsn(5)))
    assert follower.core.durable == 3
    assert follower.step(TailCut()) == [ack(3)]


# Applying (R6)


@pytest.mark.parametrize(
    ("announced", "durable", "commit"),
    [
        pytest.param(0, 5, None, id="nothing is known"),
        pytest.param(2, 5, None, id="nothing new"),
        pytest.param(4, 5, 4, id="the watermark"),
        pytest.param(9, 5, 5, id="the end of the log"),
        pytest.param(4, 3, 3, id="our own disk"),
        pytest.param(4, 2, None, id="our own disk is behind"),
    ],
)
def test_what_is_applied_is_announced_here_and_on_disk(announced, durable, commit):
    follower = Follower(batches(5), FIRST, watermark=2, applied=2, durable=durable).follow()
    commits = [] if commit is None else [Commit(Lsn(commit))]
    assert of(Commit, follower.beat(watermark=announced)) == commits
    assert of(Commit, follower.beat(watermark=announced)) == []  # ordered once


def test_a_batch_carries_the_watermark_too(grown):
    grown.follow()
    *_, commit = grown.receive(*batches(1, after=grown.end, watermark=4))
    assert commit == Commit(Lsn(4))


def test_the_watermark_waits_for_the_batches_and_they_for_the_disk(grown):
    grown.follow()
    assert of(Commit, grown.beat(watermark=7)) == [Commit(Lsn(5))]
    assert of(Commit, grown.receive(*batches(1, after=grown.end))) == []
    assert grown.core.watermark == 6
    assert of(Commit, grown.step(Durable(Lsn(6)))) == [Commit(Lsn(6))]


def test_a_watermark_that_falls_is_not_believed(grown):
    grown.follow()
    grown.beat(watermark=4)
    grown.beat(watermark=1)
    assert grown.core.watermark == 4
    grown.step(SourceLost(1))
    grown.follow(session=2)
    assert grown.core.watermark == 4


def test_what_was_ordered_and_is_not_applied_yet_is_not_ordered_again(grown):
    grown.follow()
    grown.beat(watermark=4)
    grown.step(SourceLost(1))
    assert of(Commit, grown.found(grown.end, session=2, watermark=4)) == []
    grown.step(Applied(Lsn(4), []))
    assert grown.beat(watermark=5, session=2) == [Commit(Lsn(5)), ack(5, applied=4, session=2)]


# Silence


def test_nine_heartbeats_may_be_lost_before_a_source_is_called_silent():
    assert SILENCE_MS >= 10 * BEAT_MS


def test_a_silent_source_is_tried_again(grown):
    assert grown.wait(10 * SILENCE_MS) == []  # nobody is followed
    grown.follow()
    assert grown.wait(SILENCE_MS - 1) == []
    (drop,) = grown.wait(1)
    assert drop.session == 1 and "eu-1 has been silent for 5000 ms" in str(drop.error)
    assert grown.core.state is FollowerState.SEARCHING
    assert grown.core.session is None and grown.core.leader is None
    assert grown.wait(SILENCE_MS) == []


@pytest.mark.parametrize("word", ["batches", "heartbeat", "a part of a batch"])
def test_every_word_of_the_source_breaks_the_silence(word, grown):
    grown.follow()
    grown.wait(SILENCE_MS - 1)
    grown.beat() if word == "heartbeat" else grown.receive(*batches(word == "batches", after=grown.end))
    assert grown.wait(SILENCE_MS - 1) == []
    assert len(of(Drop, grown.wait(1))) == 1


def test_a_source_is_not_called_silent_while_our_own_disk_keeps_it_waiting(grown):
    """It sends nothing before the first ack."""
    grown.found(grown.at(3), reign=SECOND)
    assert grown.wait(3 * SILENCE_MS) == []
    grown.settle()
    assert grown.core.state is FollowerState.FOLLOWING
    assert grown.wait(SILENCE_MS - 1) == []
    assert len(of(Drop, grown.wait(1))) == 1


def test_the_status_of_a_follower_without_a_source_says_so(empty, grown):
    status = empty.core.status()
    assert (status.state, status.reign, status.source, status.end) == (FollowerState.SEARCHING, None, None, 0)
    assert (status.durable, status.watermark, status.applied) == (0, 0, 0)
    assert status.source_head == 0
    grown.follow(head=8)
    status = grown.core.status()
    assert (status.state, status.reign, status.source, status.end) == (
        FollowerState.FOLLOWING,
        FIRST,
        SOURCE,
        5,
    )
    assert (status.durable, status.watermark, status.applied, status.source_head) == (5, 2, 2, 8)


# Any order of events: a log of the first reign of which another one, of the second, shares some

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["follow first", "follow second", "lose", "saved", "cut", "receive", "sync", "beat", "apply"]
        ),
        st.integers(0, 3),
    ),
    max_size=40,
)


@given(steps=STEPS, shared=st.integers(0, 6))
def test_in_any_order_nothing_is_acked_too_early_and_nothing_committed_is_cut(steps, shared):
    first = batches(6)
    second = [*first[:shared], *batches(6, SECOND, first[shared - 1].position if shared else EMPTY)]
    follower = Follower()
    core, session, source, disk = follower.core, 0, first, 0
    orders: list[str] = []
    applied, committed = 0, 0

    def take(effects):
        nonlocal committed, disk
        for effect in effects:
            match effect:
                case SendAck(at, sent):
                    assert at == session and not orders
                    assert sent.durable <= disk and sent.applied <= committed
                    assert sent.received == len(follower.log)
                    assert follower.log == source[: len(follower.log)]
                case Commit(watermark):
                    assert committed < watermark <= disk
                    committed = watermark
                case SaveMeta():
                    orders.append("saved")
                case Cut(to, _):
                    assert to.lsn >= committed
                    disk = min(disk, to.lsn)
                    orders.append("cut")
                case Append(batch):
                    assert core.state is FollowerState.FOLLOWING or isinstance(effects[-1], Drop)
                    assert batch == source[batch.last - 1]

    for step, number in steps:
        match step:
            case "follow first" | "follow second":
                wanted = first if step == "follow first" else second
                reign = FIRST if wanted is first else SECOND
                agreed = [mine for mine, theirs in zip(follower.log, wanted, strict=False) if mine == theirs]
                common = agreed[-1].position if agreed else EMPTY
                if core.state is FollowerState.SEARCHING:
                    session, source = session + 1, wanted
                take(follower.found(common, session=session, reign=reign, head=len(wanted)))
            case "lose":
                take(follower.step(SourceLost(session)))
            case "saved" | "cut" if step in orders:
                orders.remove(step)
                take(follower.step(MetaSaved() if step == "saved" else TailCut()))
            case "receive":
                take(follower.receive(*source[len(follower.log) :][:number], session=session))
            case "sync" if "cut" in orders:  # of all that there was before the cut
                disk = len(follower.log)
                take(follower.step(Durable(Lsn(12))))
            case "sync":
                disk = max(disk, len(follower.log) - number)
                take(follower.step(Durable(Lsn(disk))))
            case "beat":
                reign = FIRST if source is first else SECOND
                watermark = min(shared, len(source)) - number
                take(follower.beat(reign=reign, watermark=max(0, watermark), session=session))
            case "apply" if committed > applied:
                applied = committed
                take(follower.step(Applied(Lsn(applied), [])))
        assert core.end == follower.end
        assert core.durable == disk and committed <= core.watermark


def test_an_ack_says_how_long_the_newest_batch_that_it_brings_took_to_the_disk(empty):
    empty.follow()
    first, second, third = batches(3)
    empty.receive(first, second)
    empty.ms += 5
    empty.receive(third)
    empty.ms += 2
    assert empty.step(Durable(Lsn(2))) == [ack(2, received=3, synced_us=7_000)]
    assert empty.step(Durable(Lsn(2))) == [ack(2, received=3)]
    assert empty.step(Durable(Lsn(3))) == [ack(3, synced_us=2_000)]


def test_while_it_follows_nobody_it_votes_once_a_term_and_only_for_newer_ones() -> None:
    follower = Follower(reign=Reign(Term(3), SOURCE))
    for term in (1, 3):
        assert follower.step(Stood(Reign(Term(term), NodeId("ap-1")))) == []
    vote = Reign(Term(5), NodeId("ap-1"))
    assert SaveVote(vote) in follower.step(Stood(vote))
    assert follower.step(Stood(vote)) == []
    assert follower.step(Stood(Reign(Term(5), SOURCE))) == []
    assert SaveVote(Reign(Term(6), SOURCE)) in follower.step(Stood(Reign(Term(6), SOURCE)))
    assert follower.core.term_min == 6


def test_a_follower_does_not_vote() -> None:
    follower = Follower().follow()
    assert follower.step(Stood(Reign(Term(9), NodeId("ap-1")))) == []


def test_after_a_vote_no_reign_before_it_is_accepted_and_none_beside_it_that_has_not_settled() -> None:
    for reign, settled, accepted in [
        (Reign(Term(4), SOURCE), True, False),
        (Reign(Term(5), SOURCE), False, False),
        (Reign(Term(5), SOURCE), True, True),
        (Reign(Term(6), SOURCE), False, True),
    ]:
        follower = Follower()
        follower.step(Stood(Reign(Term(5), NodeId("ap-1"))))
        effects = follower.found(reign=reign, settled=settled)
        refused = [effect.error.code for effect in effects if isinstance(effect, Drop)]
        assert refused == ([] if accepted else [Code.NOT_READY]), "which ends no reign"
    follower = Follower()
    follower.step(Stood(Reign(Term(5), NodeId("ap-1"))))
    lent = follower.found(reign=FIRST, leads=False)
    assert not any(isinstance(effect, Drop) for effect in lent), "who only lends its log leads nobody"

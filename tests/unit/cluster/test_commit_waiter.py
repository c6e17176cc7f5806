"""Who is released when: once applied, and under a stronger policy once that is met as well."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ack_waits import Reached, TimedOut
from cluster.commit_waiter import CommitWaiter
from cluster.effects import Flight, Now, Release, Unconfirmed
from redwire.position import Lsn, NodeId
from regions.commit_policy import CommitPolicy

EU, US, AP = NodeId("eu-1"), NodeId("us-1"), NodeId("ap-1")
STRONG, STRONGER = "ack_n=2", "ack_n=3"


@dataclass
class Table:
    """An ack table that says what it is told to: per policy the LSN that meets it, and what others hold."""

    marks: dict[str, int] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)

    def commit_watermark(self, policy: CommitPolicy | None = None) -> Lsn:
        return Lsn(self.marks.get(str(policy), 0))

    def copies(self, lsn: Lsn) -> int:
        return sum(durable >= lsn for durable in self.others)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def waiter(table) -> CommitWaiter:
    return CommitWaiter(table)


@pytest.fixture
def launch(fly, waiter):
    """Makes a batch of these proposals and lets it fly."""

    def launched(*proposals, made_us=0):
        flight = fly(*proposals, made_us=made_us)
        waiter.launch(flight)
        return flight

    return launched


def at(ms: float) -> Now:
    return Now(int(ms * 1000), 0)


def told(answers: list[Release] | list[Unconfirmed]) -> list[int]:
    """The numbers of the proposals that are answered, in order."""
    return [
        number
        for answer in answers
        for number in (
            [proposal.correlation for proposal, _ in answer.answers]
            if isinstance(answer, Release)
            else [answer.proposal.correlation]
        )
    ]


def test_nothing_waits_at_first(waiter):
    assert waiter.released(Lsn(9)) == []
    assert waiter.applied([], Lsn(0), at(0)) == []
    assert waiter.expired(at(99)) == []
    assert waiter.abandoned("over") == []
    waiter.covered(EU, Lsn(0), Lsn(9), at(1))
    waiter.committed(Lsn(9), EU, Lsn(9), 0, at(1))
    status = waiter.status()
    assert (status.flights, status.waiting_stronger, status.reached, status.timed_out) == (0, 0, 0, 0)


def test_under_the_commit_rule_an_answer_leaves_when_its_batch_is_applied(waiter, launch, fly, propose):
    flight = launch(propose(), propose())
    assert waiter.released(Lsn(2)) == []
    (release,) = waiter.applied(fly.results(flight), Lsn(2), at(0))
    assert (release.flight, release.watermark, told([release])) == (flight, 2, [1, 2])
    assert [result.first_lsn for _, result in release.answers] == [1, 2]
    assert all(proposal.answered for proposal in propose.made)
    assert waiter.status().flights == waiter.flight_bytes == waiter.under_way == 0


def test_each_batch_has_a_release_of_its_own(waiter, launch, fly, propose):
    flights = [launch(propose()), launch(propose()), launch(propose())]
    assert [
        release.flight for release in waiter.applied(fly.results(*flights[:2]), Lsn(2), at(0))
    ] == flights[:2]
    assert list(waiter.flights) == flights[2:]
    assert waiter.flight_bytes == len(flights[2].batch.data)
    assert waiter.under_way == len(flights[2].proposals)


def test_the_nodes_own_records_are_answered_to_nobody(waiter, launch, fly, propose):
    flight = launch(None, propose(count=3), None)
    (release,) = waiter.applied(fly.results(flight), Lsn(5), at(0))
    assert [(proposal.correlation, result.first_lsn) for proposal, result in release.answers] == [(1, 2)]
    assert waiter.applied(fly.results(launch(None)), Lsn(6), at(0)) == []


def test_what_another_reign_logged_is_nobodys(waiter, launch, fly, propose):
    flight = launch(propose())
    assert waiter.applied([(Lsn(77), [])], Lsn(77), at(0)) == []
    assert told(waiter.applied(fly.results(flight), Lsn(77), at(0))) == [1]
    assert waiter.applied(fly.results(flight), Lsn(77), at(0)) == []


def test_a_stronger_policy_delays_its_own_answer_only(waiter, table, launch, fly, propose):
    flight = launch(propose(STRONG), propose())
    assert told(waiter.applied(fly.results(flight), Lsn(2), at(0))) == [2]
    assert waiter.status().waiting_stronger == 1
    table.marks[STRONG] = 1  # the batch ends at 2
    assert waiter.released(Lsn(2)) == []
    table.marks[STRONG] = 2
    (release,) = waiter.released(Lsn(5))
    assert (release.flight, release.watermark, told([release])) == (flight, 5, [1])
    assert waiter.released(Lsn(5)) == []
    status = waiter.status()
    assert (status.waiting_stronger, status.reached, waiter._stronger) == (0, 2, {})


def test_what_waits_for_a_stronger_policy_alone_holds_no_bytes_of_its_batch(
    waiter, table, launch, fly, propose
):
    flight = launch(propose(), propose(count=2), propose(policy=STRONG))
    assert flight.batch.data and all(proposal.request for proposal in propose.made)
    waiter.applied(fly.results(flight), Lsn(4), at(0))
    assert flight.batch.data == b"" and not any(proposal.request for proposal in propose.made)
    table.marks[STRONG] = 4
    (release,) = waiter.released(Lsn(4))
    assert told([release]) == [3] and release.flight.first_of(propose.made[2]) == 4


def test_a_stronger_policy_that_is_met_before_apply_delays_nothing(waiter, table, launch, fly, propose):
    flight = launch(propose(STRONG))
    table.marks[STRONG] = 1
    assert waiter.released(Lsn(1)) == []
    assert told(waiter.applied(fly.results(flight), Lsn(1), at(0))) == [1]


def test_each_stronger_policy_waits_for_itself(waiter, table, launch, fly, propose):
    flights = [launch(propose(STRONG), propose(STRONGER)), launch(propose(STRONG)), launch(propose(STRONGER))]
    assert waiter.applied(fly.results(*flights), Lsn(4), at(0)) == []
    table.marks |= {STRONG: 3, STRONGER: 1}
    assert told(waiter.released(Lsn(4))) == [1, 3]
    table.marks[STRONGER] = 4
    assert told(waiter.released(Lsn(4))) == [2, 4]


def test_a_copy_is_noted_once_with_the_time_since_the_batch_was_made(waiter, launch, propose):
    first, second = launch(propose(), made_us=1_000), launch(propose(), made_us=2_000)
    waiter.covered(US, Lsn(0), Lsn(1), Now(1_500, 0))
    waiter.covered(EU, Lsn(0), Lsn(2), Now(2_500, 0))
    waiter.covered(US, Lsn(1), Lsn(2), Now(2_600, 0))
    assert first.acks == [(US, 500), (EU, 1_500)]
    assert second.acks == [(EU, 500), (US, 600)]


def test_a_member_that_proves_again_what_it_lost_is_not_noted_twice(waiter, launch, propose):
    flight = launch(propose())
    waiter.covered(US, Lsn(0), Lsn(1), at(1))
    waiter.covered(US, Lsn(1), Lsn(0), at(2))
    waiter.covered(US, Lsn(0), Lsn(1), at(3))
    assert flight.acks == [(US, 1_000)]


def test_a_copy_within_a_batch_is_none_of_it(waiter, launch, propose):
    flight = launch(propose(count=5))
    waiter.covered(US, Lsn(0), Lsn(4), at(1))
    assert flight.acks == []
    waiter.covered(US, Lsn(4), Lsn(5), at(2))
    assert flight.acks == [(US, 2_000)]


def test_a_held_answer_goes_on_collecting_copies_and_a_given_one_does_not(
    waiter, table, launch, fly, propose
):
    held, both, given = launch(propose(STRONG)), launch(propose(STRONG), propose(STRONGER)), launch(propose())
    waiter.applied(fly.results(held, both, given), Lsn(4), at(0))
    waiter.covered(AP, Lsn(0), Lsn(4), at(1))
    assert (held.acks, both.acks, given.acks) == ([(AP, 1_000)], [(AP, 1_000)], [])


def test_an_ack_costs_what_is_new_in_it_however_much_is_held(waiter, fly, propose):
    class Counted(Flight):
        looked = 0

        def __getattribute__(self, name):
            if name == "acks":
                Counted.looked += 1
            return super().__getattribute__(name)

    for _ in range(500):
        made = fly(propose(STRONG))
        waiter.launch(Counted(made.batch, 0, made.proposals, []))
    waiter.applied(fly.results(*waiter.flights), Lsn(500), at(0))
    waiter.covered(US, Lsn(0), Lsn(499), at(1))
    Counted.looked = 0
    waiter.covered(US, Lsn(499), Lsn(500), at(2))
    assert 1 <= Counted.looked <= 4


def test_the_copy_that_completed_the_rule_is_named(waiter, launch, propose):
    """The rule asks for all three, and ap-1 is late with the second batch."""
    first, second = launch(propose()), launch(propose())
    for node, lsn in ((EU, 2), (AP, 1), (US, 2)):
        waiter.covered(node, Lsn(0), Lsn(lsn), at(1))
    waiter.committed(Lsn(1), US, Lsn(1), 0, at(1))
    waiter.covered(AP, Lsn(1), Lsn(2), at(2))
    waiter.committed(Lsn(2), AP, Lsn(2), 0, at(2))
    assert [first.acks[first.completing][0], second.acks[second.completing][0]] == [US, AP]


def test_a_rule_completed_by_someone_who_brought_no_copy_is_completed_by_nobody(waiter, launch, propose):
    flight = launch(propose())
    waiter.covered(EU, Lsn(0), Lsn(1), at(1))
    waiter.committed(Lsn(1), AP, Lsn(1), 0, at(1))
    assert flight.completing is None


def test_whose_time_is_up_is_told_once_and_never_released(waiter, launch, fly, propose):
    flight = launch(propose(deadline_ms=100), propose(deadline_ms=200))
    assert waiter.expired(at(99.999)) == []
    (late,) = waiter.expired(at(100))
    assert (late.proposal, late.flight) == (propose.made[0], flight)
    assert waiter.expired(at(150)) == []
    assert told(waiter.applied(fly.results(flight), Lsn(2), at(0))) == [2]
    assert waiter.expired(at(1_000)) == []
    status = waiter.status()
    assert (status.reached, status.timed_out) == (1, 1)


def test_an_earlier_deadline_that_comes_later_is_met(waiter, launch, propose):
    launch(propose(deadline_ms=500), None)
    launch(propose(deadline_ms=100))
    launch(propose(deadline_ms=300))
    assert [told(waiter.expired(at(ms))) for ms in (100, 300, 500)] == [[2], [3], [1]]


def test_a_held_answer_expires_too_and_its_copies_do_not_matter_then(waiter, table, launch, fly, propose):
    flights = [launch(propose(STRONG, deadline_ms=ms)) for ms in (100, 900)]
    waiter.applied(fly.results(*flights), Lsn(2), at(0))
    (late,) = waiter.expired(at(100))
    assert (late.proposal, late.flight) == (propose.made[0], flights[0])
    assert waiter.status().waiting_stronger == 1
    waiter.covered(AP, Lsn(0), Lsn(2), at(200))
    assert [flight.acks for flight in flights] == [[], [(AP, 200_000)]]
    table.marks[STRONG] = 2
    assert told(waiter.released(Lsn(2))) == [2]


def test_of_a_held_batch_only_those_are_answered_who_were_not_yet(waiter, table, launch, fly, propose):
    flight = launch(propose(STRONG, deadline_ms=100), propose(STRONG))
    waiter.applied(fly.results(flight), Lsn(2), at(0))
    assert told(waiter.expired(at(100))) == [1]
    table.marks[STRONG] = 2
    assert told(waiter.released(Lsn(2))) == [2]


def test_a_policy_that_is_never_met_leaves_nothing_behind(waiter, table, launch, fly, propose):
    flights = [launch(propose(STRONG, deadline_ms=100), propose(STRONGER, deadline_ms=100)) for _ in range(3)]
    waiter.applied(fly.results(*flights), Lsn(6), at(0))
    assert sorted(told(waiter.expired(at(100)))) == [1, 2, 3, 4, 5, 6]
    assert waiter._stronger == {}
    waiter.covered(AP, Lsn(0), Lsn(6), at(200))
    assert all(flight.acks == [] for flight in flights)


def test_an_answer_that_expired_in_flight_is_not_held_for_long(waiter, table, launch, fly, propose):
    """Its batch is applied after the deadline: there is nobody to hold an answer for."""
    flight = launch(propose(STRONG, deadline_ms=100))
    waiter.expired(at(100))
    assert waiter.applied(fly.results(flight), Lsn(1), at(0)) == []
    assert waiter.status().waiting_stronger == 0 and waiter._stronger == {}


def test_the_end_of_the_reign_answers_everybody_once(waiter, table, launch, fly, propose):
    answered = launch(propose(), propose(deadline_ms=1))
    waiter.expired(at(1))
    held = launch(propose(STRONG), propose())
    flying = launch(None, propose())
    waiter.applied(fly.results(answered, held), Lsn(4), at(0))
    late = waiter.abandoned("the reign is over")
    assert (len(waiter.flights), waiter.flight_bytes, waiter.under_way, waiter._stronger) == (0, 0, 0, {})
    assert sorted(told(late)) == [3, 5]
    assert {(each.flight.batch.last, each.message) for each in late} == {
        (held.batch.last, "the reign is over"),
        (flying.batch.last, "the reign is over"),
    }
    table.marks[STRONG] = 9
    assert waiter.released(Lsn(9)) == waiter.applied(fly.results(flying), Lsn(9), at(0)) == []
    assert waiter.expired(at(99_999)) == waiter.abandoned("again") == []


def test_the_waits_for_copies_are_settled_by_acks_and_by_time(waiter, table):
    soon, late, never = (waiter.await_acks(Lsn(5), 1, 0, ms) for ms in (300, 100, 300))
    never.required = 2
    waiter.covered(EU, Lsn(0), Lsn(5), at(99))
    assert soon.outcome is late.outcome is None
    assert waiter.expired(at(100)) == []
    assert late.outcome == TimedOut(0, 1)
    table.others = [5]
    waiter.covered(EU, Lsn(0), Lsn(5), at(101))
    assert soon.outcome == Reached(1) and never.outcome is None
    assert waiter.abandoned("over") == []
    assert never.outcome == TimedOut(1, 2)


STEPS = st.one_of(
    st.tuples(st.just("launch"), st.lists(st.sampled_from(["majority", STRONG, STRONGER]), max_size=3)),
    st.tuples(st.sampled_from(["apply", "meet", "meet more", "expire"]), st.integers(0, 4)),
)


@given(steps=st.lists(STEPS, max_size=40))
def test_every_proposal_is_answered_once_and_none_before_its_time(steps, makers):
    (fly, propose), table = makers(), Table()
    waiter, flights, applied, ms, answered = CommitWaiter(table), [], 0, 0, set()

    def take(given):
        for answer in given:
            for number in told([answer]):
                assert number not in answered
                answered.add(number)
                proposal = propose.made[number - 1]
                if isinstance(answer, Release):
                    last = answer.flight.batch.last
                    assert last <= applied
                    assert proposal.policy.is_rule or last <= table.marks[proposal.policy.text]
                else:
                    assert proposal.deadline_us <= ms * 1000

    for step, what in steps:
        if step == "launch":
            made = [propose(text, deadline_ms=ms + 1 + len(propose.made) * 5 % 9) for text in what]
            flights.append(fly(*made, None))
            waiter.launch(flights[-1])
        elif step == "apply":
            ready = [flight for flight in flights if flight.batch.last > applied][:what]
            applied = ready[-1].batch.last if ready else applied
            take(waiter.applied(fly.results(*ready), Lsn(applied), at(0)))
        elif step == "expire":
            ms += what
            take(waiter.expired(at(ms)))
        else:
            text = STRONG if step == "meet" else STRONGER
            table.marks[text] = max(table.marks.get(text, 0), fly.end.lsn - what)
            take(waiter.released(Lsn(applied)))
    left = told(waiter.abandoned("over"))
    assert sorted([*answered, *left]) == [proposal.correlation for proposal in propose.made]
    assert all(proposal.answered for proposal in propose.made)


def test_the_disk_of_the_completing_node_is_timed_for_the_batch_that_its_ack_ends_with(
    waiter, launch, propose
):
    first, second, third = (launch(propose()) for _ in range(3))
    for node in (EU, US):
        waiter.covered(node, Lsn(0), Lsn(2), at(4))
    waiter.committed(Lsn(2), US, Lsn(2), 700, at(5))
    assert [flight.remote_us for flight in (first, second, third)] == [None, 700, None]
    assert [flight.committed_us for flight in (first, second, third)] == [5_000, 5_000, None]
    waiter.covered(US, Lsn(2), Lsn(3), at(6))
    waiter.committed(Lsn(3), US, Lsn(3), 0, at(6))
    assert (third.remote_us, third.committed_us) == (None, 6_000)
    assert second.committed_us == 5_000


def test_what_was_applied_is_timed(waiter, launch, fly, propose):
    flight = launch(propose())
    waiter.applied(fly.results(flight), Lsn(1), at(9))
    assert waiter.times.summary(9).count == 1

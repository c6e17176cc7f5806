"""A change of members or rule: what commits its record, what waits for it, what is waived for the lost."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.position import Incarnation, Lsn, NodeId, Region
from regions.binding import Member, MemberKind, Membership
from regions.commit_policy import CommitPolicy
from regions.coordinator import QuorumCoordinator
from regions.errors import InsufficientReplicas, MissingRegions
from regions.quorum import satisfied_by
from regions.transition import Step, joint_watermark, obstacle

LEADER = NodeId("eu-1")


def members(*names: str, readers: tuple[str, ...] = ()) -> Membership:
    """Nodes named for their region, or `node@region`."""

    def member(name: str, kind: MemberKind) -> Member:
        node, _, region = name.partition("@")
        return Member(NodeId(node), Region(region or node[:2]), kind)

    voters = [member(name, MemberKind.VOTER) for name in names]
    return Membership((*voters, *(member(name, MemberKind.READER) for name in readers)))


FIVE = members("eu-1", "eu-2", "us-1", "us-2", "ap-1")


def step(at: int, membership: Membership, rule: str, *lost: str) -> Step:
    return Step(Lsn(at), membership, CommitPolicy.parse(rule), frozenset(map(NodeId, lost)))


def led(membership: Membership, rule: str, head: int = 20) -> QuorumCoordinator:
    """eu-1 leads from LSN 1 on, its log is durable up to `head`, and everybody follows from 0."""
    made = QuorumCoordinator(membership, LEADER, CommitPolicy.parse(rule))
    made.begin_reign(Lsn(1), 0)
    made.extended(Lsn(head), 0)
    made.own_durable(Lsn(head), 0)
    for member in membership.members:
        if member.id != LEADER:
            made.joined(member.id, 1, Lsn(0), Lsn(0), 0, incarnation=Incarnation("a" * 32))
    return made


def acks(made: QuorumCoordinator, durable: int, *nodes: str) -> Lsn:
    """These nodes hold everything up to `durable`; the watermark then."""
    for node in nodes:
        made.acked(NodeId(node), 1, Lsn(durable), Lsn(0), Lsn(durable), 0)
    return made.commit_watermark()


def test_below_the_record_the_old_rule_goes_on_and_above_it_nothing_does() -> None:
    made = led(FIVE, "regions(eu,us)")
    made.propose(step(10, FIVE, "regions(eu,ap)"))
    assert acks(made, 8, "us-1") == 8
    assert acks(made, 20, "us-1") == 9  # two of five hold the record, and nobody in ap
    assert acks(made, 20, "eu-2") == 9
    assert str(made.rule) == "regions(eu,us)"
    assert acks(made, 12, "ap-1") == 12
    assert str(made.rule) == "regions(ap,eu)"
    assert made.pending == ()


def test_the_record_takes_a_majority_whatever_the_rules_ask_for() -> None:
    made = led(FIVE, "local")
    assert made.commit_watermark() == 20
    made.extended(Lsn(30), 0)
    made.propose(step(25, FIVE, "ack_n=1"))
    made.own_durable(Lsn(30), 0)
    assert acks(made, 30, "us-1") == 24
    assert acks(made, 30, "ap-1") == 30


def test_the_old_rule_must_hold_even_when_the_new_one_asks_for_less() -> None:
    made = led(FIVE, "regions(eu,us)")
    made.propose(step(10, FIVE, "majority"))
    assert acks(made, 20, "eu-2", "ap-1") == 0
    assert acks(made, 10, "us-1") == 20


def test_what_is_lost_is_waived_in_the_old_rule() -> None:
    made = led(FIVE, "regions(eu,us)")
    made.propose(step(10, FIVE, "majority", "us-1", "us-2"))
    assert acks(made, 20, "eu-2") == 0  # a majority is never waived
    assert acks(made, 20, "ap-1") == 20


def test_what_is_lost_is_not_waived_in_the_new_rule() -> None:
    made = led(FIVE, "regions(eu,us)")
    made.propose(step(10, FIVE, "regions(us)", "us-1", "us-2"))
    assert acks(made, 20, "eu-2", "ap-1") == 0


def test_a_new_binding_is_counted_once_its_record_is_committed() -> None:
    after = members("eu-1", "eu-2", "us-1", "us-2", "ap-1@us")
    made = led(FIVE, "regions(eu,us)")
    made.propose(step(10, after, "regions(eu,us)"))
    assert acks(made, 20, "ap-1", "eu-2") == 0
    assert acks(made, 10, "us-2") == 20
    assert made.membership.region_of(NodeId("ap-1")) == "us"


def test_a_reader_that_becomes_a_voter_counts_for_its_own_promotion() -> None:
    two = members("eu-1", readers=("us-1",))
    made = led(two, "local", head=20)
    made.extended(Lsn(30), 0)
    made.propose(step(25, members("eu-1", "us-1"), "majority"))
    made.own_durable(Lsn(30), 0)
    assert made.commit_watermark() == 24
    assert acks(made, 28, "us-1") == 28


def test_who_left_is_forgotten_and_who_stays_keeps_its_row() -> None:
    made = led(FIVE, "majority")
    made.propose(step(10, members("eu-1", "us-1", "ap-1"), "majority"))
    assert acks(made, 15, "us-1", "ap-1") == 15
    assert NodeId("us-2") not in made.membership
    assert made.durable(NodeId("us-1")) == 15
    assert made.membership.member(NodeId("us-1")).incarnation is None
    assert not made.acked(NodeId("us-2"), 1, Lsn(20), Lsn(0), Lsn(20), 0)


def test_a_life_that_was_admitted_survives_the_change() -> None:
    made = led(FIVE, "majority")
    made.admit(NodeId("us-1"), Incarnation("a" * 32), Lsn(1))
    made.propose(step(10, FIVE, "ack_n=1"))
    acks(made, 20, "us-1", "ap-1")
    assert made.membership.member(NodeId("us-1")).incarnation == "a" * 32


def test_a_later_change_gives_up_what_an_earlier_one_waits_for() -> None:
    made = led(FIVE, "regions(eu,us)")
    made.propose(step(10, FIVE, "majority"))
    assert acks(made, 20, "eu-2", "ap-1") == 0
    made.extended(Lsn(21), 0)
    made.own_durable(Lsn(21), 0)
    made.propose(step(21, FIVE, "ack_n=1", "us"))
    assert acks(made, 21, "eu-2", "ap-1") == 0  # "us" is a region, not a node
    made.extended(Lsn(22), 0)
    made.own_durable(Lsn(22), 0)
    made.propose(step(22, FIVE, "ack_n=1", "us-1", "us-2"))
    assert acks(made, 22, "eu-2", "ap-1") == 22
    assert str(made.rule) == "ack_n=1"


def test_in_a_new_reign_what_is_pending_waits_for_its_first_record() -> None:
    made = QuorumCoordinator(FIVE, LEADER, CommitPolicy.parse("regions(eu,us)"))
    made.begin_reign(Lsn(31), 0, known=Lsn(5))
    made.propose(step(10, FIVE, "majority"))
    made.extended(Lsn(31), 0)
    made.own_durable(Lsn(31), 0)
    for node in ("us-1", "ap-1"):
        made.joined(NodeId(node), 1, Lsn(30), Lsn(0), 0)
    assert made.commit_watermark() == 5  # an old record on enough disks is not committed by their number (R3)
    assert acks(made, 31, "us-1") == 5
    assert acks(made, 31, "ap-1") == 31


def inherited(*steps: Step) -> QuorumCoordinator:
    """eu-1 leads from LSN 31 on, its log is durable, and an earlier reign left these changes in it."""
    made = QuorumCoordinator(FIVE, LEADER, CommitPolicy.parse("regions(eu,us)"))
    made.begin_reign(Lsn(31), 0, known=Lsn(5))
    for each in steps:
        made.propose(each)
    made.extended(Lsn(31), 0)
    made.own_durable(Lsn(31), 0)
    for node in ("eu-2", "us-1", "us-2", "ap-1"):
        made.joined(NodeId(node), 1, Lsn(30), Lsn(0), 0)
    return made


def test_of_two_inherited_changes_the_second_takes_its_own_copies() -> None:
    made = inherited(step(10, FIVE, "majority"), step(21, FIVE, "regions(ap,eu)"))
    assert acks(made, 31, "eu-2", "us-1") == 5  # the first one's copies
    assert len(made.pending) == 1
    assert acks(made, 31, "ap-1") == 31
    assert str(made.rule) == "regions(ap,eu)"


def test_a_new_reign_forgets_the_changes_of_the_one_before() -> None:
    made = inherited(step(10, FIVE, "majority"))
    made.begin_reign(Lsn(41), 0)
    assert made.pending == ()


@pytest.mark.parametrize(
    ("reached", "after", "lost", "error"),
    [
        ({"us-1", "ap-1"}, "majority", (), None),
        ({"us-1"}, "majority", (), InsufficientReplicas),
        ({"eu-2", "ap-1"}, "majority", (), MissingRegions),
        ({"eu-2", "ap-1"}, "majority", ("us-1", "us-2"), None),
        ({"eu-2"}, "majority", ("us-1", "us-2"), InsufficientReplicas),
        ({"eu-2", "us-1"}, "regions(ap)", (), MissingRegions),
    ],
)
def test_what_cannot_be_committed_by_who_is_in_reach_is_told(
    reached: set[str], after: str, lost: tuple[str, ...], error: type | None
) -> None:
    steps = (step(0, FIVE, "regions(eu,us)"), step(10, FIVE, after, *lost))
    found = obstacle(steps, LEADER, set(map(NodeId, reached)))
    assert (None if found is None else type(found)) is error


def test_the_coordinator_asks_who_is_in_reach_readers_included() -> None:
    two = members("eu-1", readers=("us-1",))
    made = led(two, "local")
    promotion = step(25, members("eu-1", "us-1"), "majority")
    assert made.obstacle(promotion, 0) is None
    made.left(NodeId("us-1"), 1, 0)
    assert isinstance(made.obstacle(promotion, 0), InsufficientReplicas)


POLICIES = (
    "local",
    "majority",
    "ack_n=1",
    "ack_n=2",
    "regions(eu,us)",
    "regions(ap)",
    "regions(2 of ap,eu,us)",
)
SHAPES = (FIVE, members("eu-1", "us-1", "ap-1"), members("eu-1", "eu-2@us", "us-1@ap", "ap-1"))


@given(
    st.sampled_from(list(product(SHAPES, POLICIES))),
    st.sampled_from(list(product(SHAPES, POLICIES))),
    st.sets(st.sampled_from([member.id for member in FIVE.members])),
    st.sets(st.sampled_from([member.id for member in FIVE.members if member.id != LEADER])),
)
def test_a_record_is_committed_by_exactly_the_copies_that_both_sides_ask_for(
    before: tuple[Membership, str],
    after: tuple[Membership, str],
    copies: set[NodeId],
    lost: set[NodeId],
) -> None:
    """Said again over sets of copies, with no arithmetic on LSNs."""
    old, new = before[0], after[0]
    wanted = (
        satisfied_by(CommitPolicy.parse("majority"), LEADER, copies, old)
        and satisfied_by(CommitPolicy.parse("majority"), LEADER, copies, new)
        and satisfied_by(CommitPolicy.parse(before[1]), LEADER, copies | lost, old)
        and satisfied_by(CommitPolicy.parse(after[1]), LEADER, copies, new)
    )
    steps = (step(0, old, before[1]), step(10, new, after[1], *lost))
    reached = joint_watermark(steps, LEADER, lambda node: Lsn(10 if node in copies else 9))
    assert (reached >= 10) is wanted

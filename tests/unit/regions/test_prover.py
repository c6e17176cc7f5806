"""What a policy promises: cases worked out by hand, and random topologies against brute force."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.errors import PolicyInvalid
from redwire.position import NodeId, Region
from regions.binding import MemberKind, Membership
from regions.commit_policy import CommitPolicy
from regions.errors import MemberUnknown, RegionUnknown
from regions.prover import Loss, Verdict, Writable, prove, what_if

Cluster = Callable[..., Membership]
FIVE = "eu-1 eu-2 us-1 us-2 ap-1"
THREE = "eu-1 us-1 ap-1"


def parse(text: str) -> CommitPolicy:
    return CommitPolicy.parse(text)


def loss(members: Membership, text: str) -> Loss:
    """`eu` is the region, `eu-1 us-1` are two nodes."""
    if "-" not in text:
        return Loss.of_region(members, Region(text))
    return Loss(tuple(map(NodeId, text.split())))


YES, NO = Writable.YES, Writable.NO
SUCCESSOR, UNLESS = Writable.WITH_SUCCESSOR, Writable.UNLESS_PRIMARY_LOST

CASES = [
    # rule, voters, primary ("" for any), lost, kept, writable, safe successor
    ("local", "eu-1", "", "eu-1", False, NO, False),
    ("majority", "eu-1", "", "eu-1", False, NO, False),
    ("majority", "eu-1 us-1", "", "us-1", True, NO, False),  # kept by one, which is no majority of two
    ("local", "eu-1 us-1", "eu-1", "us-1", True, YES, False),
    ("local", "eu-1 us-1", "eu-1", "eu-1", False, NO, False),
    ("local", THREE, "", "us-1", False, UNLESS, False),  # a primary goes on, a lost one has no heir
    ("local", THREE, "eu-1", "us-1", True, YES, False),  # us-1 could have been primary before
    ("majority", THREE, "", "eu-1", True, YES, True),
    ("majority", THREE, "eu-1", "eu-1", True, SUCCESSOR, True),
    ("majority", THREE, "eu-1", "us-1", True, YES, True),
    ("majority", THREE, "", "eu-1 us-1", False, NO, False),
    ("majority", FIVE, "", "eu", True, YES, True),
    ("majority", FIVE, "", "us-2 ap-1", True, YES, True),
    ("ack_n=2", THREE, "", "ap-1", True, NO, True),  # all disks: one that is missing stops writes
    ("ack_n=2", THREE, "eu-1", "us-1 ap-1", True, NO, False),
    (
        "ack_n=1",
        FIVE,
        "eu-1",
        "us-1 us-2",
        True,
        YES,
        False,
    ),  # us-1 and us-2 may have committed by themselves
    ("ack_n=1", FIVE, "eu-1", "eu-1 us-1", False, NO, False),
    ("regions(eu,us)", FIVE, "", "us", True, NO, True),
    ("regions(eu,us)", FIVE, "", "ap", True, YES, True),
    ("regions(eu,us)", FIVE, "", "eu-1 us-1", False, UNLESS, False),
    ("regions(eu,us)", FIVE, "ap-1", "eu-1 us-1", True, YES, False),  # the primary is a third copy
    ("regions(eu)", FIVE, "", "eu-1", False, UNLESS, False),  # its own region: one disk is enough
    ("regions(eu)", FIVE, "us-1", "eu-1", True, YES, False),
    ("regions(eu)", FIVE, "us-1", "eu", True, NO, False),
    ("regions(2 of eu,us,ap)", FIVE, "", "eu", True, YES, True),
    ("regions(2 of eu,us,ap)", FIVE, "", "eu-1 ap-1", False, UNLESS, False),
    ("regions(2 of eu,us,ap)", FIVE, "", "eu-1 eu-2", True, YES, True),
    ("ack_n=1 & regions(2 of eu,us,ap)", FIVE, "", "us", True, YES, True),
    ("ack_n=2 & regions(2 of eu,us,ap)", FIVE, "", "eu-1 ap-1", True, YES, True),
    ("ack_n=2 & regions(2 of eu,us,ap)", FIVE, "", "eu", True, YES, True),
    ("majority & regions(eu,us,ap)", FIVE, "", "ap", True, NO, True),
    ("majority & regions(eu,us,ap)", FIVE, "us-2", "us-2", True, SUCCESSOR, True),
]


@pytest.mark.parametrize(("rule", "voters", "primary", "lost", "kept", "writable", "successor"), CASES)
def test_what_a_loss_leaves(
    rule: str,
    voters: str,
    primary: str,
    lost: str,
    kept: bool,
    writable: Writable,
    successor: bool,
    cluster: Cluster,
) -> None:
    members = cluster(voters)
    verdict = what_if(parse(rule), members, NodeId(primary) or None, loss(members, lost))
    assert (verdict.kept, verdict.writable, verdict.successor) == (kept, writable, successor)


def test_the_losses_are_each_voter_each_pair_and_each_region(cluster: Cluster) -> None:
    verdict = prove(parse("majority"), cluster("eu-1 eu-2 -3", "sa-1"))
    expected = ["eu-1", "eu-2", "3", "eu-1 + eu-2", "eu-1 + 3", "eu-2 + 3", "region eu"]
    assert [str(each.lost) for each in verdict.losses] == expected


def test_a_reader_is_lost_with_its_region_and_changes_nothing(cluster: Cluster) -> None:
    members = cluster(THREE, "ap-9 sa-1")
    assert Loss.of_region(members, Region("ap")).nodes == ("ap-1", "ap-9")
    for lost in (loss(members, "sa"), loss(members, "ap-9 sa-1"), Loss(())):
        verdict = what_if(parse("majority"), members, None, lost)
        assert (verdict.kept, verdict.writable, verdict.successor) == (True, YES, True)
    assert prove(parse("majority"), members).losses[-1] == what_if(
        parse("majority"), members, None, loss(members, "ap")
    )


def test_a_stronger_policy_keeps_more_and_stops_sooner_and_has_the_rules_successors(cluster: Cluster) -> None:
    members, lost = cluster(THREE), Loss((NodeId("eu-1"), NodeId("us-1")))
    weak = what_if(parse("majority"), members, None, lost)
    strong = what_if(parse("majority"), members, None, lost, parse("ack_n=2"))
    assert (weak.kept, strong.kept) == (False, True)
    assert (weak.successor, strong.successor) == (False, False)
    one = Loss((NodeId("eu-1"),))
    assert what_if(parse("majority"), members, None, one, parse("ack_n=2")).writable is NO
    assert what_if(parse("local"), members, None, one, parse("majority")) == what_if(
        parse("local"), members, None, one, parse("majority & local")
    )


def test_an_answer_waits_for_the_rule_too(cluster: Cluster) -> None:
    members, lost = cluster(THREE), Loss((NodeId("eu-1"),))
    assert what_if(parse("majority"), members, NodeId("eu-1"), lost, parse("local")).kept


def points(verdict: Verdict) -> list[str]:
    return [who for _, who in verdict.single_points.words]


SINGLE_POINTS = [
    # rule, voters, primary, loses data, stops writes, no safe successor
    ("majority", FIVE, "", "none", "none", "none"),
    ("regions(eu,us)", FIVE, "", "none", "region eu, region us", "none"),
    ("ack_n=2", THREE, "", "none", *["eu-1, us-1, ap-1, region eu, region us, region ap"], "none"),
    ("regions(eu)", "eu-1 us-1 us-2", "us-1", "none", *["eu-1, region eu, region us"] * 2),
    ("majority", "eu-1 eu-2 us-1", "", "region eu", "region eu", "region eu"),
]


@pytest.mark.parametrize(("rule", "voters", "primary", "data", "writes", "successor"), SINGLE_POINTS)
def test_single_points_are_named(
    rule: str, voters: str, primary: str, data: str, writes: str, successor: str, cluster: Cluster
) -> None:
    verdict = prove(parse(rule), cluster(voters), NodeId(primary) or None)
    assert points(verdict) == [data, writes, successor]


@pytest.mark.parametrize(
    ("rule", "voters", "primary", "why"),
    [
        ("majority", FIVE, "", ""),
        ("ack_n=1", "eu-1 us-1", "", ""),
        ("local", THREE, "", "while eu-1 leads, a confirmed write may be on eu-1 alone"),
        ("local", THREE, "ap-1", "while ap-1 leads"),
        ("regions(1 of us,ap)", THREE, "", "while us-1 leads"),
        ("regions(us)", THREE, "eu-1", ""),
        ("majority", "eu-1", "", "eu-1 is the only voter"),
    ],
)
def test_a_promise_of_one_disk_is_empty(
    rule: str, voters: str, primary: str, why: str, cluster: Cluster
) -> None:
    empty = prove(parse(rule), cluster(voters, "sa-1"), NodeId(primary) or None).empty
    assert why in empty
    assert bool(empty) is bool(why)


@pytest.mark.parametrize("text", ["ack_n=3", "regions(eu,mars)", "regions(sa)", "remote_wal", "quorum"])
def test_what_can_never_be_met_has_no_verdict(text: str, cluster: Cluster) -> None:
    with pytest.raises(PolicyInvalid):
        prove(parse(text), cluster(THREE, "sa-1"))
    with pytest.raises(PolicyInvalid):
        prove(parse("majority"), cluster(THREE, "sa-1"), policy=parse(text))
    with pytest.raises(PolicyInvalid):
        prove(parse(text), cluster(THREE, "sa-1"), policy=parse("majority"))


def test_strangers_are_refused(cluster: Cluster) -> None:
    members = cluster(f"{THREE} -4", "sa-1")
    for primary in ("sa-1", "xx-1"):
        with pytest.raises(MemberUnknown, match=primary):
            prove(parse("majority"), members, NodeId(primary))
    with pytest.raises(MemberUnknown, match="xx-1"):
        what_if(parse("majority"), members, None, Loss((NodeId("xx-1"),)))
    for region in ("mars", ""):
        with pytest.raises(RegionUnknown, match="members are in ap, eu, sa, us"):
            Loss.of_region(members, Region(region))


def test_the_promise_is_as_much_as_is_proved(cluster: Cluster) -> None:
    promised = [
        prove(parse(policy), cluster(voters)).promise
        for policy, voters in (
            ("local", THREE),
            ("majority", THREE),
            ("ack_n=2", THREE),
            ("majority", FIVE),
            ("regions(eu,us)", FIVE),
        )
    ]
    assert "promises one disk" in promised[0]
    survives = "a confirmed write survives the loss of any "
    assert promised[1:] == [survives + lost for lost in ("one node", "two nodes", "two nodes", "one node")]


def test_a_verdict_is_printed_line_by_line(cluster: Cluster) -> None:
    assert str(prove(parse("majority"), cluster("eu-1 us-1"), NodeId("eu-1"))).splitlines() == [
        "majority, committed by majority, led by eu-1: a confirmed write survives the loss of any one node",
        "  eu-1: writes kept yes, writable no, safe successor no",
        "  us-1: writes kept yes, writable no, safe successor no",
        "  eu-1 + us-1: writes kept no, writable no, safe successor no",
        "  region eu: writes kept yes, writable no, safe successor no",
        "  region us: writes kept yes, writable no, safe successor no",
        "  loses data: none; stops writes: eu-1, us-1, region eu, region us; "
        "no safe successor: eu-1, us-1, region eu, region us",
    ]
    assert str(Loss(())) == "nothing"


@pytest.mark.parametrize("count", [9, 20])
def test_many_voters_have_exact_verdicts_at_once(count: int, cluster: Cluster) -> None:
    members = cluster(" ".join(f"{('eu', 'us', 'ap')[i % 3]}-{i}" for i in range(count)))
    began = time.process_time()
    verdict = prove(parse("majority & regions(2 of eu,us,ap)"), members)
    assert time.process_time() - began < 1
    assert len(verdict.losses) == count + count * (count - 1) // 2 + 3
    assert verdict.single_points.data == ()


@given(data=st.data())
def test_verdicts_are_those_of_brute_force(data: st.DataObject, topologies, policies, brute_force) -> None:
    members = data.draw(topologies)
    truth = brute_force(members)
    rule, policy = data.draw(policies), data.draw(st.none() | policies)
    asked = rule if policy is None else policy & rule
    lost = data.draw(st.sets(st.sampled_from([member.id for member in members.members])))
    successor = truth.successor(rule, lost)
    resumes = successor and any(truth.writable(asked, voter, lost) for voter in truth.voters)
    kept, goes_on = {}, {}
    for primary in truth.voters:
        verdict = what_if(rule, members, primary, Loss(tuple(lost)), policy)
        kept[primary] = truth.kept(asked, primary, lost)
        goes_on[primary] = truth.writable(asked, primary, lost)
        assert (verdict.kept, verdict.successor) == (kept[primary], successor)
        if primary in lost:
            assert verdict.writable is (Writable.WITH_SUCCESSOR if resumes else Writable.NO)
        else:
            assert verdict.writable is (Writable.YES if goes_on[primary] else Writable.NO)
    whoever = what_if(rule, members, None, Loss(tuple(lost)), policy)
    assert (whoever.kept, whoever.successor) == (all(kept.values()), successor)
    if all(goes_on[primary] or (primary in lost and resumes) for primary in truth.voters):
        assert whoever.writable is Writable.YES
    elif all(goes_on[primary] for primary in truth.voters - lost) and truth.voters - lost:
        assert whoever.writable is Writable.UNLESS_PRIMARY_LOST
    else:
        assert whoever.writable is Writable.NO


@given(data=st.data())
def test_an_empty_promise_is_one_that_brute_force_breaks_with_one_disk(
    data: st.DataObject, topologies, policies, brute_force
) -> None:
    members, rule = data.draw(topologies), data.draw(policies)
    truth = brute_force(members)
    try:
        verdict = prove(rule, members)
    except PolicyInvalid:
        assert not all(truth.committing(rule, primary) for primary in truth.voters)
        return
    broken = any(not truth.kept(rule, primary, {voter}) for primary in truth.voters for voter in truth.voters)
    assert bool(verdict.empty) is broken
    assert {m.id for m in members.members if m.kind is MemberKind.VOTER} == truth.voters

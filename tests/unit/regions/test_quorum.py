"""Commit arithmetic against brute force: every set of copies, every LSN."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.errors import PolicyInvalid
from redwire.position import Lsn, NodeId, Region
from regions.binding import UNBOUND, Member, MemberKind, Membership, require_satisfiable
from regions.commit_policy import LOCAL, AckN, CommitPolicy, Local, Majority, Regions, RemoteWal
from regions.errors import InsufficientReplicas, MemberUnknown, MissingRegions
from regions.quorum import (
    ENUMERATED_VOTERS_MAX,
    REGIONS_TIMEOUT_MS,
    SYNC_TIMEOUT_MS,
    QuorumConfig,
    QuorumMode,
    at_least,
    compile_rule,
    concise,
    implies,
    minimal_sets,
    satisfied_by,
    shortfall,
    watermark,
)


def cluster(*names: str, readers: tuple[str, ...] = ()) -> Membership:
    def member(name: str, kind: MemberKind) -> Member:
        return Member(NodeId(name), Region(name.split("-")[0]), kind)

    return Membership(
        (*(member(n, MemberKind.VOTER) for n in names), *(member(n, MemberKind.READER) for n in readers))
    )


FIVE = cluster("eu-1", "eu-2", "us-1", "us-2", "ap-1", readers=("sa-1",))
EU1 = NodeId("eu-1")


def parse(text: str) -> CommitPolicy:
    return CommitPolicy.parse(text)


def nodes(text: str) -> frozenset[NodeId]:
    return frozenset(map(NodeId, text.split()))


SATISFIED = [
    # policy, copies, met when eu-1 leads
    ("local", "eu-1", True),
    ("local", "us-1 us-2", False),
    ("ack_n=1", "eu-1", False),
    ("ack_n=1", "eu-1 eu-2", True),
    ("ack_n=1", "eu-1 sa-1", False),  # a reader is no copy
    ("ack_n=1", "eu-1 xx-1", False),  # nor is a stranger
    ("ack_n=1", "eu-2 us-1", False),  # never without the primary's own disk
    ("majority", "eu-1 eu-2", False),
    ("majority", "eu-1 eu-2 us-1", True),
    ("majority", "eu-2 us-1 us-2 ap-1", False),
    ("regions(eu)", "eu-1", True),
    ("regions(eu)", "eu-2", False),
    ("regions(us)", "eu-1 eu-2", False),
    ("regions(us)", "eu-1 us-2", True),
    ("regions(eu,us)", "eu-1 us-2", True),
    ("regions(ap,us)", "eu-1 us-2", False),
    ("regions(1 of ap,us)", "eu-1 us-2", True),
    ("regions(2 of ap,eu,us)", "eu-1 eu-2", False),
    ("regions(2 of ap,eu,us)", "eu-1 ap-1", True),
    ("regions(sa)", "eu-1 sa-1", False),
    ("majority & regions(ap)", "eu-1 eu-2 us-1", False),
    ("majority & regions(ap)", "eu-1 eu-2 ap-1", True),
    ("remote_wal", "eu-1 eu-2 us-1 us-2 ap-1", False),
]


@pytest.mark.parametrize(("text", "copies", "met"), SATISFIED)
def test_which_copies_meet_a_policy(text: str, copies: str, met: bool) -> None:
    assert satisfied_by(parse(text), EU1, nodes(copies), FIVE) is met
    durable = {node: Lsn(7) for node in nodes(copies)}
    assert watermark(parse(text), EU1, durable, FIVE) == (7 if met else 0)


WATERMARKS = [
    # policy, durable of eu-1 eu-2 us-1 us-2 ap-1, watermark
    ("local", (9, 0, 0, 0, 0), 9),
    ("ack_n=1", (9, 8, 7, 6, 5), 8),
    ("ack_n=2", (9, 8, 7, 6, 5), 7),
    ("ack_n=4", (9, 8, 7, 6, 5), 5),
    ("ack_n=5", (9, 9, 9, 9, 9), 0),  # not that many others exist
    ("ack_n=1", (3, 8, 7, 6, 5), 3),  # never past the primary's own disk
    ("majority", (9, 8, 7, 6, 5), 7),
    ("majority", (9, 8, 0, 0, 0), 0),
    ("majority", (4, 9, 9, 9, 9), 4),
    ("regions(eu)", (9, 99, 0, 0, 0), 9),
    ("regions(us)", (9, 9, 3, 6, 9), 6),  # the best of the region
    ("regions(ap,us)", (9, 9, 3, 6, 5), 5),
    ("regions(ap,eu,us)", (9, 0, 3, 6, 5), 5),
    ("regions(2 of ap,eu,us)", (9, 0, 3, 6, 5), 6),
    ("regions(1 of ap,us)", (9, 0, 3, 6, 5), 6),
    ("regions(1 of ap,eu)", (9, 0, 0, 0, 0), 9),  # the primary's own region is enough
    ("regions(mars)", (9, 9, 9, 9, 9), 0),
    ("regions(2 of mars,venus,us)", (9, 9, 9, 9, 9), 0),
    ("regions(2 of eu,mars,us)", (9, 9, 4, 0, 9), 4),
    ("majority & regions(ap)", (9, 8, 7, 6, 2), 2),
    ("majority & regions(ap)", (9, 1, 2, 3, 8), 3),
    ("regions(ap) & regions(us)", (9, 9, 3, 6, 5), 5),
]


@pytest.mark.parametrize(("text", "durable", "expected"), WATERMARKS)
def test_how_far_a_policy_reaches(text: str, durable: tuple[int, ...], expected: int) -> None:
    assert compile_rule(parse(text), FIVE, EU1).watermark(durable) == expected


def test_a_lone_voter_is_its_own_majority() -> None:
    alone = cluster("eu-1", readers=("us-1",))
    assert compile_rule(parse("majority"), alone, EU1).watermark([5]) == 5


def test_an_unbound_primary_counts_for_no_region() -> None:
    members = FIVE.bound(EU1, UNBOUND)
    assert satisfied_by(parse("regions(eu)"), EU1, nodes("eu-1"), members) is False
    assert compile_rule(parse("regions(eu)"), members, EU1).watermark([9, 4, 0, 0, 0]) == 4


def test_who_is_not_mentioned_holds_nothing() -> None:
    assert watermark(parse("ack_n=1"), EU1, {EU1: Lsn(9)}, FIVE) == 0


@pytest.mark.parametrize("primary", ["sa-1", "xx-1"])
def test_only_a_voter_can_lead(primary: str) -> None:
    with pytest.raises(MemberUnknown):
        compile_rule(LOCAL, FIVE, NodeId(primary))
    with pytest.raises(MemberUnknown):
        satisfied_by(LOCAL, NodeId(primary), frozenset(), FIVE)


def test_a_quorum_that_nobody_resolved_has_no_meaning() -> None:
    for ask in (
        lambda: compile_rule(parse("quorum"), FIVE, EU1),
        lambda: satisfied_by(parse("quorum"), EU1, nodes("eu-1"), FIVE),
        lambda: shortfall(parse("quorum"), FIVE, EU1, nodes("eu-1")),
        lambda: implies(LOCAL, parse("quorum"), FIVE, EU1),
    ):
        with pytest.raises(PolicyInvalid, match="no meaning of its own"):
            ask()


# The cluster's quorum


@pytest.mark.parametrize(
    ("config", "mode", "policy", "timeout_ms"),
    [
        (QuorumConfig.async_commit(), QuorumMode.ASYNC, "local", None),
        (QuorumConfig(), QuorumMode.ASYNC, "local", None),
        (QuorumConfig.sync(2), QuorumMode.SYNC, "ack_n=2", SYNC_TIMEOUT_MS),
        (QuorumConfig.regions({"us", "eu"}), QuorumMode.REGIONS, "regions(eu,us)", REGIONS_TIMEOUT_MS),
        (QuorumConfig.sync(1).with_timeout(20), QuorumMode.SYNC, "ack_n=1", 20),
        (QuorumConfig.sync(1).without_timeout(), QuorumMode.SYNC, "ack_n=1", None),
    ],
)
def test_a_quorum_config_has_a_mode_a_policy_and_a_timeout(
    config: QuorumConfig, mode: QuorumMode, policy: str, timeout_ms: int | None
) -> None:
    assert (config.mode, str(config.policy), config.timeout_ms) == (mode, policy, timeout_ms)


def test_the_default_waits_are_five_and_ten_seconds() -> None:
    assert (SYNC_TIMEOUT_MS, REGIONS_TIMEOUT_MS) == (5_000, 10_000)


def test_a_quorum_of_nobody_is_refused() -> None:
    for make in (lambda: QuorumConfig.sync(0), lambda: QuorumConfig.regions(())):
        with pytest.raises(PolicyInvalid):
            make()


def test_one_text_is_no_list_of_regions() -> None:
    with pytest.raises(PolicyInvalid, match="'eu' is one text; pass the regions' names in a list"):
        QuorumConfig.regions("eu")


def test_a_wait_without_length_is_refused() -> None:
    with pytest.raises(PolicyInvalid, match="without_timeout"):
        QuorumConfig.sync(1).with_timeout(0)


def test_the_name_quorum_is_replaced_by_what_it_stands_for() -> None:
    config = QuorumConfig.regions(("eu", "us"))
    assert str(config.resolve(parse("quorum"))) == "regions(eu,us)"
    assert str(config.resolve(parse("quorum & majority"))) == "majority & regions(eu,us)"
    assert config.resolve(parse("ack_n=1")) == parse("ack_n=1")


def test_the_name_of_an_async_quorum_promises_nothing_and_is_refused() -> None:
    assert QuorumConfig.async_commit().resolve(parse("majority")) == parse("majority")
    with pytest.raises(PolicyInvalid, match="waits for nobody"):
        QuorumConfig.async_commit().resolve(parse("quorum"))


# Sets of copies


def test_the_minimal_sets_of_a_small_cluster() -> None:
    three = cluster("eu-1", "us-1", "ap-1")
    assert minimal_sets(parse("local"), three, EU1) == {nodes("eu-1")}
    assert minimal_sets(parse("majority"), three, EU1) == {nodes("eu-1 us-1"), nodes("eu-1 ap-1")}
    assert minimal_sets(parse("regions(us) & ack_n=1"), three, EU1) == {nodes("eu-1 us-1")}
    assert minimal_sets(parse("regions(mars)"), three, EU1) == frozenset()


AT_LEAST = [
    # policy, floor, at or above it with eu-1 leading FIVE
    ("local", "local", True),
    ("majority", "local", True),
    ("local", "majority", False),
    ("ack_n=2", "majority", True),
    ("majority", "ack_n=2", True),
    ("ack_n=1", "majority", False),
    ("ack_n=4", "regions(ap,eu,us)", True),  # all disks are in all regions
    ("ack_n=3", "regions(us)", True),  # five voters, at most two of them not in us beside the primary
    ("ack_n=2", "regions(us)", False),  # eu-2 and ap-1
    ("regions(ap,us)", "majority", True),
    ("regions(eu,us)", "majority", False),
    ("regions(ap,eu,us)", "regions(2 of ap,eu,us)", True),
    ("regions(2 of ap,eu,us)", "regions(1 of ap,us)", True),
    ("regions(1 of ap,us)", "regions(us)", False),
    ("regions(us)", "regions(1 of ap,us)", True),
    ("remote_wal", "majority", True),  # nothing meets it, so nothing meets it and not the floor
    ("majority", "remote_wal", False),
    ("remote_wal", "remote_wal", True),
]


@pytest.mark.parametrize(("text", "floor", "expected"), AT_LEAST)
def test_which_policy_is_at_or_above_which_floor(text: str, floor: str, expected: bool) -> None:
    assert at_least(parse(text), parse(floor), FIVE, EU1) is expected


TEN = cluster(
    *(f"{region}-{i}" for region, count in (("eu", 4), ("us", 4), ("ap", 2)) for i in range(1, count + 1))
)


def test_many_voters_are_compared_by_clause_and_not_listed() -> None:
    assert len(TEN.voters) > ENUMERATED_VOTERS_MAX
    with pytest.raises(PolicyInvalid, match="10 voters"):
        minimal_sets(LOCAL, TEN, EU1)
    assert at_least(parse("majority"), parse("ack_n=5"), TEN, EU1)
    assert not at_least(parse("majority"), parse("ack_n=6"), TEN, EU1)
    assert at_least(parse("ack_n=6"), parse("regions(2 of ap,eu,us)"), TEN, EU1)
    assert at_least(parse("regions(ap,us) & majority"), parse("regions(us) & ack_n=5"), TEN, EU1)
    assert at_least(parse("regions(2 of ap,eu,us)"), parse("regions(1 of ap,us)"), TEN, EU1)
    assert not at_least(parse("ack_n=5"), parse("regions(us)"), TEN, EU1)
    assert at_least(parse("ack_n=6"), parse("regions(us)"), TEN, EU1)
    assert at_least(parse("local"), parse("regions(eu)"), TEN, EU1)
    assert not at_least(parse("regions(ap)"), parse("regions(us)"), TEN, EU1)
    assert not at_least(parse("regions(2 of ap,eu,us)"), parse("regions(us)"), TEN, EU1)
    assert not at_least(parse("regions(1 of ap,us)"), parse("regions(us)"), TEN, EU1)
    assert not at_least(parse("majority"), parse("remote_wal"), TEN, EU1)
    assert at_least(parse("remote_wal & majority"), parse("remote_wal & local"), TEN, EU1)


# Who is missing (R8)


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("local", ""),
        ("ack_n=2", "us-1 us-2"),
        ("majority", "us-1 ap-1"),
        ("regions(eu)", ""),
        ("regions(ap,us)", "us-1 ap-1"),
        ("regions(2 of ap,eu,us)", "us-2"),
    ],
)
def test_enough_voters_in_reach_are_no_reason_to_refuse(text: str, reached: str) -> None:
    assert shortfall(parse(text), FIVE, EU1, nodes(reached)) is None


def test_too_few_voters_are_counted_beside_the_primary() -> None:
    error = shortfall(parse("majority"), FIVE, EU1, nodes("eu-1 us-1 sa-1"))
    assert isinstance(error, InsufficientReplicas)
    assert (error.required, error.connected) == (2, 1)


def test_missing_regions_are_named_before_missing_copies() -> None:
    error = shortfall(parse("majority & regions(ap,us)"), FIVE, EU1, nodes("eu-1 ap-1"))
    assert isinstance(error, MissingRegions)
    assert (error.missing, error.lacking) == ({"us"}, 1)


def test_of_several_regions_only_so_many_are_lacking() -> None:
    error = shortfall(parse("regions(2 of ap,eu,us)"), FIVE, EU1, nodes("eu-2"))
    assert isinstance(error, MissingRegions)
    assert (error.missing, error.lacking) == ({"ap", "us"}, 1)
    assert "1 of ap,us" in str(error)


def test_an_archive_that_does_not_exist_is_nobodys_absence() -> None:
    with pytest.raises(PolicyInvalid, match="no archive"):
        shortfall(parse("remote_wal"), FIVE, EU1, nodes("eu-1"))


# Against brute force

REGIONS = tuple(map(Region, ("ap", "eu", "us")))


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    voters = draw(st.lists(st.sampled_from((*REGIONS, UNBOUND)), min_size=1, max_size=6))
    readers = draw(st.lists(st.sampled_from(REGIONS), max_size=1))
    return Membership(
        (
            *(Member(NodeId(f"r-{i}"), region, MemberKind.READER) for i, region in enumerate(readers)),
            *(Member(NodeId(f"v-{i}"), region) for i, region in enumerate(voters)),
        )
    )


@st.composite
def region_clauses(draw: st.DrawFn) -> Regions:
    names = draw(st.lists(st.sampled_from((*REGIONS, Region("mars"))), min_size=1, unique=True))
    return Regions(tuple(names), draw(st.none() | st.integers(1, len(names))))


single = st.one_of(
    st.sampled_from((Local(), Majority())),
    st.integers(1, 6).map(AckN),
    region_clauses(),
    st.just(RemoteWal()),
)
policies = st.lists(single, min_size=1, max_size=3).map(lambda parts: CommitPolicy(tuple(parts)))


def subsets(members: Membership) -> list[frozenset[NodeId]]:
    ids = [member.id for member in members.members]
    return list(map(frozenset, chain.from_iterable(combinations(ids, n) for n in range(len(ids) + 1))))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Membership, NodeId]:
    members = draw(memberships())
    return members, draw(st.sampled_from([member.id for member in members.voters]))


@given(scenes(), policies, st.data())
def test_the_watermark_is_the_highest_lsn_whose_copies_meet_the_policy(
    scene: tuple[Membership, NodeId], policy: CommitPolicy, data: st.DataObject
) -> None:
    members, primary = scene
    durable = {member.id: Lsn(data.draw(st.integers(0, 6))) for member in members.members}
    reached = watermark(policy, primary, durable, members)
    for lsn in range(1, 8):
        holders = frozenset(node for node, end in durable.items() if end >= lsn)
        assert satisfied_by(policy, primary, holders, members) is (lsn <= reached)
    assert reached <= durable[primary]


@given(scenes(), policies)
def test_more_copies_never_undo_a_policy(scene: tuple[Membership, NodeId], policy: CommitPolicy) -> None:
    members, primary = scene
    met = {copies: satisfied_by(policy, primary, copies, members) for copies in subsets(members)}
    for copies, reached in met.items():
        if reached:
            assert all(met[copies | {member.id}] for member in members.members)


@given(scenes(), policies, policies)
def test_at_least_is_what_all_sets_say(
    scene: tuple[Membership, NodeId], policy: CommitPolicy, floor: CommitPolicy
) -> None:
    members, primary = scene
    expected = all(
        satisfied_by(floor, primary, copies, members)
        for copies in subsets(members)
        if satisfied_by(policy, primary, copies, members)
    )
    assert at_least(policy, floor, members, primary) is expected
    if implies(policy, floor, members, primary):
        assert expected


spreads = st.lists(region_clauses(), min_size=1, max_size=2).map(lambda parts: CommitPolicy(tuple(parts)))


@given(scenes(), spreads, spreads)
def test_what_clauses_prove_of_regions_all_sets_say_too(
    scene: tuple[Membership, NodeId], policy: CommitPolicy, floor: CommitPolicy
) -> None:
    members, primary = scene
    assert at_least(policy, floor, members, primary) or not implies(policy, floor, members, primary)


@given(scenes(), policies)
def test_minimal_sets_are_the_smallest_that_meet_the_policy(
    scene: tuple[Membership, NodeId], policy: CommitPolicy
) -> None:
    members, primary = scene
    voters = {member.id for member in members.voters}
    meeting = [c for c in subsets(members) if c <= voters and satisfied_by(policy, primary, c, members)]
    assert minimal_sets(policy, members, primary) == {
        c for c in meeting if not any(other < c for other in meeting)
    }


@given(scenes(), policies, st.data())
def test_who_is_missing_is_said_exactly_when_those_in_reach_cannot_meet_the_policy(
    scene: tuple[Membership, NodeId], policy: CommitPolicy, data: st.DataObject
) -> None:
    members, primary = scene
    reached = data.draw(st.sampled_from(subsets(members)))
    if RemoteWal() in policy.clauses:
        return
    enough = satisfied_by(policy, primary, reached | {primary}, members)
    assert (shortfall(policy, members, primary, reached) is None) is enough


@given(memberships(), policies)
def test_a_policy_is_satisfiable_when_all_voters_together_meet_it(
    members: Membership, policy: CommitPolicy
) -> None:
    everyone = frozenset(member.id for member in members.voters)
    expected = all(satisfied_by(policy, member.id, everyone, members) for member in members.voters)
    try:
        require_satisfiable(policy, members)
    except PolicyInvalid:
        assert not expected
    else:
        assert expected


@given(scenes(), policies)
def test_a_policy_without_what_its_clauses_prove_is_met_by_the_same_copies(
    scene: tuple[Membership, NodeId], policy: CommitPolicy
) -> None:
    members, primary = scene
    short = concise(policy, members, primary)
    assert set(short.clauses) <= {*policy.clauses, *LOCAL.clauses}
    for copies in subsets(members):
        assert satisfied_by(short, primary, copies, members) is satisfied_by(policy, primary, copies, members)

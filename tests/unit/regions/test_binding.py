"""The configured members: who votes, where, and which policies they can ever meet."""

from __future__ import annotations

import pytest

from redwire.errors import PolicyInvalid
from redwire.position import Incarnation, NodeId, Region
from regions.binding import UNBOUND, Member, MemberKind, Membership, default_policy, require_satisfiable
from regions.commit_policy import CommitPolicy
from regions.errors import MembershipInvalid, MemberUnknown


def member(name: str, kind: MemberKind = MemberKind.VOTER) -> Member:
    return Member(NodeId(name), Region(name.split("-")[0]), kind, f"{name}.example.net:5050")


def membership(*voters: str, readers: tuple[str, ...] = ()) -> Membership:
    return Membership((*map(member, voters), *(member(name, MemberKind.READER) for name in readers)))


THREE = membership("eu-1", "us-1", "us-2", readers=("ap-1",))


def test_voters_keep_their_order_and_readers_are_not_among_them() -> None:
    assert [m.id for m in THREE.voters] == ["eu-1", "us-1", "us-2"]
    assert [m.id for m in THREE.voters_in(Region("us"))] == ["us-1", "us-2"]
    assert THREE.voters_in(Region("ap")) == ()
    assert THREE.region_of(NodeId("ap-1")) == "ap"
    assert THREE.voter_index(NodeId("us-2")) == 2


def test_membership_is_by_id() -> None:
    assert "ap-1" in THREE
    assert "xx-1" not in THREE


@pytest.mark.parametrize(("count", "majority"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (9, 5)])
def test_a_majority_is_more_than_half(count: int, majority: int) -> None:
    assert membership(*(f"eu-{i}" for i in range(count))).majority == majority


def test_a_stranger_is_unknown_and_a_reader_is_no_voter() -> None:
    with pytest.raises(MemberUnknown, match="xx-1 is not a configured member"):
        THREE.member(NodeId("xx-1"))
    with pytest.raises(MemberUnknown, match="ap-1 is not a configured voter"):
        THREE.voter_index(NodeId("ap-1"))


def test_an_id_given_twice_is_refused_even_for_equal_members() -> None:
    one = member("eu-1")
    for twin in (one, member("eu-1", MemberKind.READER)):
        with pytest.raises(MembershipInvalid, match="eu-1 is named twice"):
            Membership((one, member("us-1"), twin))


def test_a_cluster_without_a_voter_is_refused() -> None:
    with pytest.raises(MembershipInvalid, match="no member is a voter"):
        Membership((member("eu-1", MemberKind.READER),))
    with pytest.raises(MembershipInvalid):
        Membership(())


def test_binding_and_admission_make_another_membership() -> None:
    moved = THREE.bound(NodeId("us-2"), Region("ap"))
    assert moved.region_of(NodeId("us-2")) == "ap"
    assert THREE.region_of(NodeId("us-2")) == "us"
    assert moved.bound(NodeId("us-2"), Region("us")) == THREE
    assert hash(moved.bound(NodeId("us-2"), Region("us"))) == hash(THREE)
    admitted = THREE.admitted(NodeId("us-1"), Incarnation("ab" * 16))
    assert admitted.member(NodeId("us-1")).incarnation == "ab" * 16
    assert [m.id for m in admitted.members] == [m.id for m in THREE.members]
    with pytest.raises(MemberUnknown):
        THREE.bound(NodeId("xx-1"), Region("eu"))


def test_the_default_is_majority_for_several_voters_and_local_for_one() -> None:
    assert str(default_policy(THREE)) == "majority"
    assert str(default_policy(membership("eu-1", readers=("us-1",)))) == "local"


@pytest.mark.parametrize(
    "text",
    [
        "local",
        "majority",
        "ack_n=1",
        "ack_n=2",
        "regions(eu,us)",
        "regions(1 of ap,eu)",
        "regions(2 of ap,eu,us)",
    ],
)
def test_what_the_voters_can_meet_is_accepted(text: str) -> None:
    require_satisfiable(CommitPolicy.parse(text), THREE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ack_n=3", "ack_n=3 can never be met: 2 voters stand beside the primary"),
        ("regions(ap)", r"regions\(ap\) can never be met: no voter in ap; voters are in eu, us"),
        ("regions(eu,uss)", r"no voter in uss; did you mean us\?"),
        ("regions(eu,mars,venus)", "no voter in mars, venus"),
        ("regions(2 of ap,eu,mars)", "no voter in ap, mars"),
        ("majority & regions(ap)", r"regions\(ap\)"),
        ("remote_wal", "no archive"),
        ("quorum", "resolve it first"),
    ],
)
def test_what_the_voters_can_never_meet_is_refused_by_clause(text: str, says: str) -> None:
    with pytest.raises(PolicyInvalid, match=says):
        require_satisfiable(CommitPolicy.parse(text), THREE)


def test_a_policy_over_unbound_voters_says_so() -> None:
    with pytest.raises(PolicyInvalid, match="voters are in no region"):
        require_satisfiable(CommitPolicy.parse("regions(eu)"), Membership((Member(NodeId("n"), UNBOUND),)))

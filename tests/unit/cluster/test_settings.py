"""A change of the settings before it is logged: what it comes to, and why it is refused."""

from __future__ import annotations

import pytest

from cluster.address import Address
from cluster.cluster_config import ClusterConfig, MemberConfig
from cluster.settings import Planned, Settings, plan
from redwire.body import decode, encode
from redwire.errors import Code, PolicyInvalid, RedwireError, Refused, RequestInvalid
from redwire.message.log import ClusterRecord
from redwire.message.settings import (
    AddMember,
    BindRegion,
    ChangeSettings,
    MoveMember,
    PromoteMember,
    RemoveMember,
    SetPolicy,
    SettingsChange,
)
from redwire.position import ClusterId, Lsn, NodeId, Region
from regions.binding import MemberKind
from regions.commit_policy import CommitPolicy

LEADER = NodeId("eu-1")


def member(name: str, kind: MemberKind = MemberKind.VOTER) -> MemberConfig:
    return MemberConfig(id=NodeId(name), region=Region(name[:2]), addr=Address(name, 5050), kind=kind)


def settings(policy: str = "regions(eu,us)", floor: str | None = None) -> Settings:
    """eu-1, eu-2, us-1 and ap-1 vote, ap-2 reads; by the record at LSN 2."""
    config = ClusterConfig(
        name="shop",
        members=(*map(member, ("eu-1", "eu-2", "us-1", "ap-1")), member("ap-2", MemberKind.READER)),
        admins=("ops",),
        policy=CommitPolicy.parse(policy),
        floor=None if floor is None else CommitPolicy.parse(floor),
    )
    return Settings.of(config.to_record(ClusterId("ab" * 16), b"s" * 32, {}), Lsn(2))


def planned(change: SettingsChange, before: Settings | None = None, **more: object) -> Planned:
    asked = ChangeSettings(change=change, **more)  # type: ignore[arg-type]
    return plan(before or settings(), asked, LEADER, "ops")


def refused(change: SettingsChange, before: Settings | None = None, **more: object) -> RedwireError:
    with pytest.raises(RedwireError) as caught:
        planned(change, before, **more)
    return caught.value


def test_a_binding_changes_one_member_and_names_who_wanted_it() -> None:
    found = planned(BindRegion("ap-1", "us"))
    after = found.after(Lsn(9)).cluster
    assert [m.region for m in after.members] == ["eu", "eu", "us", "us", "ap"]
    assert (found.record.by, found.record.text) == ("ops", "ap-1 is bound to us")
    assert found.changes


def test_a_node_may_be_bound_to_no_region() -> None:
    found = planned(BindRegion("ap-1", ""))
    assert found.after(Lsn(9)).cluster.member(NodeId("ap-1")).region == ""  # type: ignore[union-attr]
    assert found.text == "ap-1 is bound to no region"


def test_a_policy_is_logged_in_its_canonical_form() -> None:
    found = planned(SetPolicy(policy="REGIONS( us , eu )&local", floor="LOCAL", policy_timeout_ms=700))
    assert found.record.policy == "regions(eu,us)"
    assert found.record.floor == "local"
    assert found.text == (
        "policy regions(eu,us), floor local (was the same as the policy), "
        "policy_timeout_ms 700 (was 10000)"
    )  # fmt: skip


def test_an_empty_floor_makes_the_policy_its_own_floor() -> None:
    before = settings("regions(eu,us)", "local")
    found = planned(SetPolicy(floor=""), before)
    assert found.text == "floor the same as the policy (was local)", "which is not none"
    after = found.after(Lsn(9)).cluster
    assert after.floor is None
    assert str(after.commit_rule) == "regions(eu,us)"


def test_a_member_joins_as_a_reader_and_is_promoted_later() -> None:
    joined = planned(AddMember(node="sa-1", region="sa", addr="sa-1:5050")).after(Lsn(9))
    assert joined.cluster.member(NodeId("sa-1")).kind is MemberKind.READER  # type: ignore[union-attr]
    voter = planned(PromoteMember("sa-1"), joined).after(Lsn(10))
    assert voter.cluster.member(NodeId("sa-1")).kind is MemberKind.VOTER  # type: ignore[union-attr]


def test_a_member_that_moves_stays_what_it_is() -> None:
    found = planned(MoveMember("us-1", "[fd00::1]:6060"))
    assert found.text == "us-1 is reached at [fd00::1]:6060"
    before, after = settings().cluster, found.after(Lsn(9)).cluster
    assert str(after.member(NodeId("us-1")).addr) == "[fd00::1]:6060"  # type: ignore[union-attr]
    assert [(m.id, m.region, m.kind) for m in after.members] == [
        (m.id, m.region, m.kind) for m in before.members
    ]
    assert not planned(MoveMember("us-1", "us-1:5050")).changes


def test_a_member_that_moves_keeps_the_life_that_counts() -> None:
    record = settings().record
    assert record is not None
    lives = {member.id: member.incarnation for member in record.members}
    moved = planned(MoveMember("us-1", "h:1")).record
    assert {member.id: member.incarnation for member in moved.members} == lives


def test_who_is_alone_can_move_though_it_leads() -> None:
    alone = settings("local")
    for node in ("eu-2", "us-1", "ap-1", "ap-2"):
        alone = planned(RemoveMember(node), alone).after(Lsn(alone.lsn + 1))
    moved = planned(MoveMember("eu-1", "h:1"), alone).after(Lsn(20))
    assert str(moved.cluster.members[0].addr) == "h:1"


def test_a_member_leaves() -> None:
    after = planned(RemoveMember("ap-1")).after(Lsn(9)).cluster
    assert [m.id for m in after.members] == ["eu-1", "eu-2", "us-1", "ap-2"]


def test_what_is_so_already_changes_nothing_whatever_it_is_based_on() -> None:
    found = planned(BindRegion("ap-1", "ap"), based_on=1)
    assert not found.changes
    assert found.record == settings().record
    assert found.text == "ap-1 is bound to ap: it is so already"


def test_what_a_change_has_made_so_is_so_already() -> None:
    after = planned(BindRegion("ap-1", "us")).after(Lsn(9))
    assert not planned(BindRegion("ap-1", "us"), after, based_on=2).changes


def test_what_is_on_its_way_is_not_so_already() -> None:
    pending = planned(SetPolicy(policy="ack_n=1")).after(Lsn(9))
    asked = ChangeSettings(change=SetPolicy(policy="ack_n=1"))
    with pytest.raises(Refused, match=r": policy ack_n=1: that is on its way and not committed") as caught:
        plan(pending, asked, LEADER, "ops", pending=True)
    assert caught.value.code is Code.SETTINGS_CHANGED
    assert caught.value.facts == {"pending": "policy ack_n=1 (was regions(eu,us))"}
    again = ChangeSettings(change=SetPolicy(policy="ack_n=1"), lost=("us",))
    found = plan(pending, again, LEADER, "ops", pending=True)
    assert found.changes and found.record.lost == ("us-1",)


def test_what_no_record_can_hold_is_refused_before_it_is_logged() -> None:
    long = [f"{'n' * 60}{number:03d}" for number in range(60)]
    before = settings()
    for name in long:
        change = AddMember(node=name, region="eu", addr=f"{name}.{'h' * 180}:5050")
        try:
            before = planned(change, before).after(Lsn(before.lsn + 1))
        except RequestInvalid as error:
            assert "names" in str(error) or "record" in str(error)
            break
    names = tuple(member.id for member in before.cluster.members[1:])
    found = planned(SetPolicy(policy="majority"), before, lost=names)
    assert decode(encode(found.record), ClusterRecord) == found.record


def test_lost_nodes_are_named_by_node_or_by_region() -> None:
    found = planned(SetPolicy(policy="majority"), lost=("us", "ap-1"))
    assert found.lost == {"us-1", "ap-1"}
    assert found.record.lost == ("ap-1", "us-1")
    assert found.text.endswith("; given up: ap-1, us-1")


def test_a_later_change_forgets_what_an_earlier_one_gave_up() -> None:
    first = planned(SetPolicy(policy="majority"), lost=("us",)).after(Lsn(9))
    second = planned(BindRegion("ap-1", "us"), first)
    assert second.record.lost == ()
    assert second.record.text == "ap-1 is bound to us"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (BindRegion("eu-3", "eu"), "'eu-3' is no member of this cluster; did you mean eu-1?"),
        (BindRegion("us-1", "ap"), "policy: regions(eu,us) can never be met: no voter in us"),
        (BindRegion("ap-1", "Asia"), "members[3].region"),
        (AddMember(node="eu-1", region="eu", addr="h:1"), "eu-1 is a member already"),
        (AddMember(node="sa-1", region="sa", addr="us-1:5050"), "us-1:5050 stands in members[2].addr"),
        (AddMember(node="sa-1", region="sa", addr="nowhere"), "expected host:port"),
        (AddMember(node="SA", region="sa", addr="h:1"), "members[5].id"),
        (MoveMember("eu-1", "h:1"), "eu-1 leads and cannot be moved"),
        (MoveMember("us-1", "ap-1:5050"), "ap-1:5050 stands in members[2].addr"),
        (MoveMember("us-1", "nowhere"), "expected host:port"),
        (MoveMember("nobody", "h:1"), "is no member of this cluster"),
        (PromoteMember("nobody"), "is no member of this cluster; there are eu-1, eu-2, us-1, ap-1, ap-2"),
        (RemoveMember("eu-1"), "eu-1 leads and cannot be removed"),
        (RemoveMember("us-1"), "regions(eu,us) can never be met"),
        (SetPolicy(), "nothing is to be changed"),
        (SetPolicy(policy="ack_n=9"), "ack_n=9 can never be met"),
        (SetPolicy(policy="local", floor="majority"), "local can be met without the floor majority"),
        (SetPolicy(replica_timeout_ms=1), "replica_timeout_ms"),
        (SetPolicy(policy="quorum"), "policy: quorum"),
    ],
)  # fmt: skip
def test_what_the_members_could_never_satisfy_is_refused_with_the_reason(
    change: SettingsChange, words: str
) -> None:
    error = refused(change)
    of_policy = isinstance(change, SetPolicy) and change.policy is not None
    assert error.code is (Code.COMMIT_POLICY_INVALID if of_policy else Code.INVALID)
    assert words in str(error)


@pytest.mark.parametrize(
    "change",
    [BindRegion("eu-3", "eu"), RemoveMember("eu-1"), AddMember(node="eu-1", region="eu", addr="h:1")],
)
def test_a_refusal_names_the_node_in_its_facts(change: SettingsChange) -> None:
    assert refused(change).facts == {"node": change.node}


def test_a_policy_that_can_never_be_met_is_named_once() -> None:
    text = "policy: ack_n=9 can never be met: 3 voters stand beside the primary"
    assert refused(SetPolicy(policy="ack_n=9", policy_timeout_ms=700)).message == text
    assert refused(SetPolicy(floor="ack_n=9")).message == text.replace("policy", "floor")
    assert refused(RemoveMember("us-1")).message.startswith("us-1 leaves the cluster: policy: ")


def test_a_text_that_is_no_policy_is_refused_as_one() -> None:
    assert isinstance(refused(SetPolicy(policy="regions()")), PolicyInvalid)


def test_of_two_operators_the_second_is_told() -> None:
    error = refused(BindRegion("ap-1", "us"), based_on=1)
    assert isinstance(error, Refused)
    assert error.code is Code.SETTINGS_CHANGED
    assert "changed at LSN 2, after those of LSN 1" in str(error)
    assert error.facts == {"lsn": 2, "based_on": 1}


def test_the_primary_cannot_be_lost_and_strangers_neither() -> None:
    assert "eu-1 leads, so it is not lost" in str(refused(SetPolicy(policy="majority"), lost=("eu",)))
    assert "did you mean us?" in str(refused(SetPolicy(policy="majority"), lost=("uss",)))


def test_before_the_first_record_there_is_nothing_to_change() -> None:
    bare = Settings(Lsn(0), settings().cluster)
    assert refused(BindRegion("ap-1", "us"), bare).code is Code.NOT_READY


def test_the_view_says_what_is_in_force() -> None:
    view = settings("regions(eu,us)", "local").view("a change")
    assert (view.lsn, view.policy, view.floor, view.commit_rule) == (
        2,
        "regions(eu,us)",
        "local",
        "local",
    )
    assert view.pending == "a change"
    assert [(m.id, m.region, m.kind) for m in view.members][-1] == ("ap-2", "ap", "reader")

"""From the policy text of a request to what its answer waits for."""

from __future__ import annotations

import pytest

from cluster.policies import TEXTS_MAX, Policies
from redwire.errors import Code, PolicyInvalid, Refused
from redwire.position import NodeId, Region
from regions.binding import Member, Membership
from regions.commit_policy import CommitPolicy

NODES = {"eu-1": "eu", "eu-2": "eu", "us-1": "us", "us-2": "us", "ap-1": "ap"}
MEMBERS = Membership(tuple(Member(NodeId(node), Region(region)) for node, region in NODES.items()))


def made(default: str = "regions(eu,us)", floor: str = "regions(2 of ap,eu,us)") -> Policies:
    return Policies(CommitPolicy.parse(default), CommitPolicy.parse(floor), MEMBERS, NodeId("eu-1"))


@pytest.mark.parametrize(
    ("text", "effective", "is_rule"),
    [
        ("", "regions(eu,us)", False),
        ("regions(2 of eu,us,ap)", "regions(2 of ap,eu,us)", True),
        ("ack_n=2", "ack_n=2", False),
        ("quorum & ack_n=4", "ack_n=4 & regions(eu,us)", False),
    ],
)
def test_a_request_waits_for_what_it_asked(text, effective, is_rule):
    found = made().effective(text)
    assert found.text == str(found.counted_by) == effective
    assert found.is_rule is is_rule


def test_another_name_of_the_commit_rule_is_the_commit_rule():
    assert made(floor="majority", default="majority").effective("ack_n=2").is_rule


def test_quorum_stands_for_the_default_policy():
    both = made(floor="local")
    assert both.effective("quorum").counted_by == both.effective("").counted_by
    assert both.effective("quorum").is_rule == both.effective("").is_rule


def test_quorum_stands_for_the_default_policy_also_where_that_is_local():
    assert made(floor="local", default="local").effective("quorum").text == "local"


@pytest.mark.parametrize(
    ("text", "floor", "instead"),
    [
        ("local", "regions(2 of ap,eu,us)", "'regions(2 of ap,eu,us)'"),
        ("ack_n=1", "regions(2 of ap,eu,us)", "'regions(2 of ap,eu,us)'"),
        ("ack_n=2", "regions(eu,us)", "'ack_n=2 & regions(eu,us)'"),
        ("regions(eu)", "regions(2 of ap,eu,us)", "'regions(2 of ap,eu,us)'"),
        ("ack_n=1", "majority", "majority"),
        ("ack_n=3", "majority & regions(us,ap)", "'ack_n=3 & regions(ap,us)'"),
    ],
)
def test_what_can_be_met_without_the_floor_is_refused_and_what_would_do_is_named(text, floor, instead):
    policies = made(floor=floor)
    with pytest.raises(Refused) as caught:
        policies.effective(text)
    assert caught.value.code is Code.COMMIT_POLICY_BELOW_FLOOR
    assert caught.value.facts == {"asked": text, "floor": str(policies.floor)}
    assert caught.value.hint == f"ask for {instead}, or leave the policy out"


def test_a_policy_too_long_to_name_beside_the_floor_is_refused_as_below_it():
    text = f"regions(1 of eu,{','.join(f'x{number:06}' for number in range(29))})"
    with pytest.raises(Refused) as caught:
        made().effective(text)
    assert caught.value.code is Code.COMMIT_POLICY_BELOW_FLOOR and caught.value.hint == "leave the policy out"


@pytest.mark.parametrize("text", ["ack_n=5", "regions(mars)", "nonsense", "remote_wal"])
def test_what_the_members_can_never_meet_is_refused(text):
    with pytest.raises(PolicyInvalid):
        made().effective(text)


def test_verdicts_are_remembered_and_bounded():
    asked = made(floor="majority", default="majority")
    first = asked.effective("majority")
    assert asked.effective("majority") is first
    for number in range(TEXTS_MAX):
        asked.effective(" " * (number % 20) + "majority" + " " * (1 + number // 20))
    assert asked.effective("majority") is not first
    assert asked.effective("majority") == first


def test_policies_that_the_same_copies_meet_wait_as_one():
    policies = made()
    first = policies.effective("regions(eu,us,ap)")
    spellings = [f"regions(eu,us,ap) & ack_n=2 & regions(1 of eu,x{n})" for n in range(40)]
    others = [policies.effective(text) for text in spellings]
    assert {other.counted_by for other in others} == {first.counted_by}
    assert all(str(other.parsed) == other.text for other in others)
    assert policies.effective("ack_n=4").counted_by != first.counted_by


@pytest.mark.parametrize("text", ["most", "ack_n=9", "regions(mars)", "remote_wal"])
def test_a_policy_that_can_never_be_met_is_named_as_it_was_asked_for(text: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        made().effective(text)
    assert caught.value.facts["asked"] == text

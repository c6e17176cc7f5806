"""How long a commit takes at best: by hand, and against brute force."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.errors import PolicyInvalid
from redwire.position import NodeId, Region
from regions.binding import Membership
from regions.commit_policy import CommitPolicy
from regions.commit_time import Distances, Never, Unmeasured, expected_commit_ms
from regions.errors import MemberUnknown

Cluster = Callable[..., Membership]
FIVE = "eu-1 eu-2 us-1 us-2 ap-1"


def parse(text: str) -> CommitPolicy:
    return CommitPolicy.parse(text)


def distances(text: str, within_ms: float = 0.0) -> Distances:
    """`eu-us=80 eu-ap=120`"""
    pairs = (item.partition("=") for item in text.split())
    return Distances(
        {frozenset(map(Region, pair.split("-"))): float(rtt) for pair, _, rtt in pairs}, within_ms
    )


ALL = "eu-us=80 eu-ap=120 us-ap=150"

TIMES = [
    # policy, primary, distances, expected
    ("local", "eu-1", "", 0.0),
    ("ack_n=1", "eu-1", ALL, 0.0),  # eu-2 stands beside it
    ("ack_n=1", "ap-1", ALL, 120.0),
    ("ack_n=4", "us-1", ALL, 150.0),
    ("majority", "eu-1", ALL, 80.0),
    ("majority", "ap-1", ALL, 120.0),
    ("regions(eu)", "eu-1", ALL, 0.0),
    ("regions(eu,us)", "ap-1", ALL, 150.0),
    ("regions(2 of eu,us,ap)", "ap-1", ALL, 120.0),
    ("ack_n=1 & regions(2 of eu,us,ap)", "us-1", ALL, 80.0),
    ("majority", "eu-1", "eu-us=80", "unknown: no RTT to ap-1"),  # ap may be nearer
    ("ack_n=1", "eu-1", "", 0.0),  # nobody is nearer than eu-2
    ("regions(eu,us)", "eu-1", "eu-us=80", 80.0),  # wherever ap is
    ("regions(eu,us)", "eu-1", "eu-ap=80", "unknown: no RTT to us-1, us-2"),
    ("majority", "eu-1", "", "unknown: no RTT to us-1, us-2, ap-1"),
    ("ack_n=5", "eu-1", ALL, "never"),
    ("regions(eu,sa)", "eu-1", "", "never"),
    ("ack_n=1", "eu-1", f"{ALL} eu-eu=2", 2.0),
]


@pytest.mark.parametrize(("text", "primary", "rtts", "expected"), TIMES)
def test_how_long_a_commit_takes(
    text: str, primary: str, rtts: str, expected: float | str, cluster: Cluster
) -> None:
    members, leads = cluster(FIVE, "sa-1"), NodeId(primary)
    rtt_ms = distances(rtts).from_primary(members, leads)
    time = expected_commit_ms(parse(text), members, leads, rtt_ms)
    assert (time if isinstance(time, float) else str(time)) == expected


def test_a_disk_takes_its_time_everywhere(cluster: Cluster) -> None:
    members, eu1 = cluster(FIVE), NodeId("eu-1")
    rtt_ms = distances("eu-us=80 eu-ap=120").from_primary(members, eu1)
    assert expected_commit_ms(parse("local"), members, eu1, rtt_ms, fsync_ms=2.5) == 2.5
    assert expected_commit_ms(parse("majority"), members, eu1, rtt_ms, fsync_ms=2.5) == 82.5


def test_within_a_region_a_given_time_holds(cluster: Cluster) -> None:
    members, eu1 = cluster(FIVE), NodeId("eu-1")
    within = distances("", within_ms=0.7)
    assert within.rtt_ms(Region("eu"), Region("eu")) == 0.7
    assert within.from_primary(members, eu1) == {"eu-2": 0.7}


def test_from_no_region_every_distance_is_unknown(cluster: Cluster) -> None:
    members = cluster("eu-1 -2 -3")
    assert distances(ALL).from_primary(members, NodeId("2")) == {}
    time = expected_commit_ms(parse("ack_n=1"), members, NodeId("2"), {})
    assert time == Unmeasured((NodeId("eu-1"), NodeId("3")))


def test_only_a_voter_leads_and_only_a_policy_is_timed(cluster: Cluster) -> None:
    members = cluster("eu-1 us-1", "sa-1")
    with pytest.raises(MemberUnknown):
        expected_commit_ms(parse("local"), members, NodeId("sa-1"), {})
    with pytest.raises(PolicyInvalid):
        expected_commit_ms(parse("quorum"), members, NodeId("eu-1"), {})


millis = st.sampled_from((0.0, 1.0, 10.0, 80.0, 81.0))


@given(data=st.data())
def test_times_are_those_of_brute_force(data: st.DataObject, topologies, policies, brute_force) -> None:
    members, policy = data.draw(topologies), data.draw(policies)
    truth = brute_force(members)
    primary = data.draw(st.sampled_from(sorted(truth.voters)))
    rtt_ms = {node: data.draw(millis) for node in sorted(truth.voters - {primary})}
    expected = truth.commit_ms(policy, primary, rtt_ms)
    time = expected_commit_ms(policy, members, primary, rtt_ms)
    assert time == (Never() if expected is None else expected)


@given(data=st.data())
def test_a_time_is_unknown_exactly_when_what_is_not_known_decides(
    data: st.DataObject, topologies, policies, brute_force
) -> None:
    members, policy = data.draw(topologies), data.draw(policies)
    truth = brute_force(members)
    primary = data.draw(st.sampled_from(sorted(truth.voters)))
    others = sorted(truth.voters - {primary})
    known = {node: data.draw(millis) for node in others if data.draw(st.booleans())}
    hidden = dict.fromkeys((node for node in others if node not in known), 0.0)
    near = truth.commit_ms(policy, primary, known | hidden)
    far = truth.commit_ms(policy, primary, known | dict.fromkeys(hidden, 1e9))
    time = expected_commit_ms(policy, members, primary, known)
    if near is None:
        assert time == Never()
    elif near == far:
        assert time == near
    else:
        assert isinstance(time, Unmeasured) and set(time.voters) == set(hidden)

"""From a release to its callers: one ack block for all, one call each."""

from __future__ import annotations

import pytest

from cluster.answers import by_caller, caller_of, parts, share
from cluster.effects import Fate, Release, Result
from redwire.message.client import POLICIES_MAX, AckBlock, CopyAck, decode_ack_block
from redwire.position import Lsn, NodeId, Region
from regions.binding import Member, Membership
from regions.commit_policy import CommitPolicy
from regions.coordinator import QuorumCoordinator

EU, US, AP = NodeId("eu-1"), NodeId("us-1"), NodeId("ap-1")
MEMBERS = Membership(tuple(Member(node, Region(node[:2])) for node in (EU, US, AP)))


@pytest.fixture
def coordinator() -> QuorumCoordinator:
    return QuorumCoordinator(MEMBERS, EU, CommitPolicy.parse("majority"))


def result(first: int) -> Result:
    return Result(Fate.EXECUTED, first, bytes(9))


def released(fly, *proposals) -> Release:
    flight = fly(*proposals)
    answers = [(proposal, result(flight.batch.first + at)) for at, proposal in enumerate(proposals)]
    return Release(flight, Lsn(9), answers)


def test_a_block_without_copies_and_without_policies(fly, coordinator):
    shared = share(fly(None), Lsn(0), [], coordinator)
    assert decode_ack_block(shared.block) == AckBlock(1, 0, "majority", (), None, ())
    assert shared.policies == {}


def test_the_block_names_term_watermark_rule_and_copies_in_order_of_arrival(fly, propose, coordinator):
    flight = fly(propose())
    flight.acks[:] = [(US, 800), (EU, 900), (AP, 70_000)]
    flight.completing = 1
    shared = share(flight, Lsn(7), flight.proposals, coordinator)
    assert decode_ack_block(shared.block) == AckBlock(
        1,
        7,
        "majority",
        ("majority",),
        1,
        (CopyAck("us-1", "us", 800), CopyAck("eu-1", "eu", 900), CopyAck("ap-1", "ap", 70_000)),
    )


def test_a_copy_is_told_with_the_region_that_its_node_is_bound_to_now(fly, propose, coordinator):
    flight = fly(propose())
    flight.acks.append((AP, 5))
    coordinator.bind_replica_region(AP, Region("au"))
    (ack,) = decode_ack_block(share(flight, Lsn(1), [], coordinator).block).acks
    assert ack.region == "au"


def test_each_policy_is_named_once_in_order_of_appearance(fly, propose, coordinator):
    asked = [propose(policy) for policy in ("ack_n=2", "majority", "ack_n=2", "regions(eu,us)")]
    shared = share(fly(*asked), Lsn(4), asked, coordinator)
    assert shared.policies == {"ack_n=2": 0, "majority": 1, "regions(eu,us)": 2}
    assert decode_ack_block(shared.block).policies == tuple(shared.policies)


def test_a_release_is_one_part_as_long_as_its_block_has_room(fly, propose):
    release = released(fly, *(propose(f"ack_n={at % POLICIES_MAX + 1}") for at in range(2 * POLICIES_MAX)))
    (part,) = parts(release)
    assert part.answers == release.answers


def test_more_policies_than_a_block_has_room_for_take_another_block(fly, propose, coordinator):
    release = released(fly, *(propose(f"ack_n={number}") for number in range(1, 2 * POLICIES_MAX + 2)))
    divided = list(parts(release))
    assert [len(part.answers) for part in divided] == [POLICIES_MAX, POLICIES_MAX, 1]
    assert [answer for part in divided for answer in part.answers] == release.answers
    for part in divided:
        assert (part.flight, part.watermark) == (release.flight, release.watermark)
        shared = share(part.flight, part.watermark, [proposal for proposal, _ in part.answers], coordinator)
        assert len(decode_ack_block(shared.block).policies) == len(part.answers)


def test_the_core_carries_a_caller_without_knowing_what_it_is(propose):
    caller = object()
    assert caller_of(propose(session=caller)) is caller


def test_a_release_of_nothing_calls_nobody(fly):
    assert list(by_caller(Release(fly(None), Lsn(1), []))) == []


def test_each_caller_gets_its_own_answers_at_once_and_in_order(fly, propose):
    class Caller:
        __hash__ = None  # what waits for answers need not be hashable

    one, other = Caller(), Caller()
    proposals = [propose(session=session) for session in (one, other, one, one, other)]
    release = released(fly, *proposals)
    calls = [(caller, [proposal for proposal, _ in answers]) for caller, answers in by_caller(release)]
    assert calls == [
        (one, [proposals[0], proposals[2], proposals[3]]),
        (other, [proposals[1], proposals[4]]),
    ]

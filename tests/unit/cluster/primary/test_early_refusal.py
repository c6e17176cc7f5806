"""Which writes are refused before they are logged, and which wait for followers first (R8)."""

from __future__ import annotations

from cluster.effects import Append, Commit, Reject
from redwire.errors import Code
from redwire.position import Lsn

GRACE_MS = 5_000


def refused(primary) -> bool:
    """Whether a write that comes now is refused before it is logged."""
    primary.take(primary.propose())
    return any(isinstance(effect, Reject) for effect in primary.effects[-1:])


def test_a_new_reign_waits_for_its_followers_and_then_refuses(lead):
    primary = lead()
    primary.begin()
    primary.durable()
    assert primary.take(primary.propose(deadline_ms=60_000)) == []
    primary.wait(GRACE_MS - 1)
    assert primary.take() == []
    primary.wait(1)
    (reject,) = primary.take()
    assert reject.error.code is Code.INSUFFICIENT_REPLICAS


def test_a_follower_that_drops_is_waited_for_and_then_missed(lead, answers):
    primary = lead("eu-1", "us-1").serve()
    primary.ms += 2 * GRACE_MS  # the grace of the reign's beginning is long over
    primary.ack("us-1", 1)
    primary.leave("us-1")
    assert primary.take(primary.propose(deadline_ms=60_000)) == []
    primary.wait(GRACE_MS - 1)
    assert primary.take() == []
    primary.wait(1)
    assert answers(primary.take()) == [(Reject, 1)]
    assert refused(primary)


def test_what_waits_for_a_follower_is_logged_when_it_is_back(lead, of):
    primary = lead("eu-1", "us-1").serve()
    primary.leave("us-1")
    primary.take(primary.propose())
    primary.join("us-1", 2, matched=1)
    assert len(of(Append, primary.take())) == 1


def test_a_follower_that_has_fallen_silent_is_missed_without_having_left(lead):
    primary = lead("eu-1", "us-1").serve()
    primary.wait(GRACE_MS)
    assert not refused(primary)
    primary.durable()
    primary.ms += 1
    assert refused(primary)
    primary.ack("us-1", 1)
    assert not refused(primary)


def test_a_drop_that_leaves_enough_in_reach_holds_nobody_up(lead, of):
    primary = lead().serve()
    primary.leave("us-1")
    assert len(of(Append, primary.take(primary.propose()))) == 1


def test_a_missing_region_is_named(lead):
    primary = lead("eu-1", "us-1", "ap-1").serve()
    primary.leave("ap-1")
    primary.ms += GRACE_MS
    (reject,) = primary.take(primary.propose("majority & regions(ap)"))
    assert reject.error.code is Code.MISSING_REGIONS and reject.error.facts["missing"] == ["ap"]


def test_a_refusal_speaks_of_the_policy_that_was_asked_for_whatever_the_same_copies_meet(lead):
    primary = lead().serve()
    policies = primary.core.changes.policies
    policies.effective("ack_n=2")
    for node in ("us-1", "ap-1"):
        primary.leave(node)
    primary.wait(2 * GRACE_MS)
    proposal = primary.propose()
    proposal.policy = policies.effective("regions(eu,us,ap)")
    (reject,) = primary.take(proposal)
    assert reject.error.code is Code.MISSING_REGIONS and "ap,us" in str(reject.error)


def test_who_is_in_reach_has_no_say_in_what_is_committed(lead):
    primary = lead().serve()
    primary.take(primary.propose())
    primary.leave("us-1")
    primary.leave("ap-1")
    primary.wait(10 * GRACE_MS)
    primary.durable()
    assert primary.join("us-1", 2, matched=2) == [Commit(Lsn(2))]

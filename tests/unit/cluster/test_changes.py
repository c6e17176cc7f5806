"""Settings that change while a primary leads: what is logged, what waits, and what it is held to then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
import pytest

from cluster.changes import Changes
from cluster.cluster_config import ClusterConfig
from cluster.effects import (
    Append,
    ChangeProposed,
    Commit,
    Effect,
    Proposal,
    Reject,
    Release,
    Unconfirmed,
)
from cluster.log_room import NO_SPACE, LogRoom
from cluster.primary import refusal
from cluster.settings import Planned, Settings
from redwire import body
from redwire.errors import Code, RedwireError, Refused
from redwire.message.log import ClusterRecord, MemberRecord
from redwire.message.settings import BindRegion, ChangeSettings, PromoteMember, SetPolicy, SettingsChange
from redwire.position import Incarnation, Lsn, NodeId, Position, Term
from redwire.record import RequestKind, encode_system
from regions.errors import InsufficientReplicas, MissingRegions

E = TypeVar("E", bound=Effect)
VOTERS = ("eu-1", "eu-2", "us-1", "ap-1")


@pytest.fixture
def record(cluster_record: Any) -> Callable[..., ClusterRecord]:
    return partial(cluster_record, *VOTERS)


@pytest.fixture
def led(lead: Any, record: Any) -> Any:
    """eu-1 leads the four; the cluster commits by `regions(eu,us)`."""
    return lead(*VOTERS, rule="regions(eu,us)", record=record(policy="regions(eu,us)")).serve()


def of(kind: type[E], effects: list[Effect]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def plan(led: Any, change: SettingsChange, **more: Any) -> Planned:
    planned: Planned = led.core.changes.plan(ChangeSettings(change=change, **more), "ops", led.ms)
    return planned


def propose(led: Any, planned: Planned) -> tuple[Proposal, list[Effect]]:
    request = encode_system(RequestKind.CONFIG, body.encode(planned.record))
    rule = led.core.changes.policies.rule
    proposal = Proposal("operator", 99, RequestKind.CONFIG, request, 1, rule, 10_000_000)
    return proposal, led.step(ChangeProposed(proposal, planned))


def change(led: Any, wanted: SettingsChange, **more: Any) -> tuple[Proposal, list[Effect]]:
    return propose(led, plan(led, wanted, **more))


def write(led: Any, policy: str = "", deadline_ms: int = 10_000) -> tuple[Proposal, list[Effect]]:
    """A write that asks for `policy`, judged by the settings that its session sees."""
    proposal = led.propose(policy or "majority", deadline_ms=deadline_ms)
    proposal.policy = led.core.changes.policies.effective(policy)
    return proposal, led.take(proposal)


def test_a_change_is_a_batch_of_its_own_and_is_answered_when_it_is_applied(led):
    proposal, effects = change(led, SetPolicy(policy="majority"))
    (append,) = of(Append, effects)
    assert append.batch.first == append.batch.last == 3
    assert led.durable() == led.ack("ap-1") == []
    assert of(Commit, led.ack("us-1")) == [Commit(Lsn(3))]
    (release,) = of(Release, led.apply())
    assert [p for p, _ in release.answers] == [proposal]
    assert str(led.core.coordinator.rule) == led.core.changes.policies.rule.text == "majority"
    assert led.core.changes.settings.lsn == 3


def test_writes_wait_behind_a_change_and_are_then_held_to_the_new_settings(led):
    change(led, SetPolicy(policy="ack_n=1"))
    default, effects = write(led)
    assert effects == []
    assert default.policy.text == "regions(eu,us)"
    named, _ = write(led, "regions(eu,us)")
    led.durable()
    led.ack("ap-1")
    led.ack("us-1")
    led.apply()
    led.take()
    assert (default.policy.text, default.policy.is_rule) == ("ack_n=1", True)
    assert (named.policy.text, named.policy.is_rule) == ("regions(eu,us)", False)
    led.durable()
    led.ack("ap-1", 5)
    released = of(Release, led.apply())
    assert [p for release in released for p, _ in release.answers] == [default]
    (late,) = of(Release, led.ack("us-1", 5))
    assert [p for p, _ in late.answers] == [named]


def test_a_write_that_waited_and_is_below_the_new_floor_is_refused(led):
    change(led, SetPolicy(policy="ack_n=2 & regions(eu,us)"))
    waited, _ = write(led, "regions(eu,us)")
    led.durable()
    led.ack("ap-1")
    led.ack("us-1")
    led.apply()
    (reject,) = of(Reject, led.take())
    assert reject.proposal is waited
    assert reject.error.code is Code.COMMIT_POLICY_BELOW_FLOOR


def test_who_waits_too_long_behind_a_change_is_told_why(led):
    change(led, SetPolicy(policy="majority"))
    write(led, deadline_ms=led.ms + 1_000)
    (reject,) = of(Reject, led.wait(2_000))
    assert reject.error.code is Code.NOT_READY
    assert "the settings are being changed" in str(reject.error)


def test_of_two_changes_that_were_planned_alike_one_is_told(led):
    first, second = plan(led, SetPolicy(policy="majority")), plan(led, SetPolicy(policy="ack_n=1"))
    propose(led, first)
    proposal, (reject,) = propose(led, second)
    assert isinstance(reject, Reject)
    assert (reject.proposal, reject.error.code) == (proposal, Code.SETTINGS_CHANGED)
    assert reject.error.facts == {"lsn": 3, "based_on": 2}
    with pytest.raises(RedwireError, match="another change is on its way: policy majority") as caught:
        plan(led, SetPolicy(policy="ack_n=2"))
    assert caught.value.facts == {"pending": first.record.text}


def test_a_change_that_nobody_could_commit_now_is_not_logged(led):
    for node in ("us-1", "ap-1", "eu-2"):
        led.leave(node)
    with pytest.raises(InsufficientReplicas):
        plan(led, SetPolicy(policy="majority"))
    led.join("ap-1", 2, matched=2)
    led.join("eu-2", 2, matched=2)
    with pytest.raises(MissingRegions):
        plan(led, SetPolicy(policy="majority"))
    assert plan(led, SetPolicy(policy="majority"), lost=("us",)).lost == {"us-1"}


def test_a_change_that_nobody_can_commit_any_more_is_why_writes_are_refused(led):
    assert refusal(led.core, LogRoom(1, 0), led.now) is None
    change(led, BindRegion("eu-2", "ap"))
    assert refusal(led.core, LogRoom(1, 0), led.now) is None, "it is committed in a moment"
    led.leave("us-1")
    with_us = refusal(led.core, LogRoom(1, 0), led.now)
    assert isinstance(with_us, MissingRegions) and "us" in with_us.message
    assert refusal(led.core, NO_SPACE, led.now).code is Code.DISK_FULL


def test_a_reader_is_promoted_once_it_follows(lead, record):
    described = record(policy="majority")
    reader = MemberRecord(id="sa-1", region="sa", addr="sa-1:5050", kind="reader")
    described = msgspec.structs.replace(described, members=(*described.members, reader))
    led = lead(*VOTERS, readers=["sa-1"], record=described).serve()
    assert plan(led, PromoteMember("sa-1")).promoted == {"sa-1"}

    led.leave("sa-1")
    with pytest.raises(Refused, match="sa-1 cannot be a voter yet: not connected") as refused:
        plan(led, PromoteMember("sa-1"))
    assert refused.value.code is Code.NOT_READY

    led.join("sa-1", 2, matched=1)
    promotion = plan(led, PromoteMember("sa-1"))
    led.wait(6_000)
    for node in VOTERS[1:]:
        led.ack(node)
    _, effects = propose(led, promotion)
    (reject,) = of(Reject, effects)
    assert "sa-1 cannot be a voter yet: silent for 6000 ms" in str(reject.error)
    assert plan(led, PromoteMember("us-1")).changes is False


def test_what_was_promised_before_a_region_was_given_up_is_not_said_to_be_kept(led):
    promised, _ = write(led)
    led.leave("us-1")
    proposal, _ = change(led, SetPolicy(policy="majority"), lost=("us",))
    led.durable()
    led.ack("ap-1")
    assert of(Commit, led.ack("eu-2")) == [Commit(Lsn(4))]
    released = of(Release, led.apply())
    assert [p for release in released for p, _ in release.answers] == [proposal]
    (unconfirmed,) = of(Unconfirmed, led.wait(20_000))
    assert unconfirmed.proposal is promised


def test_a_later_change_gives_up_what_the_first_one_waits_for(led):
    first, _ = change(led, SetPolicy(policy="majority"))
    led.durable()
    led.ack("ap-1")
    led.ack("eu-2")
    led.leave("us-1")
    second, _ = change(led, SetPolicy(policy="ack_n=1"), lost=("us-1",))
    assert led.core.changes.pending.startswith("policy majority")
    led.durable()
    led.ack("ap-1")
    assert of(Commit, led.ack("eu-2")) == [Commit(Lsn(4))]
    led.apply()
    assert led.core.changes.settings.cluster.default_policy == led.core.coordinator.rule
    assert str(led.core.coordinator.rule) == "ack_n=1"
    assert led.core.changes.pending == ""
    (late,) = of(Unconfirmed, led.wait(20_000))  # what it was promised, regions(eu,us), never came true
    assert late.proposal is first
    assert second.answered


def test_a_change_that_is_on_its_way_is_not_said_to_be_so_already(led):
    change(led, SetPolicy(policy="majority"))
    with pytest.raises(RedwireError, match="on its way and not committed"):
        plan(led, SetPolicy(policy="majority"))
    led.leave("us-1")
    _, effects = change(led, SetPolicy(policy="majority"), lost=("us",))
    assert of(Append, effects)


@pytest.fixture
def opening(record: Any) -> Callable[..., Changes]:
    """How a reign begins over a log whose applied settings are those of LSN 2."""
    applied = Settings.of(record(policy="regions(eu,us)"), Lsn(2))

    def begun(watermark: int, *later: Settings, me: str = "eu-1") -> Changes:
        return Changes.at_opening(NodeId(me), [applied, *later], Lsn(watermark), {})

    return begun


def test_what_is_known_committed_is_in_force_at_the_opening_though_it_is_not_applied(record, opening) -> None:
    later = Settings.of(record(policy="majority"), Lsn(5)), Settings.of(record(policy="ack_n=1"), Lsn(9))
    assert opening(4, *later).settings.lsn == 2
    assert opening(4, *later).coming == [*later]
    found = opening(8, *later)
    assert (found.settings, found.coming) == (later[0], [later[1]])
    assert str(found.coordinator.rule) == str(found.policies.floor) == "majority"
    assert opening(9, *later).coming == []


def test_who_has_no_vote_in_what_counts_opens_no_reign(record, opening) -> None:
    gone = record(policy="majority")
    gone = msgspec.structs.replace(gone, members=gone.members[:3])
    with pytest.raises(Refused, match="by the settings of LSN 5 ap-1 is no member"):
        opening(2, Settings.of(gone, Lsn(5)), me="ap-1")
    assert opening(2, Settings.of(gone, Lsn(5))).coming


def test_a_data_directory_that_was_admitted_counts_from_the_opening_on(record) -> None:
    applied = Settings.of(record(policy="majority"), Lsn(2))
    life = Incarnation("a" * 32)
    found = Changes.at_opening(NodeId("eu-1"), [applied], Lsn(2), {NodeId("us-1"): life, NodeId("x"): life})
    assert found.coordinator.membership.member(NodeId("us-1")).incarnation == life


def test_before_the_reign_is_ready_nothing_is_changed(lead, record):
    primary = lead(*VOTERS, rule="majority", record=record(policy="majority"))
    ready = lead(*VOTERS, rule="majority", record=record(policy="majority")).serve()
    planned = plan(ready, SetPolicy(policy="ack_n=1"))
    primary.begin()
    _, (reject,) = propose(primary, planned)
    assert isinstance(reject, Reject) and reject.error.code is Code.NOT_READY
    with pytest.raises(Refused, match="on its way: the first settings of the cluster"):
        plan(primary, SetPolicy(policy="ack_n=1"))


def test_a_reign_that_lacks_a_region_from_its_beginning_is_made_ready_by_giving_it_up(lead, record):
    end = Position(Term(1), Lsn(5), bytes(16))
    primary = lead(*VOTERS, rule="regions(eu,us)", end=end, term=2)
    primary.core.changes.settings = Settings.of(record(policy="regions(eu,us)"), Lsn(2))
    primary.begin(known=5)
    for node in ("eu-2", "ap-1"):
        primary.join(node, matched=5)
    primary.durable()
    for node in ("eu-2", "ap-1"):
        assert not of(Commit, primary.ack(node))
    assert isinstance(refusal(primary.core, LogRoom(1 << 20, 0), primary.now), MissingRegions)
    proposal, effects = change(primary, SetPolicy(policy="majority"), lost=("us",))
    assert of(Append, effects) and not primary.core.ready
    primary.durable()
    primary.ack("eu-2")
    assert of(Commit, primary.ack("ap-1")) == [Commit(Lsn(7))]
    released = of(Release, primary.apply())
    assert primary.core.ready and primary.core.changes.pending == ""
    assert [p for release in released for p, _ in release.answers] == [proposal]


def test_the_replica_timeout_is_in_force_with_its_record(led):
    change(led, SetPolicy(replica_timeout_ms=9_000))
    assert led.core.coordinator.lag.replica_timeout_ms == 5_000
    led.durable()
    led.ack("us-1")
    led.ack("ap-1")
    led.apply()
    assert led.core.coordinator.lag.replica_timeout_ms == 9_000


def test_what_an_earlier_reign_left_in_the_log_takes_both_rules(lead, record):
    left = Settings.of(record(policy="majority"), Lsn(5))
    end = Position(Term(1), Lsn(5), bytes(16))
    primary = lead(*VOTERS, rule="regions(eu,us)", end=end, term=2, coming=[left])
    primary.begin(known=3)
    for node in VOTERS[1:]:
        primary.join(node, matched=5)
    primary.durable()
    assert primary.ack("eu-2") == primary.ack("ap-1") == []
    assert of(Commit, primary.ack("us-1")) == [Commit(Lsn(6))]
    assert isinstance(primary.core.changes.coming[0].cluster, ClusterConfig)
    primary.apply()
    assert primary.core.changes.coming == []
    assert primary.core.changes.settings is left
    assert NodeId("us-1") in primary.core.coordinator.membership

"""The ack table: what a row is worth, how far the log is committed, and which members and reigns count."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import regions
from redwire.errors import PolicyInvalid, ProtocolError
from redwire.position import Lsn, Region
from regions.ack_table import AckTable
from regions.binding import Membership
from regions.commit_policy import CommitPolicy
from regions.coordinator import ProvedLess, QuorumCoordinator
from regions.errors import AckInvalid, MemberUnknown
from regions.lag import Behind
from regions.quorum import QuorumConfig, satisfied_by
from regions.watermarks import POLICIES_MAX
from tests.ack_tables import THREE, A, B, acks, cluster, coordinator, joins, node

# The watermark


def test_the_package_exports_all_that_its_coordinator_takes_and_gives() -> None:
    exported = {getattr(regions, name) for name in regions.__all__}
    assert QuorumCoordinator in exported
    methods = inspect.getmembers(QuorumCoordinator, inspect.isfunction)
    hints = [hint for name, method in methods if name[0] != "_" for hint in get_type_hints(method).values()]
    named = {kind for hint in hints for kind in (hint, *get_args(hint))}
    ours = {kind for kind in named if getattr(kind, "__module__", "").startswith("regions.")}
    assert len(ours) > 5
    assert ours - exported == set()


def test_the_primarys_disk_is_one_more_ack() -> None:
    made = coordinator()
    joins(made, "us-1")
    acks(made, "us-1", 50)
    assert made.commit_watermark() == 0
    assert made.own_durable(Lsn(40), 0)
    assert made.commit_watermark() == 40
    assert not made.own_durable(Lsn(40), 0)
    made.own_durable(Lsn(60), 0)
    assert made.commit_watermark() == 50


def test_the_default_rule_is_majority_and_local_for_one() -> None:
    assert str(QuorumCoordinator(THREE, node("eu-1")).rule) == "majority"
    assert str(QuorumCoordinator(cluster("eu-1"), node("eu-1")).rule) == "local"


def test_only_a_voter_can_keep_the_table() -> None:
    for name in ("sa-1", "xx-1"):
        with pytest.raises(MemberUnknown):
            QuorumCoordinator(THREE, node(name))


def test_a_rule_named_after_an_async_quorum_is_refused() -> None:
    with pytest.raises(PolicyInvalid, match="waits for nobody"):
        coordinator(rule="quorum")


def test_the_rule_quorum_is_what_the_cluster_says_it_is() -> None:
    made = coordinator(rule="quorum", quorum=QuorumConfig.regions(("ap",)))
    made.own_durable(Lsn(9), 0)
    joins(made, "us-1", 9)
    assert made.commit_watermark() == 0
    joins(made, "ap-1", 7)
    assert made.commit_watermark() == 7
    assert made.commit_watermark(CommitPolicy.parse("quorum")) == 7
    assert made.status().rule == "quorum"


def test_an_ack_is_counted_once_per_member() -> None:
    made = coordinator(rule="ack_n=2")
    made.own_durable(Lsn(9), 0)
    joins(made, "us-1")
    assert acks(made, "us-1", 9)
    assert not acks(made, "us-1", 9)
    joins(made, "us-1", 9, session=2)
    assert made.commit_watermark() == 0


def test_acks_only_rise_within_a_session() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 10)
    assert acks(made, "us-1", 30)
    assert not acks(made, "us-1", 20)
    assert made.commit_watermark() == 30
    assert made.status().member(node("us-1")).durable == 30


def test_each_number_of_an_ack_rises_by_itself() -> None:
    made = coordinator()
    joins(made, "us-1", 10)
    us1 = node("us-1")
    assert made.acked(us1, 1, Lsn(10), Lsn(0), Lsn(40), 5)
    assert made.acked(us1, 1, Lsn(10), Lsn(8), Lsn(40), 6)
    assert made.acked(us1, 1, Lsn(20), Lsn(8), Lsn(40), 7)
    assert not made.acked(us1, 1, Lsn(20), Lsn(8), Lsn(40), 8)
    row = made.status().member(us1)
    assert (row.received, row.durable, row.applied, row.matched, row.acked_ms) == (40, 20, 8, 10, 8)


def test_acks_of_strangers_and_of_other_sessions_change_nothing() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 10, session=7)
    before = made.status()
    assert not acks(made, "xx-1", 50)
    assert not acks(made, "us-1", 50, session=6)
    assert not acks(made, "us-1", 500, session=6)
    assert not acks(made, "xx-1", 500)
    assert not acks(made, "ap-1", 50)
    assert not acks(made, "eu-1", 50)
    assert made.status() == before


@pytest.mark.parametrize(("durable", "applied", "received"), [(101, 0, 0), (0, 101, 0), (0, 0, 101)])
def test_an_ack_beyond_the_head_breaks_the_protocol_and_changes_nothing(
    durable: int, applied: int, received: int
) -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 10)
    before = made.status()
    with pytest.raises(AckInvalid, match="us-1 claims LSN 101, this log ends at 100") as caught:
        made.acked(node("us-1"), 1, Lsn(durable), Lsn(applied), Lsn(received), 9)
    assert isinstance(caught.value, ProtocolError)
    assert made.status() == before
    with pytest.raises(AckInvalid):
        joins(made, "ap-1", 101)


def test_readers_never_count_and_are_still_seen() -> None:
    made = coordinator(rule="ack_n=1")
    made.own_durable(Lsn(9), 0)
    joins(made, "sa-1")
    assert acks(made, "sa-1", 9)
    assert made.commit_watermark() == 0
    row = made.status().member(node("sa-1"))
    assert (row.durable, row.uncounted, row.connected) == (9, "reader", True)
    assert made.regions_holding(Lsn(9)) == {"eu"}


def test_a_new_member_counts_for_what_it_proved_and_not_for_the_head() -> None:
    made = coordinator(rule="regions(us)")
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 3)
    assert made.commit_watermark() == 3


def test_what_a_member_proved_counts_after_it_left() -> None:
    made = coordinator()
    joins(made, "us-1", 30)
    assert made.left(node("us-1"), 1, 5)
    assert not made.left(node("us-1"), 1, 6)
    assert not made.left(node("xx-1"), 1, 6)
    made.own_durable(Lsn(100), 9)
    assert made.commit_watermark() == 30


def test_the_leaving_of_an_old_session_leaves_the_new_one() -> None:
    made = coordinator()
    joins(made, "us-1", 30)
    joins(made, "us-1", 30, session=2)
    assert not made.left(node("us-1"), 1, 5)
    assert acks(made, "us-1", 31, session=2)


def test_who_is_out_of_reach_is_waited_for_after_a_reign_began_and_after_a_session_ended() -> None:
    made = coordinator()
    assert made.grace_until_ms == made.lag.replica_timeout_ms
    joins(made, "us-1", 30)
    made.left(node("us-1"), 2, 50)
    assert made.grace_until_ms == made.lag.replica_timeout_ms, "that session was none"
    made.left(node("us-1"), 1, 70)
    assert made.grace_until_ms == 70 + made.lag.replica_timeout_ms


def test_the_watermark_never_falls() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 30)
    assert made.commit_watermark() == 30
    joins(made, "us-1", 5, session=2)
    assert made.commit_watermark() == 30
    made.unbind_replica(node("us-1"))
    assert made.commit_watermark() == 30


def test_a_copy_that_stops_counting_takes_nothing_back() -> None:
    made = coordinator(rule="ack_n=1")
    made.own_durable(Lsn(100), 0)
    local, ack = CommitPolicy.parse("local"), CommitPolicy.parse("ack_n=1 & regions(1 of ap,us)")
    joins(made, "us-1", 50)
    joins(made, "ap-1", 20)
    assert (made.commit_watermark(), made.commit_watermark(ack), made.commit_watermark(local)) == (
        50,
        50,
        100,
    )
    acks(made, "us-1", 50, streaming=False)
    assert made.regions_holding(Lsn(50)) == {"eu"}
    assert (made.commit_watermark(), made.commit_watermark(ack), made.commit_watermark(local)) == (
        50,
        50,
        100,
    )


def test_a_stranger_and_the_node_itself_cannot_join() -> None:
    made = coordinator()
    for name in ("xx-1", "eu-1"):
        with pytest.raises(MemberUnknown):
            joins(made, name)


def test_copies_are_the_other_voters_that_count_and_durable_is_what_was_proven() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 50)
    joins(made, "ap-1", 20, streaming=False)
    joins(made, "sa-1", 90)
    assert [made.copies(Lsn(n)) for n in (10, 50, 51)] == [1, 1, 0]
    assert [made.durable(node(n)) for n in ("eu-1", "us-1", "ap-1", "sa-1")] == [100, 50, 20, 90]
    with pytest.raises(MemberUnknown):
        made.durable(node("xx-1"))


# A member that lost something (R4, R11)


def test_a_member_that_proves_less_than_it_acked_does_not_count_until_it_has_it_again() -> None:
    made = coordinator()
    joins(made, "us-1", 0)
    acks(made, "us-1", 50)
    event = joins(made, "us-1", 20, session=2)
    assert event == ProvedLess(node("us-1"), Lsn(50), Lsn(20))
    assert str(event) == "us-1 acked 50, proves only 20, counts again from 50"
    made.own_durable(Lsn(100), 0)
    for durable, watermark in ((20, 0), (49, 0), (50, 50), (51, 51)):
        acks(made, "us-1", durable, session=2)
        assert made.commit_watermark() == watermark
        assert made.status().member(node("us-1")).uncounted == ("durable short of 50" if durable < 50 else "")


def test_a_loss_is_remembered_over_a_second_session() -> None:
    made = coordinator()
    joins(made, "us-1", 50)
    assert joins(made, "us-1", 20, session=2) == ProvedLess(node("us-1"), Lsn(50), Lsn(20))
    assert joins(made, "us-1", 30, session=3) == ProvedLess(node("us-1"), Lsn(50), Lsn(30))
    assert joins(made, "us-1", 50, session=4) is None


def test_only_the_configured_incarnation_counts() -> None:
    made = coordinator(THREE.admitted(node("us-1"), A))
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 30, incarnation=B)
    assert made.commit_watermark() == 0
    assert made.status().member(node("us-1")).uncounted == "another incarnation than the one admitted"
    joins(made, "us-1", 40, session=2, incarnation=A)
    assert made.commit_watermark() == 40


def test_a_member_whose_incarnation_is_not_named_yet_counts() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 30, incarnation=B)
    assert made.commit_watermark() == 30


def test_an_admitted_member_counts_from_where_it_is_told() -> None:
    made = coordinator(THREE.admitted(node("us-1"), A))
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 30, incarnation=B)
    made.admit(node("us-1"), B, Lsn(60))
    assert made.membership.member(node("us-1")).incarnation == B
    assert made.commit_watermark() == 0
    acks(made, "us-1", 59)
    assert made.commit_watermark() == 0
    acks(made, "us-1", 60)
    assert made.commit_watermark() == 60
    with pytest.raises(MemberUnknown):
        made.admit(node("xx-1"), B, Lsn(1))


def test_admitting_a_reader_gives_it_no_vote() -> None:
    made = coordinator(rule="ack_n=1")
    made.own_durable(Lsn(100), 0)
    joins(made, "sa-1", 30, incarnation=A)
    made.admit(node("sa-1"), A, Lsn(0))
    assert made.commit_watermark() == 0


def test_a_member_in_a_snapshot_counts_for_nothing_until_it_streams() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 30, streaming=False)
    assert made.status().member(node("us-1")).uncounted == "not streaming"
    assert made.commit_watermark() == 0
    acks(made, "us-1", 40)
    assert made.commit_watermark() == 0
    acks(made, "us-1", 40, streaming=True)
    assert made.commit_watermark() == 40
    acks(made, "us-1", 41, streaming=False)
    assert made.regions_holding(Lsn(10)) == {"eu"}


# Reigns (R3)


def test_copies_count_only_for_records_of_the_own_term() -> None:
    made = QuorumCoordinator(THREE, node("eu-1"))
    made.begin_reign(Lsn(51), 0, known=Lsn(20))
    made.extended(Lsn(51), 0)
    made.own_durable(Lsn(50), 0)
    joins(made, "us-1", 50)
    assert made.commit_watermark() == 20
    assert made.commit_watermark(CommitPolicy.parse("ack_n=1")) == 0
    made.own_durable(Lsn(51), 0)
    assert made.commit_watermark() == 20
    acks(made, "us-1", 51)
    assert made.commit_watermark() == 51
    assert made.commit_watermark(CommitPolicy.parse("ack_n=1")) == 51


def test_an_ack_from_an_old_reign_proves_nothing_in_a_new_one() -> None:
    made = coordinator()
    joins(made, "us-1", 0)
    acks(made, "us-1", 100)
    made.begin_reign(Lsn(60), 10)
    assert not acks(made, "us-1", 100)
    made.extended(Lsn(100), 11)
    made.own_durable(Lsn(100), 12)
    assert made.commit_watermark() == 0
    assert made.status().member(node("us-1")).uncounted == "not heard in this reign"
    assert joins(made, "us-1", 59, session=2) is None
    assert made.commit_watermark() == 0
    acks(made, "us-1", 60, session=2)
    assert made.commit_watermark() == 60


def test_what_was_committed_is_held_against_a_member_in_the_next_reign_too() -> None:
    made = coordinator()
    made.own_durable(Lsn(100), 0)
    joins(made, "us-1", 80)
    assert made.commit_watermark() == 80
    made.begin_reign(Lsn(101))
    made.own_durable(Lsn(101), 1)
    assert joins(made, "us-1", 70, session=2) == ProvedLess(node("us-1"), Lsn(80), Lsn(70))


def test_the_own_disk_is_asked_again_from_the_start_of_a_reign() -> None:
    made = coordinator(rule="local")
    made.own_durable(Lsn(100), 0)
    made.own_applied(Lsn(100), 0)
    made.begin_reign(Lsn(60), 10)
    own = made.status().member(node("eu-1"))
    assert (own.durable, own.applied, made.status().head) == (59, 59, 59)


def test_a_reign_keeps_the_time_when_it_is_not_told_another() -> None:
    made = coordinator()
    made.tick(1_000)
    made.begin_reign(Lsn(101))
    made.extended(Lsn(102), 1_500, 10)
    joins(made, "us-1", 100, now_ms=1_600)
    assert made.status(1_700).member(node("us-1")).lag == Behind(102, None, None)


def test_admission_lasts_over_reigns() -> None:
    made = coordinator()
    made.admit(node("us-1"), A, Lsn(150))
    made.begin_reign(Lsn(101), 0)
    made.own_durable(Lsn(200), 0)
    joins(made, "us-1", 149, incarnation=A)
    assert made.commit_watermark() == 0
    acks(made, "us-1", 150)
    assert made.commit_watermark() == 150


# Other policies


def test_a_stronger_policy_has_a_watermark_of_its_own() -> None:
    made = coordinator()
    made.own_durable(Lsn(90), 0)
    joins(made, "us-1", 50)
    joins(made, "ap-1", 20)
    marks = {
        text: made.commit_watermark(CommitPolicy.parse(text)) for text in ("local", "majority", "ack_n=2")
    }
    assert marks == {"local": 90, "majority": 50, "ack_n=2": 20}
    assert made.commit_watermark(CommitPolicy.parse("regions(mars)")) == 0
    with pytest.raises(PolicyInvalid):
        made.commit_watermark(CommitPolicy.parse("quorum"))


def test_the_policies_kept_are_bounded_and_the_rule_is_not_among_them() -> None:
    made = coordinator()
    made.own_durable(Lsn(90), 0)
    joins(made, "us-1", 50)
    for n in range(1, 2 * POLICIES_MAX):
        assert made.commit_watermark(CommitPolicy.parse(f"ack_n={n}")) == (50 if n == 1 else 0)
    assert len(made._marks._marks) == POLICIES_MAX
    assert made.commit_watermark() == 50


# Bindings


def test_binding_moves_a_copy_to_another_region() -> None:
    made = coordinator(rule="regions(sa)")
    made.own_durable(Lsn(90), 0)
    joins(made, "us-1", 50)
    assert made.commit_watermark() == 0
    made.bind_replica_region(node("us-1"), Region("sa"))
    assert made.commit_watermark() == 50
    assert made.regions_holding(Lsn(50)) == {"eu", "sa"}
    assert made.membership.region_of(node("us-1")) == "sa"


def test_an_unbound_member_counts_for_no_region_and_keeps_its_vote() -> None:
    made = coordinator(rule="majority")
    made.own_durable(Lsn(90), 0)
    joins(made, "us-1", 50)
    in_us = CommitPolicy.parse("regions(us)")
    assert made.commit_watermark(in_us) == 50
    made.unbind_replica(node("us-1"))
    assert made.commit_watermark(in_us) == 0
    assert made.commit_watermark() == 50
    assert made.connected_regions() == {"eu"}
    assert made.regions_holding(Lsn(50)) == {"eu"}


def test_a_stranger_cannot_be_bound() -> None:
    made = coordinator()
    with pytest.raises(MemberUnknown):
        made.bind_replica_region(node("xx-1"), Region("eu"))
    with pytest.raises(MemberUnknown):
        made.unbind_replica(node("xx-1"))


def test_connected_regions_are_those_of_open_sessions_and_the_own() -> None:
    made = coordinator()
    assert made.connected_regions() == {"eu"}
    joins(made, "us-1")
    joins(made, "sa-1")
    assert made.connected_regions() == {"eu", "us"}
    made.left(node("us-1"), 1, 0)
    assert made.connected_regions() == {"eu"}


# Against a plain model


@dataclass
class Model:
    """What the rules say: per member what it proved and whether that counts, and the best ever committed."""

    proved: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    streams: dict[str, bool] = field(default_factory=dict)
    watermark: int = 0

    def look(self, members: Membership, policy: CommitPolicy, head: int, term_start: int) -> None:
        for lsn in range(max(self.watermark + 1, term_start), head + 1):
            holders = frozenset(
                node(name)
                for name, end in self.proved.items()
                if self.streams[name] and end >= lsn and end >= self.most[name]
            )
            if satisfied_by(policy, node("eu-1"), holders, members):
                self.watermark = lsn


PEERS = ("eu-2", "us-1", "ap-1", "sa-1")
STEPS = st.one_of(
    st.tuples(st.just("own"), st.just(""), st.integers(0, 12), st.just(True)),
    st.tuples(st.just("ack"), st.sampled_from(PEERS), st.integers(0, 12), st.just(True)),
    st.tuples(st.just("join"), st.sampled_from(PEERS), st.integers(0, 12), st.booleans()),
    st.tuples(st.just("left"), st.sampled_from(PEERS), st.just(0), st.just(True)),
)


@given(
    st.lists(STEPS, max_size=40),
    st.sampled_from(
        ["local", "majority", "ack_n=2", "regions(us)", "regions(2 of ap,eu,us)", "majority & regions(ap)"]
    ),
    st.integers(1, 6),
)
def test_any_history_commits_what_the_rules_say(
    steps: list[tuple[str, str, int, bool]], rule: str, term_start: int
) -> None:
    members = cluster("eu-1", "eu-2", "us-1", "ap-1", readers=("sa-1",))
    policy = CommitPolicy.parse(rule)
    made = QuorumCoordinator(members, node("eu-1"), policy)
    made.begin_reign(Lsn(term_start), 0)
    made.extended(Lsn(12), 0)
    model = Model({"eu-1": 0}, {"eu-1": 0}, {"eu-1": True})
    sessions: dict[str, int] = {}
    for now_ms, (step, name, lsn, streaming) in enumerate(steps):
        if step == "own":
            made.own_durable(Lsn(lsn), now_ms)
            model.proved["eu-1"] = max(model.proved["eu-1"], lsn)
        elif step == "join":
            sessions[name] = now_ms
            event = joins(made, name, lsn, session=now_ms, streaming=streaming, now_ms=now_ms)
            assert (event is not None) is (lsn < model.most.get(name, 0))
            model.proved[name], model.streams[name] = lsn, streaming
            model.most[name] = max(model.most.get(name, 0), lsn)
        elif step == "ack":
            acks(made, name, lsn, session=sessions.get(name, -1), now_ms=now_ms)
            if name in sessions:
                model.proved[name] = max(model.proved[name], lsn)
                model.most[name] = max(model.most[name], lsn)
        elif name in sessions:
            assert made.left(node(name), sessions.pop(name), now_ms)
        model.look(members, policy, 12, term_start)
        assert made.commit_watermark() == model.watermark
        assert made.commit_watermark(policy) == model.watermark
        own = made.status().member(node("eu-1"))
        assert made.commit_watermark() <= own.durable


def test_a_table_by_itself_counts_its_own_disk() -> None:
    table = AckTable(THREE, node("eu-1"))
    assert table.own(5, durable=Lsn(7))
    assert (table.counted, table.version) == ([7, 0, 0], 1)
    assert table.holders(Lsn(7)) == ["eu-1"]
    assert table.in_reach(5_000, 99_999) == {"eu-1"}

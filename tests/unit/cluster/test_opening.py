"""Whether a node that was told to lead may open a reign: one table of reports and verdicts."""

from __future__ import annotations

import msgspec
import pytest

from cluster.catchup import PARTED_HINT
from cluster.opening import (
    RETURN_MS,
    Bootstrap,
    FollowFirst,
    Open,
    Opening,
    Refuse,
    Stand,
    TakeOver,
    Wait,
)
from redwire.body import TERM_MAX
from redwire.errors import Code, ConfigInvalid
from redwire.position import NodeId, Term
from tests.reports import CLUSTER, LIFE, report, voted

MEMBERS = frozenset(NodeId(name) for name in ("a", "b", "c"))
ADMITTED = dict.fromkeys(MEMBERS, LIFE)
PATIENCE_MS = 5_000


def decide(mine, *others, **known):
    """As `ask`, once everybody who is asked for its vote has given it."""
    decision = ask(mine, *others, **known)
    if isinstance(decision, Stand):
        others = [voted(other, decision.term) if other.node in decision.voters else other for other in others]
        decision = ask(mine, *others, **known, stands=decision.term)
        assert not isinstance(decision, Stand)
    return decision


def ask(
    mine,
    *others,
    elapsed_ms=PATIENCE_MS,
    take_over=None,
    admitted=None,
    taken=(),
    enough=2,
    by_all=0,
    wrote_last=True,
    stands=0,
    voters=MEMBERS,
):
    """So many of the voters are `enough` for a commit, by all settings `by_all`."""
    opening = Opening(
        me=NodeId(mine.node),
        members=MEMBERS,
        voters=frozenset(voters),
        admitted=ADMITTED if admitted is None else admitted,
        patience_ms=PATIENCE_MS,
        take_over=take_over,
        enough=lambda copies: len(copies) >= enough,
        enough_by_all=lambda copies: len(copies) >= max(enough, by_all),
        wrote_last=wrote_last,
        taken=frozenset(taken),
        stands=Term(stands),
    )
    return opening.decide(mine, {NodeId(other.node): other for other in others}, elapsed_ms)


EMPTY = report("a", role="opening")
GROWN = report("a", lsn=10, term=3, primary="a", role="opening")


def test_who_led_last_waits_a_moment_only_for_those_that_a_commit_does_not_take():
    follower = report("b", lsn=10, term=3, primary="a")
    assert isinstance(decide(GROWN, follower, elapsed_ms=RETURN_MS - 1), Wait)
    assert decide(GROWN, follower, elapsed_ms=RETURN_MS) == Open(Term(4))


def test_who_is_enough_alone_hears_another_voter_first_or_waits_as_long_as_one_may_be_silent():
    assert isinstance(decide(GROWN, elapsed_ms=PATIENCE_MS - 1, enough=1), Wait), "one may lead by now"
    assert decide(GROWN, elapsed_ms=PATIENCE_MS, enough=1) == Open(Term(4))
    follower = report("b", lsn=10, term=3, primary="a")
    assert decide(GROWN, follower, elapsed_ms=RETURN_MS, enough=1) == Open(Term(4))
    assert decide(GROWN, elapsed_ms=RETURN_MS, enough=1, voters={"a"}) == Open(Term(4)), "nobody else can"


@pytest.mark.parametrize(
    ("mine", "other", "known"),
    [
        pytest.param({}, {}, {"enough": 3}, id="a commit takes the silent one"),
        pytest.param({}, {}, {"by_all": 3}, id="or may take it by newer settings"),
        pytest.param({}, {}, {"wrote_last": False}, id="somebody else wrote what is last"),
        pytest.param({}, {"incarnation": "f" * 32}, {}, id="the disk of the other was replaced"),
        pytest.param({}, {"vote": 4, "voted_for": "c"}, {}, id="another one may have led since"),
        pytest.param(
            {"primary": "b"}, {"primary": "b"}, {"take_over": TakeOver()}, id="another one led last"
        ),
    ],
)
def test_else_it_waits_as_long_as_a_member_may_be_silent(mine, other, known):
    own = msgspec.structs.replace(GROWN, **mine)
    follower = report("b", lsn=10, term=3, **({"primary": "a"} | other))
    said = decide(own, follower, elapsed_ms=PATIENCE_MS - 1, **known)
    assert said == Wait("asking c")


def test_a_new_cluster_waits_for_everybody_and_begins_when_all_are_empty():
    assert isinstance(decide(EMPTY, report("b"), elapsed_ms=0), Wait)
    assert decide(EMPTY, report("b"), report("c"), elapsed_ms=0) == Bootstrap(
        {"a": LIFE, "b": LIFE, "c": LIFE}
    )


def test_a_new_cluster_begins_with_a_majority_when_patience_ends():
    assert decide(EMPTY, report("b")) == Bootstrap({"a": LIFE, "b": LIFE})


def test_a_new_cluster_needs_the_votes_of_a_majority() -> None:
    b, c = report("b"), report("c")
    asked = ask(EMPTY, b, c)
    assert asked == Stand(Term(1), [NodeId("b"), NodeId("c")])
    assert ask(EMPTY, voted(b, 1), c) == Bootstrap({"a": LIFE, "b": LIFE, "c": LIFE})
    assert ask(EMPTY, voted(b, 1, "c"), c) == Stand(Term(1), [NodeId("c")])


def test_a_vote_for_a_new_cluster_is_given_once() -> None:
    """Whoever has it may have begun already, out of our reach."""
    b, c = report("b"), report("c")
    decision = ask(EMPTY, voted(b, 1, "c"))
    assert isinstance(decision, Wait)
    assert "already: b to c; start c with role: primary; only if it is gone for good" in decision.reason
    assert decision.reason.endswith("give b an empty data directory")
    ours_given_away = voted(EMPTY, 1, "c")
    assert isinstance(ask(ours_given_away, voted(b, 1)), Wait), "one of three"
    rival = msgspec.structs.replace(b, node="A", role="opening")
    assert isinstance(ask(EMPTY, rival, c), Refuse)
    assert isinstance(ask(EMPTY, voted(rival, 1), c), Bootstrap), (
        "it has voted for us, and cannot begin itself"
    )
    assert ask(EMPTY, voted(rival, 1, "d"), c) == Stand(Term(1), [NodeId("c")])
    assert isinstance(ask(ours_given_away, voted(b, 1), voted(c, 1)), Bootstrap)


def test_a_minority_never_makes_a_new_cluster():
    decision = decide(EMPTY, elapsed_ms=10 * PATIENCE_MS)
    assert isinstance(decision, Wait)
    assert "b, c" in decision.reason


def test_an_emptied_disk_does_not_lead():
    decision = decide(EMPTY, report("b", lsn=7, term=2, primary="a"), report("c"), elapsed_ms=0)
    assert isinstance(decision, Refuse)
    assert decision.error.code is Code.PRIMARY_LACKS_COMMITTED
    assert "disk was replaced" in decision.error.hint


def test_a_cluster_whose_first_log_reached_no_disk_is_made_again_by_whoever_was_elected() -> None:
    """A member has accepted the reign, and with it the cluster, whose first record was lost by a disk."""
    begun = {"cluster": CLUSTER, "primary": "a", "term": 1, "last_term": 0}
    a, b, c = voted(report("a", **begun), 1), voted(report("b", **begun), 1), report("c")
    lives = dict.fromkeys(("a", "b", "c"), LIFE)
    assert ask(msgspec.structs.replace(a, role="opening"), b, c) == Bootstrap(lives)
    second = ask(msgspec.structs.replace(b, role="opening"), a, c)
    assert isinstance(second, Wait) and "start a with role: primary" in second.reason
    stranger = ask(msgspec.structs.replace(c, role="opening"), a, b)
    assert isinstance(stranger, Refuse) and stranger.error.code is Code.PRIMARY_LACKS_COMMITTED
    assert "a belongs to a cluster" in stranger.error.message and "a as primary" in stranger.error.hint
    wiped = ask(EMPTY, b, c)
    assert isinstance(wiped, Refuse) and "another one with --take-over" in wiped.error.hint
    elsewhere = msgspec.structs.replace(b, cluster="f" * 32)
    assert isinstance(ask(msgspec.structs.replace(a, role="opening"), elsewhere, c), Refuse)


def test_a_member_that_leads_is_not_challenged():
    leader = report("b", lsn=12, term=4, primary="b", role="primary")
    decision = decide(GROWN, leader, elapsed_ms=0)
    assert isinstance(decision, Refuse)
    assert decision.error.code is Code.TERM_TAKEN


def test_of_two_that_lead_the_newer_one_counts():
    """The older one is cut off from it, and hears of nothing."""
    newer = report("c", lsn=14, term=6, primary="c", role="primary")
    older = report("b", lsn=9, term=GROWN.term - 1, primary="b", role="primary")
    decision = decide(GROWN, older, newer)
    assert isinstance(decision, Refuse)
    assert decision.error.code is Code.TERM_TAKEN and "c leads term 6" in decision.error.message


def test_a_reign_that_only_its_followers_hear_of_is_waited_out():
    mine = report("a", lsn=10, term=3, primary="b", role="opening")
    told = msgspec.structs.replace(report("c", lsn=10, term=3, primary="b"), follows="b")
    decision = decide(mine, told, take_over=TakeOver(frozenset({NodeId("b")})))
    assert isinstance(decision, Wait)
    assert decision.reason.startswith("c follows b, which leads term 3: stop b first")
    for over in ({"follows": ""}, {"follows": "a"}, {"term": 2, "last_term": 2}):
        assert decide(mine, msgspec.structs.replace(told, **over), take_over=TakeOver()) == Open(4)


def test_after_the_last_term_that_there_can_be_nobody_opens_another():
    found = decide(GROWN, report("b", lsn=1, last_term=1, term=TERM_MAX))
    assert isinstance(found, Refuse)
    assert found.error.code is Code.STALE_TERM and "find it" in found.error.hint


def test_a_leader_of_an_older_term_does_not_stop_a_newer_log():
    leader = report("b", lsn=8, term=2, primary="b", role="primary")
    assert decide(GROWN, leader, report("c", lsn=10, term=3)) == Open(4)


def test_a_directory_that_followed_another_leads_only_by_order():
    mine = report("a", lsn=10, term=3, primary="b", role="opening")
    others = report("b", lsn=10, term=3, primary="b"), report("c", lsn=10, term=3, primary="b")
    decision = decide(mine, *others)
    assert isinstance(decision, Refuse)
    assert "--take-over" in decision.error.hint
    assert decide(mine, *others, take_over=TakeOver()) == Open(4)


def test_who_led_before_somebody_else_did_has_not_all_that_was_acknowledged():
    """`b` led term 4, and `c`, which followed it, may lack what `b` acknowledged."""
    other = report("c", lsn=10, term=4, last_term=3, primary="b")
    assert decide(GROWN, other) == Open(5), "what b acknowledged is here or in c's log"
    assert isinstance(decide(GROWN, other, enough=1), Wait)
    assert isinstance(decide(GROWN, other, take_over=TakeOver(), enough=1), Wait)
    assert decide(GROWN, other, take_over=TakeOver(frozenset({NodeId("b")})), enough=1) == Open(5)
    read = msgspec.structs.replace(GROWN, last_term=4)
    assert isinstance(decide(read, take_over=TakeOver(frozenset({NodeId("b")})), enough=1), Wait), "c's log"
    assert decide(GROWN, msgspec.structs.replace(other, primary="a")) == Open(5)


def test_a_take_over_waits_until_nobody_unheard_can_hold_what_was_acknowledged():
    mine = report("a", lsn=10, term=3, primary="b", role="opening")
    other = report("c", lsn=10, term=3, primary="b")
    decision = decide(mine, take_over=TakeOver())
    assert isinstance(decision, Wait)
    assert "nobody else has: b (not heard yet) and c (not heard yet). Start one" in decision.reason
    assert decision.reason.endswith("--lost b,c")
    assert decide(mine, other, take_over=TakeOver()) == Open(4)
    decision = decide(mine, take_over=TakeOver(frozenset({NodeId("b")})))
    assert isinstance(decision, Wait), "what b and c held is not lost with b alone"
    assert "nobody else has: c (not heard yet). Start" in decision.reason
    assert decision.reason.endswith("--lost b,c")
    assert decide(mine, other, take_over=TakeOver(frozenset({NodeId("b")}))) == Open(4)
    assert decide(mine, take_over=TakeOver(frozenset({NodeId("b"), NodeId("c")}))) == Open(4)


OVER = report("a", lsn=10, term=3, primary="b", role="opening")
FREE = report("c", lsn=10, term=3, primary="b")


def test_who_follows_nobody_now_may_follow_again_until_it_has_voted() -> None:
    """The old primary b is not heard; with it, c alone is enough for a commit."""
    asked = ask(OVER, FREE, take_over=TakeOver())
    assert asked == Stand(Term(4), [NodeId("c")])
    assert asked.reason == "asking c to follow nobody before term 4"
    for vote in (voted(FREE, 3), voted(FREE, 4, "b"), voted(FREE, 5, "b")):
        assert isinstance(ask(OVER, vote, take_over=TakeOver(), stands=4), Stand)
    assert ask(OVER, voted(FREE, 4), take_over=TakeOver(), stands=4) == Open(4)


def test_what_was_acked_before_the_vote_is_followed_first() -> None:
    longer = msgspec.structs.replace(voted(FREE, 4), last_lsn=11)
    assert ask(OVER, longer, take_over=TakeOver(), stands=4) == FollowFirst("c")


def test_a_vote_is_asked_of_as_many_as_it_takes() -> None:
    everybody = FREE, msgspec.structs.replace(FREE, node="b")
    assert ask(OVER, *everybody, take_over=TakeOver()) == Stand(Term(4), [NodeId("b"), NodeId("c")])
    assert ask(OVER, voted(everybody[0], 4), everybody[1], take_over=TakeOver(), stands=4) == Open(4)


def test_who_is_in_reach_is_asked_for_its_vote_as_if_those_given_up_were_still_there() -> None:
    """`b` may only be out of our reach, and `c` be back with it a moment after it said that it is free."""
    lost = TakeOver(frozenset({NodeId("b")}))
    assert ask(OVER, FREE, take_over=lost) == Stand(Term(4), [NodeId("c")])
    assert ask(OVER, voted(FREE, 4), take_over=lost, stands=4) == Open(4)
    assert ask(OVER, FREE, take_over=TakeOver(frozenset({NodeId("b"), NodeId("c")}))) == Open(4)


@pytest.mark.parametrize(
    ("busy", "why"),
    [
        ({"role": "primary", "primary": "c"}, "c leads term 2 and votes for nobody meanwhile: stop it first"),
        ({"follows": "b"}, "c follows b in term 2 and votes for nobody meanwhile: stop b first"),
    ],
)
def test_what_keeps_a_voter_in_an_older_reign_is_named(busy: dict[str, str], why: str) -> None:
    old = msgspec.structs.replace(FREE, term=2, last_term=2, **busy)
    asked = ask(OVER, old, take_over=TakeOver())
    assert asked == Stand(Term(4), [NodeId("c")], (why,))
    assert asked.reason == f"asking c to follow nobody before term 4; {why}"


@pytest.mark.parametrize(
    ("stands", "vote", "term"),
    [
        (4, voted(FREE, 4, "b"), 5),  # taken by another one
        (0, voted(FREE, 9), 9),  # ours, of an earlier process
        (6, voted(FREE, 4), 6),
        (4, msgspec.structs.replace(voted(FREE, 4), term=7), 8),  # it has accepted a newer reign since
    ],
)
def test_the_term_that_is_stood_for_is_kept_while_nobody_else_can_have_it(stands, vote, term) -> None:
    decision = ask(OVER, vote, msgspec.structs.replace(FREE, node="b"), take_over=TakeOver(), stands=stands)
    assert decision.term == term


LED = report("a", lsn=10, term=3, primary="a", role="opening")


def test_who_led_last_needs_the_votes_of_as_many_as_a_commit_takes() -> None:
    """It has all that it acknowledged; what it does not know alone is whether it led last."""
    alone = ask(LED)
    assert isinstance(alone, Wait)
    assert "elected another primary since, as nobody in reach knows: b (not heard yet) and c" in alone.reason
    assert alone.reason.endswith("--lost b,c")
    assert ask(LED, take_over=TakeOver(frozenset({NodeId("b"), NodeId("c")}))) == Open(4)
    assert ask(LED, FREE) == Stand(Term(4), [NodeId("c")])
    assert ask(LED, voted(FREE, 4), stands=4) == Open(4)
    assert ask(LED, enough=1) == Open(4), "its own copy is all that a commit takes"
    assert isinstance(ask(LED, enough=1, by_all=2), Wait), "by other settings it took two"
    assert ask(LED, FREE, enough=1, by_all=2) == Stand(Term(4), [NodeId("c")])
    assert ask(LED, voted(FREE, 4), enough=1, by_all=2, stands=4) == Open(4)
    replaced = msgspec.structs.replace(voted(FREE, 4), incarnation="f" * 32)
    assert isinstance(ask(LED, replaced, enough=1, by_all=2, stands=4), Wait), "it may have voted before"


def test_who_led_before_a_vote_for_another_needs_what_every_other_needs() -> None:
    """With `enough=1` each voter may hold what that other one acknowledged."""
    assert isinstance(ask(LED, voted(FREE, 4, "b"), enough=1), Wait)
    assert isinstance(ask(voted(LED, 4, "b"), FREE, enough=1), Wait)
    both = msgspec.structs.replace(voted(FREE, 6), other_vote=5)
    assert isinstance(ask(LED, both, enough=1, stands=6), Wait), "the one for b came before ours"
    assert ask(LED, msgspec.structs.replace(both, other_vote=3), enough=1, stands=6) == Open(6)
    assert ask(LED, both, stands=6) == Open(6)
    assert ask(LED, voted(FREE, 4, "b")) == Stand(Term(5), [NodeId("c")])


def test_who_wrote_not_the_end_of_its_own_log_needs_what_every_other_needs() -> None:
    assert isinstance(ask(LED, FREE, enough=1, wrote_last=False), Wait)
    assert ask(LED, FREE, wrote_last=False) == Stand(Term(4), [NodeId("c")])


@pytest.mark.parametrize("late", [{}, {"lsn": 9, "term": 3, "primary": "b"}])
def test_who_comes_with_another_disk_says_nothing_of_what_it_held(late):
    mine = report("a", lsn=10, term=3, primary="b", role="opening")
    admitted = ADMITTED | {NodeId("c"): "d" * 32}
    decision = decide(mine, report("c", **late), take_over=TakeOver(), admitted=admitted)
    assert isinstance(decision, Wait)
    assert "b (not heard yet) and c (its disk was replaced)" in decision.reason
    assert decide(mine, report("c", **late), take_over=TakeOver()) == Open(4)
    lost = TakeOver(frozenset({NodeId("c")}))
    assert isinstance(decide(mine, report("c", **late), take_over=lost, admitted=admitted), Wait), "b has it"
    assert decide(mine, report("b"), report("c", **late), take_over=lost, admitted=admitted) == Open(4)
    replaced = admitted | {NodeId("a"): "d" * 32}
    decision = decide(mine, report("b"), report("c"), take_over=TakeOver(), admitted=replaced)
    assert isinstance(decision, Wait), "our own disk says no more than another's"
    assert "a (its disk was replaced) and c" in decision.reason


def test_whom_this_log_never_admitted_may_have_been_admitted_by_records_that_others_held():
    mine = report("a", lsn=10, term=3, primary="b", role="opening")
    admitted = {node: life for node, life in ADMITTED.items() if node != "c"}
    decision = decide(mine, report("c"), take_over=TakeOver(), admitted=admitted)
    assert isinstance(decision, Wait)
    assert "b (not heard yet) and c (this log never admitted its disk)" in decision.reason
    assert decide(mine, report("b"), report("c"), take_over=TakeOver(), admitted=admitted) == Open(4)
    lost = TakeOver(frozenset({NodeId("b"), NodeId("c")}))
    assert decide(mine, report("c"), take_over=lost, admitted=admitted) == Open(4)


def test_what_is_given_up_are_members():
    TakeOver(frozenset({NodeId("b"), NodeId("c")})).check(["c", "b", "a", "b"])
    with pytest.raises(ConfigInvalid, match="--lost: eu-2 is no member of the cluster; did you mean eu-1?"):
        TakeOver(frozenset({NodeId("eu-2")})).check(["us-1", "eu-1"])
    with pytest.raises(ConfigInvalid, match="x is no member of the cluster; there are eu-1, us-1"):
        TakeOver(frozenset({NodeId("x")})).check(["us-1", "eu-1"])


@pytest.mark.parametrize(
    ("lsn", "last_term", "verdict"),
    [
        (11, 3, FollowFirst(NodeId("b"))),
        (10, 3, Open(4)),
        (9, 3, Open(4)),
        (5, 4, FollowFirst(NodeId("b"))),
        (99, 2, Open(5)),
    ],
)
def test_the_longest_log_is_followed_first(lsn, last_term, verdict):
    other = report("b", lsn=lsn, last_term=last_term, term=max(last_term, 3))
    decision = decide(GROWN, other, report("c", lsn=1, term=1))
    assert type(decision) is type(verdict)
    if isinstance(verdict, FollowFirst):
        assert decision == verdict


def test_the_new_term_is_above_every_term_that_anyone_has_seen():
    assert decide(GROWN, report("b", lsn=10, last_term=3, term=8), report("c", lsn=10, term=3)) == Open(9)


def test_the_new_term_is_above_that_of_a_lent_log_whose_reign_we_never_accepted() -> None:
    lent = report("a", lsn=10, term=3, last_term=7, primary="b", role="opening")
    asked = ask(lent, FREE, take_over=TakeOver(), stands=5)
    assert asked == Stand(Term(8), [NodeId("c")])


def test_silent_members_are_waited_for_and_then_left_out():
    assert isinstance(decide(GROWN, elapsed_ms=PATIENCE_MS - 1), Wait)
    assert decide(GROWN, enough=1) == Open(4)


@pytest.mark.parametrize("mine", [EMPTY, GROWN])
def test_while_all_who_answer_say_that_another_process_has_its_id_a_node_begins_no_reign(mine):
    decision = decide(mine, elapsed_ms=9 * PATIENCE_MS, taken=("c", "b"))
    assert decision == Wait("another process is a, say b, c: stop one")
    welcome = report("c", lsn=mine.last_lsn, term=mine.term)
    assert isinstance(decide(mine, welcome, taken=("b",)), Open | Bootstrap)


@pytest.mark.parametrize("mine", [EMPTY, GROWN])
def test_of_two_that_were_told_to_lead_one_gives_way(mine):
    rival = report("b", lsn=mine.last_lsn, term=mine.term, primary="b" if mine.term else "", role="opening")
    third = report("c", lsn=mine.last_lsn, term=mine.term)
    assert not isinstance(decide(mine, rival, third), Refuse)
    turned = msgspec.structs.replace(mine, node="b", primary="")
    other = msgspec.structs.replace(rival, node="a")
    decision = decide(turned, other, third)
    assert isinstance(decision, Refuse)
    assert decision.error.code is Code.TERM_TAKEN


def test_whoever_has_the_longer_log_does_not_give_way_to_one_that_has_to_follow_it_first() -> None:
    """It would take with it what the other one waits for."""
    longer = report("b", lsn=10, term=3, primary="b", role="opening")
    shorter = report("a", lsn=9, term=3, primary="b", role="opening")
    assert decide(shorter, longer, report("c"), take_over=TakeOver()) == FollowFirst(NodeId("b"))
    assert ask(longer, shorter, voted(report("c"), 4, "b"), stands=4) == Open(4)
    assert isinstance(ask(longer, msgspec.structs.replace(shorter, last_lsn=10), report("c")), Refuse)


@pytest.mark.parametrize(("known", "first"), [(9, True), (10, False)])
def test_a_longer_log_is_followed_first_unless_it_lost_what_is_known_committed(known: int, first: bool):
    mine = report("a", lsn=10, term=3, primary="a", watermark=known, terms=((1, 1, 0), (3, 8, 0)))
    other = report("b", lsn=10, term=4, primary="b", terms=((1, 1, 0), (3, 8, 0), (4, 10, 0)))
    decision = decide(mine, other, report("c"), take_over=TakeOver())
    assert decision == (FollowFirst(NodeId("b")) if first else Open(Term(5)))


def test_a_log_that_lost_does_not_lead_and_is_not_followed() -> None:
    """`a` began term 4 out of reach of the others, who went on in term 3."""
    lost = report("a", lsn=11, term=4, primary="a", role="opening", terms=((1, 1, 0), (4, 11, 0)))
    knows = report("b", lsn=14, term=3, primary="b", watermark=13, terms=((1, 1, 0), (3, 11, 0)))
    decision = decide(lost, knows, report("c"))
    assert isinstance(decision, Refuse) and decision.error.code is Code.PRIMARY_LACKS_COMMITTED
    assert "b knows what is committed up to LSN 13, and this log lacks some of it" in decision.error.message
    assert decision.error.hint == "start this node with role: replica"
    behind = report("c", lsn=12, term=3, primary="b", role="opening", terms=((1, 1, 0), (3, 11, 0)))
    seen = msgspec.structs.replace(lost, role="replica")
    assert decide(behind, seen, knows, take_over=TakeOver()) == FollowFirst(NodeId("b"))


def test_who_was_given_up_counts_as_lost_until_it_has_followed_since() -> None:
    """`a` led term 4 without `b`, and that is committed; it starts again, and `b` has its old log."""
    terms = ((1, 1, 0), (4, 11, 0))
    mine = report("a", lsn=14, term=4, primary="a", role="opening", watermark=14, terms=terms)
    mine = msgspec.structs.replace(mine, without=(("b", 4),))
    back = report("b", lsn=12, term=3, primary="b", watermark=12, terms=((1, 1, 0),))
    assert decide(mine, back, report("c", lsn=14, term=4, primary="a", terms=terms)) == Open(Term(5))
    votes = voted(back, 9, "c")
    assert decide(mine, votes, report("c", lsn=14, term=4, primary="a", terms=terms)) == Open(Term(10))
    leads = msgspec.structs.replace(back, term=5, role="primary")
    refused = decide(mine, leads, report("c", lsn=14, term=4, primary="a", terms=terms))
    assert isinstance(refused, Refuse) and refused.error.code is Code.TERM_TAKEN
    alone = decide(mine, back)
    assert isinstance(alone, Wait) and ": c (not heard yet). " in alone.reason
    assert decide(mine, back, wrote_last=False, enough=1, voters=("a", "b")) == Open(Term(5))
    for other in (report("b"), back):
        wiped = decide(mine, other, admitted=ADMITTED | {"b": "01" * 16})
        assert isinstance(wiped, Wait) and "b (its disk was replaced)" in wiped.reason
    followed = report("b", lsn=15, term=4, primary="a", watermark=15, terms=terms)
    short = msgspec.structs.replace(mine, last_lsn=14)
    assert decide(short, followed, report("c")) == FollowFirst(NodeId("b"))


@pytest.mark.parametrize(("voted_for", "term"), [("c", 10), ("a", 9)])
def test_a_vote_of_who_was_given_up_is_kept(voted_for: str, term: int) -> None:
    """In a reign below it that one could never follow, and would have us begin one after the other."""
    terms = ((1, 1, 0), (4, 11, 0))
    mine = report("a", lsn=14, term=4, primary="a", role="opening", watermark=14, terms=terms)
    mine = msgspec.structs.replace(mine, without=(("b", 4),))
    back = report("b", lsn=12, term=3, primary="b", watermark=12, terms=((1, 1, 0),))
    follower = report("c", lsn=14, term=4, primary="a", terms=terms)
    assert decide(mine, voted(back, 9, voted_for), follower) == Open(Term(term))


def test_who_was_given_up_does_not_lead_and_is_told_to_follow() -> None:
    terms = ((1, 1, 0), (4, 11, 0))
    mine = report("b", lsn=12, term=3, primary="b", role="opening", watermark=12, terms=((1, 1, 0),))
    others = report("c", lsn=14, term=4, primary="a", watermark=14, terms=terms)
    parted = decide(mine, others)
    assert isinstance(parted, Refuse) and parted.error.hint == PARTED_HINT
    over = decide(mine, msgspec.structs.replace(others, without=(("b", 4),)))
    assert isinstance(over, Refuse) and over.error.code is Code.PRIMARY_LACKS_COMMITTED
    assert over.error.hint == "start this node with role: replica"


def test_of_two_histories_that_both_know_committed_what_the_other_lacks_neither_is_led_and_it_is_said() -> (
    None
):
    """`a` was given up by an operator, `b` led without it, and then it came back."""
    kept = report("b", lsn=14, term=4, primary="b", watermark=14, terms=((1, 1, 0), (4, 11, 0)))
    given_up = report("a", lsn=12, term=3, primary="a", watermark=12, terms=((1, 1, 0),))
    for mine, other in ((kept, given_up), (given_up, kept)):
        aspires = msgspec.structs.replace(mine, role="opening")
        decision = decide(aspires, other, report("c"), take_over=TakeOver(frozenset({NodeId(other.node)})))
        assert isinstance(decision, Refuse) and decision.error.code is Code.PRIMARY_LACKS_COMMITTED
        assert decision.error.hint == PARTED_HINT

"""What follows for a read from each thing that happens to it, and what is said when its time is over."""

from __future__ import annotations

import math

import pytest

from redwire.errors import ELSEWHERE_HINT, ChannelClosed, Code, NotConfirmed, RedwireError, Refused
from redwire.inquiry import SILENCE_S, WAIT_ELSEWHERE_MS, Inquiry, Patience, refusal, silence_within
from redwire.routing import AnyNode, InRegion, Nearest, Primary, ReadMode
from redwire.topology import Endpoint, ReplicaEntry, Topology

END_S = 110.0
STALE = Refused(Code.STALE, "behind the token")
DAMAGED = Refused(Code.DAMAGED, "the state is damaged")
FORBIDDEN = Refused(Code.FORBIDDEN, "no right to read")
BUSY = Refused(Code.NOT_READY, "not yet")
LOST = ChannelClosed("the connection ended")


def asked(mode: ReadMode, *, alone: bool = False) -> Inquiry:
    inquiry = Inquiry(mode, END_S)
    inquiry.ask("a:1", 100.0, alone=alone)
    return inquiry


@pytest.mark.parametrize(
    ("now_s", "alone", "patience"),
    [
        (100.0, True, Patience(9_000, math.inf)),
        (100.0, False, Patience(WAIT_ELSEWHERE_MS, SILENCE_S)),
        (109.875, False, Patience(125, SILENCE_S)),
        (110.0, True, Patience(0, math.inf)),
        (111.0, False, Patience(0, SILENCE_S)),
    ],
)
def test_a_node_gets_all_that_is_left_only_where_nobody_else_may_answer(
    now_s: float, alone: bool, patience: Patience
) -> None:
    assert Inquiry(Nearest(), END_S).ask("a:1", now_s, alone=alone) == patience


def test_a_node_whose_answers_take_long_has_that_on_top_but_never_more_than_any() -> None:
    inquiry = Inquiry(Nearest(), END_S, silence_s=silence_within(0.5))
    assert inquiry.ask("a:1", 109.5, alone=False, rtt_s=0.25) == Patience(225, 0.5)
    assert inquiry.ask("a:1", 109.5, alone=False, rtt_s=9.0) == Patience(225, SILENCE_S)


def test_a_short_read_leaves_time_for_another_node_and_to_hear_that_this_one_is_behind() -> None:
    inquiry = Inquiry(Nearest(), END_S, silence_s=silence_within(0.5))
    assert inquiry.ask("a:1", 109.5, alone=False) == Patience(225, 0.25)
    assert inquiry.ask("b:1", 109.75, alone=True) == Patience(225, math.inf)


@pytest.mark.parametrize(
    ("error", "alone", "final"),
    [
        (FORBIDDEN, False, True),
        (FORBIDDEN, True, True),
        (DAMAGED, False, False),
        (DAMAGED, True, True),
        (BUSY, False, False),
        (BUSY, True, False),
        (LOST, True, False),
        (STALE, True, False),
    ],
)
def test_only_what_no_other_node_would_say_otherwise_is_the_answer(
    error: RedwireError, alone: bool, final: bool
) -> None:
    inquiry = asked(AnyNode(), alone=alone)
    assert inquiry.failed(error, alone=alone) is final
    assert inquiry.trouble is error and inquiry.asked is None


@pytest.mark.parametrize(
    ("mode", "then"),
    [
        (AnyNode(), Primary()),
        (Nearest(), Primary()),
        (InRegion("eu"), InRegion("eu")),
        (Primary(), Primary()),
    ],
)
def test_who_lacks_the_token_is_followed_by_the_primary_unless_a_region_was_asked_for(
    mode: ReadMode, then: ReadMode
) -> None:
    inquiry = asked(mode)
    inquiry.failed(BUSY, alone=False)
    assert inquiry.mode == mode
    inquiry.failed(STALE, alone=False)
    assert inquiry.mode == then


def test_what_was_refused_was_not_sent_and_what_was_lost_may_be_at_work() -> None:
    inquiry = asked(Nearest())
    inquiry.failed(BUSY, alone=False)
    assert not inquiry.sent
    inquiry.ask("b:1", 101.0, alone=False)
    inquiry.failed(LOST, alone=False)
    assert inquiry.sent
    inquiry.ask("c:1", 102.0, alone=False)
    inquiry.failed(BUSY, alone=False)
    assert inquiry.sent, "the one before may be"


def test_a_node_that_says_nothing_is_named_with_the_time_that_it_had() -> None:
    inquiry = asked(Nearest())
    assert inquiry.held_up
    assert inquiry.silent(102.04) == ("a:1", 2_040)
    assert str(inquiry.trouble) == str(ChannelClosed("a:1 did not answer within 2.0 s"))
    assert not inquiry.held_up


def test_an_answer_ends_the_wait_for_it() -> None:
    inquiry = asked(Nearest())
    inquiry.answered()
    assert not inquiry.held_up and inquiry.trouble is None


@pytest.mark.parametrize("telling", [STALE, NotConfirmed("logged")])
def test_what_a_node_said_of_the_token_says_more_than_that_the_time_was_over(telling: RedwireError) -> None:
    inquiry = asked(Nearest())
    inquiry.failed(telling, alone=False)
    inquiry.ask("b:1", 109.0, alone=True)
    assert not inquiry.held_up
    assert inquiry.overdue(10, "nobody leads") is telling
    inquiry.silent(109.5)
    inquiry.unheard(LOST)
    assert inquiry.overdue(10, "nobody leads") is telling


@pytest.mark.parametrize(
    ("mode", "happened", "text", "hint"),
    [
        (Nearest(), "", "nobody could be asked within 3 s, in phase select: nobody leads", ""),
        (Primary(), "refused", "nobody could be asked within 3 s, in phase answer: NOT_READY: not yet", ""),
        (
            Primary(),
            "lost",
            "no answer within 3 s, in phase answer: the connection ended",
            ELSEWHERE_HINT,
        ),
        (Nearest(), "lost", "no answer within 3 s, in phase answer: the connection ended", ""),
    ],
)
def test_when_the_time_is_over_the_last_trouble_is_told(
    mode: ReadMode, happened: str, text: str, hint: str
) -> None:
    inquiry = Inquiry(mode, END_S)
    if happened:
        inquiry.ask("a:1", 100.0, alone=True)
        inquiry.failed({"refused": BUSY, "lost": LOST}[happened], alone=True)
    told = inquiry.overdue(3.0, "nobody leads")
    assert (told.message, told.hint, told.code) == (text, hint, Code.TIMEOUT)


def test_without_any_trouble_the_phase_is_all_there_is_to_tell() -> None:
    assert Inquiry(Nearest(), END_S).overdue(3.0, "").message.endswith("within 3 s, in phase select")


KNOWN = Topology(1, Endpoint("p:1", "eu"), (ReplicaEntry("r:1", "us", True, 0, 1),))


@pytest.mark.parametrize(
    ("mode", "known"),
    [(InRegion("ap"), None), (InRegion("ap"), KNOWN.primary_only()), (Nearest(), KNOWN), (AnyNode(), KNOWN)],
)
def test_while_the_cluster_has_not_said_who_there_is_nothing_is_refused(
    mode: ReadMode, known: Topology | None
) -> None:
    assert refusal(mode, known) is None


@pytest.mark.parametrize(
    ("region", "text", "hint"),
    [
        ("ap", "no node of region 'ap' is in the topology", "the regions are eu, us"),
        ("us", "no node of region 'us' is among the hosts of the URI", "discovery=off stays with these"),
    ],
)
def test_a_region_without_a_node_to_ask_is_refused_with_those_that_there_are(
    region: str, text: str, hint: str
) -> None:
    refused = refusal(InRegion(region), KNOWN)
    assert refused is not None and refused.code is Code.MISSING_REGIONS
    assert refused.without_code == text and refused.hint.startswith(hint)
    assert refused.facts == {"missing": [region], "lacking": 1}

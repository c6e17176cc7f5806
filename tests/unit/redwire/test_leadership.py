"""Who leads: of those who say so, of whom the topology names, and of those who are left of an older term."""

from __future__ import annotations

import random

import pytest

from redwire.errors import TopologyInvalid
from redwire.leadership import OUTLIVED_MS, Claim, Leadership, Lonely
from redwire.position import Term
from redwire.routing import Router
from redwire.topology import Endpoint, Topology, epoch_of

NOW_MS = 100_000
LATELY = Lonely(NOW_MS - OUTLIVED_MS + 1, NOW_MS - 10)
LONG = Lonely(NOW_MS - OUTLIVED_MS, NOW_MS - 10)
LONG_AND_JUST_NOW = Lonely(NOW_MS - OUTLIVED_MS, NOW_MS)
OPEN = ("a:1", "b:1", "c:1")


def topology(term: int, primary: str, counter: int = 0) -> bytes:
    return Topology(epoch_of(Term(term), counter), Endpoint(primary, "eu")).encode()


def claim(addr: str, term: int, lonely: Lonely | None = None) -> Claim:
    return Claim(addr, Term(term), lonely, topology(term, addr))


def router() -> Router:
    return Router(OPEN, None, True, random.Random(1))


def choice(*claims: Claim, named: bytes = b"", denied: str = "", sought_ms: int = 0) -> str | None:
    """Who is chosen once the topology `named` is known, and `denied` said that it does not lead."""
    leadership = Leadership(router())
    if named:
        assert leadership.learned(named)
    if denied:
        leadership.said(denied, leads=False)
    return leadership.choose(claims, OPEN, NOW_MS, sought_ms)


def test_of_nobody_nobody_is_chosen() -> None:
    assert choice() is None


@pytest.mark.parametrize(
    ("claims", "chosen"),
    [
        ((claim("a:1", 3),), "a:1"),
        ((claim("a:1", 3, LONG),), "a:1"),
        ((claim("a:1", 3), claim("b:1", 4)), "b:1"),
        ((claim("a:1", 3), claim("b:1", 4, LATELY)), "b:1"),
        ((claim("a:1", 3), claim("b:1", 4, LONG)), "a:1"),
        ((claim("a:1", 2), claim("b:1", 4, LONG), claim("c:1", 3)), "c:1"),
        ((claim("a:1", 4, LATELY), claim("b:1", 4)), "b:1"),
        ((claim("a:1", 4, LONG), claim("b:1", 4)), "b:1"),
    ],
)
def test_the_newest_term_leads_unless_it_commits_nothing_for_long(
    claims: tuple[Claim, ...], chosen: str
) -> None:
    assert choice(*claims) == choice(*reversed(claims)) == chosen


@pytest.mark.parametrize(
    ("claims", "chosen"),
    [
        ((claim("a:1", 4, LONG_AND_JUST_NOW), claim("b:1", 4, LONG)), "b:1"),
        ((claim("a:1", 4, LONG), claim("b:1", 4, LONG_AND_JUST_NOW)), "a:1"),
        ((claim("a:1", 3, LONG), claim("b:1", 4, LONG_AND_JUST_NOW)), "a:1"),
        ((claim("a:1", 3, LONG), claim("b:1", 4, Lonely(NOW_MS - 1, NOW_MS))), "b:1"),
    ],
)
def test_those_who_all_lack_somebody_take_turns(claims: tuple[Claim, ...], chosen: str) -> None:
    assert choice(*claims) == choice(*reversed(claims)) == chosen


@pytest.mark.parametrize(
    ("denied", "chosen"), [("", "b:1"), ("b:1", None), ("a:1", "b:1")], ids=["unasked", "denied", "another"]
)
def test_whom_the_topology_names_leads_unless_it_said_otherwise(denied: str, chosen: str | None) -> None:
    assert choice(named=topology(4, "b:1"), denied=denied) == chosen


def test_whom_the_topology_names_but_nobody_can_ask_is_not_chosen() -> None:
    assert choice(named=topology(4, "elsewhere:1")) is None


def test_who_says_that_it_leads_goes_before_whom_the_topology_names() -> None:
    assert choice(claim("a:1", 4), named=topology(4, "b:1")) == "a:1"
    assert choice(claim("a:1", 3), named=topology(4, "b:1")) == "b:1"


def test_a_newer_topology_and_a_claim_both_undo_what_was_denied() -> None:
    leadership = Leadership(router())
    assert leadership.learned(topology(4, "b:1"))
    leadership.said("b:1", leads=False)
    assert not leadership.learned(topology(4, "b:1"))
    assert leadership.choose([], OPEN, NOW_MS, 0) is None
    leadership.said("b:1", leads=True)
    assert leadership.choose([], OPEN, NOW_MS, 0) == "b:1"
    leadership.said("b:1", leads=False)
    assert leadership.learned(topology(4, "b:1", 1))
    assert leadership.choose([], OPEN, NOW_MS, 0) == "b:1"


@pytest.mark.parametrize(("sought_ms", "chosen"), [(0, None), (OUTLIVED_MS - 1, None), (OUTLIVED_MS, "a:1")])
def test_one_of_an_older_term_leads_once_the_newer_one_is_sought_in_vain(
    sought_ms: int, chosen: str | None
) -> None:
    gone = topology(8, "gone:1")
    assert choice(claim("a:1", 6), named=gone, sought_ms=sought_ms) == chosen


def test_one_that_commits_in_an_older_term_leads_where_another_of_a_newer_one_never_does() -> None:
    newest = claim("b:1", 7, LONG)
    assert choice(claim("a:1", 6), newest, named=topology(7, "b:1")) == "a:1"
    assert choice(claim("a:1", 6), newest, named=topology(8, "gone:1")) == "a:1"


def test_with_one_of_an_older_term_its_topology_is_in_force() -> None:
    known = router()
    leadership = Leadership(known)
    leadership.learned(topology(8, "gone:1"))
    assert leadership.choose([claim("a:1", 6)], OPEN, NOW_MS, OUTLIVED_MS) == "a:1"
    assert known.primary() == "a:1" and known.topology is not None and known.topology.term == 6


def test_a_topology_of_a_later_version_changes_nothing_and_brings_nobody_of_an_older_term() -> None:
    later = b"\xff" + bytes(8)
    leadership = Leadership(router())
    leadership.learned(topology(8, "gone:1"))
    assert not leadership.learned(later)
    outlived = Claim("a:1", Term(6), None, later)
    assert leadership.choose([outlived], OPEN, NOW_MS, OUTLIVED_MS) is None
    with pytest.raises(TopologyInvalid):
        leadership.learned(b"")

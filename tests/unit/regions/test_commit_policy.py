"""Policies as text: what is read, what is printed, and what a refusal says."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.errors import Code, PolicyInvalid
from redwire.handshake import DNS_LABEL
from redwire.position import Region
from regions.commit_policy import (
    LOCAL,
    MAJORITY,
    POLICY_CHARS_MAX,
    AckN,
    Clause,
    CommitPolicy,
    Local,
    Majority,
    Quorum,
    Regions,
    RemoteWal,
)


def regions(*names: str, k: int | None = None) -> Regions:
    return Regions(tuple(map(Region, names)), k)


CANONICAL: list[tuple[str, tuple[Clause, ...]]] = [
    ("local", (Local(),)),
    ("remote_wal", (RemoteWal(),)),
    ("ack_n=1", (AckN(1),)),
    ("ack_n=12", (AckN(12),)),
    ("quorum", (Quorum(),)),
    ("majority", (Majority(),)),
    ("regions(eu)", (regions("eu"),)),
    ("regions(eu,us)", (regions("eu", "us"),)),
    ("regions(2 of ap,eu,us)", (regions("ap", "eu", "us", k=2),)),
    ("regions(2)", (regions("2"),)),
    ("regions(1 of 2,of)", (regions("2", "of", k=1),)),
    ("regions(of,us)", (regions("of", "us"),)),
    ("ack_n=2 & regions(eu)", (AckN(2), regions("eu"))),
    (
        "majority & regions(1 of ap,eu) & regions(us)",
        (Majority(), regions("ap", "eu", k=1), regions("us")),
    ),
    ("remote_wal & ack_n=1 & quorum & majority", (RemoteWal(), AckN(1), Quorum(), Majority())),
]


@pytest.mark.parametrize(("text", "clauses"), CANONICAL)
def test_canonical_text_and_clauses_are_one(text: str, clauses: tuple[Clause, ...]) -> None:
    policy = CommitPolicy.parse(text)
    assert policy.clauses == clauses
    assert str(policy) == str(CommitPolicy(clauses)) == text
    assert policy == CommitPolicy(clauses)
    assert hash(policy) == hash(CommitPolicy(clauses))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("LOCAL", "local"),
        ("  Majority\t", "majority"),
        ("ACK_N = 2", "ack_n=2"),
        ("ack_n=007", "ack_n=7"),
        ("Regions ( us , eu )", "regions(eu,us)"),
        ("regions(2 OF us,eu,ap)", "regions(2 of ap,eu,us)"),
        ("regions(2 of us,eu)", "regions(eu,us)"),
        ("regions(1 of us)", "regions(us)"),
        ("regions(us)&majority", "majority & regions(us)"),
        ("majority & majority", "majority"),
        ("local & ack_n=1", "ack_n=1"),
        ("local & local", "local"),
        ("ack_n=1 & ack_n=3 & ack_n=2", "ack_n=3"),
        ("regions(us) & regions(eu)", "regions(eu) & regions(us)"),
    ],
)
def test_spelling_is_free_and_the_print_is_canonical(text: str, canonical: str) -> None:
    assert str(CommitPolicy.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "position", "token", "says"),
    [
        ("", 1, "", "one of local, ack_n=N, majority"),
        ("   ", 4, "", "one of local"),
        ("ack_m=2", 1, "ack_m", "did you mean ack_n?"),
        ("all", 1, "all", "one of local, ack_n=N, majority, regions(eu,us), regions(2 of eu,us,ap)"),
        ("majorty", 1, "majorty", "did you mean majority?"),
        ("local & region(eu)", 9, "region", "did you mean regions?"),
        ("ack_n", 6, "", "as in ack_n=1"),
        ("ack_n 2", 7, "2", "as in ack_n=1"),
        ("ack_n=", 7, "", "a whole number from 1"),
        ("ack_n=abc", 7, "abc", "a whole number from 1"),
        ("ack_n=-1", 7, "-1", "a whole number from 1"),
        ("ack_n=²", 7, "²", "a whole number from 1"),
        ("ack_n=٣", 7, "٣", "a whole number from 1"),
        ("ack_n=0", 7, "0", "write 'local'"),
        ("ack_n=1 2", 9, "2", "joined by '&'"),
        ("local,majority", 6, ",", "joined by '&'"),
        ("local &", 8, "", "one of local"),
        ("& local", 1, "&", "one of local"),
        ("local && local", 8, "&", "one of local"),
        ("regions", 8, "", "as in regions(eu,us)"),
        ("regions()", 9, ")", "as in eu-west-1"),
        ("regions(eu", 11, "", "closed by ')'"),
        ("regions(eu us)", 12, "us", "parted by ','"),
        ("regions(eu,)", 12, ")", "as in eu-west-1"),
        ("regions(EU)", 9, "EU", "did you mean eu?"),
        ("regions(eu_west)", 9, "eu_west", "did you mean eu-west?"),
        ("regions(-eu)", 9, "-eu", "did you mean eu?"),
        ("regions(eu,us,eu)", 15, "eu", "ack_n asks for more copies"),
        ("regions(0 of eu)", 9, "0", "1 to 1"),
        ("regions(3 of eu,us)", 9, "3", "1 to 2"),
        ("regions(2 of)", 13, ")", "as in eu-west-1"),
    ],
)
def test_a_refusal_names_position_token_and_the_way_out(
    text: str, position: int, token: str, says: str
) -> None:
    with pytest.raises(PolicyInvalid, match=re.escape(says)) as caught:
        CommitPolicy.parse(text)
    assert caught.value.code == Code.COMMIT_POLICY_INVALID
    assert caught.value.facts == {"asked": text, "position": position, "token": token}
    assert f"character {position}" in str(caught.value)


def test_a_text_longer_than_its_field_is_refused_before_it_is_read() -> None:
    with pytest.raises(PolicyInvalid, match="256 characters") as caught:
        CommitPolicy.parse("local" + " " * (POLICY_CHARS_MAX - 4))
    assert caught.value.facts["position"] == POLICY_CHARS_MAX + 1  # the first character beyond it, from 1
    with pytest.raises(PolicyInvalid, match="100000 characters"):
        CommitPolicy.parse("9" * 100_000)


def test_a_conjunction_that_outgrows_its_field_is_refused() -> None:
    one = CommitPolicy((regions(*(f"{i:060}" for i in range(3))),))
    other = CommitPolicy((regions(*(f"{i:060}" for i in range(3, 5))),))
    with pytest.raises(PolicyInvalid, match="at most 255"):
        one & other


@pytest.mark.parametrize(
    ("names", "k"),
    [
        ((), None),
        (("EU",), None),
        (("",), None),
        (("-eu",), None),
        (("a" * 64,), None),
        (("eu",), 2),
        (("eu",), 0),
    ],
)
def test_regions_that_cannot_be_are_refused(names: tuple[str, ...], k: int | None) -> None:
    with pytest.raises(PolicyInvalid):
        regions(*names, k=k)


def test_an_ack_count_below_one_is_refused() -> None:
    with pytest.raises(PolicyInvalid, match="local"):
        AckN(0)


def test_no_clause_at_all_is_local() -> None:
    assert CommitPolicy(()) == LOCAL
    assert str(LOCAL) == "local"


def test_and_asks_for_both_and_drops_what_is_implied() -> None:
    assert str(MAJORITY & LOCAL) == "majority"
    assert (
        str(CommitPolicy.parse("ack_n=1") & CommitPolicy.parse("regions(eu) & ack_n=2"))
        == "ack_n=2 & regions(eu)"
    )
    assert (MAJORITY & LOCAL) & MAJORITY == MAJORITY


def test_how_many_regions_are_needed() -> None:
    assert regions("eu", "us").needed == 2
    assert regions("eu", "us", k=1).needed == 1


def test_a_policy_can_be_a_key_beside_its_equal() -> None:
    assert (
        len({CommitPolicy.parse("regions(eu,us)"), CommitPolicy.parse("regions(2 of us,eu)"), MAJORITY}) == 2
    )


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("majority", "majority"),
        ("ack_n=2", "'ack_n=2'"),
        ("regions(eu,us) & ack_n=2", "'ack_n=2 & regions(eu,us)'"),
    ],
)
def test_a_quoted_policy_is_one_word_of_a_shell(text: str, quoted: str) -> None:
    policy = CommitPolicy.parse(text)
    assert policy.quoted == quoted
    assert shlex.split(quoted) == [str(policy)]


names = st.from_regex(re.compile(r"[a-z0-9](?:[a-z0-9-]{0,8}[a-z0-9])?"), fullmatch=True)


@st.composite
def region_clauses(draw: st.DrawFn) -> Regions:
    chosen = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return regions(*chosen, k=draw(st.none() | st.integers(1, len(chosen))))


clauses = st.one_of(
    st.sampled_from((Local(), RemoteWal(), Quorum(), Majority())),
    st.integers(1, 1000).map(AckN),
    region_clauses(),
)


@given(st.lists(clauses, max_size=4))
def test_what_is_printed_is_read_back_unchanged(parts: list[Clause]) -> None:
    policy = CommitPolicy(tuple(parts))
    again = CommitPolicy.parse(str(policy))
    assert again == policy
    assert again.clauses == policy.clauses
    assert (
        CommitPolicy.parse(str(policy).upper().replace("&", "  &  ")) == policy
        if not _has_regions(parts)
        else True
    )


def _has_regions(parts: list[Clause]) -> bool:
    return any(isinstance(part, Regions) for part in parts)


@given(st.text(alphabet="local remte_w&,=()0129ckngisjyuqf²", max_size=30))
def test_any_text_is_a_policy_or_a_typed_refusal(text: str) -> None:
    try:
        policy = CommitPolicy.parse(text)
    except PolicyInvalid as error:
        position = error.facts["position"]
        assert isinstance(position, int)
        assert 1 <= position <= len(text) + 1
    else:
        assert CommitPolicy.parse(str(policy)) == policy


@pytest.mark.parametrize("name", ["eu", "a", "0", "eu-west-1", "a" * 63])
def test_a_label_is_a_lower_case_dns_label(name: str) -> None:
    assert DNS_LABEL.match(name)


@pytest.mark.parametrize("name", ["", "EU", "eu.west", "-a", "a-", "a" * 64, "eu\n", "é"])
def test_anything_else_is_no_label(name: str) -> None:
    assert not DNS_LABEL.match(name)

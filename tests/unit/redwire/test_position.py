"""Positions, term lists and tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.errors import TokenInvalid
from redwire.position import EMPTY, ClusterId, Lsn, NodeId, Position, Reign, Term, TermEntry, TermList, Token

CLUSTER = ClusterId("0123456789abcdef" * 2)


def terms(*entries: tuple[int, int], mark: int = 0) -> TermList:
    return TermList(tuple(TermEntry(Term(term), Lsn(first), mark) for term, first in entries))


@pytest.mark.parametrize(("lsn", "term"), [(0, 0), (1, 1), (4, 1), (5, 3), (8, 3), (9, 7), (1_000, 7)])
def test_a_term_list_tells_who_wrote_an_lsn(lsn, term):
    assert terms((1, 1), (3, 5), (7, 9)).term_at(Lsn(lsn)) == term


def test_nobody_wrote_what_stands_before_the_first_entry():
    assert terms((3, 5)).term_at(Lsn(4)) == 0
    assert TermList().term_at(Lsn(4)) == 0


def test_a_batch_of_the_same_term_adds_no_entry():
    before = terms((1, 1))
    assert before.extended(Term(1), Lsn(7), b"\x01" * 16) is before
    entry = TermEntry(Term(2), Lsn(7), 0x0101_0101)
    assert before.extended(Term(2), Lsn(7), b"\x01" * 16) == TermList((*before.entries, entry))


def test_a_term_list_never_goes_back():
    with pytest.raises(AssertionError):
        terms((3, 1)).extended(Term(2), Lsn(7), bytes(16))


def test_a_cut_forgets_the_terms_that_began_later():
    assert terms((1, 1), (3, 5)).cut(Lsn(4)) == terms((1, 1))
    assert terms((1, 1), (3, 5)).cut(Lsn(5)) == terms((1, 1), (3, 5))


@pytest.mark.parametrize(
    ("mine", "my_end", "theirs", "their_end", "common"),
    [
        (terms(), 0, terms(), 0, 0),
        (terms((1, 1)), 5, terms(), 0, 0),
        (terms((1, 1)), 5, terms((1, 1)), 9, 5),
        (terms((1, 1), (2, 4)), 9, terms((1, 1)), 7, 3),
        (terms((1, 1), (2, 4)), 9, terms((1, 1), (3, 4)), 7, 3),
        (terms((1, 1), (2, 4)), 9, terms((1, 1), (2, 4)), 7, 7),
        (terms((1, 1), (2, 4)), 9, terms((1, 1), (2, 6)), 7, 3),
        (terms((2, 1)), 9, terms((1, 1)), 7, 0),
        (terms((1, 1), mark=4), 9, terms((1, 1), mark=5), 7, 0),
        (
            TermList((TermEntry(Term(1), Lsn(1), 4), TermEntry(Term(2), Lsn(3), 6))),
            9,
            TermList((TermEntry(Term(1), Lsn(1), 4), TermEntry(Term(2), Lsn(3), 8))),
            7,
            2,
        ),
    ],
)
def test_two_logs_can_agree_up_to_the_end_of_their_last_common_term(mine, my_end, theirs, their_end, common):
    assert mine.common_end(Lsn(my_end), theirs, Lsn(their_end)) == common
    assert theirs.common_end(Lsn(their_end), mine, Lsn(my_end)) == common


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_token_survives_its_text(cluster, term, lsn):
    token = Token(ClusterId(cluster.hex()), Term(term), Lsn(lsn))
    assert Token.parse(str(token)) == token
    assert len(str(token)) == 47


@pytest.mark.parametrize(
    "text", ["", "rw1.", "rw2.AAAA", "rw1.****", "rw1." + "A" * 42, "rw1." + "A" * 44, "x" * 47]
)
def test_a_text_that_is_no_token_is_refused(text):
    with pytest.raises(TokenInvalid, match="freshness token"):
        Token.parse(text)


def test_positions_and_reigns_print_short():
    assert str(Position(Term(3), Lsn(17), bytes(range(16)))) == "3/17:00010203"
    assert str(Reign(Term(3), NodeId("eu-1"))) == "3:eu-1"
    assert str(EMPTY) == "0/0:00000000"

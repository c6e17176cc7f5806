"""Batches: one header, one CRC, one continuity rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire.batch import BATCH_BYTES_MAX, batch_size, follows, make_batch, parse_batch
from redwire.errors import BatchInvalid
from redwire.position import EMPTY, Lsn, NodeId, Position, Reign, Term
from redwire.record import RequestKind, encode_system

REIGN = Reign(Term(3), NodeId("eu-1"))
BODY = encode_system(RequestKind.TERM_START, b"start")


def batch(after: Position = EMPTY, count: int = 1, reign: Reign = REIGN):
    return make_batch(reign, after, [BODY], count, 1_700_000_000_000, Lsn(0))


def test_a_batch_has_these_bytes():
    made = batch()
    assert made.data.hex() == (
        "52574231" "0000" "0400" "0300000000000000" "0100000000000000" "01000000" "35000000"
        "0068e5cf8b010000" "0000000000000000" "e7d027e9" + made.chain.hex() + b"eu-1".hex() + BODY.hex()
    )  # fmt: skip
    assert made.chain.hex() == "aeed60ea39179d6113e019860b2953a8"


def test_a_batch_survives_its_bytes():
    made = batch(Position(Term(2), Lsn(40), b"c" * 16), count=5)
    assert parse_batch(made.data) == made
    assert (made.first, made.last, made.records) == (41, 45, 5)
    assert bytes(made.body) == BODY
    assert made.position == Position(Term(3), Lsn(45), made.chain)
    assert str(made) == f"[3:eu-1 41..45 wm=0 {len(made.data)}B]"


@given(st.integers(0, 2**16), st.integers(1, 255))
def test_a_flipped_bit_anywhere_breaks_the_batch_or_its_chain(at, mask):
    made = batch()
    data = bytearray(made.data)
    data[at % len(data)] ^= mask
    try:
        parsed = parse_batch(bytes(data))
    except BatchInvalid:
        return
    assert not follows(parsed, EMPTY)


@pytest.mark.parametrize("end", [0, 1, 67, 68, 71, 100])
def test_a_batch_that_is_cut_short_is_refused(end):
    with pytest.raises(BatchInvalid):
        parse_batch(batch().data[:end])


def test_a_batch_follows_only_the_log_that_it_was_made_for():
    first = batch()
    second = batch(first.position)
    assert follows(first, EMPTY)
    assert follows(second, first.position)
    assert not follows(second, EMPTY)
    assert not follows(first, first.position)
    assert not follows(second, Position(Term(3), Lsn(1), bytes(16)))
    assert not follows(second, Position(Term(9), Lsn(1), first.chain))


def test_an_unknown_flag_is_a_newer_version_not_damage():
    data = bytearray(batch().data)
    data[4] = 1
    with pytest.raises(BatchInvalid, match="newer") as caught:
        parse_batch(bytes(data))
    assert caught.value.newer


@pytest.mark.parametrize(
    ("at", "value"), [(0, b"XXXX"), (6, b"\x40\x00"), (6, b"\x00\x00"), (24, bytes(4)), (28, bytes(4))]
)
def test_a_header_that_cannot_be_is_refused(at, value):
    data = bytearray(batch().data)
    data[at : at + len(value)] = value
    with pytest.raises(BatchInvalid) as caught:
        batch_size(memoryview(bytes(data)))
    assert not caught.value.newer


def test_a_length_beyond_every_batch_is_refused_before_anything_is_read():
    data = bytearray(batch().data)
    data[28:32] = BATCH_BYTES_MAX.to_bytes(4, "little")
    with pytest.raises(BatchInvalid):
        batch_size(memoryview(bytes(data)))


def test_a_primary_id_that_is_no_text_is_refused():
    made = make_batch(Reign(Term(3), NodeId("eu-1")), EMPTY, [BODY], 1, 1, Lsn(0))
    data = bytearray(made.data)
    data[68] = 0xFF
    with pytest.raises(BatchInvalid, match="names no primary"):
        parse_batch(bytes(data))

"""The young batches of a log."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from cluster.tail import Tail
from redwire.batch import make_batch, parse_batch
from redwire.position import EMPTY, Lsn, NodeId, Reign, Term
from redwire.record import RequestKind, encode_system


def batches(counts, size=10):
    made, end = [], EMPTY
    for count in counts:
        request = encode_system(RequestKind.TERM_START, b"x" * size)
        made.append(make_batch(Reign(Term(1), NodeId("a")), end, [request], count, len(made) + 1, Lsn(0)))
        end = made[-1].position
    return made


def filled(counts, durable=0, bytes_max=1 << 20):
    tail = Tail(bytes_max)
    for batch in batches(counts):
        tail.append(batch, Lsn(durable))
    return tail


def lasts(found):
    return None if found is None else [batch.last for batch in found]


def test_batches_come_in_order_from_behind_an_lsn():
    tail = filled([1, 2, 3])
    assert lasts(tail.after(Lsn(0), 1 << 20, Lsn(6))) == [1, 3, 6]
    assert lasts(tail.after(Lsn(1), 1 << 20, Lsn(6))) == [3, 6]
    assert lasts(tail.after(Lsn(0), 1 << 20, Lsn(5))) == [1, 3]
    assert lasts(tail.after(Lsn(6), 1 << 20, Lsn(6))) == []


def test_one_batch_comes_however_large_it_is():
    assert lasts(filled([1, 2, 3]).after(Lsn(0), 1, Lsn(6))) == [1]


def test_an_lsn_inside_a_batch_is_not_here():
    assert filled([1, 2, 3]).after(Lsn(2), 1 << 20, Lsn(6)) is None
    assert filled([1]).after(Lsn(5), 1 << 20, Lsn(9)) is None


def test_what_is_durable_is_let_go_when_it_does_not_fit():
    tail = filled([1] * 10, durable=10, bytes_max=1_100)
    assert tail.after(Lsn(0), 1 << 20, Lsn(10)) is None
    assert lasts(tail.after(Lsn(8), 1 << 20, Lsn(10))) == [9, 10]


def test_what_is_not_durable_stays():
    assert lasts(filled([1] * 10, durable=0, bytes_max=1_100).after(Lsn(0), 1 << 20, Lsn(10))) == list(
        range(1, 11)
    )


def test_a_cleared_tail_begins_anew():
    tail = filled([1, 2])
    tail.clear()
    assert tail.after(Lsn(0), 1, Lsn(3)) is None
    tail.append(batches([4])[0], Lsn(0))
    assert lasts(tail.after(Lsn(0), 1, Lsn(4))) == [4]


def test_a_long_life_leaves_no_trace_in_memory():
    tail = Tail(1_000)
    for batch in batches([1] * 5_000):
        tail.append(batch, batch.last)
    assert len(tail._lasts) < 3_000
    assert lasts(tail.after(Lsn(4_999), 1, Lsn(5_000))) == [5_000]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=20), st.data())
def test_a_tail_is_a_window_of_the_log(counts, data):
    made = batches(counts)
    durable = data.draw(st.integers(0, sum(counts)))
    tail = Tail(data.draw(st.integers(1, 2_000)))
    for batch in made:
        tail.append(batch, Lsn(durable))
    after = data.draw(st.sampled_from([0, *(batch.last for batch in made)]))
    found = tail.after(Lsn(after), 1 << 20, made[-1].last)
    expected = [batch.last for batch in made if batch.first > after]
    assert lasts(found) == expected or found is None and after < durable


def test_small_batches_take_no_more_memory_than_large_ones():
    tail, made = Tail(256 << 10), [batch.data for batch in batches([1] * 2_000)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for data in made:
            batch = parse_batch(bytes(bytearray(data)))
            tail.append(batch, batch.last)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 < (after - before) / (256 << 10) < 1.3

"""The outline of a log: what follows from every append, sync, cut and snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.log import Log
from redwire.batch import make_batch
from redwire.position import EMPTY, Lsn, NodeId, Position, Reign, Term, TermEntry, TermList


def batch(after: Position, count: int, term: int = 1, time_ms: int = 1):
    return make_batch(Reign(Term(term), NodeId("a")), after, [b"r" * count], count, time_ms, Lsn(0))


@pytest.fixture
def log() -> Log:
    return Log(EMPTY, EMPTY, Lsn(0), TermList())


@pytest.fixture
def grown(log) -> Log:
    """LSN 1 to 3 by term 1, 4 to 6 by term 4; everything is durable."""
    for count, term, time_ms in ((2, 1, 10), (1, 1, 20), (3, 4, 30)):
        log.append(batch(log.end, count, term, time_ms))
    log.synced(Lsn(6))
    return log


def position_at(log: Log, lsn: int) -> Position:
    batches = log.tail.after(Lsn(0), 1 << 20, log.end.lsn)
    assert batches is not None
    return next((each.position for each in batches if each.last == lsn), EMPTY)


def test_an_empty_log_begins_and_ends_at_nothing(log):
    log.synced(Lsn(0))
    assert (log.base, log.end, log.durable, log.time_ms) == (EMPTY, EMPTY, 0, 0)
    assert log.terms.entries == ()
    assert log.tail.after(Lsn(0), 1 << 20, Lsn(0)) == []


def test_an_empty_log_may_be_cut_to_its_end(log):
    log.cut(EMPTY)
    assert (log.end, log.durable) == (EMPTY, 0)


def test_an_append_moves_the_end_the_terms_and_the_time_and_nothing_is_durable_by_it(log):
    first = batch(log.end, 2, term=1, time_ms=10)
    log.append(first)
    assert (log.end, log.time_ms, log.durable) == (first.position, 10, 0)
    later = batch(log.end, 3, term=4, time_ms=30)
    log.append(later)
    assert (log.end, log.time_ms, log.durable) == (later.position, 30, 0)
    assert log.terms.entries == (
        TermEntry.of(Term(1), Lsn(1), first.chain),
        TermEntry.of(Term(4), Lsn(3), later.chain),
    )


def test_young_batches_are_read_without_a_file(log):
    made = [batch(log.end, 2)]
    log.append(made[0])
    made.append(batch(log.end, 1))
    log.append(made[1])
    assert log.tail.after(Lsn(0), 1 << 20, Lsn(3)) == made


@pytest.mark.parametrize(("reports", "durable"), [([2], 2), ([2, 6], 6), ([6, 2], 6), ([0], 0), ([9], 6)])
def test_what_is_durable_only_rises_and_never_passes_the_end(reports, durable, log):
    log.append(batch(log.end, 6))
    for lsn in reports:
        log.synced(Lsn(lsn))
    assert log.durable == durable


def begun(log: Log) -> tuple[tuple[Term, Lsn], ...]:
    return tuple((entry.term, entry.first) for entry in log.terms.entries)


@pytest.mark.parametrize(("to", "terms"), [(6, ((1, 1), (4, 4))), (3, ((1, 1),)), (2, ((1, 1),)), (0, ())])
def test_a_cut_takes_terms_and_durability_along(to, terms, grown):
    at = position_at(grown, to)
    grown.cut(at)
    assert (grown.end, grown.durable, begun(grown)) == (at, to, terms)


def test_a_cut_makes_nothing_durable(log):
    log.append(batch(log.end, 2))
    to = log.end
    log.append(batch(log.end, 2))
    log.synced(Lsn(1))
    log.cut(to)
    assert log.durable == 1


def test_a_sync_of_before_a_cut_that_is_reported_after_it_counts_for_what_is_left(grown):
    grown.cut(position_at(grown, 3))
    grown.synced(Lsn(6))
    assert grown.durable == 3


def test_a_cut_log_goes_on_with_other_batches_of_a_later_term(grown):
    grown.cut(position_at(grown, 3))
    assert grown.tail.after(Lsn(0), 1 << 20, Lsn(3)) is None  # only in files now
    other = batch(grown.end, 1, term=5, time_ms=40)
    grown.append(other)
    assert grown.end == other.position
    assert begun(grown) == ((1, 1), (5, 4))
    assert grown.tail.after(Lsn(3), 1 << 20, Lsn(4)) == [other]


def test_the_time_of_what_was_cut_is_not_given_again(grown):
    grown.cut(position_at(grown, 3))
    assert grown.time_ms == 30


def test_a_snapshot_makes_an_empty_log_behind_it(grown):
    at = Position(Term(7), Lsn(90), b"c" * 16)
    grown.restart(at, TermList((TermEntry(Term(7), Lsn(80), 0),)), 123)
    assert (grown.base, grown.end, grown.durable, grown.time_ms) == (at, at, 90, 123)
    assert begun(grown) == ((7, 80),)
    following = batch(at, 1, term=7, time_ms=124)
    grown.append(following)
    assert grown.tail.after(Lsn(90), 1 << 20, Lsn(91)) == [following]


def test_a_log_continues_what_is_of_its_history_and_not_pruned(grown):
    def continued(term: int) -> list[int]:
        return [lsn for lsn in range(100) if grown.continues(Position(Term(term), Lsn(lsn), bytes(16)))]

    grown.restart(Position(Term(7), Lsn(90), bytes(16)), TermList((TermEntry(Term(7), Lsn(80), 0),)), 123)
    grown.append(batch(grown.end, 2, term=7))
    grown.append(batch(grown.end, 3, term=9))
    assert [continued(term) for term in (6, 7, 8, 9)] == [[], [90, 91, 92], [], [93, 94, 95]]


@given(st.lists(st.tuples(st.sampled_from(["append", "sync", "cut"]), st.integers(0, 5)), max_size=40))
def test_an_outline_is_the_list_of_batches_that_it_stands_for(steps):
    outline, model, durable, term = Log(EMPTY, EMPTY, Lsn(0), TermList()), [], 0, 1
    for step, number in steps:
        end = model[-1].position if model else EMPTY
        if step == "append":
            model.append(batch(end, number + 1, term))
            outline.append(model[-1])
        elif step == "sync":
            durable = max(durable, min(number * 3, end.lsn))
            outline.synced(Lsn(number * 3))
        else:
            del model[number:]
            end = model[-1].position if model else EMPTY
            durable, term = min(durable, end.lsn), term + 1
            outline.cut(end)
    assert outline.end == (model[-1].position if model else EMPTY)
    assert outline.durable == durable
    assert [outline.terms.term_at(each.first) for each in model] == [each.reign.term for each in model]

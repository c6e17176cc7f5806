from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import kept_results
from cluster.kept_results import LISTED, RUNS, given_back, kept, size_of
from redwire.message.client import RESULT, RecordStatus

FIRST, MANY = 1000, 10_000
ALL_APPLIED = kept_results.APPLIED
APPLIED, DELETED, NOT_FOUND = RecordStatus.APPLIED, RecordStatus.DELETED, RecordStatus.NOT_FOUND
EXISTS, ABORTED = RecordStatus.EXISTS, RecordStatus.ABORTED


def packed(*results: tuple[int, int]) -> bytes:
    return b"".join(RESULT.pack(*result) for result in results)


@pytest.mark.parametrize(
    ("results", "form", "size"),
    [
        ([(APPLIED, FIRST + n) for n in range(MANY)], ALL_APPLIED, 0),
        ([], ALL_APPLIED, 0),
        ([(NOT_FOUND, 0)] * MANY, RUNS, 13),
        ([(DELETED, 7 + n) for n in range(MANY)], RUNS, 13),
        ([(EXISTS, 5)] * MANY, RUNS, 13),
        ([(APPLIED, FIRST + n) for n in range(99)] + [(EXISTS, 5)], RUNS, 24),
        ([(ABORTED, 0)] * 50 + [(EXISTS, 5)] + [(ABORTED, 0)] * 49, RUNS, 35),
        ([(DELETED, 3), (DELETED, 4), (DELETED, 4), (DELETED, 5)] * 9, RUNS, 200),
        ([(DELETED, 900 - 2 * n) for n in range(MANY // 100)], LISTED, 900),
        ([(EXISTS, 4)], LISTED, 9),
        ([(NOT_FOUND, 0), (NOT_FOUND, 0)], RUNS, 13),
    ],
)
def test_what_came_to_the_same_takes_little(results: list[tuple[int, int]], form: int, size: int) -> None:
    items = packed(*results)
    found, data = kept(len(results), items)
    assert (found, len(data)) == (form, size)
    assert size_of(found, len(results), b"before" + data + b"behind", 6) == len(data)
    assert given_back(found, FIRST, len(results), data) == items


VERSIONS = st.one_of(st.integers(0, 4), st.sampled_from([(1 << 64) - 1, 1 << 40]))
RESULTS = st.lists(st.tuples(st.sampled_from(list(RecordStatus)), VERSIONS), max_size=60)


@given(results=RESULTS, applied=st.integers(0, 20))
def test_results_come_back_as_they_were_and_never_take_more(
    results: list[tuple[int, int]], applied: int
) -> None:
    results = [(APPLIED, FIRST + n) for n in range(applied)] + [
        (status, FIRST + applied + n if status is APPLIED else version)
        for n, (status, version) in enumerate(results)
    ]
    items = packed(*results)
    form, data = kept(len(results), items)
    assert len(data) <= len(items)
    assert size_of(form, len(results), data, 0) == len(data)
    assert given_back(form, FIRST, len(results), data) == items

from __future__ import annotations

import pytest

from cluster.logical import FAILURES, Decision, Effect, aborted, decide, generated_id
from redwire.message.client import RESULT, RecordStatus
from redwire.record import Op

NONE, WRITE, DELETE = Effect.NONE, Effect.WRITE, Effect.DELETE
APPLIED, DELETED, NOT_FOUND = RecordStatus.APPLIED, RecordStatus.DELETED, RecordStatus.NOT_FOUND
EXISTS, MISMATCH = RecordStatus.EXISTS, RecordStatus.VERSION_MISMATCH
LSN = 9


@pytest.mark.parametrize(
    ("op", "wanted", "current", "decision"),
    [
        (Op.PUT, None, 0, (APPLIED, LSN, WRITE)),
        (Op.PUT, None, 5, (APPLIED, LSN, WRITE)),
        (Op.PUT, 0, 0, (APPLIED, LSN, WRITE)),
        (Op.PUT, 5, 5, (APPLIED, LSN, WRITE)),
        (Op.PUT, 0, 5, (MISMATCH, 5, NONE)),
        (Op.PUT, 4, 5, (MISMATCH, 5, NONE)),
        (Op.PUT, 6, 5, (MISMATCH, 5, NONE)),
        (Op.PUT, 5, 0, (MISMATCH, 0, NONE)),
        (Op.INSERT, None, 0, (APPLIED, LSN, WRITE)),
        (Op.INSERT, None, 5, (EXISTS, 5, NONE)),
        (Op.DELETE, None, 0, (NOT_FOUND, 0, NONE)),
        (Op.DELETE, None, 5, (DELETED, 5, DELETE)),
        (Op.DELETE, 5, 5, (DELETED, 5, DELETE)),
        (Op.DELETE, 4, 5, (MISMATCH, 5, NONE)),
        (Op.DELETE, 5, 0, (MISMATCH, 0, NONE)),
        (Op.DELETE, 0, 0, (NOT_FOUND, 0, NONE)),
        (Op.DELETE, 0, 5, (MISMATCH, 5, NONE)),
    ],
)
def test_a_record_means_what_the_table_says(
    op: Op, wanted: int | None, current: int, decision: tuple[RecordStatus, int, Effect]
) -> None:
    assert decide(op, wanted, current, LSN) == Decision(*decision)


@pytest.mark.parametrize(
    ("op", "wanted", "decision"),
    [
        (Op.PUT, None, (EXISTS, 0, NONE)),
        (Op.PUT, 0, (EXISTS, 0, NONE)),
        (Op.PUT, 5, (MISMATCH, 0, NONE)),
        (Op.INSERT, None, (EXISTS, 0, NONE)),
        (Op.DELETE, None, (NOT_FOUND, 0, NONE)),
        (Op.DELETE, 5, (MISMATCH, 0, NONE)),
    ],
)
def test_a_collection_whose_name_differs_only_in_case_is_never_begun(
    op: Op, wanted: int | None, decision: tuple[RecordStatus, int, Effect]
) -> None:
    assert decide(op, wanted, 0, LSN, barred=True) == Decision(*decision)


def test_a_delete_of_nothing_does_not_fail_an_atomic_request() -> None:
    assert set(RecordStatus) - FAILURES == {APPLIED, DELETED, NOT_FOUND, RecordStatus.ABORTED}


@pytest.mark.parametrize("failed", range(3))
def test_beside_the_record_that_failed_all_others_are_aborted(failed: int) -> None:
    items = list(RESULT.iter_unpack(aborted(failed, RESULT.pack(EXISTS, 7), 3)))
    assert items[failed] == (EXISTS, 7)
    assert {item for place, item in enumerate(items) if place != failed} == {(RecordStatus.ABORTED, 0)}
    assert len(items) == 3


def test_a_generated_id_is_the_lsn_in_decimal() -> None:
    assert generated_id(1234567) == "1234567"

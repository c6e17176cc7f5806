"""Receipts: what is proven, opened from the bytes only when asked."""

from __future__ import annotations

import json

import pytest

from redwire.errors import BodyInvalid
from redwire.message.client import (
    RESULT,
    AckBlock,
    CopyAck,
    Outcome,
    RecordStatus,
    WrittenEntry,
    encode_ack_block,
)
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.receipt import Committed, Deleted, Inserted, RecordResult, open_receipt, unconfirmed

CLUSTER = ClusterId("0a" * 16)
EU, US = CopyAck("eu-1", "eu", 850), CopyAck("us-1", "us", 81_000)
BLOCK = encode_ack_block(AckBlock(3, 45, "majority", ("majority", "regions(eu,us)"), 1, (EU, US)))


def entry(
    *,
    outcome: Outcome = Outcome.COMMITTED,
    policy: int = 1,
    duplicate: bool = False,
    first: int = 42,
    results: tuple[tuple[int, int], ...] = ((0, 42), (0, 43)),
) -> WrittenEntry:
    items = b"".join(RESULT.pack(*result) for result in results)
    return WrittenEntry(9, outcome, policy, duplicate, first, items, len(results))


def test_a_committed_request_achieved_what_it_asked_for() -> None:
    receipt = open_receipt(BLOCK, entry(), CLUSTER, 2)
    assert (receipt.lsn, receipt.term) == (43, 3)
    assert (receipt.requested, receipt.achieved) == ("regions(eu,us)", "regions(eu,us)")
    assert receipt.acks == (EU, US)
    assert receipt.completed_by == US
    assert receipt.token == Token(CLUSTER, Term(3), Lsn(43))
    assert not receipt.duplicate


@pytest.mark.parametrize(("first", "achieved"), [(42, "majority"), (45, "majority"), (46, None)])
def test_an_unconfirmed_request_achieved_the_commit_rule_below_the_watermark_only(
    first: int, achieved: str | None
) -> None:
    unconfirmed = entry(outcome=Outcome.NOT_CONFIRMED, first=first, results=())
    receipt = open_receipt(BLOCK, unconfirmed, CLUSTER, 2)
    assert (receipt.requested, receipt.achieved) == ("regions(eu,us)", achieved)
    assert receipt.lsn == receipt.token.lsn == first + 1, "of its last record, also where none has a result"


@pytest.mark.parametrize(
    ("first", "policy", "begins"),
    [
        (46, 0, "logged but not confirmed"),
        (45, 0, "committed but not confirmed: the primary has not applied it"),
        (45, 1, "committed but not confirmed by all copies"),
    ],
)
def test_what_was_not_confirmed_is_told_by_what_is_known_of_it(first: int, policy: int, begins: str) -> None:
    late = entry(outcome=Outcome.NOT_CONFIRMED, policy=policy, first=first, results=())
    assert unconfirmed(open_receipt(BLOCK, late, CLUSTER, 2)).startswith(begins)


def test_a_duplicates_token_is_of_the_term_that_answers() -> None:
    receipt = open_receipt(BLOCK, entry(duplicate=True, first=7, results=((0, 7),)), CLUSTER, 1)
    assert receipt.lsn == 7
    assert receipt.token == Token(CLUSTER, Term(3), Lsn(45))


def test_without_remembered_copies_the_term_is_that_of_the_lsn() -> None:
    bare = encode_ack_block(AckBlock(2, 45, "majority", ("majority",), None, ()))
    receipt = open_receipt(bare, entry(policy=0, duplicate=True, first=7, results=((0, 7),)), CLUSTER, 1)
    assert receipt.token == Token(CLUSTER, Term(2), Lsn(7))
    assert receipt.completed_by is None
    assert str(receipt) == (
        "LSN 7 in term 2; requested majority; achieved majority; copies: not remembered; "
        "written by an earlier attempt"
    )


def test_an_entry_that_names_no_policy_of_its_block_is_refused() -> None:
    with pytest.raises(BodyInvalid, match="names policy 2 of 2"):
        open_receipt(BLOCK, entry(policy=2), CLUSTER, 2)


def test_a_receipt_prints_on_one_line() -> None:
    assert str(open_receipt(BLOCK, entry(), CLUSTER, 2)) == (
        "LSN 43 in term 3; requested regions(eu,us); achieved regions(eu,us); "
        "copies: eu-1 (eu) 0.8 ms, us-1 (us) 81.0 ms; commit rule met by us-1"
    )
    unconfirmed = entry(outcome=Outcome.NOT_CONFIRMED, first=46, results=())
    assert "; not confirmed; " in str(open_receipt(BLOCK, unconfirmed, CLUSTER, 2))


def test_a_receipt_is_the_same_for_programs() -> None:
    receipt = open_receipt(BLOCK, entry(), CLUSTER, 2)
    assert json.loads(json.dumps(receipt.to_json())) == {
        "lsn": 43,
        "term": 3,
        "requested": "regions(eu,us)",
        "achieved": "regions(eu,us)",
        "acks": [
            {"node": "eu-1", "region": "eu", "after_us": 850},
            {"node": "us-1", "region": "us", "after_us": 81_000},
        ],
        "completed_by": "us-1",
        "token": str(receipt.token),
        "duplicate": False,
    }
    bare = encode_ack_block(AckBlock(2, 45, "majority", ("majority",), None, ()))
    assert open_receipt(bare, entry(policy=0), CLUSTER, 2).to_json()["completed_by"] is None


def test_a_put_returns_id_version_and_receipt() -> None:
    put = Committed(("a",), entry(results=((0, 42),)), BLOCK, CLUSTER)
    assert (put.id, put.status, put.version) == ("a", RecordStatus.APPLIED, 42)
    assert put.receipt == open_receipt(BLOCK, put.entry, CLUSTER, 1)


def test_an_id_that_the_cluster_makes_is_the_records_lsn() -> None:
    many = Committed(("", "b", ""), entry(results=((0, 42), (3, 7), (0, 44))), BLOCK, CLUSTER)
    assert many.id == "42"
    assert many.records == [
        RecordResult("42", RecordStatus.APPLIED, 42),
        RecordResult("b", RecordStatus.EXISTS, 7),
        RecordResult("44", RecordStatus.APPLIED, 44),
    ]


def test_the_block_is_opened_when_the_receipt_is_asked_for_and_not_before() -> None:
    put = Committed(("a",), entry(results=((0, 42),)), b"rubbish", CLUSTER)
    assert put.version == 42
    with pytest.raises(BodyInvalid):
        _ = put.receipt


def test_what_a_write_returns_is_shown_in_a_line_however_many_rows_it_had() -> None:
    rows = tuple((3 if lsn == 77 else 0, lsn) for lsn in range(42, 10_042))
    many = Committed(("",) * len(rows), entry(results=rows), b"rubbish", CLUSTER)
    assert repr(many) == "<redwire.Committed 9999 APPLIED, 1 EXISTS from LSN 42 on>"
    assert str(Inserted((many,))) == f"Inserted(pieces=({many!r},))"
    assert str(Deleted(many)) == f"Deleted(committed={many!r})"


@pytest.mark.parametrize(
    "wrong", [entry(), entry(outcome=Outcome.NOT_CONFIRMED, results=())], ids=["count", "outcome"]
)
def test_an_answer_that_does_not_fit_the_request_is_refused(wrong: WrittenEntry) -> None:
    with pytest.raises(BodyInvalid, match="for a request of 1 records"):
        Committed(("a",), wrong, BLOCK, CLUSTER)

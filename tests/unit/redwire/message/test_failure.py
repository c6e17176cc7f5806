"""An error comes out of a Failure as the class that went in."""

from __future__ import annotations

import cbor2
import pytest

from redwire import errors
from redwire.errors import BodyInvalid, Code, RedwireError
from redwire.message.failure import FACTS_MAX, Failure

ERRORS: list[RedwireError] = [
    errors.NotPrimary("eu-1 does not lead", hint="ask us-1"),
    errors.NotConfirmed("one of two copies", hint="resolve the key", facts={"lsn": 7}),
    errors.TokenLost("term 3 did not survive"),
    errors.PolicyInvalid("what is ack_n=x", facts={"position": 6}),
    errors.AuthenticationFailed("wrong password"),
    errors.Refused(Code.INSUFFICIENT_REPLICAS, "1 of 2 in reach", facts={"missing": ["ap", "us"]}),
    errors.Refused(Code.FORBIDDEN, "reading takes a role"),
    errors.Refused(Code.KEY_EXPIRED, "too old"),
    errors.Refused(Code.SNAPSHOT_NEEDED, "the log begins later"),
    errors.RequestInvalid("the body is empty"),
    errors.RequestInvalid("the id is empty", 3, hint="name it"),
    errors.TooLarge("request bytes", 20, 10),
    errors.TooLarge("document bytes", 20, 10, record=2),
    errors.TooLarge("rows", 20_000, 10_000, code=Code.BATCH_TOO_LARGE),
    errors.DeadlineExceeded("the token is not applied yet", phase="answer"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__}-{error.code}")
def test_an_error_arrives_as_it_left(error: RedwireError) -> None:
    there = Failure.decode(Failure.from_error(error).encode()).to_error()
    assert type(there) is type(error)
    assert (str(there), there.code, there.retry, there.facts) == (
        str(error),
        error.code,
        error.retry,
        error.facts,
    )


@pytest.mark.parametrize("code", list(Code))
def test_every_code_becomes_an_error_of_that_code(code: Code) -> None:
    assert Failure(code=code, message="m").to_error().code == code


def test_a_record_keeps_its_place_and_a_topology_its_bytes() -> None:
    invalid = Failure.from_error(errors.RequestInvalid("bad", 3)).to_error()
    assert isinstance(invalid, errors.RequestInvalid)
    assert invalid.record == 3
    lost = Failure.decode(Failure.from_error(errors.NotPrimary("no"), b"blob").encode())
    assert (lost.topology, type(lost.to_error())) == (b"blob", errors.NotPrimary)
    assert Failure.from_error(errors.NotPrimary("no")).topology is None


def test_retry_is_what_the_sender_says() -> None:
    assert Failure(code=Code.BUSY, message="m", retry=False).to_error().retry is False
    assert Failure(code=Code.FORBIDDEN, message="m", retry=True).to_error().retry is True


def test_too_large_without_its_numbers_is_still_a_refusal() -> None:
    error = Failure(code=Code.TOO_LARGE, message="much too large").to_error()
    assert isinstance(error, errors.RequestInvalid)
    assert (error.code, error.message) == (Code.TOO_LARGE, "much too large")


def test_long_and_strange_texts_are_cut_to_what_a_body_holds() -> None:
    error = errors.Refused(
        Code.QUERY,
        "x" * 100_000,
        hint="é\ud800" * 50_000,
        facts={f"fact{n}": [n] * 1_000 for n in range(100)} | {"big": 1 << 80},
    )
    failure = Failure.decode(Failure.from_error(error).encode())
    assert len(failure.message) == 4_096
    assert failure.hint[:2] == "é?"
    assert len(failure.facts) == FACTS_MAX


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        (True, 1),
        (-5, -5),
        (1 << 80, str(1 << 80)),
        ("a", "a"),
        ([], []),
        (("ap", "us"), ["ap", "us"]),
        (["x" * 200, "y" * 56, "z"], ["x" * 200, "y" * 56]),
        (["", 1] * 1_000, ["", "1"] * 128),
    ],
)
def test_facts_travel_as_numbers_texts_or_lists_of_texts(value: object, fact: object) -> None:
    failure = Failure.from_error(errors.Refused(Code.QUERY, "m", facts={"fact": value}))
    assert Failure.decode(failure.encode()).facts == {"fact": fact}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"code": "NEW_CODE"}, r"\$.code"),
        ({"facts": {"a": [1]}}, r"\$.facts"),
        ({"facts": {"a": {"b": "c"}}}, r"\$.facts"),
        ({"facts": {str(n): n for n in range(17)}}, r"\$.facts"),
        ({"extra": 1}, "unknown field"),
    ],
)
def test_a_failure_of_another_shape_is_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(BodyInvalid, match=what):
        Failure.decode(cbor2.dumps({"code": "BUSY", "message": "m"} | change))

"""Errors: what stays the same when somebody who knows the place by another name says them again."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from redwire import errors
from redwire.errors import Code, RedwireError, RequestInvalid, TooLarge
from redwire.message.client import CopyAck
from redwire.message.failure import Failure
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.receipt import Receipt
from redwire.session_keys import SessionKeys


@pytest.mark.parametrize("to", [None, 0, 7])
@pytest.mark.parametrize(
    ("given", "facts"),
    [
        (RequestInvalid("the document is empty", 3, hint="an object"), {}),
        (TooLarge("rows", 12, 10, code=Code.BATCH_TOO_LARGE, record=3), {"size": 12, "limit": 10}),
    ],
    ids=["invalid", "too large"],
)
def test_a_refusal_at_another_place_differs_by_the_place_alone(
    given: RequestInvalid, facts: dict[str, object], to: int | None
) -> None:
    moved = given.at(to)
    place, fact = ("", {}) if to is None else (f"record {to}: ", {"record": to})
    assert moved.message == place + given.reason and str(moved) == f"{moved.message}; {given.hint}"
    assert (type(moved), moved.code, moved.hint) == (type(given), given.code, given.hint)
    assert (moved.record, moved.reason, moved.facts) == (to, given.reason, facts | fact)
    assert given.at(3).facts == given.facts


def test_what_a_server_said_beside_it_goes_along() -> None:
    given = RequestInvalid("busy with it", 0)
    given.retry = True
    given.facts["since"] = 5
    moved = given.at(None)
    assert moved.retry and moved.facts == {"since": 5}


COPY = CopyAck("us-1", "us", 81_000)
TOKEN = Token(ClusterId("0a" * 16), Term(3), Lsn(45))
RECEIPT = Receipt(Lsn(45), Term(3), "majority", None, (COPY,), COPY, TOKEN, False)


def made() -> list[RedwireError]:
    """One error of each class at least, as the code makes and completes it."""
    conflict = errors.Conflict("c/p1 exists already", status="EXISTS", version=7)
    unsure = errors.NotConfirmed("logged", hint=errors.ASK_HINT)
    conflict.receipt = unsure.receipt = RECEIPT
    unknown = errors.UnknownOutcome("no answer", phase="answer", hint=errors.ASK_HINT)
    unsure.key = unknown.key = SessionKeys(bytes(24)).key(1, ("p1",))
    config = errors.ConfigInvalid("node.yaml", "listen", "is no address", hint="host:port")
    config.others = (errors.ConfigInvalid("node.yaml", "", "is empty"),)
    told = Failure(code=Code.TOO_LARGE, message="rows", facts={"record": 2, "size": 3, "limit": 1}).to_error()
    told.facts["rows_committed"] = 5
    told.add_note("seen by a test")
    return [
        *(conflict, unsure, unknown, config, told),
        *(RedwireError("m", hint="h", facts={"end": 1}), RequestInvalid("m", 2, hint="h")),
        *(errors.ProtocolError("m"), errors.FrameInvalid("m"), errors.BodyInvalid("m")),
        *(errors.BatchInvalid("is cut short", newer=True), errors.PolicyInvalid("m"), errors.UriInvalid("m")),
        *(errors.TokenInvalid("rw1.x"), errors.TopologyInvalid("m"), errors.TlsInvalid("ca.pem", "is empty")),
        *(errors.ConnectFailed("m", retry=True, addr="a:1"), errors.ChannelClosed("m", retry=False)),
        *(errors.AuthenticationFailed("m"), errors.Refused(Code.BUSY, "m", hint="h", facts={"term": 1})),
        *(errors.KeyExpired(), errors.KeyClosed(), errors.NotPrimary("m", hint="h"), errors.TokenLost("m")),
        errors.DeadlineExceeded("m", phase="send", hint="h", sent=True),
    ]


def kinds(of: type[RedwireError]) -> Iterator[type[RedwireError]]:
    """The classes of this package, `of` and all that come from it."""
    if of.__module__.startswith("redwire."):
        yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


def test_there_is_one_of_every_class_among_those_that_are_copied() -> None:
    assert {type(error) for error in made()} == set(kinds(RedwireError))


@pytest.mark.parametrize("error", made(), ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_behind_a_pickle_and_in_a_copy(error: RedwireError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error) and again is not error
        assert (str(again), again.args, again.name) == (str(error), error.args, error.name)
        if not isinstance(error, errors.ConfigInvalid):
            assert vars(again) == vars(error)
        assert (again.code, again.retry, again.hint) == (error.code, error.retry, error.hint)


def test_what_else_is_wrong_with_a_configuration_goes_along_into_a_pickle() -> None:
    (config,) = (error for error in made() if isinstance(error, errors.ConfigInvalid))
    again = pickle.loads(pickle.dumps(config))
    assert [str(other) for other in again.others] == ["node.yaml: is empty"]
    assert (again.file, again.path, again.detail) == ("node.yaml", "listen", "is no address")

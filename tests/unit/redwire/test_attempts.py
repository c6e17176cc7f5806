"""What is known of a request that was sent once or more."""

from __future__ import annotations

import pytest

from redwire.attempts import Attempts
from redwire.errors import ChannelClosed, Code, NotConfirmed, RedwireError, Refused, UnknownOutcome

BUSY, FORBIDDEN = Refused(Code.BUSY, "busy"), Refused(Code.FORBIDDEN, "no")
LOST, LOGGED = ChannelClosed("broke"), NotConfirmed("too few copies")

TABLE = [
    # (what each attempt came to; the number of the next one, what stands against it, how it is refused)
    ([], 1, None, None),
    ([BUSY], 1, BUSY, BUSY),
    ([BUSY, FORBIDDEN], 1, FORBIDDEN, FORBIDDEN),
    ([LOST], 2, LOST, None),
    ([LOST, BUSY], 2, BUSY, None),
    ([BUSY, LOST], 2, BUSY, None),
    ([LOST, LOST], 3, LOST, None),
    ([LOGGED], 1, LOGGED, None),
    ([LOGGED, BUSY, LOST], 2, BUSY, None),
]


def after(events: list[RedwireError]) -> Attempts:
    attempts = Attempts()
    for event in events:
        attempts.sent()
        if event is LOST:
            attempts.unheard(event)
        else:
            attempts.heard(event)
    return attempts


@pytest.mark.parametrize(("events", "number", "trouble", "refused"), TABLE)
def test_what_may_have_been_executed_is_refused_by_nothing_that_comes_later(
    events, number, trouble, refused
) -> None:
    attempts = after(events)
    assert (attempts.attempt, attempts.trouble, attempts.refused) == (number, trouble, refused)
    assert attempts.doubtful == (LOST in events or LOGGED in events)
    attempts.sent()
    assert attempts.doubtful and attempts.refused is None, "an answer may still come"


@pytest.mark.parametrize(
    ("events", "known"),
    [
        ([LOST], UnknownOutcome),
        ([LOST, BUSY], UnknownOutcome),
        ([LOGGED], NotConfirmed),
        ([LOGGED, BUSY], NotConfirmed),
        ([LOGGED, LOST], NotConfirmed),
        ([LOST, LOGGED, BUSY], NotConfirmed),
    ],
)
def test_what_is_known_to_be_logged_is_not_called_unknown(events, known: type[RedwireError]) -> None:
    told = after(events).open_end("nobody knows", "answer", "look")
    assert type(told) is known
    if known is UnknownOutcome:
        assert (told.message, told.phase, told.hint) == ("nobody knows", "answer", "look")

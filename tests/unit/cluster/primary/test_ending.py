"""How a reign ends, with an answer for everybody, and how it looks at a glance (R3, R5)."""

from __future__ import annotations

from cluster.effects import EndReign, Reject, Unconfirmed
from redwire.errors import Code
from redwire.record import Key


def at_a_glance(primary):
    backlog = primary.core.backlog
    return backlog.requests, backlog.size, backlog.expires_us


def test_the_end_of_the_reign_answers_everybody_and_then_is_said(lead, of, answers, deposed):
    primary = lead().serve()
    primary.take(primary.propose())  # applied, and answered
    primary.durable()
    primary.ack("us-1")
    primary.apply()
    primary.take(primary.propose("ack_n=2"))  # applied, and held for a stronger policy
    primary.durable()
    primary.ack("us-1")
    primary.apply()
    primary.take(primary.propose())  # in flight
    primary.leave("us-1")
    primary.leave("ap-1")
    primary.take(primary.propose(), primary.propose(key=Key(b"c" * 16, 9, 1), attempt=2))  # not logged
    *told, last = primary.step(deposed)
    assert sorted(answers(told), key=lambda each: each[1]) == [
        (Unconfirmed, 2),
        (Unconfirmed, 3),
        (Reject, 4),
        (Unconfirmed, 5),
    ]
    assert last == EndReign(deposed.error)
    assert {each.error.code for each in of(Reject, told)} == {Code.NOT_PRIMARY}
    assert primary.core.backlog.size == 0


def test_a_reign_that_nobody_waited_for_just_ends(lead, deposed):
    assert lead().serve().step(deposed) == [EndReign(deposed.error)]


def test_the_status_is_the_reign_at_a_glance(lead):
    primary = lead(term=4)
    primary.begin()
    status = primary.core.status()
    assert (status.reign, status.head, status.watermark, status.applied) == (primary.core.reign, 1, 0, 0)
    assert (status.ready, status.flights, at_a_glance(primary)) == (False, 1, (0, 0, None))
    primary.take(primary.propose(deadline_ms=1_500))
    assert at_a_glance(primary) == (1, 100, 1_500_000)
    served = lead().serve().core
    own = served.coordinator.status().members[0]
    assert (own.id, own.durable, own.applied) == ("eu-1", 1, 1)
    served = served.status()
    assert (served.ready, served.head, served.watermark, served.applied) == (True, 1, 1, 1)
    assert (served.flights, served.flight_bytes) == (0, 0)

"""One line for each effect, as logs and golden conversations print it."""

from __future__ import annotations

import pytest

from cluster.effects import (
    Append,
    Beat,
    Commit,
    Cut,
    Drop,
    EndReign,
    Fate,
    Known,
    Note,
    Now,
    Rebuild,
    Reject,
    Release,
    Result,
    SaveMeta,
    SendAck,
    Unconfirmed,
)
from redwire.errors import Code, ProtocolError, Refused
from redwire.message.peer import Ack
from redwire.position import Lsn, NodeId, Position, Reign, Term

REIGN = Reign(Term(3), NodeId("eu-1"))
AT = Position(Term(2), Lsn(40), bytes.fromhex("c0ffee00") + bytes(12))


def test_milliseconds_are_whole_ones_of_the_monotonic_clock():
    assert Now(1_999, 5).ms == 1


@pytest.mark.parametrize(
    ("effect", "line"),
    [
        (Commit(Lsn(7)), "commit 7"),
        (Beat(), "beat"),
        (Drop(4, ProtocolError("too loud")), "drop session 4: too loud"),
        (EndReign(Refused(Code.STALE_TERM, "term 2 is over")), "end reign: STALE_TERM: term 2 is over"),
        (SaveMeta(REIGN), "save meta 3:eu-1"),
        (Cut(AT, "another tail"), "cut to 2/40:c0ffee00: another tail"),
        (SendAck(1, Ack(3, 10, 8, 12, "eu-1")), "ack term=3 durable=10 applied=8"),
        (Rebuild(1, "too old", diverged=False), "rebuild: too old"),
        (Rebuild(1, "parted", diverged=True), "rebuild diverged: parted"),
        (Note("us-1 is back"), "note us-1 is back"),
    ],
)
def test_an_effect_is_one_line(effect, line):
    assert str(effect) == line


def test_a_proposal_begins_behind_the_records_of_those_before_it_in_its_batch(fly, propose):
    fly()
    proposals = [propose(count=1), propose(count=3), propose(count=2)]
    flight = fly(None, *proposals)
    assert flight.batch.last - flight.batch.first == 6
    firsts = [result.first_lsn for result in fly.results(flight)[0][1][1:]]
    assert [flight.first_of(proposal) for proposal in proposals] == firsts
    assert len(set(firsts)) == 3


def test_answers_name_whom_they_go_to_and_their_first_lsn(fly, propose):
    one, other = propose(session="s"), propose(session="t", count=2)
    flight = fly(one, other)
    flight.acks[:] = [(NodeId("eu-1"), 5), (NodeId("us-1"), 6)]
    results = [(one, Result(Fate.EXECUTED, 1, b"")), (other, Result(Fate.EXECUTED, 2, b""))]
    assert str(Release(flight, Lsn(3), results)) == "release s#1@1 t#2@2 copies=eu-1,us-1"
    assert str(Known(one, Result(Fate.DUPLICATE, 9))) == "known s#1@9"
    assert str(Unconfirmed(other, None, "who knows")) == "not confirmed t#2: who knows"
    assert str(Reject(other, Refused(Code.BUSY, "full"))) == "reject t#2: BUSY: full"


def test_a_batch_is_shown_with_its_reign_lsns_watermark_and_size(fly, propose):
    batch = fly(propose(count=3)).batch
    assert str(Append(batch)) == f"append [1:eu-1 1..3 wm=0 {len(batch.data)}B]"

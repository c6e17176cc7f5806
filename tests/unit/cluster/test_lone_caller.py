"""Who waits for one proposal: whatever becomes of it, told once."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.answers import Shared
from cluster.effects import Fate, Result
from cluster.lone_caller import CameTo, LoneCaller, NotKnown
from redwire.errors import Code, Refused
from redwire.position import Lsn

RESULT = Result(Fate.EXECUTED, 7)
REFUSAL = Refused(Code.BUSY, "too much")


@pytest.mark.parametrize(
    ("call", "came"),
    [
        (lambda caller, proposal: caller.released(Shared(b"", {}), [(proposal, RESULT)]), RESULT),
        (lambda caller, proposal: caller.known(proposal, RESULT), RESULT),
        (lambda caller, proposal: caller.unconfirmed(proposal, None, Lsn(7), "why"), NotKnown(Lsn(7), "why")),
        (lambda caller, proposal: caller.rejected(proposal, REFUSAL), REFUSAL),
    ],
)  # fmt: skip
def test_what_a_proposal_came_to_is_told_once(call: Any, came: CameTo, propose: Any) -> None:
    told: list[CameTo] = []
    call(LoneCaller(told.append), propose())
    assert told == [came]

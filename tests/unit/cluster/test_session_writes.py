"""The writes of one session: how many may be under way, and that one more is refused and not held back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from cluster.effects import Proposal
from cluster.replies import Replies
from cluster.service import Service
from cluster.session_writes import SessionWrites
from redwire.errors import Code, RedwireError, Refused
from redwire.frame import Frame, Kind
from redwire.message.client import encode_write_frame_body
from redwire.record import OPEN_MAX, Op, Record, encode_record, encode_write

BODY = encode_write_frame_body(5_000, 1, "", encode_write([encode_record(Record(Op.PUT, "c", "x", b"{}"))]))


class Desk:
    """A session's writes at a primary that logs nothing by itself, and what the session was told."""

    def __init__(self) -> None:
        self.proposed: list[Proposal] = []
        self.failed: list[tuple[int, RedwireError]] = []
        inbox = SimpleNamespace(propose=self.proposed.append)
        service = SimpleNamespace(
            require_primary=lambda: None,
            proposal=self._proposal,
            node=SimpleNamespace(inbox=inbox),
        )
        self.writes = SessionWrites(cast(Service, service), cast(Replies, self))

    def fail(self, correlation: int, error: RedwireError) -> None:
        self.failed.append((correlation, error))

    def _proposal(self, caller: object, correlation: int, *asked: object, **more: object) -> object:
        return SimpleNamespace(correlation=correlation)

    def write(self, correlation: int) -> None:
        self.writes.write(Frame(Kind.WRITE, 0, 0, correlation, BODY))


def test_a_session_has_so_many_writes_under_way_and_one_more_is_refused_until_one_was_answered() -> None:
    desk = Desk()
    for n in range(OPEN_MAX):
        desk.write(n)
    with pytest.raises(Refused) as caught:
        desk.write(OPEN_MAX)
    assert (caught.value.code, caught.value.retry) == (Code.BUSY, True)
    assert len(desk.proposed) == OPEN_MAX

    gone = Refused(Code.NOT_PRIMARY, "the reign is over")
    desk.writes.rejected(desk.proposed[0], gone)
    desk.write(OPEN_MAX)
    assert desk.failed == [(0, gone)] and len(desk.proposed) == OPEN_MAX + 1

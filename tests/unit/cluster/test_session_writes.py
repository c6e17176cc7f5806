"""The writes of one session: whose keys they may have, and how many may be under way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from cluster.client_ids import CHANCE_BYTES, ClientIds
from cluster.effects import Proposal
from cluster.replies import Replies
from cluster.service import Service
from cluster.session_writes import SessionWrites
from redwire.errors import Code, RedwireError, Refused
from redwire.frame import Frame, Kind
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.message.client import encode_write_frame_body
from redwire.position import Lsn
from redwire.record import OPEN_MAX, Key, Op, Record, encode_record, encode_write

SECRET = bytes(32)
IDS, OTHERS = (
    ClientIds(Principal(PrincipalKind.USER, name, Role.WRITE, False), lambda: SECRET)
    for name in ("ann", "bob")
)


def body(key: Key | None = None) -> bytes:
    request = encode_write([encode_record(Record(Op.PUT, "c", "x", b"{}"))], key)
    return encode_write_frame_body(5_000, 1, "", request)


BODY = body()


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
        self.writes = SessionWrites(cast(Service, service), cast(Replies, self), IDS)

    def fail(self, correlation: int, error: RedwireError) -> None:
        self.failed.append((correlation, error))

    def _proposal(self, caller: object, correlation: int, *asked: object, **more: object) -> object:
        return SimpleNamespace(correlation=correlation)

    def write(self, correlation: int, body: bytes = BODY) -> None:
        self.writes.write(Frame(Kind.WRITE, 0, 0, correlation, body))


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


def test_a_write_under_a_client_id_of_another_user_is_no_proposal() -> None:
    desk = Desk()
    theirs = OTHERS.issue(Lsn(1), bytes(CHANCE_BYTES))
    with pytest.raises(Refused, match="not issued to this user") as caught:
        desk.write(1, body(Key(theirs, 1, 1)))
    assert caught.value.code is Code.KEY_EXPIRED and desk.proposed == []
    desk.write(2, body(Key(IDS.issue(Lsn(1), bytes(CHANCE_BYTES)), 1, 1)))
    assert len(desk.proposed) == 1

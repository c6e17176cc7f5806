"""Changes of accounts that are refused before anything is proposed: each has its line in the audit log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from cluster.audit_events import Act, Actor, ActOutcome
from cluster.replies import Replies
from cluster.service import Service
from cluster.session_accounts import UNDER_WAY_MAX, SessionAccounts
from redwire.body import encode
from redwire.errors import Code, RedwireError, Refused, RequestInvalid
from redwire.frame import Frame, Kind
from redwire.message.admin import PutUser, RemoveUser, ScramRecord
from redwire.scram import ITERATIONS
from tests.cluster.handmade import in_time

OPS = Actor("127.0.0.1:9", "ops", "")


class Follower:
    """A service that does not lead, and what its audit log got."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.audit = SimpleNamespace(record=self.acts.append)

    def require_primary(self) -> Any:
        raise Refused(Code.NOT_PRIMARY, "this node does not lead")


class Leader:
    """A service that leads and whose log stands still."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.proposed: list[object] = []
        self.audit = SimpleNamespace(record=self.acts.append)
        self.node = SimpleNamespace(inbox=SimpleNamespace(propose=self.proposed.append))

    def require_primary(self) -> None:
        """It does."""

    def proposal(self, *asked: object, remaining_ms: int) -> object:
        return asked


NOBODY = cast(Replies, None)


@pytest.mark.parametrize(
    ("payload", "act", "target", "why"),
    [
        (encode(RemoveUser("app")), "remove_user", "app", "NOT_PRIMARY: this node does not lead"),
        (b"\xff", "account", "", ""),
    ],
)
def test_a_change_that_is_not_even_proposed_has_its_line(
    payload: bytes, act: str, target: str, why: str
) -> None:
    service = Follower()
    accounts = SessionAccounts(cast(Service, service), OPS, NOBODY)
    with pytest.raises(RedwireError) as caught:
        accounts.change(Frame(Kind.ACCOUNT, 0, 0, 7, in_time(payload)))
    (line,) = service.acts
    assert (line.by, line.act, line.target, line.outcome) == (OPS, act, target, ActOutcome.REFUSED)
    assert line.why == caught.value.message and line.why.startswith(why)


def test_one_change_too_many_at_once_is_refused_and_has_its_line() -> None:
    service, frame = Leader(), Frame(Kind.ACCOUNT, 0, 0, 7, in_time(encode(RemoveUser("app"))))
    accounts = SessionAccounts(cast(Service, service), OPS, NOBODY)
    for _ in range(UNDER_WAY_MAX):
        accounts.change(frame)
    with pytest.raises(Refused) as caught:
        accounts.change(frame)
    assert caught.value.code is Code.BUSY and len(service.proposed) == UNDER_WAY_MAX
    assert [line.outcome for line in service.acts] == [ActOutcome.REFUSED]


def test_a_user_whose_challenge_would_tell_that_it_exists_is_not_made_and_has_its_line() -> None:
    service = Leader()
    record = ScramRecord(salt=bytes(16), iterations=4_096, stored_key=bytes(32), server_key=bytes(32))
    user = PutUser(name="carol", role="read", verifier=record, topology_read=False)
    accounts = SessionAccounts(cast(Service, service), OPS, NOBODY)
    with pytest.raises(RequestInvalid, match="not 4096 and 16"):
        accounts.change(Frame(Kind.ACCOUNT, 0, 0, 7, in_time(encode(user))))
    assert not service.proposed
    (line,) = service.acts
    assert (line.target, line.outcome) == ("carol", ActOutcome.REFUSED)
    usual = msgspec.structs.replace(user, verifier=msgspec.structs.replace(record, iterations=ITERATIONS))
    accounts.change(Frame(Kind.ACCOUNT, 0, 0, 8, in_time(encode(usual))))
    assert len(service.proposed) == 1

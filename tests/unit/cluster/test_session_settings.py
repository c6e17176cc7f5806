"""Changes of the settings that are answered before anything is proposed, and their lines in the audit log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from cluster.audit_events import Act, Actor, ActOutcome
from cluster.effects import Now
from cluster.log_room import NO_SPACE, LogRoom
from cluster.replies import Replies
from cluster.service import Service
from cluster.session_settings import SessionSettings
from cluster.settings import Settings
from redwire.body import decode, encode
from redwire.errors import Code, RedwireError, Refused
from redwire.frame import Frame, Kind
from redwire.handshake import Principal
from redwire.message.log import ADMINS_MAX, MEMBERS_MAX, MemberRecord
from redwire.message.settings import ChangeSettings, SetPolicy, SettingsChanged
from redwire.position import Lsn, Position, Term
from tests.cluster.handmade import in_time

OPS = Actor("127.0.0.1:9", "ops", "")


class Desk:
    """A session with a primary, what it was sent, and what the audit log got."""

    def __init__(self, led: Any) -> None:
        self.sent: list[int] = []
        self.payloads: list[bytes] = []
        self.acts: list[Act] = []
        self.room = LogRoom(1 << 20, 1 << 20)
        service = SimpleNamespace(
            require_primary=lambda: led.core,
            node=SimpleNamespace(
                clock=lambda: Now(led.ms * 1_000, led.ms), storage=SimpleNamespace(room=lambda: self.room)
            ),
            settings=led.core.changes.settings,
            audit=SimpleNamespace(record=self.acts.append),
        )
        who = cast(Principal, SimpleNamespace(name="ops"))
        self.settings = SessionSettings(cast(Service, service), who, OPS, cast(Replies, self))

    def send(self, kind: int, payload: bytes, correlation: int) -> None:
        self.sent.append(kind)
        self.payloads.append(payload)

    def fail(self, correlation: int, error: RedwireError) -> None:
        raise AssertionError(error)

    def change(self, payload: bytes) -> None:
        self.settings.change(Frame(Kind.CHANGE_SETTINGS, 0, 0, 7, in_time(payload)))


@pytest.fixture
def desk(lead: Any, cluster_record: Any) -> Desk:
    record = cluster_record("eu-1", "us-1", policy="majority")
    return Desk(lead("eu-1", "us-1", rule="majority", record=record).serve())


SO_ALREADY = SetPolicy(policy="majority")


def test_a_change_that_is_so_already_has_its_line(desk: Desk) -> None:
    desk.change(encode(ChangeSettings(change=SO_ALREADY)))
    (act,) = desk.acts
    assert desk.sent == [Kind.SETTINGS_CHANGED]
    assert (act.by, act.act, act.target, act.outcome) == (OPS, "change_settings", "shop", ActOutcome.NOTHING)
    assert "it is so already" in str(act.detail["text"]) and act.lsn is None


@pytest.mark.parametrize(("room", "code"), [(NO_SPACE, Code.DISK_FULL), (LogRoom(10, 1 << 20), Code.BUSY)])
def test_a_change_for_which_there_is_no_room_is_refused_as_what_it_meets(
    desk: Desk, room: LogRoom, code: Code
) -> None:
    desk.room = room
    with pytest.raises(Refused) as refused:
        desk.change(encode(ChangeSettings(change=SetPolicy(policy="majority", floor="majority & ack_n=1"))))
    assert refused.value.code is code and not desk.sent
    assert [act.outcome for act in desk.acts] == [ActOutcome.REFUSED]


def test_while_members_may_still_come_to_a_reign_no_change_is_judged(lead: Any, cluster_record: Any) -> None:
    members = ("eu-1", "us-1")
    leader = lead(*members, rule="majority", end=Position(Term(1), Lsn(5), bytes(16)), term=2)
    record = cluster_record(*members, policy="majority")
    leader.core.changes.settings = Settings.of(record, Lsn(2))
    leader.begin(5)
    desk = Desk(leader)
    wanted = encode(ChangeSettings(change=SetPolicy(floor="ack_n=1"), dry_run=True))
    for ms, code in ((0, Code.NOT_READY), (5_000, Code.INSUFFICIENT_REPLICAS)):
        leader.ms += ms
        with pytest.raises(RedwireError) as refused:
            desk.change(wanted)
        assert refused.value.code is code


def test_a_dry_run_has_none(desk: Desk) -> None:
    desk.change(encode(ChangeSettings(change=SO_ALREADY, dry_run=True)))
    assert desk.sent == [Kind.SETTINGS_CHANGED] and desk.acts == []


def test_what_cannot_be_read_has_its_line(desk: Desk) -> None:
    with pytest.raises(RedwireError):
        desk.change(b"\xff")
    assert [(act.act, act.outcome) for act in desk.acts] == [("change_settings", ActOutcome.REFUSED)]


def test_a_change_of_as_many_members_as_there_may_be_is_answered(lead: Any, cluster_record: Any) -> None:
    """With names and addresses of the greatest length, and all others given up by name."""
    names = ["eu-1", *(f"n{at:02}".ljust(63, "x") for at in range(1, MEMBERS_MAX))]
    members = tuple(
        MemberRecord(
            id=name, region=name[:4].ljust(63, "y"), addr=f"{name.ljust(249, 'h')}:65535", kind="voter"
        )
        for name in names
    )
    admins = tuple(f"ops{at:02}".ljust(64, "z") for at in range(ADMINS_MAX))
    record = msgspec.structs.replace(cluster_record(*names), members=members, admins=admins)
    leader = lead(*names, rule="local", record=record).serve()
    desk = Desk(leader)
    change = SetPolicy(policy=f"regions({members[0].region},{members[1].region},{members[2].region})")
    desk.change(encode(ChangeSettings(change=change, lost=tuple(names[1:]), dry_run=True)))
    answer = decode(desk.payloads[0], SettingsChanged)
    assert [member.id for member in answer.after.members] == names and answer.after.admins == admins
    assert (answer.before.policy, answer.after.policy) == ("local", change.policy)

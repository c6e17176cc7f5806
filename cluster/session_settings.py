"""The settings as one client's session asks for them and changes them (docs/PROTOCOL.md, kinds 58 to 5B)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import msgspec

from cluster.audit_events import Act, Actor, ActOutcome
from cluster.effects import ChangeProposed, Result
from cluster.intake import FRAMING_BYTES_MAX, disk_full
from cluster.lone_caller import CameTo, NotKnown
from cluster.primary import Primary
from cluster.replies import Replies
from cluster.service import Service
from cluster.session_records import SessionRecords
from cluster.settings import Planned
from redwire.body import TERM_MAX, decode, encode
from redwire.errors import Code, NotConfirmed, RedwireError, Refused
from redwire.frame import Frame, Kind
from redwire.handshake import Principal
from redwire.message.admin import decode_command
from redwire.message.settings import ChangeSettings, SettingsChanged
from redwire.position import LSN_MAX, Lsn
from redwire.record import REQUEST_HEADER, RequestKind


class SessionSettings:
    """This session's changes of the settings; one is under way at a time. Each has its line in the audit log,
    but for dry runs.
    """

    def __init__(self, service: Service, principal: Principal, actor: Actor, replies: Replies) -> None:
        self._service = service
        self._principal = principal
        self._actor = actor
        self._replies = replies
        self._records = SessionRecords(service, RequestKind.CONFIG)

    def show(self, frame: Frame) -> None:
        """Answer a SettingsRequest (58). Who may not see the topology is not told who is in it."""
        role = self._service.node.role
        pending = role.changes.pending if isinstance(role, Primary) else ""
        view = self._service.settings.view(pending)
        if not self._principal.topology_read:
            view = msgspec.structs.replace(view, members=(), admins=(), pending="")
        self._replies.send(Kind.SETTINGS, encode(view), frame.correlation)

    def change(self, frame: Frame) -> None:
        """Take a ChangeSettings (5A). Raises what refuses it."""
        try:
            remaining_ms, body = decode_command(frame.payload)
            asked = decode(body, ChangeSettings)
        except RedwireError as error:
            self._record(self._act("", ()).came_to(ActOutcome.REFUSED, why=error.message))
            raise
        try:
            self._change(asked, frame.correlation, remaining_ms)
        except RedwireError as error:
            if not asked.dry_run:
                act = self._act(_words(asked), asked.lost)
                self._record(act.came_to(ActOutcome.REFUSED, why=error.message))
            raise

    def _change(self, asked: ChangeSettings, correlation: int, remaining_ms: int) -> None:
        role, service = self._service.require_primary(), self._service
        if self._records.under_way:
            raise Refused(
                Code.BUSY, "another change of this session is under way", hint="wait for its answer"
            )
        now_ms = service.node.clock().ms
        if now_ms < role.coordinator.grace_until_ms:
            role.check_ready()  # members may still be on their way
        planned = role.changes.plan(asked, self._principal.name, now_ms)
        unmet = _unmet(planned, role, now_ms)
        _body(planned, unmet, LSN_MAX, TERM_MAX)  # what cannot be answered is not logged
        if asked.dry_run or not planned.changes:
            self._replies.send(Kind.SETTINGS_CHANGED, _body(planned, unmet, Lsn(0), 0), correlation)
            if not asked.dry_run:
                self._record(self._act(planned.text, planned.lost).came_to(ActOutcome.NOTHING))
            return
        body = encode(planned.record)
        room = service.node.storage.room()
        if room.full:
            raise disk_full()
        if room.sure_bytes < REQUEST_HEADER.size + len(body) + FRAMING_BYTES_MAX:
            raise Refused(Code.BUSY, "the log waits for its next segment", hint="try again in a second")
        told = partial(self._came, planned, unmet, correlation)
        proposal = self._records.proposal(body, correlation, told, remaining_ms)
        service.node.inbox.post(ChangeProposed(proposal, planned))

    def _came(self, planned: Planned, unmet: str, correlation: int, outcome: CameTo) -> None:
        """What the change came to: in force, or logged and not known, or certainly not changed."""
        act = self._act(planned.text, planned.lost)
        match outcome:
            case Result():
                lsn = Lsn(outcome.first_lsn)
                term = self._service.term_at(lsn)
                self._replies.send(Kind.SETTINGS_CHANGED, _body(planned, unmet, lsn, term), correlation)
                self._record(act.came_to(ActOutcome.DONE, lsn=lsn, term=term))
            case NotKnown(first, message):
                self._replies.fail(correlation, NotConfirmed(message, hint="look at the settings"))
                self._record(act.came_to(ActOutcome.NOT_CONFIRMED, lsn=first or None, why=message))
            case RedwireError():
                self._replies.fail(correlation, outcome)
                self._record(act.came_to(ActOutcome.REFUSED, why=outcome.message))

    def _act(self, text: str, lost: Iterable[str]) -> Act:
        target, gone = self._service.settings.cluster.name, ", ".join(sorted(lost))
        return Act(by=self._actor, act="change_settings", target=target, detail={"text": text, "lost": gone})

    def _record(self, act: Act) -> None:
        self._service.audit.record(act)


def _words(asked: ChangeSettings) -> str:
    """What was asked for, as it came."""
    return msgspec.json.encode(asked.change).decode()


def _unmet(planned: Planned, role: Primary, now_ms: int) -> str:
    """Why a write under the policy that `planned` brings would be refused now; "" if it would not, or if the
    members change as well.
    """
    before, after = planned.before.cluster, planned.after(planned.before.lsn).cluster
    if after.membership != before.membership or after.default_policy == before.default_policy:
        return ""
    error = role.coordinator.refusal(after.default_policy, now_ms)
    return "" if error is None else error.without_code


def _body(planned: Planned, unmet: str, lsn: Lsn, term: int) -> bytes:
    """The answer to a change at `lsn`, 0 for none. `TooLarge`: with addresses far from ASCII."""
    before, after = planned.before.view(), planned.after(lsn or planned.before.lsn).view()
    return encode(SettingsChanged.between(before, after, text=planned.text, unmet=unmet, lsn=lsn, term=term))

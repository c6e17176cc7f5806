"""The settings as one client's session asks for them and changes them (docs/PROTOCOL.md, kinds 58 to 5B)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cluster.answers import Answers, Shared
from cluster.audit_events import Act, Actor, ActOutcome
from cluster.effects import ChangeProposed, Proposal, Result
from cluster.intake import FRAMING_BYTES_MAX, disk_full
from cluster.primary import Primary
from cluster.service import Service
from cluster.session_writes import Fail, Send
from cluster.settings import Planned
from redwire.body import TERM_MAX, decode, encode
from redwire.errors import Code, NotConfirmed, RedwireError, Refused
from redwire.frame import Frame, Kind
from redwire.handshake import Principal
from redwire.message.settings import ChangeSettings, SettingsChanged
from redwire.position import Lsn
from redwire.record import RequestKind, encode_system

LSN_MAX = Lsn((1 << 63) - 1)
"""What an integer of SQLite holds: no log comes so far."""


class SessionSettings:
    """Who waits for this session's change; one is under way at a time. Each has its line in the audit log,
    but for dry runs.
    """

    def __init__(self, service: Service, principal: Principal, actor: Actor, send: Send, fail: Fail) -> None:
        self._service = service
        self._principal = principal
        self._actor = actor
        self._send = send
        self._fail = fail
        self._planned: Planned | None = None

    def show(self, frame: Frame) -> None:
        """Answer a SettingsRequest (58). Who may not see the topology is not told who is in it."""
        role = self._service.node.role
        pending = role.changes.pending if isinstance(role, Primary) else ""
        view = self._service.settings.view(pending)
        if not self._principal.topology_read:
            view = msgspec.structs.replace(view, members=(), admins=(), pending="")
        self._send(Kind.SETTINGS, encode(view), frame.correlation)

    def change(self, frame: Frame) -> None:
        """Take a ChangeSettings (5A). Raises what refuses it."""
        try:
            asked = decode(frame.payload, ChangeSettings)
        except RedwireError as error:
            self._record(self._act("", ()).came_to(ActOutcome.REFUSED, why=error.message))
            raise
        try:
            self._change(asked, frame.correlation)
        except RedwireError as error:
            if not asked.dry_run:
                act = self._act(_words(asked), asked.lost)
                self._record(act.came_to(ActOutcome.REFUSED, why=error.message))
            raise

    def _change(self, asked: ChangeSettings, correlation: int) -> None:
        role, service = self._service.require_primary(), self._service
        if self._planned is not None:
            raise Refused(
                Code.BUSY, "another change of this session is under way", hint="wait for its answer"
            )
        planned = role.changes.plan(asked, self._principal.name, service.node.clock().ms)
        _body(planned, LSN_MAX, TERM_MAX)  # what cannot be answered is not logged
        if asked.dry_run or not planned.changes:
            self._send(Kind.SETTINGS_CHANGED, _body(planned, Lsn(0), 0), correlation)
            if not asked.dry_run:
                self._record(self._act(planned.text, planned.lost).came_to(ActOutcome.NOTHING))
            return
        request = encode_system(RequestKind.CONFIG, encode(planned.record))
        if service.node.storage.room_bytes() < len(request) + FRAMING_BYTES_MAX:
            raise disk_full()
        proposal = service.proposal(self, correlation, RequestKind.CONFIG, request)
        self._planned = planned
        service.node.inbox.post(ChangeProposed(proposal, planned))

    # --- as the caller of proposals

    def released(self, shared: Shared, answers: Answers) -> None:
        """The change is committed and in force."""
        for proposal, result in answers:
            lsn, planned = Lsn(result.first_lsn), self._take()
            term = self._service.term_at(lsn)
            self._send(Kind.SETTINGS_CHANGED, _body(planned, lsn, term), proposal.correlation)
            self._record(self._act(planned.text, planned.lost).came_to(ActOutcome.DONE, lsn=lsn, term=term))

    def known(self, proposal: Proposal, result: Result) -> None:
        """Never called: a change carries no key."""
        raise AssertionError("a change of the settings carries no key")

    def unconfirmed(self, proposal: Proposal, shared: Shared | None, first: Lsn, message: str) -> None:
        """Logged; nobody knows yet."""
        planned = self._take()
        self._fail(proposal.correlation, NotConfirmed(message, hint="look at the settings"))
        act = self._act(planned.text, planned.lost)
        self._record(act.came_to(ActOutcome.NOT_CONFIRMED, lsn=first or None, why=message))

    def rejected(self, proposal: Proposal, error: RedwireError) -> None:
        """Certainly not changed."""
        planned = self._take()
        self._fail(proposal.correlation, error)
        act = self._act(planned.text, planned.lost)
        self._record(act.came_to(ActOutcome.REFUSED, why=error.message))

    def _take(self) -> Planned:
        planned, self._planned = self._planned, None
        assert planned is not None
        return planned

    def _act(self, text: str, lost: Iterable[str]) -> Act:
        target, gone = self._service.settings.cluster.name, ", ".join(sorted(lost))
        return Act(by=self._actor, act="change_settings", target=target, detail={"text": text, "lost": gone})

    def _record(self, act: Act) -> None:
        self._service.audit.record(act)


def _words(asked: ChangeSettings) -> str:
    """What was asked for, as it came."""
    return msgspec.json.encode(asked.change).decode()


def _body(planned: Planned, lsn: Lsn, term: int) -> bytes:
    """The answer to a change at `lsn`, 0 for none. `TooLarge`: with addresses far from ASCII."""
    before, after = planned.before.view(), planned.after(lsn or planned.before.lsn).view()
    return encode(SettingsChanged.between(before, after, text=planned.text, lsn=lsn, term=term))

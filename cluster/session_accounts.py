"""Administration by one client's session: changes of accounts, each with its line in the audit log, and what
there is of them.
"""

from __future__ import annotations

from functools import partial

from cluster.audit_events import Act, Actor, ActOutcome
from cluster.effects import Result
from cluster.lone_caller import CameTo, NotKnown
from cluster.replies import Replies
from cluster.service import Service
from cluster.session_records import SessionRecords
from redwire.body import encode
from redwire.errors import Code, NotConfirmed, RedwireError, Refused
from redwire.frame import Frame, Kind
from redwire.message.admin import (
    AccountChange,
    AccountDone,
    PutToken,
    PutUser,
    RemoveToken,
    RemoveUser,
    SetRole,
    check_account,
    check_usual,
    decode_asked,
    decode_command,
)
from redwire.message.client import RecordStatus
from redwire.position import Lsn
from redwire.record import RequestKind

UNDER_WAY_MAX = 64
"""A script that adds users keeps commits busy with less; each holds its body, up to 64 KiB, in two forms."""


class SessionAccounts:
    """This session's account changes: each gets an answer and a line."""

    def __init__(self, service: Service, actor: Actor, replies: Replies) -> None:
        """`actor` is whose session it is."""
        self.actor = actor
        self._service = service
        self._replies = replies
        self._records = SessionRecords(service, RequestKind.ACCOUNT)

    def change(self, frame: Frame) -> None:
        """Take an Account (4E). Raises what refuses it."""
        service = self._service
        act = Act(by=self.actor, act=Kind.ACCOUNT.name.lower(), target="")
        try:
            remaining_ms, body = decode_command(frame.payload)
            change = check_account(body)
            act = self._act(change)
            if isinstance(change, PutUser):
                check_usual(change.verifier)
            service.require_primary()
            if self._records.under_way >= UNDER_WAY_MAX:
                text = f"{UNDER_WAY_MAX} changes of this session are under way"
                raise Refused(Code.BUSY, text, hint="retry")
        except RedwireError as error:
            self._record(act.came_to(ActOutcome.REFUSED, why=error.message))
            raise
        told = partial(self._came, change, frame.correlation)
        service.node.inbox.propose(self._records.proposal(body, frame.correlation, told, remaining_ms))

    def show(self, frame: Frame) -> None:
        """Answer an AccountsRequest (54) from what this node has applied. Raises what refuses it."""
        asked, service = decode_asked(frame.payload), self._service
        accounts = service.node.storage.state.accounts()
        page = accounts.page(asked, service.admins, service.applied)
        self._replies.send(Kind.ACCOUNTS, encode(page), frame.correlation)

    def refused(self, kind: Kind, why: str) -> None:
        """The session may not administer, and tried to by `kind`."""
        act = Act(by=self.actor, act=kind.name.lower(), target="")
        self._record(act.came_to(ActOutcome.REFUSED, why=why))

    def _came(self, change: AccountChange, correlation: int, outcome: CameTo) -> None:
        """`change` was applied, whether or not there was something to change; or it is open; or refused."""
        service, act = self._service, self._act(change)
        match outcome:
            case Result():
                missing = ""
                if outcome.items[0] == RecordStatus.NOT_FOUND:
                    missing = service.node.storage.state.accounts().missing(change, service.admins)
                done = AccountDone(outcome.first_lsn, service.term_at(Lsn(outcome.first_lsn)), missing)
                self._replies.send(Kind.ACCOUNT_DONE, encode(done), correlation)
                fate = ActOutcome.NOTHING if missing else ActOutcome.DONE
                self._record(act.came_to(fate, lsn=done.lsn, term=done.term, why=missing))
            case NotKnown(first, message):
                self._replies.fail(correlation, NotConfirmed(message))
                self._record(act.came_to(ActOutcome.NOT_CONFIRMED, lsn=first or None, why=message))
            case RedwireError():
                self._replies.fail(correlation, outcome)
                self._record(act.came_to(ActOutcome.REFUSED, why=outcome.message))

    def _act(self, change: AccountChange) -> Act:
        act, target, detail = _words(change)
        return Act(by=self.actor, act=act, target=target, detail=detail)

    def _record(self, act: Act) -> None:
        self._service.audit.record(act)


def _words(change: AccountChange) -> tuple[str, str, dict[str, str | int | bool]]:
    """What `change` is called, what it is about, and what it says, its secrets left out."""
    match change:
        case PutUser(name=name, role=role, topology_read=topology_read):
            return "put_user", name, {"role": role, "topology_read": topology_read}
        case SetRole(name=name, role=role, topology_read=topology_read):
            sight = {} if topology_read is None else {"topology_read": topology_read}
            return "set_role", name, {"role": role, **sight}
        case RemoveUser(name=name):
            return "remove_user", name, {}
        case PutToken(id=ident, user=user, role=role):
            return "put_token", ident, {"user": user, "role": role}
        case RemoveToken(id=ident):
            return "remove_token", ident, {}

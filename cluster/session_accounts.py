"""Administration by one client's session: changes of accounts, each with its line in the audit log, and what
there is of them.
"""

from __future__ import annotations

from cluster.answers import Answers, Shared
from cluster.audit_events import Act, Actor, ActOutcome
from cluster.effects import Proposal, Result
from cluster.service import Service
from cluster.session_writes import Fail, Send
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
    check_account,
    decode_asked,
)
from redwire.message.client import RecordStatus
from redwire.position import Lsn
from redwire.record import REQUEST_HEADER, RequestKind, encode_system

UNDER_WAY_MAX = 64
"""A script that makes users keeps commits busy with less; each holds its body, up to 64 KiB."""


class SessionAccounts:
    """Who waits for this session's account changes (see `answers.Caller`): each gets an answer and a line."""

    def __init__(self, service: Service, actor: Actor, send: Send, fail: Fail) -> None:
        """`actor` is whose session it is."""
        self.actor = actor
        self._service = service
        self._send = send
        self._fail = fail
        self._under_way = 0

    def change(self, frame: Frame) -> None:
        """Take an Account (4E). Raises what refuses it."""
        service = self._service
        act = Act(by=self.actor, act=Kind.ACCOUNT.name.lower(), target="")
        try:
            act = self._act(check_account(frame.payload))
            service.require_primary()
            if self._under_way >= UNDER_WAY_MAX:
                text = f"{UNDER_WAY_MAX} changes of this session are under way"
                raise Refused(Code.BUSY, text, hint="retry")
        except RedwireError as error:
            self._record(act.came_to(ActOutcome.REFUSED, why=error.message))
            raise
        request = encode_system(RequestKind.ACCOUNT, frame.payload)
        self._under_way += 1
        service.node.inbox.propose(service.proposal(self, frame.correlation, RequestKind.ACCOUNT, request))

    def show(self, frame: Frame) -> None:
        """Answer an AccountsRequest (54) from what this node has applied. Raises what refuses it."""
        asked, service = decode_asked(frame.payload), self._service
        accounts = service.node.storage.state.accounts()
        page = accounts.page(asked, service.admins, service.applied)
        self._send(Kind.ACCOUNTS, encode(page), frame.correlation)

    def refused(self, kind: Kind, why: str) -> None:
        """The session may not administer, and tried to by `kind`."""
        act = Act(by=self.actor, act=kind.name.lower(), target="")
        self._record(act.came_to(ActOutcome.REFUSED, why=why))

    # --- as the caller of proposals

    def released(self, shared: Shared, answers: Answers) -> None:
        """Committed and applied, whether or not there was something to change."""
        service = self._service
        for proposal, result in answers:
            self._under_way -= 1
            change, missing = _change(proposal), ""
            if result.items[0] == RecordStatus.NOT_FOUND:
                missing = service.node.storage.state.accounts().missing(change, service.admins)
            done = AccountDone(result.first_lsn, service.term_at(Lsn(result.first_lsn)), missing)
            self._send(Kind.ACCOUNT_DONE, encode(done), proposal.correlation)
            outcome = ActOutcome.NOTHING if missing else ActOutcome.DONE
            self._record(self._act(change).came_to(outcome, lsn=done.lsn, term=done.term, why=missing))

    def known(self, proposal: Proposal, result: Result) -> None:
        """Committed by an earlier attempt; account changes have no keys."""
        raise AssertionError("a change of accounts has no key")

    def unconfirmed(self, proposal: Proposal, shared: Shared | None, first: Lsn, message: str) -> None:
        """Nobody knows yet."""
        self._under_way -= 1
        self._fail(proposal.correlation, NotConfirmed(message))
        act = self._act(_change(proposal))
        self._record(act.came_to(ActOutcome.NOT_CONFIRMED, lsn=first or None, why=message))

    def rejected(self, proposal: Proposal, error: RedwireError) -> None:
        """Certainly not written."""
        self._under_way -= 1
        self._fail(proposal.correlation, error)
        self._record(self._act(_change(proposal)).came_to(ActOutcome.REFUSED, why=error.message))

    def _act(self, change: AccountChange) -> Act:
        act, target, detail = _words(change)
        return Act(by=self.actor, act=act, target=target, detail=detail)

    def _record(self, act: Act) -> None:
        self._service.audit.record(act)


def _change(proposal: Proposal) -> AccountChange:
    return check_account(memoryview(proposal.request)[REQUEST_HEADER.size :])


def _words(change: AccountChange) -> tuple[str, str, dict[str, str | int | bool]]:
    """What `change` is called, what it is about, and what it says, its secrets left out."""
    match change:
        case PutUser(name=name, role=role, topology_read=topology_read):
            return "put_user", name, {"role": role, "topology_read": topology_read}
        case RemoveUser(name=name):
            return "remove_user", name, {}
        case PutToken(id=ident, user=user, role=role):
            return "put_token", ident, {"user": user, "role": role}
        case RemoveToken(id=ident):
            return "remove_token", ident, {}
